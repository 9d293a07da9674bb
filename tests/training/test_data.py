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
    PhotoSource,
    Pool,
    PoolSettings,
    load_clips,
    load_photos,
    pool_device,
)

CPU = torch.device("cpu")
BLUR = BlurSettings(length=(2, 8))


def picture(seed: int, height: int = 96, width: int = 128) -> Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


class Numbered:
    """A source whose every pair is filled with a number, to see what the pool does with them; a sequence's frames get
    brighter by 1 from frame to frame, all over a picture of random dots."""

    kind = "pairs"

    def __init__(self) -> None:
        self.drawn: list[int] = []

    def __len__(self) -> int:
        return 1

    def draw(self, count: int, size: int, blur: BlurSettings, dice: Dice, frames: int = 1) -> tuple[Tensor, Tensor]:
        key = dice.host.randrange(200)
        self.drawn.append(count * frames)
        if frames == 1:
            image = torch.full((count, 3, size, size), key / 255)
            return image, image
        dots = torch.randint(0, 200, (count, 1, 3, size, size), generator=dice.generator)
        image = (dots + torch.arange(frames).view(-1, 1, 1, 1)) / 255
        return image, image


def pool(source: object, batch: int = 4, frames: int = 1) -> Pool:
    settings = PoolSettings(pairs=8, size=32, chunk=4, reuse=2)
    mixture = {"pairs": 1.0, "photos": 1.0}
    return Pool([source], settings, batch, 1, CPU, lambda step: (mixture, BLUR), frames)  # type: ignore[list-item]


@pytest.mark.parametrize("frames", [1, 3])
def test_a_pool_built_late_gives_the_batches_of_one_that_was_there_from_the_start(frames: int) -> None:
    source = PhotoSource([picture(1), picture(2)])
    steady, late = pool(source, frames=frames), pool(source, frames=frames)
    batches = [steady.batch(step, 24) for step in range(9)]
    for step in (0, 3, 8):
        blurred, sharp = late.batch(step, 24) if step else pool(source, frames=frames).batch(0, 24)
        assert torch.equal(blurred, batches[step][0])
        assert torch.equal(sharp, batches[step][1])
    assert not torch.equal(batches[0][0], batches[1][0])


def test_a_picture_smaller_than_the_margins_ask_for_is_mirrored_and_not_enlarged() -> None:
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    chequered = (255 * ((rows + columns) % 2)).to(torch.uint8).expand(3, -1, -1)
    blur = BlurSettings(length=(20, 20), foreground=0, linear=0, saturation=0, defocus=0, noise=0, jpeg=0)
    _, sharp = PhotoSource([chequered]).draw(2, 48, blur, Dice.seeded(CPU, "small"))  # and margins of 12
    assert (sharp[..., 1:] - sharp[..., :-1]).abs().min() > 0.99


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


def test_all_frames_of_a_sequence_are_cut_and_turned_alike() -> None:
    blurred, sharp = pool(Numbered(), batch=8, frames=3).batch(5, 16)
    assert blurred.shape == (8, 3, 3, 16, 16)
    assert torch.equal(blurred, sharp)
    steps = ((sharp[:, 1:] - sharp[:, :-1]) * 255).round()
    assert torch.equal(steps, torch.ones_like(steps))
    assert len({float(one) for one in sharp[:, 0, 0, 0, 0]}) > 4  # at many places


@pytest.mark.parametrize("frames", [1, 2, 3, 8, 20])
def test_sequences_take_no_more_memory_than_pairs(frames: int) -> None:
    source = Numbered()
    filled = Pool(
        [source], PoolSettings(pairs=32, size=16, chunk=4), 2, 1, CPU, lambda step: ({"pairs": 1}, BLUR), frames
    )
    filled.batch(0, 8)
    assert 20 <= sum(source.drawn) <= 32


def test_a_stage_without_its_material_says_so() -> None:
    empty = Pool([Numbered()], PoolSettings(8, 32, 4, 2), 4, 1, CPU, lambda step: ({"photos": 1.0, "pairs": 0.0}, BLUR))
    with pytest.raises(DatasetError, match="photos"):
        empty.batch(0, 16)


def test_photos_give_pairs_of_the_size_asked_for() -> None:
    blurred, sharp = PhotoSource([picture(3, 70, 90)]).draw(3, 48, BLUR, Dice.seeded(CPU, "a"))
    assert blurred.shape == sharp.shape == (3, 3, 48, 48)
    assert not torch.allclose(blurred, sharp, atol=0.02)


def test_photos_give_sequences_of_one_moving_scene() -> None:
    blur = BlurSettings(length=(6, 8), straight=1.0, foreground=0, noise=0, jpeg=0)
    blurred, sharp = PhotoSource([picture(3, 150, 170)]).draw(2, 48, blur, Dice.seeded(CPU, "a"), frames=4)
    assert blurred.shape == sharp.shape == (2, 4, 3, 48, 48)
    for images in (blurred, sharp):
        assert not torch.allclose(images[:, 0], images[:, 1], atol=0.02)
    assert not torch.allclose(blurred, sharp, atol=0.02)


def test_a_clip_gives_the_mean_of_an_odd_number_of_frames_and_the_middle_one() -> None:
    # Frame t is of value t throughout: the mean of a run is its middle frame, whatever was cut and scaled.
    frames = torch.arange(40, dtype=torch.uint8).view(-1, 1, 1, 1).expand(40, 3, 64, 64).contiguous()
    blurred, sharp = ClipSource([frames]).draw(6, 32, BLUR, Dice.seeded(CPU, "clip"))
    assert torch.allclose(blurred, sharp, atol=1e-5)
    values = {round(float(value) * 255) for value in sharp[:, 0, 0, 0]}
    assert len(values) > 1 and all(3 <= value <= 36 for value in values)


def test_a_clip_gives_sequences_of_exposures_at_a_regular_distance() -> None:
    # The brightness of frame t is t, so the mean of an exposure is its middle frame and tells when it was taken.
    frames = torch.arange(100, dtype=torch.uint8).view(-1, 1, 1, 1).expand(100, 3, 64, 64).contiguous()
    too_short = torch.full((27, 3, 64, 64), 255, dtype=torch.uint8)
    source = ClipSource([too_short, frames])
    blurred, sharp = source.draw(12, 32, BLUR, Dice.seeded(CPU, "clip"), frames=4)
    assert blurred.shape == (12, 4, 3, 32, 32)
    assert torch.allclose(blurred, sharp, atol=1e-5)
    taken = (sharp[:, :, 0, 0, 0] * 255).round()
    strides = taken[:, 1:] - taken[:, :-1]
    assert torch.equal(strides, strides[:, :1].expand_as(strides))
    assert strides.min() >= 7 and strides.max() <= 19 and len(strides.unique()) > 3
    with pytest.raises(DatasetError, match="no clip has the 105 frames"):
        source.draw(1, 32, BLUR, Dice.seeded(CPU, "clip"), frames=15)


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
    # 20 frames make no sequence of 3 exposures of 7 frames.
    assert [len(kind) for kind in load_clips([tmp_path / "fast.avi"], frames=2)] == [1, 0]
    assert [len(kind) for kind in load_clips([tmp_path / "fast.avi"], frames=3)] == [0, 20]
    # A recipe that knows its clips to move slowly averages them whatever their rate.
    fast, stills = load_clips([tmp_path / "slow.avi"], averaged_from=20)
    assert [len(clip) for clip in fast] == [51] and not stills


def test_what_is_no_video_is_left_out_and_none_left_is_an_error(tmp_path: Path) -> None:
    write_clip(tmp_path / "fast.avi", 240, 20)
    (tmp_path / "no.mp4").write_bytes(b"not a video")
    told: list[str] = []
    fast, stills = load_clips([tmp_path / "no.mp4", tmp_path / "fast.avi"], tell=told.append)
    assert len(fast) == 1 and not stills
    assert [line.startswith("left out: ") and "no.mp4" in line for line in told] == [True]
    with pytest.raises(DatasetError, match=r"no\.mp4"):
        load_clips([tmp_path / "no.mp4"])


@pytest.mark.parametrize(("device", "expected"), [("cpu", "cpu"), ("cuda:1", "cuda:1"), ("mps", "cpu")])
def test_pairs_are_made_where_they_are_trained_on_unless_it_cannot_sample(device: str, expected: str) -> None:
    assert pool_device(torch.device(device)) == torch.device(expected)
