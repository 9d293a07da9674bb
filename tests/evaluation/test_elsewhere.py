"""Pictures that another program restored: which is whose, what does not fit, and what they score."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from deblur_cli.errors import DatasetError
from deblur_cli.evaluation.benchmark import Failure, benchmark
from deblur_cli.evaluation.datasets import Dataset, Pair, find_pairs, pair_folders
from deblur_cli.evaluation.elsewhere import RestoredPictures
from deblur_cli.evaluation.report import Report, build_notes, build_table, describe_pictures
from tests.evaluation.pictures import gopro, kohler, noise, real_blur, write, write_pair

CPU = torch.device("cpu")
SEQUENCES = ("GOPR0384_11_00", "GOPR0410_11_00")


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Two sequences of two pairs each."""
    for sequence in SEQUENCES:
        gopro(tmp_path / "data", count=2, sequence=sequence)
    return find_pairs(tmp_path / "data")


def restored(folder: Path, names: list[str], dataset: Dataset) -> Path:
    """A picture of each pair under the names given, the sharp one a grey level off, so that none is another's."""
    for name, pair in zip(names, dataset.pairs, strict=True):
        write(folder / name, off_by_one(pair))
    return folder


def off_by_one(pair: Pair) -> np.ndarray:
    sharp = np.asarray(Image.open(pair.sharp))
    return np.where(sharp < 128, sharp + 1, sharp - 1).astype(np.uint8)


def each_pair_has_its_own(pictures: RestoredPictures, dataset: Dataset) -> None:
    for pair in dataset.pairs:
        pictures.prepare(pair, torch.zeros(1, 3, pair.size[1], pair.size[0]))
        found = pictures.restore(torch.zeros(1))
        assert np.array_equal((found[0] * 255).round().byte().permute(1, 2, 0).numpy(), off_by_one(pair))


@pytest.mark.parametrize(
    "name",
    [
        "{sequence}/{name}.png",
        "{sequence}-{name}.png",
        "{sequence}_{name}.bmp",
        "{sequence}/blur/{name}.png",
        "test/{sequence}/blur/{name}.png",
        "results/{sequence}/{name}.tif",
    ],
)
def test_pictures_are_found_under_the_names_that_programs_give(tmp_path: Path, dataset: Dataset, name: str) -> None:
    names = [name.format(sequence=pair.sequence, name=pair.name) for pair in dataset.pairs]
    if name.startswith("results/"):
        with pytest.raises(DatasetError, match="4 are missing"):
            RestoredPictures(restored(tmp_path / "out", names, dataset), dataset, CPU)
        folder = tmp_path / "out/results"
    else:
        folder = restored(tmp_path / "out", names, dataset)
    result = benchmark(RestoredPictures(folder, dataset, CPU), dataset)
    assert result.restored.psnr == pytest.approx(20 * math.log10(255), abs=1e-4)  # all are one off, and none is another
    assert result.blurred.psnr == pytest.approx(30.069, abs=1e-3)
    assert math.isnan(result.milliseconds)


def test_names_of_files_do_where_no_two_are_the_same(tmp_path: Path) -> None:
    dataset = find_pairs(kohler(tmp_path / "data", {(1, 1): 3, (2, 4): 3}))
    folder = restored(tmp_path / "out", ["Blurry1_1.png", "any/Blurry2_4.png"], dataset)
    each_pair_has_its_own(RestoredPictures(folder, dataset, CPU), dataset)


def test_pictures_of_real_blur_lie_as_the_blurred_ones_do(tmp_path: Path) -> None:
    dataset = find_pairs(real_blur(tmp_path / "data", {"scene001": 2, "scene002": 1}))
    names = ["scene001/blur/blur_1.png", "scene001/blur/blur_2.png", "scene002/blur/blur_1.png"]
    pictures = RestoredPictures(restored(tmp_path / "out", names, dataset), dataset, CPU)
    each_pair_has_its_own(pictures, dataset)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 99)), min_size=1, max_size=8, unique=True))
def test_no_pair_gets_the_picture_of_another(names: list[tuple[str, int]]) -> None:
    from deblur_cli.evaluation.elsewhere import _matched

    pairs = [
        Pair(folder, f"{number:02}", Path(f"/d/{folder}/{number:02}.png"), Path("/s"), (20, 16))
        for folder, number in names
    ]
    dataset = Dataset("d", "", "", tuple(pairs), (Path("/d"), Path("/s")))
    files = {f"{folder}/{number:02}": Path(f"/r/{folder}/{number:02}.png") for folder, number in names}
    assert {pair: str(file)[2:] for pair, file in _matched(files, dataset, dataset).items()} == {
        pair: str(pair.blurred)[2:] for pair in pairs
    }
    flat = {f"{number:02}": Path(f"/r/{number:02}.png") for _, number in names}
    for pair, file in _matched(flat, dataset, dataset).items():
        assert file.stem == pair.name and [own for own in pairs if own.name == pair.name] == [pair]


def test_pictures_of_another_sequence_are_not_taken_for_those_of_a_part(tmp_path: Path, dataset: Dataset) -> None:
    part = dataset.only([SEQUENCES[1]])
    folder = restored(tmp_path / "out", [f"{SEQUENCES[0]}/{pair.name}.png" for pair in part.pairs], part)
    with pytest.raises(DatasetError, match=f"{SEQUENCES[1]}/000000 is missing"):
        RestoredPictures(folder, part, CPU, dataset)


def test_what_does_not_fit_is_named(tmp_path: Path, dataset: Dataset) -> None:
    names = [f"{pair.sequence}/{pair.name}.png" for pair in dataset.pairs]
    folder = restored(tmp_path / "out", names, dataset)
    write(folder / names[0], noise(1, 16, 24))
    (folder / names[1]).unlink()
    (folder / names[2]).write_bytes(b"no picture")
    write(folder / names[3], noise(1)).with_suffix(".jpg").write_bytes((folder / names[3]).read_bytes())
    with pytest.raises(DatasetError) as refusal:
        RestoredPictures(folder, dataset, CPU)
    for told in ("of 4 pictures 4 are missing", "24×16 and not 20×16", "000001 is missing, or", "cannot be read"):
        assert told in str(refusal.value)
    assert str(refusal.value).count(" is missing") == 2  # that of two endings is nobody's
    with pytest.raises(DatasetError, match="there is no folder"):
        RestoredPictures(tmp_path / "nowhere", dataset, CPU)


def test_a_picture_that_goes_while_others_are_scored_is_a_failure(tmp_path: Path) -> None:
    for name in ("1", "2"):
        write_pair(tmp_path / f"in/{name}.png", tmp_path / f"truth/{name}.png")
    dataset = pair_folders(tmp_path / "in", tmp_path / "truth")
    folder = restored(tmp_path / "out", ["1.png", "2.png"], dataset)
    pictures = RestoredPictures(folder, dataset, CPU)
    write(folder / "1.png", noise(1, 16, 24))
    result = benchmark(pictures, dataset)
    assert [failure.pair.name for failure in result.failures] == ["1"] and isinstance(result.failures[0], Failure)
    assert "no longer of one size" in result.failures[0].reason
    assert [image.pair.name for image in result.images] == ["2"]


def test_the_report_says_that_they_were_restored_elsewhere(tmp_path: Path, dataset: Dataset) -> None:
    names = [f"{pair.sequence}/{pair.name}.png" for pair in dataset.pairs]
    pictures = RestoredPictures(restored(tmp_path / "out", names, dataset), dataset, CPU)
    model = describe_pictures(pictures, benchmark(pictures, dataset), label="out")
    report = Report(dataset, True, (model,))
    assert f"out: pictures of '{tmp_path / 'out'}', restored elsewhere" in build_notes(report)
    table = build_table(report)
    cells = {str(column.header): list(column.cells) for column in table.columns}
    assert cells["ms/image"][1] == "-" and cells["PSNR dB"] == ["30.07", "48.13"]
