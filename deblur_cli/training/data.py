"""Training pairs: from sharp photos, from high-speed clips, from pairs on disk; and the pool that batches are cut from.

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

from deblur_cli.errors import DatasetError
from deblur_cli.media import clips
from deblur_cli.training.blur import BlurSettings, synthesise

HIGH_SPEED = 100.0
"""Frames a second from which consecutive frames are averaged; slower ones move too far between two frames."""
FRAMES_AVERAGED = (7, 9, 11, 13)
"""How many, Nah et al. 2017, section 3; odd, so that the middle frame is the target."""
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
        """`photos`, `clips` or `pairs`: the name of its weight in a recipe's stage."""
        ...

    def draw(self, count: int, size: int, blur: BlurSettings, dice: Dice) -> tuple[Tensor, Tensor]:
        """Blurred and sharp, each count×3×size×size in [0, 1] on the dice's device."""
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

    def __len__(self) -> int:
        return len(self.pictures)

    def draw(self, count: int, size: int, blur: BlurSettings, dice: Dice) -> tuple[Tensor, Tensor]:
        margin = min(size // 4, int(blur.length[1]))
        whole = size + 2 * margin
        scenes = torch.stack([self._scene(whole, dice) for _ in range(count)])
        reach = torch.tensor([(side - size) / 2 for side in reversed(PHOTO_FRAME)], device=dice.device).clamp_min(0)
        offset = (2 * torch.rand(count, 2, generator=dice.generator, device=dice.device) - 1) * reach
        return synthesise(scenes, (size, size), blur, dice.generator, frame=PHOTO_FRAME, offset=offset)

    def _scene(self, side: int, dice: Dice) -> Tensor:
        """The more textured of two random squares of a random picture, in [0, 1]."""
        picture = dice.host.choice(self.pictures)
        cut = min(*picture.shape[1:], round(side / dice.host.uniform(0.5, 1.0)))
        one, other = (picture[_random_window(picture.shape[1:], cut, dice)].to(dice.device) for _ in range(2))
        chosen = torch.where(_texture(one) >= _texture(other), one, other)
        return _resized(chosen.float().unsqueeze(0) / 255, side)[0]


@dataclass(frozen=True)
class ClipSource:
    """High-speed clips: the blurred image is the mean of 7 to 13 consecutive frames, the sharp one the middle frame."""

    clips: Sequence[Tensor]
    """Each T×3×H×W uint8."""
    kind: str = "clips"

    def __len__(self) -> int:
        return len(self.clips)

    def draw(self, count: int, size: int, blur: BlurSettings, dice: Dice) -> tuple[Tensor, Tensor]:
        pairs = [self._pair(size, dice) for _ in range(count)]
        return torch.stack([pair[0] for pair in pairs]), torch.stack([pair[1] for pair in pairs])

    def _pair(self, size: int, dice: Dice) -> tuple[Tensor, Tensor]:
        frames = dice.host.choice(self.clips)
        averaged = dice.host.choice(FRAMES_AVERAGED)
        first = dice.host.randrange(len(frames) - averaged + 1)
        cut = min(*frames.shape[2:], round(size / dice.host.uniform(0.6, 1.0)))
        window = _random_window(frames.shape[2:], cut, dice)
        shutter = frames[first : first + averaged][:, *window].to(dice.device).float()
        both = _resized(torch.stack([shutter.mean(dim=0), shutter[averaged // 2]]) / 255, size)
        return both[0], both[1]


@dataclass(frozen=True)
class PairSource:
    """Blurred and sharp pictures on disk, read when they are drawn (GOPRO's 2,103 pairs take 11 GB uncompressed)."""

    pairs: Sequence[tuple[Path, Path]]
    """Blurred and sharp file."""
    kind: str = "pairs"

    def __len__(self) -> int:
        return len(self.pairs)

    def draw(self, count: int, size: int, blur: BlurSettings, dice: Dice) -> tuple[Tensor, Tensor]:
        drawn = []
        for _ in range(count):
            files = dice.host.choice(self.pairs)
            both = torch.stack([load_picture(path) for path in files])
            if min(both.shape[2:]) < size:
                raise DatasetError(f"{files[0]}: smaller than the {size} pixels that training cuts out")
            window = _random_window(both.shape[2:], size, dice)
            drawn.append(both[:, *window].to(dice.device).float() / 255)
        pairs = torch.stack(drawn)
        return pairs[:, 0], pairs[:, 1]


def load_picture(path: Path) -> Tensor:
    """A photo file as 3×H×W uint8 RGB; deeper pixels are rounded to 8 bits, alpha is dropped.

    Raises:
        PhotoError: it cannot be read.
    """
    from deblur_cli.media import photos

    pixels = photos.read(path).pixels
    if pixels.dtype != np.uint8:
        full = 1.0 if pixels.dtype.kind == "f" else float(np.iinfo(pixels.dtype).max)
        pixels = (np.clip(pixels / full, 0, 1) * 255 + 0.5).astype(np.uint8)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1).contiguous()


def load_photos(files: Iterable[Path], smallest: int) -> list[Tensor]:
    """Read photos into memory, each 3×H×W uint8; those whose shorter side is under `smallest` pixels are left out.

    Raises:
        DatasetError: none is left.
    """
    pictures = [picture for picture in map(load_picture, files) if min(picture.shape[1:]) >= smallest]
    if not pictures:
        raise DatasetError(f"no photo of at least {smallest} pixels to train on")
    return pictures


def load_clips(files: Iterable[Path]) -> tuple[list[Tensor], list[Tensor]]:
    """Read clips into memory: those of at least `HIGH_SPEED` frames a second whole (T×3×H×W), of the others one frame
    a second (3×H×W), for they are only sharp pictures.

    Raises:
        DatasetError: a file is not a video.
    """
    fast: list[Tensor] = []
    stills: list[Tensor] = []
    for file in files:
        rate = clips.frame_rate(file)
        keep = 1 if rate >= HIGH_SPEED else max(1, round(rate))
        frames = [
            torch.from_numpy(frame).permute(2, 0, 1).contiguous()
            for number, frame in enumerate(clips.read_frames(file))
            if number % keep == 0
        ]
        if rate >= HIGH_SPEED and len(frames) >= max(FRAMES_AVERAGED):
            fast.append(torch.stack(frames))
        else:
            stills.extend(frames)
    return fast, stills


@dataclass(frozen=True)
class PoolSettings:
    """How far pairs are reused. On a GPU making a pair is nearly free and `reuse` is 1; on a processor it is not."""

    pairs: int = 512
    """How many pairs are held; a batch is drawn from all of them."""
    size: int = 192
    """Side of a held pair in pixels; crops are cut from it at random places."""
    chunk: int = 16
    """Pairs made at a time."""
    reuse: int = 8
    """Crops cut for each pair made, on average."""


class Pool:
    """Holds the newest pairs and cuts batches from them, each crop flipped and turned at random.

    Chunk c of pairs depends on (seed, c) and the batch of step s on (seed, s) and the chunks held then, so a pool built
    anew at step s gives the same batches as one that was there from the start.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        settings: PoolSettings,
        batch: int,
        seed: int,
        device: torch.device,
        mixture: Callable[[int], tuple[dict[str, float], BlurSettings]],
    ) -> None:
        """`mixture(step)` gives the weight of each kind of source and the blur that stage of the run draws."""
        self.sources, self.settings, self.batch_size, self.seed, self.device = sources, settings, batch, seed, device
        self.mixture = mixture
        shape = (settings.pairs, 2, 3, settings.size, settings.size)
        self._pairs = torch.empty(shape, dtype=torch.uint8, device=device)
        self._slots = settings.pairs // settings.chunk
        self._made = -1

    def batch(self, step: int, crop: int) -> tuple[Tensor, Tensor]:
        """Blurred and sharp of one step, each batch×3×crop×crop in [0, 1]."""
        self._fill(step)
        dice = Dice.seeded(self.device, self.seed, "batch", step)
        crops = []
        for _ in range(self.batch_size):
            pair = self._pairs[dice.host.randrange(self.settings.pairs)]
            pair = pair[:, *_random_window(pair.shape[2:], crop, dice)]
            dims = [dim for dim in (2, 3) if dice.host.random() < 0.5]
            pair = pair.flip(dims) if dims else pair
            crops.append(pair.transpose(2, 3) if dice.host.random() < 0.5 else pair)
        both = torch.stack(crops).float() / 255
        return both[:, 0], both[:, 1]

    def _fill(self, step: int) -> None:
        """Make the chunks that are due at `step` and not there: all of them at the start, then now and then one."""
        per_chunk = self.settings.chunk * self.settings.reuse
        newest = self._slots - 1 + step * self.batch_size // per_chunk
        for chunk in range(max(self._made + 1, newest - self._slots + 1), newest + 1):
            # The first fill belongs to step 0, each later chunk to the step that asked for it.
            due = max(0, -(-(chunk - self._slots + 1) * per_chunk // self.batch_size))
            blurred, sharp = self._make(chunk, due)
            start = chunk % self._slots * self.settings.chunk
            both = torch.stack([blurred, sharp], dim=1)
            self._pairs[start : start + self.settings.chunk] = (both * 255).round().clamp(0, 255).to(torch.uint8)
        self._made = newest

    def _make(self, chunk: int, due: int) -> tuple[Tensor, Tensor]:
        dice = Dice.seeded(self.device, self.seed, "chunk", chunk)
        weights, blur = self.mixture(due)
        shares = [weights.get(source.kind, 0.0) for source in self.sources]
        if not sum(shares) > 0:
            raise DatasetError(f"this recipe's stage draws from {', '.join(weights)}, and none of these was given")
        (source,) = dice.host.choices(self.sources, shares)
        return source.draw(self.settings.chunk, self.settings.size, blur, dice)


def _random_window(shape: Sequence[int], side: int, dice: Dice) -> tuple[slice, slice, slice]:
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
