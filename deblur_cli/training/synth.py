"""Making pairs on disk: blurred and sharp pictures in GOPRO's layout, from sharp photos or high-speed clips."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deblur_cli.errors import DatasetError
from deblur_cli.evaluation.metrics import round_to_uint8
from deblur_cli.media import clips
from deblur_cli.training.blur import BlurSettings, synthesise
from deblur_cli.training.data import HIGH_SPEED, Dice, load_picture
from deblur_cli.training.pictures import write_png


def synthesise_photo(photo: Path, blur: BlurSettings, seed: int, number: int) -> tuple[Tensor, Tensor]:
    """Blurred and sharp of one photo, each 3×H×W uint8; variant `number` of those that `seed` gives it."""
    scene = load_picture(photo).float().unsqueeze(0) / 255
    size = (scene.shape[2], scene.shape[3])
    blurred, sharp = synthesise(scene, size, blur, Dice.seeded(torch.device("cpu"), seed, photo.name, number).generator)
    return round_to_uint8(blurred[0]), round_to_uint8(sharp[0])


def synthesise_clip(clip: Path, averaged: int, tell: Callable[[str], None]) -> Iterable[tuple[Tensor, Tensor]]:
    """Blurred and sharp of each run of `averaged` consecutive frames of a clip: their mean, and the middle one.

    Raises:
        DatasetError: the clip cannot be decoded, or its frames are too far apart to be averaged.
    """
    rate = clips.frame_rate(clip)
    if rate < HIGH_SPEED:
        raise DatasetError(
            f"{clip}: {rate:.0f} frames a second are too few to average (at least {HIGH_SPEED:.0f}); "
            "give its frames as photos"
        )
    shutter: list[np.ndarray] = []
    for frame in clips.read_frames(clip):
        shutter.append(frame)
        if len(shutter) == averaged:
            mean = np.mean(shutter, axis=0, dtype=np.float32)
            yield _channels_first((mean + 0.5).astype(np.uint8)), _channels_first(shutter[averaged // 2])
            shutter = []
    if shutter:
        tell(f"{clip.name}: the last {len(shutter)} frames do not fill a shutter of {averaged} and were left out")


def write_pair(blurred: Tensor, sharp: Tensor, output: Path, sequence: str, name: str) -> None:
    """Write one pair as `output/train/SEQUENCE/{blur,sharp}/NAME.png`, both or none.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    targets = [output / "train" / sequence / folder / f"{name}.png" for folder in ("blur", "sharp")]
    try:
        for target, picture in zip(targets, (blurred, sharp), strict=True):
            target.parent.mkdir(parents=True, exist_ok=True)
            write_png(target, picture)
    except BaseException:
        for target in targets:
            target.unlink(missing_ok=True)
        raise


def _channels_first(frame: Any) -> Tensor:
    return torch.from_numpy(frame).permute(2, 0, 1)
