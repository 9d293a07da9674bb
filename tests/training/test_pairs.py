from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from deblur_cli.errors import DatasetError
from deblur_cli.evaluation.datasets import Pair
from deblur_cli.training.blur import BlurSettings
from deblur_cli.training.data import Dice
from deblur_cli.training.pairs import PairSource, usable_pairs
from tests.training.runs import pair_of

CPU = torch.device("cpu")
BLUR = BlurSettings()


def write_video(folder: Path, numbers: Iterable[int], size: tuple[int, int] = (40, 50)) -> list[Pair]:
    """Pairs whose blurred picture is of value number, the sharp one of 100 more."""
    pairs = []
    for number in numbers:
        paths = []
        for name, value in (("blur", number), ("sharp", number + 100)):
            path = folder / name / f"{number:06d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.full((*size, 3), value, np.uint8))
            paths.append(path)
        pairs.append(pair_of(*paths))
    return pairs


def cut_short(file: Path) -> None:
    """Damage a PNG such that its header can still be read."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    cv2.imwrite(str(file), noise)
    file.write_bytes(file.read_bytes()[:2000])


def values(images: Tensor) -> list[tuple[int, ...]]:
    """What the frames of N×frames×3×H×W flat pictures are filled with."""
    return [tuple(row) for row in (images[:, :, 0, 0, 0] * 255).round().int().tolist()]


def draw(source: PairSource, count: int, frames: int = 1, size: int = 32) -> tuple[Tensor, Tensor]:
    return source.draw(count, size, BLUR, Dice.seeded(CPU, "pairs"), frames)


def test_sequences_from_disk_follow_the_numbers_and_end_at_gaps(tmp_path: Path) -> None:
    pairs = write_video(tmp_path / "a", [1, 2, 3, 5, 6]) + write_video(tmp_path / "b", [7, 8, 9, 10])
    source = PairSource(pairs)
    blurred, sharp = draw(source, 24, frames=3)
    assert blurred.shape == sharp.shape == (24, 3, 3, 32, 32)
    assert set(values(blurred)) == {(1, 2, 3), (7, 8, 9), (8, 9, 10)}
    assert torch.equal(((sharp - blurred) * 255).round(), torch.full_like(sharp, 100))
    assert len(source.sequences(1)) == 9
    assert source.sequences(3) is source.sequences(3), "of 24,000 pairs they are not looked for in every step"
    with pytest.raises(DatasetError, match="no 5 of the 9 pairs are of one size and numbered in a row"):
        draw(source, 1, frames=5)


def test_pairs_come_from_disk_and_stay_together(tmp_path: Path) -> None:
    blurred, sharp = draw(PairSource(write_video(tmp_path, [0, 20, 40])), 8)
    difference = ((sharp - blurred) * 255).round()
    assert torch.equal(difference, torch.full_like(difference, 100))


def test_small_pairs_are_left_out_and_said_and_none_left_is_an_error(tmp_path: Path) -> None:
    pairs = write_video(tmp_path / "large", [1, 2, 3]) + write_video(tmp_path / "small", [4, 5], size=(24, 50))
    told: list[str] = []
    source = usable_pairs(pairs, 32, tell=told.append)
    assert len(source) == 3
    (line,) = told
    assert "smaller than the 32 pixels" in line and "000004.png is 50×24; " in line and "000005.png" in line
    assert draw(source, 16)[0].shape == (16, 3, 32, 32)
    with pytest.raises(DatasetError, match="no pair of at least 64 pixels"):
        usable_pairs(pairs, 64)


def test_sequences_do_not_go_across_a_change_of_size(tmp_path: Path) -> None:
    pairs = write_video(tmp_path, [1, 2, 3]) + write_video(tmp_path, [4, 5, 6], size=(50, 40))
    told: list[str] = []
    source = usable_pairs(pairs, 32, frames=2, tell=told.append)
    (line,) = told
    assert "differ in size" in line and "000003.png is 50×40 and the frame after it 40×50" in line
    assert set(values(draw(source, 32, frames=2)[0])) == {(1, 2), (2, 3), (4, 5), (5, 6)}
    assert len(usable_pairs(pairs, 32, frames=1, tell=told.append)) == 6 and len(told) == 1
    with pytest.raises(DatasetError, match="no 4 of the 6 pairs"):
        usable_pairs(pairs, 32, frames=4)


def test_a_picture_that_cannot_be_decoded_is_said_once_and_the_next_pair_taken(tmp_path: Path) -> None:
    pairs = write_video(tmp_path, [1, 2, 3, 4])
    intact = values(draw(PairSource(pairs), 24)[0].unsqueeze(1))
    cut_short(pairs[1].sharp)
    cut_short(pairs[3].blurred)
    told: list[str] = []
    source = usable_pairs(pairs, 32, tell=told.append)
    assert len(source) == 4 and not told  # their headers are whole
    mended = values(draw(source, 24)[0].unsqueeze(1))
    assert mended == [{2: (3,), 4: (1,)}.get(value, (value,)) for (value,) in intact]
    assert len(told) == 2 and all(any(name in line for line in told) for name in ("000002", "000004"))
    assert values(draw(source, 24)[0].unsqueeze(1)) == mended and len(told) == 2
    assert values(draw(PairSource(pairs), 24)[0].unsqueeze(1)) == mended  # as a process does that has drawn nothing yet
    blurred, _ = draw(PairSource(pairs[:3]), 8)
    assert values(blurred.unsqueeze(1)).count((2,)) == 0
    with pytest.raises(DatasetError, match=r"none of the 1 pairs can be used: .*000002"):
        draw(PairSource(pairs[1:2]), 1)


def test_pictures_that_have_changed_since_they_were_listed_give_way_too(tmp_path: Path) -> None:
    pairs = write_video(tmp_path / "a", [1, 2]) + write_video(tmp_path / "b", [4, 5])
    cv2.imwrite(str(pairs[1].sharp), np.zeros((44, 50, 3), np.uint8))
    told: list[str] = []
    source = PairSource(pairs, told.append)
    assert set(values(draw(source, 16, frames=2)[0])) == {(4, 5)}
    assert len(told) == 1 and "the 4 pictures of its sequence differ in size" in told[0]
    for pair in pairs[2:]:
        for file in (pair.blurred, pair.sharp):
            cv2.imwrite(str(file), np.zeros((20, 50, 3), np.uint8))
    with pytest.raises(DatasetError, match="smaller than the 32 pixels"):
        draw(source, 1, frames=2)
