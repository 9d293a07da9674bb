"""Making pairs on disk: blurred and sharp pictures in GOPRO's layout, from sharp photos or high-speed clips."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deblur_cli.errors import DatasetError, DeblurError, UsageError
from deblur_cli.evaluation.metrics import round_to_uint8
from deblur_cli.media import clips
from deblur_cli.media.files import remove_stale, replacing
from deblur_cli.training.blur import BlurSettings, synthesise
from deblur_cli.training.data import HIGH_SPEED, Dice, load_picture
from deblur_cli.training.pictures import write_png
from deblur_cli.words import counted

_STILLS = "photos"
"""The sequence that is none: pairs made of photos."""


@dataclass(frozen=True)
class Material:
    """What pairs are made of, and how."""

    photos: Sequence[Path]
    clips: Sequence[Path]
    blur: BlurSettings
    """What photos are blurred by."""
    count: int
    """Pairs made of each photo."""
    seed: int
    averaged: int
    """Frames of a clip that make one picture; odd, so that there is a middle one."""


@dataclass
class Tally:
    """What `make_pairs` has done so far: right at any time, also where it was interrupted."""

    made: int = 0
    """Pairs that are there now."""
    before: int = 0
    """Of these, the ones that were there already."""
    failed: int = 0
    """Photos and clips that failed."""
    pictured: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    """The first pairs, blurred and sharp, each 3×H×W uint8."""


def make_pairs(
    material: Material, output: Path, tally: Tally, *, pictured: int = 0, tell: Callable[[str], None]
) -> None:
    """Make all pairs of `material` as OUTPUT/train/SEQUENCE/{blur,sharp}/NAME.png, one sequence for each clip and one
    for all photos; what is there from an interrupted run with the same material is not made again.

    A photo or clip that fails is told and counted, and ends nothing; alone, its error is raised.

    Args:
        tally: counts what is made.
        pictured: so many pairs are kept in the tally.
        tell: given one line for each thing that the user should know.

    Raises:
        UsageError: a sequence's folder is there, and was not begun with this material.
        OSError: the disk is full, or the folder cannot be written.
    """
    names, taken = set[str](), {_STILLS}
    named = {_unused(photo.stem, names): photo for photo in material.photos}
    stills = PairFolder(
        output / "train" / _STILLS,
        {
            "photos": {name: str(photo.absolute()) for name, photo in named.items()},
            "count": material.count,
            "seed": material.seed,
            "blur": asdict(material.blur),
        },
    )
    made_of_clips = [
        PairFolder(
            output / "train" / _unused(clip.stem, taken), {"clip": str(clip.absolute()), "frames": material.averaged}
        )
        for clip in material.clips
    ]
    folders = [*([stills] if named else []), *made_of_clips]
    for folder in folders:
        folder.check()

    def keep(make: Callable[[], tuple[Tensor, Tensor]], folder: PairFolder, name: str) -> None:
        there, wanted = folder.has(name), len(tally.pictured) < pictured
        if wanted or not there:
            pair = make()
            if not there:
                folder.write(*pair, name)
            if wanted:
                tally.pictured.append(pair)
        tally.made += 1
        tally.before += there

    @contextmanager
    def one_of_several() -> Iterator[None]:
        try:
            yield
        except DeblurError as error:
            if len(material.photos) + len(material.clips) == 1:
                raise
            tally.failed += 1
            tell(f"failed: {error}")

    for name, photo in named.items():
        with one_of_several():
            for number in range(material.count):
                # Names that ended in numbers would say that one is the next frame of the other.
                make = partial(synthesise_photo, photo, material.blur, (material.seed, name + photo.suffix, number))
                keep(make, stills, f"{name}_{number:03d}_still")
    for clip, folder in zip(material.clips, made_of_clips, strict=True):
        with one_of_several():
            for number, pair in enumerate(synthesise_clip(clip, material.averaged, tell)):
                keep(lambda pair=pair: pair, folder, f"{number:06d}")  # type: ignore[misc]
    if not tally.failed:
        for folder in folders:
            folder.finish()


def synthesise_photo(photo: Path, blur: BlurSettings, key: tuple[object, ...]) -> tuple[Tensor, Tensor]:
    """Blurred and sharp of one photo, each 3×H×W uint8; `key` decides what blur it is."""
    scene = load_picture(photo).float().unsqueeze(0) / 255
    size = (scene.shape[2], scene.shape[3])
    blurred, sharp = synthesise(scene, size, blur, Dice.seeded(torch.device("cpu"), *key).generator)
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


def _unused(name: str, taken: set[str]) -> str:
    """`name`, or `name~2` and so on where files from other folders are called so, or differ in capitals only."""
    found = next(
        each
        for each in itertools.chain([name], (f"{name}~{number}" for number in itertools.count(2)))
        if each.lower() not in taken
    )
    taken.add(found.lower())
    return found
