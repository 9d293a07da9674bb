from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from deblur_cli.errors import DatasetError
from deblur_cli.training.blur import BlurSettings
from deblur_cli.training.data import (
    ClipSource,
    Dice,
    PairSource,
    PhotoSource,
    Pool,
    PoolSettings,
    load_clips,
    load_photos,
)

CPU = torch.device("cpu")
BLUR = BlurSettings(length=(2, 8))


def picture(seed: int, height: int = 96, width: int = 128) -> Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


class Numbered:
    """A source whose every pair is filled with its running number, to see what the pool does with them."""

    kind = "pairs"

    def __init__(self) -> None:
        self.drawn: list[int] = []

    def __len__(self) -> int:
        return 1

    def draw(self, count: int, size: int, blur: BlurSettings, dice: Dice) -> tuple[Tensor, Tensor]:
        key = dice.host.randrange(200)
        self.drawn.append(count)
        image = torch.full((count, 3, size, size), key / 255)
        return image, image


def pool(source: object, batch: int = 4) -> Pool:
    settings = PoolSettings(pairs=8, size=32, chunk=4, reuse=2)
    return Pool([source], settings, batch, 1, CPU, lambda step: ({"pairs": 1.0, "photos": 1.0}, BLUR))  # type: ignore[list-item]


def test_a_pool_built_late_gives_the_batches_of_one_that_was_there_from_the_start() -> None:
    source = PhotoSource([picture(1), picture(2)])
    steady, late = pool(source), pool(source)
    batches = [steady.batch(step, 24) for step in range(9)]
    for step in (0, 3, 8):
        blurred, sharp = late.batch(step, 24) if step else pool(source).batch(0, 24)
        assert torch.equal(blurred, batches[step][0])
        assert torch.equal(sharp, batches[step][1])
    assert not torch.equal(batches[0][0], batches[1][0])


def test_each_pair_is_reused_as_often_as_said() -> None:
    source = Numbered()
    filled = pool(source)
    for step in range(40):
        filled.batch(step, 16)
    crops = 40 * 4
    made_after_the_first_fill = sum(source.drawn) - 8
    assert made_after_the_first_fill == pytest.approx(crops / 2, abs=4)


def test_blurred_and_sharp_are_cut_and_turned_alike() -> None:
    blurred, sharp = pool(Numbered(), batch=8).batch(5, 16)
    assert blurred.shape == (8, 3, 16, 16)
    assert torch.equal(blurred, sharp)


def test_a_stage_without_its_material_says_so() -> None:
    empty = Pool([Numbered()], PoolSettings(8, 32, 4, 2), 4, 1, CPU, lambda step: ({"photos": 1.0, "pairs": 0.0}, BLUR))
    with pytest.raises(DatasetError, match="photos"):
        empty.batch(0, 16)


def test_photos_give_pairs_of_the_size_asked_for() -> None:
    blurred, sharp = PhotoSource([picture(3, 70, 90)]).draw(3, 48, BLUR, Dice.seeded(CPU, "a"))
    assert blurred.shape == sharp.shape == (3, 3, 48, 48)
    assert not torch.allclose(blurred, sharp, atol=0.02)


def test_a_clip_gives_the_mean_of_an_odd_number_of_frames_and_the_middle_one() -> None:
    # Frame t is of value t throughout: the mean of a run is its middle frame, whatever was cut and scaled.
    frames = torch.arange(40, dtype=torch.uint8).view(-1, 1, 1, 1).expand(40, 3, 64, 64).contiguous()
    blurred, sharp = ClipSource([frames]).draw(6, 32, BLUR, Dice.seeded(CPU, "clip"))
    assert torch.allclose(blurred, sharp, atol=1e-5)
    values = {round(float(value) * 255) for value in sharp[:, 0, 0, 0]}
    assert len(values) > 1 and all(3 <= value <= 36 for value in values)


def test_pairs_come_from_disk_and_stay_together(tmp_path: Path) -> None:
    pairs = []
    for number in range(3):
        paths = []
        for name, value in (("blur", 20 * number), ("sharp", 20 * number + 100)):
            path = tmp_path / f"{name}{number}.png"
            cv2.imwrite(str(path), np.full((40, 50, 3), value, np.uint8))
            paths.append(path)
        pairs.append((paths[0], paths[1]))
    blurred, sharp = PairSource(pairs).draw(8, 32, BLUR, Dice.seeded(CPU, "pairs"))
    difference = ((sharp - blurred) * 255).round()
    assert torch.equal(difference, torch.full_like(difference, 100))
    with pytest.raises(DatasetError, match="smaller than"):
        PairSource(pairs).draw(1, 64, BLUR, Dice.seeded(CPU, "pairs"))


def test_small_photos_are_left_out_and_none_left_is_an_error(tmp_path: Path) -> None:
    for side in (32, 80):
        cv2.imwrite(str(tmp_path / f"{side}.png"), np.zeros((side, side, 3), np.uint8))
    files = sorted(tmp_path.glob("*.png"))
    assert len(load_photos(files, 64)) == 1
    with pytest.raises(DatasetError, match="at least 100 pixels"):
        load_photos(files, 100)


def write_clip(path: Path, rate: float, frames: int) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate, (64, 48))
    for number in range(frames):
        writer.write(np.full((48, 64, 3), number * 4, np.uint8))
    writer.release()


def test_fast_clips_are_kept_whole_and_slow_ones_give_a_still_a_second(tmp_path: Path) -> None:
    write_clip(tmp_path / "fast.avi", 240, 20)
    write_clip(tmp_path / "slow.avi", 25, 51)
    fast, stills = load_clips([tmp_path / "fast.avi", tmp_path / "slow.avi"])
    assert [tuple(clip.shape) for clip in fast] == [(20, 3, 48, 64)]
    assert len(stills) == 3
    (tmp_path / "no.mp4").write_bytes(b"not a video")
    with pytest.raises(DatasetError, match=r"no\.mp4"):
        load_clips([tmp_path / "no.mp4"])
