"""A restorer over a dataset: scores of every restored image and of its blurred input, and honest times."""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from deblur_cli.errors import DatasetError, DeblurError
from deblur_cli.evaluation.datasets import Dataset, Pair, read_picture
from deblur_cli.evaluation.metrics import Scores, round_to_uint8, score
from deblur_cli.media.files import replacing
from deblur_cli.restoration.device import synchronize

if TYPE_CHECKING:
    from deblur_cli.restoration.restorer import Restorer

DATA_RANGE = 255.0
"""Scores are taken on the scale of 8-bit values, with `rounding` or without it."""
_WARM_UP = 5
_TIMED_PER_WARM_UP = 4


@dataclass(frozen=True)
class Summary:
    """Means over images. A PSNR that is infinite is kept out of its mean and counted."""

    psnr: float
    """dB; infinite where all are, NaN where there are no images."""
    ssim: float
    ssim_matlab: float
    identical: int
    """Images of infinite PSNR."""


@dataclass(frozen=True)
class ImageResult:
    """One pair, scored."""

    pair: Pair
    restored: Scores
    blurred: Scores
    seconds: float
    """From the blurred image on the device to the restored image on the device, synchronised on both sides."""

    @property
    def gain(self) -> float:
        """PSNR of the restored image above that of the blurred one, in dB."""
        return 0.0 if self.restored.psnr == self.blurred.psnr else self.restored.psnr - self.blurred.psnr


@dataclass(frozen=True)
class Failure:
    """A pair that could not be scored, and why in one line."""

    pair: Pair
    reason: str


@dataclass(frozen=True)
class BenchmarkResult:
    """One restorer over one dataset."""

    images: tuple[ImageResult, ...]
    """In the order of the dataset."""
    failures: tuple[Failure, ...]

    @property
    def restored(self) -> Summary:
        return summarise(image.restored for image in self.images)

    @property
    def blurred(self) -> Summary:
        return summarise(image.blurred for image in self.images)

    @property
    def gain(self) -> float:
        """Mean gain in dB over the images where it is finite; NaN where there are none."""
        return _mean(image.gain for image in self.images if math.isfinite(image.gain))

    @property
    def worst(self) -> ImageResult | None:
        """The image of the least gain."""
        return min(self.images, key=lambda image: image.gain, default=None)

    @property
    def warm_up(self) -> int:
        """Images at the start that are not timed: 5 where at least 20 follow, fewer in a smaller set."""
        return min(_WARM_UP, len(self.images) // (_TIMED_PER_WARM_UP + 1))

    @property
    def milliseconds(self) -> float:
        """Median time of an image after the warm-up; NaN where there are none."""
        timed = [image.seconds for image in self.images[self.warm_up :]]
        return 1000 * statistics.median(timed) if timed else math.nan


def summarise(scores: Iterable[Scores]) -> Summary:
    """The means of many scores, which do not depend on their order."""
    listed = list(scores)
    finite = [one.psnr for one in listed if math.isfinite(one.psnr)]
    identical = sum(one.psnr == math.inf for one in listed)
    return Summary(
        psnr=math.inf if identical and not finite else _mean(finite),
        ssim=_mean(one.ssim for one in listed),
        ssim_matlab=_mean(one.ssim_matlab for one in listed),
        identical=identical,
    )


def benchmark(
    restorer: Restorer,
    dataset: Dataset,
    *,
    rounding: bool = True,
    save: Path | None = None,
    known: Mapping[Pair, Scores] | None = None,
    progress: Callable[[ImageResult | Failure], None] | None = None,
) -> BenchmarkResult:
    """Restore every blurred picture of `dataset`, one at a time, and score it.

    Pictures are read and saved by a helper thread while others are scored, never while one is restored, so that the
    times hold the network alone. Two pairs at most are in memory.

    Args:
        restorer: the network at work.
        dataset: pairs of equal size.
        rounding: score what an 8-bit file would hold; false scores the network's own values.
        save: folder that receives the restored pictures as PNG, under their sequence and name; those already there are
            replaced.
        known: scores of blurred pictures from an earlier run over the same dataset, which are then not taken again.
        progress: called after each pair with what became of it.

    Returns:
        Scores, times and failures. A pair that cannot be read or restored is a failure and the rest goes on.

    Raises:
        OSError: a restored picture cannot be saved.
    """
    known = known or {}
    results: list[ImageResult | Failure] = []
    with ThreadPoolExecutor(1) as helper:
        # The helper does one thing after the other: when a pair has been read, what was to be saved before it has been.
        saving: Future[None] | None = None
        reading = deque([helper.submit(_read, pair) for pair in dataset.pairs[:1]])
        for pair, following in zip(dataset.pairs, (*dataset.pairs[1:], None), strict=True):
            attempt = _attempt(restorer, pair, reading.popleft())
            if saving is not None:
                saving.result()
                saving = None
            if save is not None and isinstance(attempt, _Attempt):
                saving = helper.submit(_save, attempt.restored, save / pair.sequence / f"{pair.name}.png")
            if following is not None:
                reading.append(helper.submit(_read, following))
            if isinstance(attempt, Failure):
                results.append(attempt)
            else:
                own = score_pair(attempt.restored, attempt.sharp, rounding=rounding)
                input_scores = known.get(pair) or score_pair(attempt.blurred, attempt.sharp)
                results.append(ImageResult(pair, own, input_scores, attempt.seconds))
            if progress is not None:
                progress(results[-1])
        if saving is not None:
            saving.result()
    return BenchmarkResult(
        images=tuple(result for result in results if isinstance(result, ImageResult)),
        failures=tuple(result for result in results if isinstance(result, Failure)),
    )


def score_pair(image: Tensor, sharp: Tensor, *, rounding: bool = True) -> Scores:
    """Scores of one image against its sharp one, on the scale of 8-bit values.

    Args:
        image: 1×3×H×W, uint8, or float in [0, 1].
        sharp: 1×3×H×W, uint8.
        rounding: round a float image to 8 bits first.
    """
    if image.is_floating_point():
        image = round_to_uint8(image) if rounding else image * DATA_RANGE
    return score(image, sharp.to(image.device), data_range=DATA_RANGE)[0]


class _Attempt(NamedTuple):
    blurred: Tensor
    sharp: Tensor
    restored: Tensor
    seconds: float


def _attempt(restorer: Restorer, pair: Pair, reading: Future[tuple[Tensor, Tensor]]) -> _Attempt | Failure:
    """Wait for the pictures, restore the blurred one on the clock."""
    try:
        blurred, sharp = reading.result()
        image = blurred.to(restorer.device).float().div_(DATA_RANGE)
        synchronize(restorer.device)
        started = time.perf_counter()
        restored = restorer.restore_tensor(image)
        synchronize(restorer.device)
        seconds = time.perf_counter() - started
    except DeblurError as error:
        return Failure(pair, str(error))
    if not bool(torch.isfinite(restored).all()):
        return Failure(pair, "the restored image holds values that are not finite")
    return _Attempt(blurred, sharp, restored, seconds)


def _read(pair: Pair) -> tuple[Tensor, Tensor]:
    """The blurred and the sharp picture, 1×3×H×W uint8; raises DeblurError."""
    blurred, sharp = (
        torch.from_numpy(read_picture(path)).permute(2, 0, 1).unsqueeze(0) for path in (pair.blurred, pair.sharp)
    )
    if blurred.shape != sharp.shape:
        raise DatasetError(f"'{pair.blurred}' and '{pair.sharp}' are no longer of one size")
    return blurred, sharp


def _save(restored: Tensor, target: Path) -> None:
    from PIL import Image

    pixels = round_to_uint8(restored)[0].permute(1, 2, 0).cpu().numpy()
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as stream:
        # The fastest level: half the time of the default, files a tenth larger.
        Image.fromarray(pixels).save(stream, format="PNG", compress_level=1)


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return math.fsum(listed) / len(listed) if listed else math.nan
