"""Published sets: how REDS, RealBlur, HIDE and Köhler are recognised, and how all of them are known to be whole."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from deblur_cli.errors import DatasetError
from deblur_cli.evaluation.datasets import GOPRO_TEST, Dataset, find_pairs, pair_folders
from tests.evaluation.pictures import gopro, kohler, noise, real_blur, write, write_pair


def names(dataset: Dataset) -> list[tuple[str, str]]:
    return [(pair.sequence, pair.name) for pair in dataset.pairs]


def test_reds_is_its_validation_split_unless_another_is_asked_for(tmp_path: Path) -> None:
    for split, count in (("val", 3), ("train", 2)):
        for number in range(count):
            name = f"000/{number:08}.png"
            write_pair(tmp_path / split / f"{split}_blur" / name, tmp_path / split / f"{split}_sharp" / name)
    found = find_pairs(tmp_path)
    assert (found.name, found.split, found.coverage, found.protocol) == ("REDS", "val", "3/3000", "pixelwise")
    assert names(found)[0] == ("000", "00000000")
    assert found.video
    assert found.missing[:2] == ("000 has 3 of 100 pairs", "001 has 0 of 100 pairs")
    assert find_pairs(tmp_path, split="train").coverage == "2/24000"
    assert find_pairs(tmp_path / "train").coverage == "2/24000"
    with pytest.raises(DatasetError, match="--variant belongs to GOPRO"):
        find_pairs(tmp_path, variant="blur")


def test_realblur_is_what_its_list_says(tmp_path: Path) -> None:
    real_blur(tmp_path, {"scene050": 2, "scene051": 1})
    unlisted = tmp_path / "RealBlur-J_ECC/scene001"
    write_pair(unlisted / "blur/blur_1.png", unlisted / "gt/gt_1.png")
    for folder in (tmp_path, tmp_path / "RealBlur-J_ECC"):
        found = find_pairs(folder)
        assert (found.name, found.split, found.coverage, found.protocol) == ("RealBlur-J", "test", "3/980", "RealBlur")
        assert names(found) == [("scene050", "1"), ("scene050", "2"), ("scene051", "1")]
        assert found.pairs[1].sharp == tmp_path / "RealBlur-J_ECC/scene050/gt/gt_2.png"
        assert not found.video  # numbered, but no frames of one
        assert found.folders == (tmp_path / "RealBlur-J_ECC",)  # and not what lies around it
    (tmp_path / "RealBlur-J_ECC/scene050/gt/gt_2.png").unlink()
    with pytest.raises(
        DatasetError, match=r"1 picture in .* does not pair .*: scene050/2 cannot be read: .*No such file"
    ):
        find_pairs(tmp_path)
    real_blur(tmp_path, {"scene050": 1}, letter="R")
    with pytest.raises(DatasetError, match="holds RealBlur-J and RealBlur-R; name the folder of one"):
        find_pairs(tmp_path)
    assert find_pairs(tmp_path / "RealBlur-R_ECC").coverage == "1/980"


def test_flattened_realblur_is_known_by_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "test" / "RealBlur_R"
    write_pair(folder / "input/scene050-1.png", folder / "target/scene050-1.png")
    found = find_pairs(folder)
    assert (found.name, found.coverage, found.protocol) == ("RealBlur-R", "1/980", "RealBlur")


def test_hide_has_the_sharp_pictures_of_all_splits_in_one_folder(tmp_path: Path) -> None:
    folder = tmp_path / "HIDE_dataset"
    for number, place in enumerate(["test/test-close-ups", "test/test-long-shot", "test/test-long-shot", "train"]):
        name = f"{number}fromGOPR0950.png"
        write_pair(folder / place / name, folder / "GT" / name)
    found = find_pairs(folder)
    assert (found.name, found.split, found.coverage, found.protocol) == ("HIDE", "test", "3/2025", "pixelwise")
    assert names(found) == [
        ("test-close-ups", "0fromGOPR0950"),
        ("test-long-shot", "1fromGOPR0950"),
        ("test-long-shot", "2fromGOPR0950"),
    ]
    assert found.pairs[0].sharp == folder / "GT/0fromGOPR0950.png" and not found.video
    assert names(find_pairs(folder, split="train")) == names(find_pairs(folder / "train")) == [("", "3fromGOPR0950")]
    assert names(find_pairs(folder / "test")) == names(found)
    (folder / "GT/1fromGOPR0950.png").unlink()
    with pytest.raises(DatasetError, match="test-long-shot/1fromGOPR0950 has no sharp picture"):
        find_pairs(folder)


def test_flattened_hide_is_known_by_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "test" / "HIDE"
    write_pair(folder / "input/7fromGOPR0950.png", folder / "target/7fromGOPR0950.png")
    found = find_pairs(folder)
    assert (found.name, found.coverage, found.protocol) == ("HIDE", "1/2025", "pixelwise")


def test_kohler_has_all_frames_of_each_trajectory(tmp_path: Path) -> None:
    found = find_pairs(kohler(tmp_path, {(1, 1): 5, (1, 3): 31, (2, 10): 1}))
    assert (found.name, found.coverage, found.protocol) == ("Köhler", "3/48", "Köhler")
    assert names(found) == [("Image1", "Kernel1"), ("Image1", "Kernel3"), ("Image2", "Kernel10")]
    first, second, _ = found.pairs
    assert [path.stem for path in first.frames] == [f"GroundTruth1_1_{number}" for number in range(1, 6)]
    assert first.sharp.stem == "GroundTruth1_1_3"  # the middle one
    # The authors' script leaves this one out.
    assert "GroundTruth1_3_30" not in [path.stem for path in second.frames]
    assert "Image1/Kernel1 has 5 of 199 sharp frames" in found.missing
    assert "Image2/Kernel10 has 1 of 198 sharp frames" in found.missing
    write(tmp_path / "BlurryImages/Blurry4_4.png", noise(0))
    with pytest.raises(DatasetError, match="Image4/Kernel4 has no sharp picture"):
        find_pairs(tmp_path)
    assert find_pairs(tmp_path, allow_partial=True).left_out == ("Image4/Kernel4 has no sharp picture",)


def test_two_pictures_of_one_name_are_not_both_kohlers(tmp_path: Path) -> None:
    kohler(tmp_path, {(1, 1): 1})
    write(tmp_path / "restored/Blurry1_1.png", noise(0))
    with pytest.raises(DatasetError, match=r"Blurry1_1.png' are the same picture of Köhler's; move one out of the set"):
        find_pairs(tmp_path)


def test_frames_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (1, 2, 10, 9):
        write_pair(tmp_path / f"a/x/{number}.png", tmp_path / f"b/x/{number}.png")
    found = pair_folders(tmp_path / "a", tmp_path / "b")
    assert [pair.name for pair in found.pairs] == ["1", "2", "9", "10"]
    assert [after.follows(before) for before, after in pairwise(found.pairs)] == [True, False, True]
    assert found.video
    assert found.groups() == [found.pairs]


def test_photos_are_no_frames(tmp_path: Path) -> None:
    for number in range(3):
        write_pair(tmp_path / f"a/{number}.png", tmp_path / f"b/{number}.png")
    found = pair_folders(tmp_path / "a", tmp_path / "b")
    assert not found.video
    assert found.groups() == [(pair,) for pair in found.pairs]


def test_one_sequence_alone(tmp_path: Path) -> None:
    gopro(tmp_path, count=2)
    gopro(tmp_path, count=1, sequence="GOPR0384_11_00")
    found = find_pairs(tmp_path)
    assert names(found.only(["GOPR0384_11_00"])) == [("GOPR0384_11_00", "000000")]
    with pytest.raises(DatasetError, match=r"no sequence 'x'; its sequences: GOPR0384_11_00, GOPR0410_11_00$"):
        found.only(["x"])


@pytest.fixture(scope="module")
def whole_gopro(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All 1,111 pairs of GOPRO's test split, each of 12×11 pixels; a test that changes one puts it back."""
    folder = tmp_path_factory.mktemp("GOPRO_Large")
    one = write(folder / "one.png", noise(0, 11, 12)).read_bytes()
    (folder / "one.png").unlink()
    for sequence, count in GOPRO_TEST.items():
        for side in ("blur", "sharp"):
            place = folder / "test" / sequence / side
            place.mkdir(parents=True)
            for number in range(1, count + 1):
                (place / f"{number:06}.png").write_bytes(one)
    return folder


def test_all_of_gopro_is_known_to_be_whole(whole_gopro: Path) -> None:
    found = find_pairs(whole_gopro)
    assert (found.name, found.coverage, found.whole, found.video) == ("GOPRO", "1111/1111", True, True)
    assert Counter(pair.sequence for pair in found.pairs) == GOPRO_TEST
    assert {group[0].sequence: len(group) for group in found.groups()} == GOPRO_TEST
    found.require_whole()


def test_what_is_wrong_with_one_file_of_a_thousand_is_said_in_one_line(whole_gopro: Path) -> None:
    sequence = whole_gopro / "test/GOPR0862_11_00"
    blurred, sharp = sequence / "blur/000042.png", sequence / "sharp/000042.png"
    content, place = sharp.read_bytes(), f"'{whole_gopro / 'test'}'"
    rest = "(--allow-partial scores the rest)"

    def message() -> str:
        with pytest.raises(DatasetError) as caught:
            find_pairs(whole_gopro)
        return str(caught.value)

    try:
        sharp.unlink()
        removed = f"1 picture in {place} does not pair {rest}: GOPR0862_11_00/000042 has no sharp picture"
        assert message() == removed
        sharp.with_stem("000142").write_bytes(content)
        assert message() == (
            f"2 pictures in {place} do not pair {rest}: GOPR0862_11_00/000042 has no sharp picture; "
            "GOPR0862_11_00/000142 has no blurred picture"
        )
        sharp.with_stem("000142").unlink()
        write(sharp, noise(0, 12, 11))
        assert message() == (
            f"1 picture in {place} does not pair {rest}: GOPR0862_11_00/000042 is 12×11 blurred and 11×12 sharp"
        )
        sharp.unlink()
        blurred.unlink()
        partial = find_pairs(whole_gopro)
        assert (partial.coverage, partial.left_out) == ("1110/1111", ())
        with pytest.raises(DatasetError) as caught:
            partial.require_whole()
        assert str(caught.value) == ("GOPRO test is not complete: 1110/1111 pairs: GOPR0862_11_00 has 76 of 77 pairs")
    finally:
        blurred.write_bytes(content)
        sharp.write_bytes(content)
