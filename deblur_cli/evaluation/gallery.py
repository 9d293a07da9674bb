"""Small copies of the pictures that a network improved most and least, kept while it is scored, in bounded memory."""

from __future__ import annotations

import contextlib
import heapq
import io
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from deblur_cli.errors import PhotoError
from deblur_cli.evaluation.benchmark import ImageResult, saved_path
from deblur_cli.evaluation.datasets import Pair
from deblur_cli.evaluation.metrics import round_to_uint8
from deblur_cli.evaluation.pictures import read_picture

COUNT = 10
"""Of the best, and of the worst."""
_LONGEST = 1280
_QUALITY = 88
MEDIA_TYPE = "image/webp"
"""Of the encoded pictures."""


class Views(NamedTuple):
    """One pair as encoded pictures of the same size, of `MEDIA_TYPE`."""

    blurred: bytes
    restored: bytes


def best_and_worst(images: Sequence[ImageResult]) -> tuple[list[ImageResult], list[ImageResult]]:
    """The ten images of most gain, the most first, and the ten of least, the least first; no image is in both.

    Of equals, the first in the dataset count as the better. Of fewer than twenty images, half are best and half worst.
    """
    ranked = sorted(images, key=lambda image: -image.gain)
    worst = ranked[len(ranked) - min(COUNT, len(ranked) // 2) :]
    return ranked[: min(COUNT, (len(ranked) + 1) // 2)], worst[::-1]


class Gallery:
    """Sees every scored image and keeps copies of those that can still be among the ten best or the ten worst."""

    def __init__(self) -> None:
        self._seen = 0
        self._best: list[tuple[float, int, Pair]] = []  # heaps: the first is the one that goes next
        self._worst: list[tuple[float, int, Pair]] = []
        self._views: dict[Pair, Views] = {}

    @property
    def views(self) -> Mapping[Pair, Views]:
        """Pictures of at least the images that `best_and_worst` would choose of those seen."""
        return self._views

    def add(self, image: ImageResult, blurred: Tensor, restored: Tensor) -> None:
        """Look at one more image.

        Args:
            image: its scores.
            blurred: 1×3×H×W uint8.
            restored: 1×3×H×W, float in [0, 1].
        """
        self._seen += 1
        kept = (
            _keep(self._best, (image.gain, -self._seen, image.pair)),
            _keep(self._worst, (-image.gain, self._seen, image.pair)),
        )
        if any(kept):
            self._views[image.pair] = Views(_encoded(_pixels(blurred)), _encoded(_pixels(round_to_uint8(restored))))
        still = {pair for _, _, pair in (*self._best, *self._worst)}
        self._views = {pair: views for pair, views in self._views.items() if pair in still}


def with_saved(views: Mapping[Pair, Views], images: Sequence[ImageResult], folder: Path) -> dict[Pair, Views]:
    """`views`, and those of the best and worst of `images` that an earlier run, or another process, has saved.

    Args:
        views: what was kept here.
        images: all that were scored.
        folder: what `benchmark` saved them to. An image whose files are not there, or cannot be read, has no views.
    """
    found = dict(views)
    for image in itertools.chain(*best_and_worst(images)):
        if image.pair not in found:
            with contextlib.suppress(PhotoError):
                files = image.pair.blurred, saved_path(folder, image.pair)
                found[image.pair] = Views(*(_encoded(read_picture(file)) for file in files))
    return found


def count_unseen(images: Sequence[ImageResult], views: Mapping[Pair, Views]) -> int:
    """How many of the best and worst of `images` have no pictures in `views`."""
    return sum(image.pair not in views for image in itertools.chain(*best_and_worst(images)))


def _keep(heap: list[tuple[float, int, Pair]], entry: tuple[float, int, Pair]) -> bool:
    """Whether `entry` is among the greatest `COUNT` so far, which the heap then holds."""
    if len(heap) < COUNT:
        heapq.heappush(heap, entry)
        return True
    return heapq.heappushpop(heap, entry) is not entry


def _pixels(image: Tensor) -> np.ndarray:
    return image[0].permute(1, 2, 0).cpu().numpy()


def _encoded(pixels: np.ndarray) -> bytes:
    """H×W×3 uint8 as a file, made smaller where its longest side is over 1280 pixels."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((_LONGEST, _LONGEST), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    picture.save(stream, format="WEBP", quality=_QUALITY, method=2)
    return stream.getvalue()
