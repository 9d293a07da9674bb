"""Training pairs from sharp photos and from high-speed clips; those that lie on disk are in pairs.py.

For recurrent networks a pair is one of sequences: of T blurred frames that follow each other, and the T sharp ones.

Everything random is drawn from generators seeded by (seed, what it is for, its number), never from a running stream,
so the batch of step n is the same whether the run came there in one go or was resumed on the way.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from deblur_cli.errors import DatasetError, PhotoError
from deblur_cli.media import clips
from deblur_cli.training.blur import BlurSettings, synthesise
from deblur_cli.training.sequences import FRAMES_AVERAGED, draw_exposures, shortest_clip, synthesise_sequence

HIGH_SPEED = 100.0
"""Frames a second from which consecutive frames are averaged, unless a recipe says otherwise; slower ones mostly move
too far between two frames."""
PHOTO_FRAME = (720, 1280)
"""The frame that a crop of a photo is taken to be a part of, for rotations (GOPRO's size)."""


@dataclass(frozen=True)
class Dice:
    """Random numbers that depend on a key alone: choices made on the host, so that no device is waited for, and a
    generator on the device for what is drawn in tensors."""

    host: random.Random
    generator: torch.Generator

    @staticmethod
    def seeded(device: torch.device, *key: object) -> Dice:
        """The numbers that belong to `key`."""
        digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
        seed = int.from_bytes(digest, "little") >> 1
        return Dice(random.Random(seed), torch.Generator(device).manual_seed(seed))

    @property
    def device(self) -> torch.device:
        """Where tensors are drawn."""
        return self.generator.device


class Source(Protocol):
    """Somewhere that pairs come from."""

    @property
    def kind(self) -> str:
        """`photos`, `clips`, `stills` or `pairs`: the name of its weight in a recipe's stage."""
        ...

    @property
    def is_read(self) -> bool:
        """Whether it lies on disk. Then a thread beside that of the training draws from it, which does nothing on the
        dice's device: what it draws is in the processor's memory."""
        ...

    def draw(self, count: int, size: int, blur: BlurSettings, dice: Dice, frames: int = 1) -> tuple[Tensor, Tensor]:
        """Blurred and sharp, each count×3×size×size in [0, 1] on the dice's device (but see `is_read`), or
        count×frames×3×size×size sequences where `frames` is more than 1.

        Raises:
            DatasetError: there is nothing here that so many frames, or crops of that size, can be taken from.
        """
        ...

    def __len__(self) -> int:
        """How many photos, clips or pairs there are."""
        ...


@dataclass(frozen=True)
class PhotoSource:
    """Sharp pictures that are blurred on the fly (blur.py), at random scales of 0.5 to 1."""

    pictures: Sequence[Tensor]
    """Each 3×H×W uint8."""
    kind: str = "photos"
    is_read: bool = False

    def __len__(self) -> int:
        return len(self.pictures)

    def draw(self, count: int, size: int, blur: BlurSettings, dice: Dice, frames: int = 1) -> tuple[Tensor, Tensor]:
        # A camera that films gets further; what lies beyond the margin is mirrored.
        margin = min(size // (4 if frames == 1 else 2), int(blur.length[1]) * frames)
        whole = size + 2 * margin
        scenes = torch.stack([self._scene(whole, dice) for _ in range(count)])
        reach = torch.tensor([(side - size) / 2 for side in reversed(PHOTO_FRAME)], device=dice.device).clamp_min(0)
        offset = (2 * torch.rand(count, 2, generator=dice.generator, device=dice.device) - 1) * reach
        generator, crop = dice.generator, (size, size)
        if frames == 1:
            return synthesise(scenes, crop, blur, generator, frame=PHOTO_FRAME, offset=offset, filtered=True)
        return synthesise_sequence(scenes, frames, crop, blur, generator, frame=PHOTO_FRAME, offset=offset)

    def _scene(self, side: int, dice: Dice) -> Tensor:
        """The more textured of two random squares of a random picture, in [0, 1]. A picture that is too small is
        mirrored at its borders: enlarged it would not be sharp."""
        picture = dice.host.choice(self.pictures)
        cut = min(*picture.shape[1:], round(side / dice.host.uniform(0.5, 1.0)))
        one, other = (picture[random_window(picture.shape[1:], cut, dice)].to(dice.device) for _ in range(2))
        chosen = torch.where(_texture(one) >= _texture(other), one, other)
        scene = _resized(chosen.float().unsqueeze(0) / 255, min(cut, side))
        missing = max(0, side - cut)
        before, after = missing // 2, missing - missing // 2
        return functional.pad(scene, (before, after, before, after), mode="reflect")[0]


@dataclass(frozen=True)
class ClipSource:
    """High-speed clips: the blurred image is the mean of 7 to 13 consecutive frames, the sharp one the middle frame."""

    clips: Sequence[Tensor]
    """Each T×3×H×W uint8."""
    kind: str = "clips"
    is_read: bool = False

    def __len__(self) -> int:
        return len(self.clips)

    def draw(self, count: int, size: int, blur: BlurSettings, dice: Dice, frames: int = 1) -> tuple[Tensor, Tensor]:
        usable = [clip for clip in self.clips if len(clip) >= shortest_clip(frames)]
        if not usable:
            raise DatasetError(f"no clip has the {shortest_clip(frames)} frames that a sequence of {frames} takes")
        pairs = torch.stack([self._pair(dice.host.choice(usable), size, dice, frames) for _ in range(count)])
        return in_frames(pairs, frames)

    def _pair(self, clip: Tensor, size: int, dice: Dice, frames: int) -> Tensor:
        """2·frames×3×size×size: the blurred ones, then the sharp ones."""
        exposures = draw_exposures(len(clip), frames, dice.host)
        cut = min(*clip.shape[2:], round(size / dice.host.uniform(0.6, 1.0)))
        window = random_window(clip.shape[2:], cut, dice)
        shutters = [clip[exposure][:, *window].to(dice.device).float() for exposure in exposures]
        means = [shutter.mean(dim=0) for shutter in shutters]
        middles = [shutter[len(shutter) // 2] for shutter in shutters]
        return _resized(torch.stack([*means, *middles]) / 255, size)


def load_picture(path: Path) -> Tensor:
    """A photo file as 3×H×W uint8 RGB; deeper pixels are rounded to 8 bits, alpha is dropped.

    Raises:
        PhotoError: it cannot be read.
    """
    from deblur_cli.media import photos

    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise PhotoError(f"{path}: no regular file")
    pixels = photos.read(path).pixels
    if pixels.dtype != np.uint8:
        full = 1.0 if pixels.dtype.kind == "f" else float(np.iinfo(pixels.dtype).max)
        pixels = (np.clip(pixels / full, 0, 1) * 255 + 0.5).astype(np.uint8)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    # Turned by NumPy: torch would do it with several threads, beside a training that has them all.
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def load_photos(
    files: Iterable[Path], smallest: int, purpose: str = "train on", tell: Callable[[str], None] = lambda line: None
) -> list[Tensor]:
    """Read photos into memory, each 3×H×W uint8; those whose shorter side is under `smallest` pixels are left out.

    What cannot be read is left out as well, which `tell` hears of, a line each.

    Raises:
        DatasetError: none is left.
    """
    pictures = []
    for file in files:
        try:
            picture = load_picture(file)
        except PhotoError as error:
            tell(f"left out: {error}")
            continue
        if min(picture.shape[1:]) >= smallest:
            pictures.append(picture)
    if not pictures:
        raise DatasetError(f"no photo of at least {smallest} pixels to {purpose}")
    return pictures


def load_clips(
    files: Iterable[Path],
    frames: int = 1,
    averaged_from: float = HIGH_SPEED,
    tell: Callable[[str], None] = lambda line: None,
) -> tuple[list[Tensor], list[Tensor]]:
    """Read clips into memory: those of at least `averaged_from` frames a second whole (T×3×H×W), of the others one
    frame a second (3×H×W), for they are only sharp pictures. A fast one too short for a sequence of `frames` gives
    pictures too. What is no video is left out, which `tell` hears of, a line each.

    Raises:
        DatasetError: none of the files is a video.
    """
    fast: list[Tensor] = []
    stills: list[Tensor] = []
    refused: DatasetError | None = None
    for file in files:
        try:
            rate = clips.frame_rate(file)
            keep = 1 if rate >= averaged_from else max(1, round(rate))
            read = [
                torch.from_numpy(frame).permute(2, 0, 1).contiguous()
                for number, frame in enumerate(clips.read_frames(file))
                if number % keep == 0
            ]
        except DatasetError as error:
            tell(f"left out: {error}")
            refused = error
            continue
        if rate >= averaged_from and len(read) >= max(*FRAMES_AVERAGED, shortest_clip(frames)):
            fast.append(torch.stack(read))
        else:
            stills.extend(read)
    if refused and not (fast or stills):
        raise refused
    return fast, stills


def in_frames(both: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """N×2·frames×3×H×W, the blurred frames before the sharp ones, as two of N×frames×3×H×W, or of N×3×H×W for one."""
    blurred, sharp = both.unflatten(1, (2, frames)).unbind(1)
    return (blurred.squeeze(1), sharp.squeeze(1)) if frames == 1 else (blurred, sharp)


def random_window(shape: Sequence[int], side: int, dice: Dice) -> tuple[slice, slice, slice]:
    """A square of `side` at a random place of a height×width picture, as an index of its C×H×W tensor."""
    top, left = (dice.host.randrange(length - side + 1) for length in shape)
    return slice(None), slice(top, top + side), slice(left, left + side)


def _resized(images: Tensor, side: int) -> Tensor:
    """B×C×H×W squares at another size, without aliases."""
    if images.shape[-1] == side:
        return images
    size = (side, side)
    return functional.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True).clamp(0, 1)


def _texture(crop: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels, of every fourth row, in grey levels."""
    rows = crop[:, ::4].to(torch.int16)
    return (rows[:, :, 1:] - rows[:, :, :-1]).abs().float().mean()
