"""Making pairs on disk: blurred and sharp pictures in GOPRO's layout, from sharp photos or high-speed clips."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deblur_cli.errors import DatasetError, UsageError
from deblur_cli.evaluation.metrics import round_to_uint8
from deblur_cli.media import clips
from deblur_cli.media.files import remove_stale, replacing
from deblur_cli.training.blur import BlurSettings, synthesise
from deblur_cli.training.data import HIGH_SPEED, Dice, load_picture
from deblur_cli.training.pictures import write_png
from deblur_cli.words import counted


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
        tell(f"{clip.name}: of the last {counted(len(shutter), 'frame')} no shutter of {averaged} is filled: left out")


@dataclass(frozen=True)
class PairFolder:
    """The folder of a sequence while its pairs are made: `{blur,sharp}/NAME.png`, and until all are there a record of
    what they are made of, by which the same command goes on where it was stopped."""

    folder: Path
    made_of: dict[str, Any]
    """All that decides the pairs, as JSON can hold it."""

    def check(self) -> None:
        """Raise where something else is in the way.

        Raises:
            UsageError: the folder is there, and was not begun with the same options.
        """
        if not self.folder.exists():
            return
        try:
            begun = json.loads(self._record.read_bytes())
        except (OSError, ValueError):
            raise UsageError(f"{self.folder} is there already; take another folder, or remove it") from None
        if begun != json.loads(json.dumps(self.made_of)):
            raise UsageError(
                f"{self.folder} was begun with other options or files; give those, take another folder, or remove it"
            )

    def has(self, name: str) -> bool:
        """Whether both pictures of a pair are there."""
        return all(target.is_file() for target in self._targets(name))

    def write(self, blurred: Tensor, sharp: Tensor, name: str) -> None:
        """Write one pair, both or none.

        Raises:
            OSError: the disk is full, or the folder cannot be written.
        """
        targets = self._targets(name)
        for target in targets:
            target.parent.mkdir(parents=True, exist_ok=True)
        if not self._record.exists():
            with replacing(self._record) as stream:
                stream.write(json.dumps(self.made_of).encode())
        try:
            for target, picture in zip(targets, (blurred, sharp), strict=True):
                write_png(target, picture)
        except BaseException:
            for target in targets:
                target.unlink(missing_ok=True)
            raise

    def finish(self) -> None:
        """All pairs are there: from now on nothing is added, and what a killed run left half-written is removed."""
        remove_stale(self.folder.glob("*/*.png"))
        self._record.unlink(missing_ok=True)

    @property
    def _record(self) -> Path:
        return self.folder / ".begun.json"

    def _targets(self, name: str) -> list[Path]:
        return [self.folder / part / f"{name}.png" for part in ("blur", "sharp")]


def _channels_first(frame: Any) -> Tensor:
    return torch.from_numpy(frame).permute(2, 0, 1)
