from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from deblur_cli.errors import DatasetError
from deblur_cli.training.blur import BlurSettings
from deblur_cli.training.data import ClipSource, Dice, PhotoSource, load_clips, load_photos

CPU = torch.device("cpu")
BLUR = BlurSettings(length=(2, 8))


def picture(seed: int, height: int = 96, width: int = 128) -> Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_a_picture_smaller_than_the_margins_ask_for_is_mirrored_and_not_enlarged() -> None:
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    chequered = (255 * ((rows + columns) % 2)).to(torch.uint8).expand(3, -1, -1)
    blur = BlurSettings(length=(20, 20), foreground=0, linear=0, saturation=0, defocus=0, noise=0, jpeg=0)
    _, sharp = PhotoSource([chequered]).draw(2, 48, blur, Dice.seeded(CPU, "small"))  # and margins of 12
    assert (sharp[..., 1:] - sharp[..., :-1]).abs().min() > 0.99


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
