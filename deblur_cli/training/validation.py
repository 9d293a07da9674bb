"""Validation during training: PSNR of the averaged weights on sets that are never trained on, and pictures of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from deblur_cli.evaluation.metrics import psnr, round_to_uint8
from deblur_cli.restoration.tiling import pad
from deblur_cli.training.blur import BlurSettings
from deblur_cli.training.data import Dice, PhotoSource, load_picture
from deblur_cli.training.pictures import contact_sheet
from deblur_cli.training.sequences import followers
from deblur_cli.training.shut import ShutChannels
from deblur_cli.training.unrolled import Unrolled, full_size

_NO_DIFFERENCE = 100.0
"""PSNR in dB of what is the same to the last bit, as the sky is with and without blur: infinite ones have no mean."""
_SHOWN = 2
"""Pairs of each set that stand in the picture."""


@dataclass(frozen=True)
class ValidationSet:
    """Pairs of sequences with a name."""

    name: str
    pairs: Sequence[tuple[Tensor, Tensor]]
    """Blurred and sharp, frames×3×H×W uint8 each, of any sizes. A picture is a sequence of one frame."""


def synthetic_set(
    photos: PhotoSource, blur: BlurSettings, count: int = 32, size: int = 256, frames: int = 1
) -> ValidationSet:
    """A fixed set made from held-out photos: the same in every run, about `count` frames in sequences of `frames`."""
    dice = Dice.seeded(torch.device("cpu"), "validation")
    pairs = []
    for _ in range(max(1, count // (4 * frames))):
        both = (round_to_uint8(images) for images in photos.draw(4, size, blur, dice, frames))
        pairs += list(zip(*(images.view(4, frames, 3, size, size) for images in both), strict=True))
    return ValidationSet("synthetic", pairs)


def paired_set(name: str, files: Iterable[tuple[Path, Path]], frames: int = 1) -> ValidationSet:
    """A set of pairs on disk.

    Pictures of one size that are numbered in a row, as a video's frames are, make sequences of up to `frames`.
    """
    pairs = [
        (torch.stack([blurred for blurred, _ in run]), torch.stack([sharp for _, sharp in run]))
        for run in _runs(list(files), frames)
    ]
    return ValidationSet(name, pairs)


def _runs(files: Sequence[tuple[Path, Path]], frames: int) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """The pictures of each sequence. No other is held, as GOPRO's 1,111 pairs take 6 GB once they are put together."""
    after = followers([blurred for blurred, _ in files])
    run: list[tuple[Tensor, Tensor]] = []
    for number, (blurred, sharp) in enumerate(files):
        pair = load_picture(blurred), load_picture(sharp)
        goes_on = bool(run) and len(run) < frames and after[number - 1] == number
        if run and not (goes_on and run[-1][0].shape == pair[0].shape):
            yield run
            run = []
        run.append(pair)
    if run:
        yield run


class Validator:
    """Scores a network on several sets; `mean`, the mean gain over the blurred input, chooses the best weights.

    Pictures are padded to a `multiple_of` what the network needs, and scored at their own size, as `deblur eval` does.
    """

    def __init__(self, sets: Sequence[ValidationSet], device: torch.device, multiple_of: int = 1) -> None:
        self.sets, self.device, self.multiple_of = sets, device, multiple_of
        self.baseline = {one.name: _mean_psnr(one.pairs) for one in sets}
        """PSNR in dB of each set's blurred input: what tells whether two validators have the same sets."""

    def score(self, network: Unrolled) -> dict[str, float]:
        """Mean PSNR in dB of each set's frames, rounded to 8 bits, of its blurred input (`NAME blurred`), and the mean
        over the sets of the gain (`mean`)."""
        scores: dict[str, float] = {}
        for one in self.sets:
            scores[one.name] = _mean_psnr((self._restore(network, blurred), sharp) for blurred, sharp in one.pairs)
            scores[f"{one.name} blurred"] = self.baseline[one.name]
        scores["mean"] = fmean(scores[one.name] - self.baseline[one.name] for one in self.sets)
        return scores

    def picture(self, network: Unrolled) -> Tensor:
        """Blurred, restored and sharp of the first pairs of each set, a row each: 3×H×W uint8. Of sequences it is the
        last frame."""
        shown = [pair for one in self.sets for pair in one.pairs[:_SHOWN]]
        rows = [(blurred, self._restore(network, blurred), sharp) for blurred, sharp in shown]
        return contact_sheet([[images[-1] for images in row] for row in rows])

    def shut(self, network: Unrolled) -> float | None:
        """The share of channels, 0 to 1, that the network's ReLUs give nothing of in the first pair of each set; None
        where it has no ReLU behind a convolution."""
        with ShutChannels() as channels:
            for one in self.sets:
                self._restore(network, one.pairs[0][0])
        return channels.share

    @torch.inference_mode()
    def _restore(self, network: Unrolled, blurred: Tensor) -> Tensor:
        batch = (blurred.to(self.device).float() / 255).contiguous(memory_format=torch.channels_last)
        height, width = batch.shape[2:]
        batch = pad(batch, -height % self.multiple_of, -width % self.multiple_of)
        return round_to_uint8(full_size(network(batch, len(blurred)))[:, :, :height, :width]).cpu()


def _mean_psnr(pairs: Iterable[tuple[Tensor, Tensor]]) -> float:
    values = (value for one, sharp in pairs for value in psnr(one.float(), sharp.float(), data_range=255).tolist())
    return fmean(min(value, _NO_DIFFERENCE) for value in values)
