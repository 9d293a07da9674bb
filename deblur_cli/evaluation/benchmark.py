"""A restorer over a dataset: scores of every restored image and of its blurred input, and honest times.

Frames of videos go through a recurrent network in order, with its state, and get a flicker figure.
"""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from deblur_cli.errors import DatasetError, DeblurError
from deblur_cli.evaluation.alignment import score_registered, score_trajectory
from deblur_cli.evaluation.datasets import Dataset, Pair, Protocol
from deblur_cli.evaluation.elsewhere import RestoredPictures
from deblur_cli.evaluation.metrics import Scores, round_to_uint8, score
from deblur_cli.evaluation.pictures import read_picture
from deblur_cli.evaluation.sequences import Flicker, FrameRestorer
from deblur_cli.evaluation.summaries import Summary, mean_of, mean_of_known, means_of_sequences, summarise_pairs
from deblur_cli.media.files import remove_stale, replacing
from deblur_cli.restoration.device import synchronize
from deblur_cli.restoration.memory import is_out_of_memory

if TYPE_CHECKING:
    from deblur_cli.restoration.restorer import Restorer

DATA_RANGE = 255.0
"""Scores are taken on the scale of 8-bit values, with `rounding` or without it."""
_WARM_UP = 5
_TIMED_PER_WARM_UP = 4


@dataclass(frozen=True)
class ImageResult:
    """One pair, scored."""

    pair: Pair
    restored: Scores
    blurred: Scores
    seconds: float
    """From the blurred image on the device to the restored image on the device, synchronised on both sides; NaN for one
    that was restored elsewhere."""
    flicker: float | None = None
    """Of the restored frame after the one before it (see `sequences.Flicker`); None where it follows none."""
    blurred_flicker: float | None = None
    """Of the blurred one."""
    lpips: float | None = None
    """Of the restored image (see `perceptual.Lpips`); None where it was not asked for."""
    blurred_lpips: float | None = None
    """Of the blurred one."""

    @property
    def gain(self) -> float:
        """PSNR of the restored image above that of the blurred one, in dB."""
        return 0.0 if self.restored.psnr == self.blurred.psnr else self.restored.psnr - self.blurred.psnr

    @property
    def infinite(self) -> bool:
        """Whether one of its PSNRs is infinite, as that picture is its sharp one: it has no place in a mean of them."""
        return math.inf in (self.restored.psnr, self.blurred.psnr)


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
    def infinite(self) -> frozenset[Pair]:
        """Pairs that are in no mean of PSNR, neither the restored picture nor the blurred one."""
        return frozenset(image.pair for image in self.images if image.infinite)

    @property
    def restored_scores(self) -> dict[Pair, Scores]:
        """Of each pair's restored picture."""
        return {image.pair: image.restored for image in self.images}

    @property
    def blurred_scores(self) -> dict[Pair, Scores]:
        """Of each pair's blurred picture."""
        return {image.pair: image.blurred for image in self.images}

    @property
    def restored(self) -> Summary:
        """Means over the restored pictures."""
        return summarise_pairs(self.restored_scores, self.infinite)

    @property
    def blurred(self) -> Summary:
        """Means over the blurred pictures."""
        return summarise_pairs(self.blurred_scores, self.infinite)

    @property
    def gain(self) -> float:
        """Mean gain in dB over the images of finite PSNR; NaN where there are none."""
        return self.gain_without(self.infinite)

    def gain_without(self, apart: Collection[Pair]) -> float:
        """Mean gain in dB over the images whose pairs are not `apart`; NaN where there are none."""
        return mean_of(image.gain for image in self.images if image.pair not in apart)

    @property
    def sequences(self) -> dict[str, tuple[ImageResult, ...]]:
        """The images by sequence, in the order of the dataset."""
        found: dict[str, list[ImageResult]] = {}
        for image in self.images:
            found.setdefault(image.pair.sequence, []).append(image)
        return {name: tuple(images) for name, images in found.items()}

    @property
    def over_sequences(self) -> Summary:
        """See `means_of_sequences`."""
        return means_of_sequences(self.restored_scores, self.infinite)

    @property
    def flicker(self) -> float | None:
        """Mean over the frames that follow another, in grey levels of 8 bits; None where there are none."""
        return mean_of_known(image.flicker for image in self.images)

    @property
    def blurred_flicker(self) -> float | None:
        """That of the blurred frames."""
        return mean_of_known(image.blurred_flicker for image in self.images)

    @property
    def lpips(self) -> float | None:
        """Mean over images; None where it was not asked for."""
        return mean_of_known(image.lpips for image in self.images)

    @property
    def worst(self) -> ImageResult | None:
        """The image of the least gain, of those of finite PSNR."""
        return min((image for image in self.images if not image.infinite), key=lambda image: image.gain, default=None)

    @property
    def warm_up(self) -> int:
        """Images at the start that are not timed: 5 where at least 20 follow, fewer in a smaller set."""
        return min(_WARM_UP, len(self.images) // (_TIMED_PER_WARM_UP + 1))

    @property
    def milliseconds(self) -> float:
        """Median time of an image after the warm-up; NaN where there are none."""
        timed = [image.seconds for image in self.images[self.warm_up :]]
        return 1000 * statistics.median(timed) if timed else math.nan


def benchmark(
    restorer: Restorer | RestoredPictures,
    dataset: Dataset,
    *,
    rounding: bool = True,
    keep_state: bool = True,
    save: Path | None = None,
    share: Collection[Pair] | None = None,
    done: Collection[ImageResult] = (),
    known: Mapping[Pair, ImageResult] | None = None,
    lpips: Callable[[Tensor, Tensor], float] | None = None,
    progress: Callable[[ImageResult | Failure], None] | None = None,
    look: Callable[[ImageResult, Tensor, Tensor], None] | None = None,
) -> BenchmarkResult:
    """Restore every blurred picture of `dataset`, one at a time, and score it by the dataset's protocol.

    Pictures are read and saved by a helper thread while others are scored, never while one is restored, so that the
    times hold the network alone. Two pairs at most are in memory.

    Args:
        restorer: the network at work, or what was restored elsewhere.
        dataset: pairs of equal size.
        rounding: score what an 8-bit file would hold; false scores the network's own values.
        keep_state: give a recurrent network its state from frame to frame; false starts it anew with each.
        save: folder that receives the restored pictures as PNG, under their sequence and name; those already there are
            replaced, and what a killed run left half-written for them is removed.
        share: the pairs to score, whole groups of the dataset (`Dataset.groups`), where other processes do the rest.
        done: results of an earlier run over the same dataset, of whole groups; these are not restored again.
        known: results of another network over the same dataset: what they say of blurred pictures is not taken again.
        lpips: takes LPIPS as well, of images and their sharp ones as for `score_images` (`perceptual.Lpips`).
        progress: called after each pair with what became of it; not for those done.
        look: called with each image that was scored here, its blurred picture, 1×3×H×W uint8, and its restored one,
            1×3×H×W in [0, 1], which is free after the call (`gallery.Gallery.add`).

    Returns:
        Scores, times and failures. A pair that cannot be read or restored is a failure and the rest goes on.

    Raises:
        OSError: a restored picture cannot be saved.
    """
    results: dict[Pair, ImageResult | Failure] = {image.pair: image for image in done}
    shared = frozenset(dataset.pairs if share is None else share)
    own = [pair for pair in dataset.pairs if pair in shared]
    pairs = [pair for pair in own if pair not in results]
    scorer = _Scorer(dataset, rounding, known or {}, lpips)
    keeps = keep_state and dataset.video
    frames = restorer if isinstance(restorer, RestoredPictures) else FrameRestorer(restorer, keep_state=keeps)
    if save is not None:
        remove_stale(saved_path(save, pair) for pair in pairs)
    with ThreadPoolExecutor(1) as helper:
        # The helper does one thing after the other: when a pair has been read, what was to be saved before it has been.
        saving: Future[None] | None = None
        reading = deque([helper.submit(_read, pair) for pair in pairs[:1]])
        for pair, following in zip_longest(pairs, pairs[1:]):
            attempt = _attempt(frames, pair, reading.popleft())
            if saving is not None:
                saving.result()
                saving = None
            if save is not None and isinstance(attempt, _Attempt):
                saving = helper.submit(_save, attempt.restored, saved_path(save, pair))
            if following is not None:
                reading.append(helper.submit(_read, following))
            results[pair] = result = scorer.result(pair, attempt)
            if look is not None and isinstance(attempt, _Attempt) and isinstance(result, ImageResult):
                look(result, attempt.blurred, attempt.restored)
            if progress is not None:
                progress(result)
        if saving is not None:
            saving.result()
    ordered = [results[pair] for pair in own]
    return BenchmarkResult(
        images=tuple(result for result in ordered if isinstance(result, ImageResult)),
        failures=tuple(result for result in ordered if isinstance(result, Failure)),
    )


def merge(dataset: Dataset, shares: Iterable[BenchmarkResult]) -> BenchmarkResult:
    """The results of all shares of a dataset, in its order."""
    shares = list(shares)
    place = {pair: number for number, pair in enumerate(dataset.pairs)}
    images = [image for share in shares for image in share.images]
    failures = [failure for share in shares for failure in share.failures]
    return BenchmarkResult(
        images=tuple(sorted(images, key=lambda image: place[image.pair])),
        failures=tuple(sorted(failures, key=lambda failure: place[failure.pair])),
    )


def whole_groups(dataset: Dataset, done: Mapping[Pair, ImageResult]) -> dict[Pair, ImageResult]:
    """Those of the results that belong to groups of the dataset that are done whole.

    Of a video that was left in the middle the rest cannot be scored alone: it takes the state, and the frame, before.
    """
    groups = [group for group in dataset.groups() if all(pair in done for pair in group)]
    return {pair: done[pair] for group in groups for pair in group}


def score_images(images: Sequence[Tensor], sharp: Tensor, pair: Pair, protocol: Protocol) -> list[Scores]:
    """Scores of images against the sharp picture or pictures of `pair`, on the scale of 8-bit values.

    Args:
        images: each 1×3×H×W with values of 0 to 255, on any device.
        sharp: 1×3×H×W uint8, what `pair.sharp` holds.
        pair: where the sharp pictures of a trajectory are read from, one at a time.
        protocol: how they are compared.

    Raises:
        DeblurError: a sharp picture cannot be read, or a picture cannot be aligned.
    """
    if protocol == "Köhler":
        return score_trajectory(images, (_tensor(path) for path in pair.frames))
    if protocol in ("RealBlur", "aligned"):
        return [score_registered(image, sharp) for image in images]
    return [score(image, sharp.to(image.device), data_range=DATA_RANGE)[0] for image in images]


def saved_path(folder: Path, pair: Pair) -> Path:
    """Where the restored picture of `pair` is saved below `folder`."""
    return folder / pair.sequence / f"{pair.name}.png"


class _Attempt(NamedTuple):
    blurred: Tensor
    sharp: Tensor
    restored: Tensor
    seconds: float


class _Scorer:
    """Scores pairs in the order of a dataset, with the flicker of frames that follow each other."""

    def __init__(
        self,
        dataset: Dataset,
        rounding: bool,
        known: Mapping[Pair, ImageResult],
        lpips: Callable[[Tensor, Tensor], float] | None,
    ) -> None:
        self._protocol = dataset.protocol
        self._rounding = rounding
        self._known = known
        self._lpips = lpips
        self._flickers = (Flicker(), Flicker()) if dataset.video else ()

    def result(self, pair: Pair, attempt: _Attempt | Failure) -> ImageResult | Failure:
        if isinstance(attempt, Failure):
            return attempt
        restored = round_to_uint8(attempt.restored) if self._rounding else attempt.restored * DATA_RANGE
        known = self._known.get(pair)
        try:
            images = [restored] if known else [restored, attempt.blurred.to(restored.device)]
            own, *of_input = score_images(images, attempt.sharp, pair, self._protocol)
            distances = [self._lpips(image, attempt.sharp) for image in images] if self._lpips else [None]
        except (DeblurError, MemoryError, RuntimeError) as error:
            return _failure(pair, error)
        flicker, blurred_flicker = [
            flicker.of(pair, image, attempt.sharp)
            for flicker, image in zip(self._flickers, (restored, attempt.blurred), strict=False)
        ] or [None, None]
        return ImageResult(
            pair,
            restored=own,
            blurred=known.blurred if known else of_input[0],
            seconds=attempt.seconds,
            flicker=flicker,
            blurred_flicker=blurred_flicker,
            lpips=distances[0],
            blurred_lpips=known.blurred_lpips if known else distances[-1],
        )


def _attempt(
    frames: FrameRestorer | RestoredPictures, pair: Pair, reading: Future[tuple[Tensor, Tensor]]
) -> _Attempt | Failure:
    """Wait for the pictures, restore the blurred one on the clock."""
    device = frames.device
    try:
        blurred, sharp = reading.result()
        frames.prepare(pair, blurred)
        image = blurred.to(device).float().div_(DATA_RANGE)
        synchronize(device)
        started = time.perf_counter()
        restored = frames.restore(image)
        synchronize(device)
        seconds = time.perf_counter() - started if frames.timed else math.nan
    except (DeblurError, MemoryError, RuntimeError) as error:
        frames.forget()
        return _failure(pair, error)
    if not bool(torch.isfinite(restored).all()):
        return Failure(pair, "the restored image holds values that are not finite")
    return _Attempt(blurred, sharp, restored, seconds)


def _failure(pair: Pair, error: Exception) -> Failure:
    """The failure of a pair by what is wrong with its files or too large for memory; raises what is anything else."""
    if isinstance(error, DeblurError):
        return Failure(pair, str(error))
    if not is_out_of_memory(error):
        raise error
    return Failure(pair, "it does not fit into memory beside what else is there")


def _read(pair: Pair) -> tuple[Tensor, Tensor]:
    """The blurred and the sharp picture, 1×3×H×W uint8; raises DeblurError."""
    blurred, sharp = _tensor(pair.blurred), _tensor(pair.sharp)
    if blurred.shape != sharp.shape:
        raise DatasetError(f"'{pair.blurred}' and '{pair.sharp}' are no longer of one size")
    return blurred, sharp


def _tensor(path: Path) -> Tensor:
    return torch.from_numpy(read_picture(path)).permute(2, 0, 1).unsqueeze(0)


def _save(restored: Tensor, target: Path) -> None:
    from PIL import Image

    pixels = round_to_uint8(restored)[0].permute(1, 2, 0).cpu().numpy()
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as stream:
        # The fastest level: half the time of the default, files a tenth larger.
        Image.fromarray(pixels).save(stream, format="PNG", compress_level=1)
