"""Layouts that are recognised, pictures that pair, and all that does not."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur_cli.errors import DatasetError
from deblur_cli.evaluation import datasets
from deblur_cli.evaluation.datasets import GOPRO_COUNTS, GOPRO_TEST, Dataset, find_pairs, pair_folders
from tests.evaluation.pictures import gopro, noise, write, write_pair


def names(dataset: Dataset) -> list[tuple[str, str]]:
    return [(pair.sequence, pair.name) for pair in dataset.pairs]


def test_the_original_layout(tmp_path: Path) -> None:
    dataset = find_pairs(gopro(tmp_path))
    assert (dataset.name, dataset.split, dataset.variant, dataset.coverage) == ("GOPRO", "test", "blur", "3/1111")
    assert names(dataset) == [("GOPR0410_11_00", f"{number:06}") for number in range(3)]
    first = dataset.pairs[0]
    assert first.size == (20, 16)
    assert first.blurred == tmp_path / "test" / "GOPR0410_11_00" / "blur" / "000000.png"
    assert first.sharp == tmp_path / "test" / "GOPR0410_11_00" / "sharp" / "000000.png"
    assert not dataset.notes


def test_the_other_variant(tmp_path: Path) -> None:
    dataset = find_pairs(gopro(tmp_path), variant="blur_gamma")
    assert dataset.variant == "blur_gamma"
    assert dataset.pairs[0].blurred.parent.name == "blur_gamma"


@pytest.mark.parametrize(
    "blurred, sharp, variant", [("input", "target", "input"), ("blur", "sharp", "blur"), ("blur", "gt", "blur")]
)
@pytest.mark.parametrize("below", ["test", ""])
def test_flat_layouts(tmp_path: Path, blurred: str, sharp: str, variant: str, below: str) -> None:
    base = tmp_path / below
    for name in ("GOPR0384_11_00-000001.png", "GOPR0868_11_00_000007.png"):
        write_pair(base / blurred / name, base / sharp / name)
    dataset = find_pairs(tmp_path)
    assert names(dataset) == [("GOPR0384_11_00", "000001"), ("GOPR0868_11_00", "000007")]
    assert (dataset.name, dataset.variant, dataset.coverage) == ("GOPRO", variant, "2/1111")


def test_sequences_below_blur_and_gt(tmp_path: Path) -> None:
    for sequence in ("GOPR0384_11_00", "GOPR0868_11_00"):
        write_pair(tmp_path / "test/blur" / sequence / "1.png", tmp_path / "test/gt" / sequence / "1.png")
    dataset = find_pairs(tmp_path)
    assert names(dataset) == [("GOPR0384_11_00", "1"), ("GOPR0868_11_00", "1")]
    assert dataset.coverage == "2/1111"


def test_splits(tmp_path: Path) -> None:
    gopro(tmp_path, count=1)
    gopro(tmp_path, count=2, sequence="GOPR0372_07_00", split="train")
    assert find_pairs(tmp_path).coverage == "1/1111"
    assert find_pairs(tmp_path, split="train").coverage == "2/2103"
    assert find_pairs(tmp_path / "train").coverage == "2/2103"
    with pytest.raises(DatasetError, match="is the split 'train', but 'test' was asked for"):
        find_pairs(tmp_path / "train", split="test")


def test_a_missing_split_names_the_other(tmp_path: Path) -> None:
    gopro(tmp_path, split="train")
    with pytest.raises(DatasetError, match=r"no folder 'test', only 'train' \(--split train\)"):
        find_pairs(tmp_path)


def test_a_missing_variant_names_the_other(tmp_path: Path) -> None:
    write_pair(tmp_path / "test/GOPR0410_11_00/blur/1.png", tmp_path / "test/GOPR0410_11_00/sharp/1.png")
    with pytest.raises(DatasetError, match="no pictures 'blur_gamma', only 'blur'"):
        find_pairs(tmp_path, variant="blur_gamma")
    write_pair(tmp_path / "flat/input/1.png", tmp_path / "flat/target/1.png")
    with pytest.raises(DatasetError, match="no pictures 'blur_gamma', only 'input'"):
        find_pairs(tmp_path / "flat", variant="blur_gamma")


def test_sequences_that_are_not_of_the_test_split_are_told(tmp_path: Path) -> None:
    gopro(tmp_path, count=1)
    gopro(tmp_path, count=1, sequence="GOPR0374_11_00")
    assert find_pairs(tmp_path).notes == ("these sequences are not in GOPRO's test split: GOPR0374_11_00",)
    gopro(tmp_path, count=1, sequence="GOPR0410_11_00", split="train")
    assert find_pairs(tmp_path, split="train").notes == (
        "these sequences belong to GOPRO's test split: GOPR0410_11_00",
    )


def test_another_set_in_the_same_layout_is_not_gopro(tmp_path: Path) -> None:
    dataset = find_pairs(gopro(tmp_path, sequence="street"))
    assert (dataset.name, dataset.expected, dataset.coverage) == (tmp_path.name, None, "3")
    dataset.require_whole()


def test_gopro_is_whole_only_with_every_pair_of_every_sequence(tmp_path: Path) -> None:
    pair = find_pairs(gopro(tmp_path, count=1)).pairs[0]

    def dataset(counts: dict[str, int]) -> Dataset:
        pairs = [
            datasets.Pair(sequence, str(number), pair.blurred, pair.sharp, pair.size)
            for sequence, count in counts.items()
            for number in range(count)
        ]
        return Dataset("GOPRO", "test", "blur", tuple(pairs), (tmp_path,), expected=1111)

    assert sum(GOPRO_TEST.values()) == GOPRO_COUNTS["test"]
    dataset(GOPRO_TEST).require_whole()
    # The right number in all, but of the wrong sequences.
    swapped = GOPRO_TEST | {"GOPR0384_11_00": 99, "GOPR0385_11_01": 101}
    with pytest.raises(DatasetError, match="GOPRO test is not complete: 1111/1111"):
        dataset(swapped).require_whole()
    with pytest.raises(DatasetError, match="GOPRO test is not complete: 5/1111 pairs"):
        dataset(GOPRO_TEST).first(5).require_whole()


def test_two_folders_pair_by_name_whatever_the_ending(tmp_path: Path) -> None:
    write(tmp_path / "a/x/1.png", noise(0))
    write(tmp_path / "a/2.JPG", noise(1))
    write(tmp_path / "b/2.png", noise(2))
    write(tmp_path / "b/x/1.bmp", noise(3))
    write(tmp_path / "b/.hidden.png", noise(3))
    (tmp_path / "a/notes.txt").write_text("no picture")
    dataset = pair_folders(tmp_path / "a", tmp_path / "b")
    assert names(dataset) == [("", "2"), ("x", "1")]
    assert (dataset.name, dataset.coverage, dataset.whole) == ("a against b", "2", True)


def test_what_does_not_pair_is_listed_or_left_out(tmp_path: Path) -> None:
    blurred, sharp = tmp_path / "blurred", tmp_path / "sharp"
    write_pair(blurred / "good.png", sharp / "good.png")
    write(blurred / "alone.png", noise(0))
    write(sharp / "lonely.png", noise(0))
    write(blurred / "other.png", noise(0, 20, 30))
    write(sharp / "other.png", noise(0, 30, 20))
    write_pair(blurred / "tiny.png", sharp / "tiny.png", height=10, width=40)
    write_pair(blurred / "twice.png", sharp / "twice.png")
    write(blurred / "twice.bmp", noise(0))
    write(sharp / "broken.png", noise(0))
    (blurred / "broken.png").write_bytes(b"no picture")
    with pytest.raises(DatasetError) as caught:
        pair_folders(blurred, sharp)
    message = str(caught.value)
    for problem in (
        "8 pictures in",
        "--allow-partial",
        "alone has no sharp picture",
        "lonely has no blurred picture",
        "other is 30×20 blurred and 20×30 sharp",
        "tiny is 40×10, too small",
        "twice.bmp has no sharp picture",
        "twice.png has no sharp picture",
        "twice has no blurred picture",
        "broken cannot be read",
    ):
        assert problem in message
    dataset = pair_folders(blurred, sharp, allow_partial=True)
    assert names(dataset) == [("", "good")]
    assert len(dataset.left_out) == 8
    with pytest.raises(DatasetError, match="is not complete: 1 pair, 8 left out"):
        dataset.require_whole()


def test_a_long_list_is_cut_after_ten(tmp_path: Path) -> None:
    for number in range(15):
        write(tmp_path / "blurred" / f"{number:02}.png", noise(number))
    write(tmp_path / "sharp/00.png", noise(0))
    with pytest.raises(DatasetError, match=r"14 pictures.*10 has no sharp picture; and 4 more$"):
        pair_folders(tmp_path / "blurred", tmp_path / "sharp")


def test_partial_does_not_mean_nothing(tmp_path: Path) -> None:
    write(tmp_path / "blurred/1.png", noise(0))
    write(tmp_path / "sharp/2.png", noise(0))
    with pytest.raises(DatasetError, match="2 pictures in"):
        pair_folders(tmp_path / "blurred", tmp_path / "sharp", allow_partial=True)


@pytest.mark.parametrize("folder, problem", [("missing", "there is no folder"), ("", "holds no pairs in a layout")])
def test_no_dataset(tmp_path: Path, folder: str, problem: str) -> None:
    with pytest.raises(DatasetError, match=problem):
        find_pairs(tmp_path / folder)


def test_no_folders(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for sharp, problem in (("missing", "there is no folder"), ("a", "the same folder"), ("b", "no pictures")):
        with pytest.raises(DatasetError, match=problem):
            pair_folders(tmp_path / "a", tmp_path / sharp)


@pytest.mark.usefixtures("locked")
def test_a_folder_that_cannot_be_opened_is_named_and_not_left_out(tmp_path: Path) -> None:
    for name in ("a", "locked/b"):
        write_pair(tmp_path / f"blurred/{name}.png", tmp_path / f"sharp/{name}.png")
    with pytest.raises(DatasetError, match=r"the folder '.*blurred/locked' cannot be opened: Permission denied"):
        pair_folders(tmp_path / "blurred", tmp_path / "sharp")


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    write_pair(tmp_path / "far/blur/1.png", tmp_path / "far/sharp/1.png")
    (tmp_path / "test").mkdir()
    (tmp_path / "test/GOPR0410_11_00").symlink_to(tmp_path / "far")
    (tmp_path / "far/blur/loop").symlink_to(tmp_path / "far/blur")
    assert names(find_pairs(tmp_path)) == [("GOPR0410_11_00", "1")]


@settings(max_examples=25, deadline=None)
@given(st.sets(st.text("ab/1", min_size=1, max_size=6)), st.sets(st.text("ab/1", min_size=1, max_size=6)), st.data())
def test_pairing_depends_on_names_alone(blurred: set[str], sharp: set[str], drawn: st.DataObject) -> None:
    empty = Dataset("set", "", "", (), ())
    maps = [{key: Path(f"{side}/{key}.png") for key in keys} for side, keys in (("b", blurred), ("s", sharp))]
    shuffled = [dict(drawn.draw(st.permutations(list(one.items())))) for one in maps]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "read_size", lambda path: (20, 20))
        if not blurred & sharp:
            with pytest.raises(DatasetError):
                datasets._pair_up(empty, *maps, allow_partial=True)
            return
        dataset = datasets._pair_up(empty, *maps, allow_partial=True)
        assert dataset == datasets._pair_up(empty, *shuffled, allow_partial=True)
    assert {pair.blurred.relative_to("b") for pair in dataset.pairs} == {
        pair.sharp.relative_to("s") for pair in dataset.pairs
    }
    assert len(dataset.pairs) == len(blurred & sharp)
    assert len(dataset.left_out) == len(blurred ^ sharp)
