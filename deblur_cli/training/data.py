"""Training pairs: from sharp photos, from high-speed clips, from pairs on disk; and the pool that batches are cut from.

Everything random is drawn from generators seeded by (seed, what it is for, its number), never from a running stream,
so the batch of step n is the same whether the run came there in one go or was resumed on the way.
"""

from __future__ import annotations

import hashlib
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


def seeded(device: torch.device, *key: object) -> torch.Generator:
    """A generator on `device` whose numbers depend on `key` alone."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "little") >> 1)


def integers(low: int, high: int, count: int, generator: torch.Generator) -> list[int]:
    """`count` integers in [low, high), uniformly."""
    return torch.randint(low, high, (count,), generator=generator, device=generator.device).tolist()


class Source(Protocol):
    """Somewhere that pairs come from."""

    @property
    def kind(self) -> str:
        """`photos`, `clips` or `pairs`: the name of its weight in a recipe's stage."""
        ...

    def draw(self, count: int, size: int, blur: BlurSettings, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Blurred and sharp, each count×3×size×size in [0, 1] on the generator's device."""
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

    def draw(self, count: int, size: int, blur: BlurSettings, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        margin = min(size // 4, int(blur.length[1]))
        whole = size + 2 * margin
        scenes = torch.stack([self._scene(whole, generator) for _ in range(count)])
        reach = [(side - size) / 2 for side in reversed(PHOTO_FRAME)]
        offset = (2 * torch.rand(count, 2, generator=generator, device=generator.device) - 1) * torch.tensor(
            reach, device=generator.device
        ).clamp_min(0)
        return synthesise(scenes, (size, size), blur, generator, frame=PHOTO_FRAME, offset=offset)

    def _scene(self, side: int, generator: torch.Generator) -> Tensor:
        """The more textured of two random squares of a random picture, in [0, 1]."""
        picture = self.pictures[integers(0, len(self.pictures), 1, generator)[0]]
        shorter = min(picture.shape[1:])
        scale = 0.5 + 0.5 * float(torch.rand((), generator=generator, device=generator.device))
        cut = min(shorter, round(side / scale))
        candidates = [_random_crop(picture, cut, generator) for _ in range(2)]
        chosen = max(candidates, key=_texture).to(generator.device).float().unsqueeze(0) / 255
        if cut != side:
            chosen = functional.interpolate(
                chosen, size=(side, side), mode="bilinear", align_corners=False, antialias=True
            ).clamp(0, 1)
        return chosen[0]


@dataclass(frozen=True)
class ClipSource:
    """High-speed clips: the blurred image is the mean of 7 to 13 consecutive frames, the sharp one the middle frame."""

    clips: Sequence[Tensor]
    """Each T×3×H×W uint8."""
    kind: str = "clips"

    def __len__(self) -> int:
        return len(self.clips)

    def draw(self, count: int, size: int, blur: BlurSettings, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        pairs = [self._pair(size, generator) for _ in range(count)]
        return torch.stack([pair[0] for pair in pairs]), torch.stack([pair[1] for pair in pairs])

    def _pair(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        frames = self.clips[integers(0, len(self.clips), 1, generator)[0]]
        averaged = FRAMES_AVERAGED[integers(0, len(FRAMES_AVERAGED), 1, generator)[0]]
        first = integers(0, len(frames) - averaged + 1, 1, generator)[0]
        scale = 0.6 + 0.4 * float(torch.rand((), generator=generator, device=generator.device))
        cut = min(round(size / scale), *frames.shape[2:])
        middle = first + averaged // 2
        window = max(
            (_random_window(frames.shape[2:], cut, generator) for _ in range(2)),
            key=lambda w: _texture(frames[middle][w]),
        )
        shutter = frames[first : first + averaged][:, window[0], window[1], window[2]].to(generator.device).float()
        both = torch.stack([shutter.mean(dim=0), shutter[averaged // 2]]) / 255
        if cut != size:
            both = functional.interpolate(
                both, size=(size, size), mode="bilinear", align_corners=False, antialias=True
            ).clamp(0, 1)
        return both[0], both[1]


@dataclass(frozen=True)
class PairSource:
    """Blurred and sharp pictures on disk, read when they are drawn (GOPRO's 2,103 pairs take 11 GB uncompressed)."""

    pairs: Sequence[tuple[Path, Path]]
    """Blurred and sharp file."""
    kind: str = "pairs"

    def __len__(self) -> int:
        return len(self.pairs)

    def draw(self, count: int, size: int, blur: BlurSettings, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        drawn = []
        for number in integers(0, len(self.pairs), count, generator):
            both = torch.stack([load_picture(path) for path in self.pairs[number]])
            crop = _random_crop(both, min(size, *both.shape[2:]), generator)
            if crop.shape[-1] < size:
                raise DatasetError(f"{self.pairs[number][0]}: smaller than the {size} pixels that training cuts out")
            drawn.append(crop.to(generator.device).float() / 255)
        both = torch.stack(drawn)
        return both[:, 0], both[:, 1]


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


def load_photos(files: Iterable[Path], smallest: int) -> PhotoSource:
    """Read photos into memory for training; those whose shorter side is under `smallest` pixels are left out.

    Raises:
        DatasetError: none is left.
    """
    pictures = [picture for picture in map(load_picture, files) if min(picture.shape[1:]) >= smallest]
    if not pictures:
        raise DatasetError(f"no photo of at least {smallest} pixels to train on")
    return PhotoSource(pictures)


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
        generator = seeded(self.device, self.seed, "batch", step)
        chosen = integers(0, self.settings.pairs, self.batch_size, generator)
        crops = []
        for number in chosen:
            pair = _random_crop(self._pairs[number], crop, generator)
            flip, mirror, turn = integers(0, 2, 3, generator)
            dims = [dim for dim, wanted in ((2, flip), (3, mirror)) if wanted]
            pair = pair.flip(dims) if dims else pair
            crops.append(pair.transpose(2, 3) if turn else pair)
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
        generator = seeded(self.device, self.seed, "chunk", chunk)
        weights, blur = self.mixture(due)
        shares = torch.tensor([weights.get(source.kind, 0.0) for source in self.sources], dtype=torch.float64)
        if not shares.sum() > 0:
            raise DatasetError(f"this recipe's stage draws from {', '.join(weights)}, and none of these was given")
        point = torch.rand((), generator=generator, device=self.device, dtype=torch.float64).cpu() * shares.sum()
        source = self.sources[min(int((shares.cumsum(0) <= point).sum()), len(self.sources) - 1)]
        return source.draw(self.settings.chunk, self.settings.size, blur, generator)


def _random_window(shape: Sequence[int], side: int, generator: torch.Generator) -> tuple[slice, slice, slice]:
    """A square of `side` at a random place of a height×width picture, as an index of its C×H×W tensor."""
    top = integers(0, shape[0] - side + 1, 1, generator)[0]
    left = integers(0, shape[1] - side + 1, 1, generator)[0]
    return slice(None), slice(top, top + side), slice(left, left + side)


def _random_crop(image: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """A square of `side` at a random place of ...×H×W."""
    _, rows, columns = _random_window(image.shape[-2:], side, generator)
    return image[..., rows, columns]


def _texture(crop: Tensor) -> float:
    """Mean absolute difference of neighbouring pixels, of every fourth row, in grey levels."""
    rows = crop[:, ::4].to(torch.int16)
    return float((rows[:, :, 1:] - rows[:, :, :-1]).abs().float().mean())
