"""Planning: which photos the inputs stand for, and what becomes of each."""

from __future__ import annotations

import os
import random
from pathlib import Path, PurePath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur_cli.errors import UsageError
from deblur_cli.media import gather
from deblur_cli.media.gather import Disk, Entry, Found, Gathered, gather_photos
from deblur_cli.media.plan import EXISTS, OWN_OUTPUT, Plan, plan_photos


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def plan(*inputs: Path | str, output: Path | str | None = None, **options: object) -> Plan:
    text = None if output is None else str(output)
    gathered = gather_photos([str(each) for each in inputs], output=None if output is None else Path(output))
    return plan_photos(gathered, output=text, **options)  # type: ignore[arg-type]


def targets(made: Plan) -> dict[str, str]:
    return {item.source.name: str(item.target) for item in made.items if item.action == "restore"}


def test_one_file_is_restored_beside_itself_under_another_name(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg")
    (item,) = plan(tmp_path / "a.jpg").items
    assert (item.action, item.target, item.format) == ("restore", tmp_path / "a_deblurred.jpg", None)


def test_a_folder_keeps_its_tree_and_is_sorted_naturally(tmp_path: Path) -> None:
    touch(*(tmp_path / "in" / name for name in ("a10.jpg", "a2.jpg", "B.png", "sub/deep/c.TIF")))
    made = plan(tmp_path / "in", output=tmp_path / "out")
    assert [item.source.name for item in made.items] == ["a2.jpg", "a10.jpg", "B.png", "c.TIF"]
    assert made.items[3].target == tmp_path / "out/sub/deep/c.TIF"


def test_two_folders_each_keep_their_name_below_the_output(tmp_path: Path) -> None:
    touch(tmp_path / "one/x.jpg", tmp_path / "two/x.jpg")
    made = plan(tmp_path / "one", tmp_path / "two", output=tmp_path / "out")
    assert [item.target for item in made.items] == [tmp_path / "out/one/x.jpg", tmp_path / "out/two/x.jpg"]


def test_hidden_temporary_and_foreign_files_are_counted_and_left_alone(tmp_path: Path) -> None:
    touch(*(tmp_path / name for name in ("a.jpg", ".b.jpg", "notes.txt", ".a.jpg.0123abcd.part", ".cache/c.jpg")))
    made = plan(tmp_path)
    assert [item.source.name for item in made.items] == ["a.jpg"]
    assert made.ignored == {gather.HIDDEN: 2, gather.NOT_A_PHOTO: 1, gather.TEMPORARY: 1}


def test_a_raw_file_in_a_folder_is_refused_by_name_not_passed_over(tmp_path: Path) -> None:
    touch(*(tmp_path / name for name in ("a.cr2", "b.gpr", "c.qoi", "d.jpg")))
    *refused, restored = plan(tmp_path).items
    assert [item.action for item in refused] == ["refuse"] * 3 and restored.action == "restore"
    assert all(word in item.reason for word, item in zip(("CR2", "GPR", "QOI"), refused, strict=True))


def test_output_folder_inside_the_input_is_not_walked(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg", tmp_path / "out/a.jpg", tmp_path / "out/b.jpg")
    made = plan(tmp_path, output=tmp_path / "out")
    assert [(item.source.name, item.action) for item in made.items] == [("a.jpg", "skip")]
    assert made.ignored == {gather.OUTPUT_FOLDER: 1}


def test_an_output_folder_that_a_shell_pattern_names_is_passed_over(tmp_path: Path) -> None:
    touch(*(tmp_path / name for name in ("a.jpg", "more/b.jpg", "sharp/a.jpg", "sharp/b.jpg")))
    made = plan(*sorted(tmp_path.iterdir()), output=tmp_path / "more/../sharp")
    assert [(item.source.name, item.action) for item in made.items] == [("a.jpg", "skip"), ("b.jpg", "skip")]
    assert made.ignored == {gather.OUTPUT_FOLDER: 1}
    assert plan(f"{tmp_path}/*", output=tmp_path / "sharp").ignored == made.ignored


def test_an_output_folder_below_a_pattern_is_passed_over(tmp_path: Path) -> None:
    touch(*(tmp_path / "in" / name for name in ("a.jpg", "sub/b.jpg", "sharp/a.jpg", "sharp/sub/b.jpg")))
    pattern = f"{tmp_path}/in/**/*.jpg"
    made = plan(pattern, output=tmp_path / "in/sharp")
    assert [(item.source.name, item.action) for item in made.items] == [("a.jpg", "skip"), ("b.jpg", "skip")]
    assert made.ignored == {gather.OUTPUT_FOLDER: 2}
    made = plan(pattern, output=tmp_path / "in", suffix="_x")
    assert len(made.having("restore")) == 4 and made.ignored == {}
    made = plan(f"{tmp_path}/in/*/*.jpg", output=tmp_path / "in/sharp")
    assert [item.source.name for item in made.items] == ["b.jpg"] and made.ignored == {gather.OUTPUT_FOLDER: 1}
    assert plan(f"{tmp_path}/in/sharp/*.jpg", output=tmp_path / "in/sharp", suffix="_x").items[0].action == "restore"


def test_a_folder_given_again_restores_only_what_is_left(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg", tmp_path / "a_deblurred.jpg", tmp_path / "b.jpg")
    made = plan(tmp_path)
    assert [(item.source.name, item.action, item.reason) for item in made.items] == [
        ("a.jpg", "skip", EXISTS),
        ("b.jpg", "restore", ""),
    ]
    assert made.ignored == {OWN_OUTPUT: 1}
    assert [item.action for item in plan(tmp_path, overwrite=True).items] == ["restore", "restore"]


def test_an_output_alone_is_a_photo_like_any_other(tmp_path: Path) -> None:
    touch(tmp_path / "a_deblurred.jpg")
    assert targets(plan(tmp_path)) == {"a_deblurred.jpg": str(tmp_path / "a_deblurred_deblurred.jpg")}


def test_a_shell_pattern_given_again_neither_restores_nor_overwrites_the_outputs_it_names(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg", tmp_path / "a_deblurred.jpg")
    files = sorted(tmp_path.iterdir())
    assert [(item.source.name, item.action) for item in plan(*files).items] == [("a.jpg", "skip")]
    (item,) = plan(*files, overwrite=True).items
    assert item.action == "refuse" and "named as an input" in item.reason


def test_numbered_names_are_not_taken_for_outputs(tmp_path: Path) -> None:
    touch(tmp_path / "in/img.jpg", tmp_path / "in/img_2.jpg")
    with pytest.raises(UsageError, match="letter"):
        plan(tmp_path / "in", suffix="_2")
    assert targets(plan(tmp_path / "in", output=tmp_path / "out", suffix="_2")) == {
        "img.jpg": str(tmp_path / "out/img_2.jpg"),
        "img_2.jpg": str(tmp_path / "out/img_2_2.jpg"),
    }


def test_format_changes_the_suffix_only_where_the_format_changes(tmp_path: Path) -> None:
    touch(*(tmp_path / "in" / name for name in ("a.JPEG", "b.png", "c")))
    made = plan(
        tmp_path / "in/a.JPEG", tmp_path / "in/b.png", tmp_path / "in/c", output=tmp_path / "out", format_name="jpg"
    )
    assert targets(made) == {
        "a.JPEG": str(tmp_path / "out/a.JPEG"),
        "b.png": str(tmp_path / "out/b.jpg"),
        "c": str(tmp_path / "out/c.jpg"),
    }
    assert {item.format for item in made.items} == {"JPEG"}


def test_a_format_that_cannot_be_written_becomes_png(tmp_path: Path) -> None:
    touch(tmp_path / "a.gif")
    (item,) = plan(tmp_path).items
    assert (item.target, item.format) == (tmp_path / "a_deblurred.png", "PNG")


def test_colliding_names_are_all_kept(tmp_path: Path) -> None:
    touch(*(tmp_path / "in" / name for name in ("a.jpg", "a.png", "a.gif", "A.gif")))
    made = plan(tmp_path / "in", output=tmp_path / "out", format_name="png")
    assert targets(made) == {
        "a.png": str(tmp_path / "out/a.png"),
        "a.jpg": str(tmp_path / "out/a.jpg.png"),
        "A.gif": str(tmp_path / "out/A.gif.png"),
    }
    (refused,) = made.having("refuse")
    assert refused.source.name == "a.gif" and "same file" in refused.reason


def test_same_name_from_two_folders_is_refused_with_the_other_one_named(tmp_path: Path) -> None:
    touch(tmp_path / "one/x.jpg", tmp_path / "two/x.jpg")
    first, second = plan(tmp_path / "one/x.jpg", tmp_path / "two/x.jpg", output=tmp_path / "out").items
    assert first.action == "restore"
    assert second.action == "refuse" and str(tmp_path / "one/x.jpg") in second.reason


@pytest.mark.parametrize("kind", ["itself", "symlink", "hard link", "linked folder", "capitals"])
def test_an_output_that_is_the_input_is_refused(tmp_path: Path, kind: str) -> None:
    source = tmp_path / "in/a.jpg"
    touch(source)
    out = tmp_path / "out"
    target: Path = out / "a.jpg"
    if kind == "itself":
        target = source
    elif kind == "linked folder":
        out.symlink_to(source.parent)
    elif kind == "capitals":
        target = source.with_name("A.JPG")
    else:
        out.mkdir()
        target.symlink_to(source) if kind == "symlink" else target.hardlink_to(source)
    for overwrite in (False, True):
        (item,) = plan(source, output=target, overwrite=overwrite).items
        assert item.action == "refuse" and "input" in item.reason
    # The same through an output folder, which has other code on its way.
    if kind in ("symlink", "hard link"):
        (item,) = plan(source.parent, output=out, overwrite=True).items
        assert item.action == "refuse"


def test_an_output_folder_that_is_the_input_folder_needs_a_suffix(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg")
    with pytest.raises(UsageError, match="--suffix"):
        plan(tmp_path, output=tmp_path)
    assert targets(plan(tmp_path, output=tmp_path, suffix="_sharp")) == {"a.jpg": str(tmp_path / "a_sharp.jpg")}


def test_links_are_followed_to_files_only_and_loops_end(tmp_path: Path) -> None:
    touch(tmp_path / "real/a.jpg")
    (tmp_path / "real/loop").symlink_to(tmp_path / "real")
    (tmp_path / "real/self.jpg").symlink_to(tmp_path / "real/self.jpg")
    (tmp_path / "real/gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "real/link.jpg").symlink_to(tmp_path / "real/a.jpg")
    made = plan(tmp_path / "real", output=tmp_path / "out")
    assert targets(made) == {name: str(tmp_path / "out" / name) for name in ("a.jpg", "link.jpg")}
    assert [item.source.name for item in made.having("refuse")] == ["gone.jpg", "self.jpg"]
    assert made.ignored == {gather.LINKED_FOLDER: 1}


def test_a_file_reached_twice_is_taken_once(tmp_path: Path) -> None:
    touch(tmp_path / "in/a.jpg")
    (tmp_path / "door").symlink_to(tmp_path / "in")
    made = plan(tmp_path / "in/a.jpg", tmp_path / "in", tmp_path / "door", output=tmp_path / "out")
    assert len(made.items) == 1
    assert made.ignored == {gather.GIVEN_TWICE: 2}


def test_patterns_that_no_shell_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(*(tmp_path / name for name in ("a.jpg", "b.txt", "b[1].jpg", "sub/c.jpg")))
    monkeypatch.chdir(tmp_path)
    assert [str(item.source) for item in plan("*.jpg").items] == ["a.jpg", "b[1].jpg"]
    assert [str(item.source) for item in plan("b[1].jpg").items] == ["b[1].jpg"]
    deep = plan("**/*.jpg", output="out")
    assert [str(item.target) for item in deep.items] == ["out/a.jpg", "out/b[1].jpg", "out/sub/c.jpg"]
    with pytest.raises(UsageError, match="nothing matches"):
        plan("*.webp")


def test_a_folder_that_cannot_be_opened_is_one_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "in/a.jpg", tmp_path / "in/locked/b.jpg")
    real = os.scandir

    def scandir(path: Path) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    made = plan(tmp_path / "in")
    assert [(item.source.name, item.action) for item in made.items] == [("a.jpg", "restore"), ("locked", "refuse")]
    assert made.items[1].reason == "cannot be opened: Permission denied"
    with pytest.raises(UsageError, match="Permission denied"):
        plan(tmp_path / "in/locked")


def test_output_may_be_a_file_for_a_single_photo_only(tmp_path: Path) -> None:
    touch(tmp_path / "in/a.jpg", tmp_path / "in/b.jpg")
    (item,) = plan(tmp_path / "in/a.jpg", output=tmp_path / "new/out.png").items
    assert item.target == tmp_path / "new/out.png"
    (item,) = plan(tmp_path / "in/a.jpg", output=f"{tmp_path}/out.png/").items
    assert item.target == tmp_path / "out.png/a.jpg"
    for inputs in ([tmp_path / "in"], [tmp_path / "in/a.jpg", tmp_path / "in/b.jpg"]):
        with pytest.raises(UsageError, match="not a single photo"):
            plan(*inputs, output=tmp_path / "out.png")
    with pytest.raises(UsageError, match=r"--format says JPEG.*PNG"):
        plan(tmp_path / "in/a.jpg", output=tmp_path / "out.png", format_name="jpg")
    with pytest.raises(UsageError, match="no photo can be written as"):
        plan(tmp_path / "in/a.jpg", output=tmp_path / "out.gif")
    with pytest.raises(UsageError, match="is a file"):
        plan(tmp_path / "in", output=tmp_path / "in/a.jpg/below")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format_name": "gif"}, "'gif'"),
        ({"suffix": ""}, "letter"),
        ({"suffix": "../x"}, "slash"),
        ({"format_name": "?"}, "'?'"),
    ],
)
def test_contradictions_are_usage_errors(tmp_path: Path, options: dict[str, str], message: str) -> None:
    touch(tmp_path / "a.jpg")
    with pytest.raises(UsageError) as raised:
        plan(tmp_path, **options)
    assert message in str(raised.value)


def test_missing_input_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no file or folder"):
        plan(tmp_path / "none")


def test_a_folder_in_the_way_of_an_output_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "in/a.jpg", tmp_path / "out/a.jpg/other.txt")
    (item,) = plan(tmp_path / "in", output=tmp_path / "out").items
    assert item.action == "refuse" and "folder is in the way" in item.reason


class ImaginaryDisk(Disk):
    """A file system that holds the given files and does not tell capitals apart, as those of cameras do not."""

    def __init__(self, files: list[Path]) -> None:
        self.inodes = {str(path).casefold(): number for number, path in enumerate(files)}

    def entry(self, path: Path) -> Entry | None:
        number = self.inodes.get(str(path).casefold())
        return None if number is None else Entry((0, number))

    def is_writable(self, folder: Path) -> bool:
        return "locked" not in folder.parts

    def resolve(self, folder: Path) -> Path:
        return folder


def test_a_folder_that_cannot_be_written_is_known_before_anything_is_restored() -> None:
    files = tuple(found_of(name, number, False) for number, name in enumerate(["a.jpg", "locked/b.jpg"]))
    made = plan_photos(Gathered(files), output="/out", disk=ImaginaryDisk([]))
    assert [item.action for item in made.items] == ["restore", "refuse"]
    assert made.items[1].reason == "the folder '/out/locked' cannot be written"


# Few parts, so that names meet.
NAMES = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "sub/"]),
    st.sampled_from(["a", "A", "a.jpg"]),
    st.sampled_from(["", "_x"]),
    st.sampled_from([".jpg", ".png", ".gif", ".cr2"]),
)


def found_of(name: str, number: int, named: bool) -> Found:
    path = Path("/in") / name
    refusal = "unreadable" if path.suffix == ".cr2" else ""
    return Found(path, PurePath(name), path, (0, number), named, refusal)


@pytest.mark.parametrize("output", [None, "/out", "/in", "/in/sub"])
@settings(max_examples=80, deadline=None)
@given(
    names=st.lists(NAMES, min_size=3, max_size=16, unique_by=str.casefold),
    existing=st.lists(NAMES, max_size=6),
    suffix=st.sampled_from([None, "_x"]),
    format_name=st.sampled_from([None, "png", "jpg"]),
    overwrite=st.booleans(),
    named=st.booleans(),
)
def test_no_plan_overwrites_an_input_or_writes_a_file_twice(
    names: list[str],
    existing: list[str],
    output: str | None,
    suffix: str | None,
    format_name: str | None,
    overwrite: bool,
    named: bool,
) -> None:
    files = [found_of(name, number, named) for number, name in enumerate(names)]
    disk = ImaginaryDisk([each.path for each in files] + [Path("/out") / name for name in existing])
    options = {"output": output, "suffix": suffix, "format_name": format_name, "overwrite": overwrite, "disk": disk}
    try:
        made = plan_photos(Gathered(tuple(files), folders=(Path("/in"),)), **options)  # type: ignore[arg-type]
    except UsageError:
        assert output in ("/in", "/in/sub") and suffix is None
        return
    sources = [item.source for item in made.items]
    assert len(set(sources)) == len(sources)
    outputs = [each for each in files if each.path not in set(sources)]
    assert len(outputs) == made.ignored.get(OWN_OUTPUT, 0)
    written = [item.target for item in made.items if item.action == "restore"]
    folded = [str(target).casefold() for target in written]
    assert len(set(folded)) == len(folded)
    inputs = {str(source).casefold() for source in sources} | {str(each.path).casefold() for each in outputs if named}
    assert not inputs & set(folded)
    if not overwrite:
        assert not any(disk.entry(target) for target in written if target)
    assert all(item.reason for item in made.items if item.action != "restore")


@settings(max_examples=20, deadline=None)
@given(names=st.lists(NAMES, min_size=1, max_size=8, unique=True), seed=st.integers(0, 99))
def test_the_order_in_which_the_file_system_lists_files_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], seed: int
) -> None:
    root = tmp_path_factory.mktemp("order")
    touch(*(root / name for name in names if not (root / name).is_dir()))
    real = os.scandir

    def shuffled(path: Path) -> object:
        with real(path) as listing:
            entries = list(listing)
        random.Random(seed).shuffle(entries)
        return _Listing(entries)

    plain = plan(root, output=root / "out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "scandir", shuffled)
        assert plan(root, output=root / "out") == plain


class _Listing(list):  # type: ignore[type-arg]
    """A list that can be used like the listing of `os.scandir`."""

    def __enter__(self) -> _Listing:
        return self

    def __exit__(self, *_: object) -> None:
        pass
