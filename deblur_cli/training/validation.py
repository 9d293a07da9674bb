"""Validation during training: PSNR of the averaged weights on sets that are never trained on, and pictures of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor, nn

from deblur_cli.evaluation.metrics import psnr, round_to_uint8
from deblur_cli.training.blur import BlurSettings
from deblur_cli.training.data import Dice, PhotoSource, load_picture
from deblur_cli.training.pictures import contact_sheet

_SHOWN = 2
"""Pairs of each set that stand in the picture."""


@dataclass(frozen=True)
class ValidationSet:
    """Pairs with a name, 3×H×W uint8 each, of any sizes that are multiples of the network's."""

    name: str
    pairs: Sequence[tuple[Tensor, Tensor]]


def synthetic_set(photos: PhotoSource, blur: BlurSettings, count: int = 32, size: int = 256) -> ValidationSet:
    """A fixed set made from held-out photos: the same pairs in every run."""
    dice = Dice.seeded(torch.device("cpu"), "validation")
    pairs = []
    for _ in range(count // 4):
        blurred, sharp = (round_to_uint8(images) for images in photos.draw(4, size, blur, dice))
        pairs += list(zip(blurred, sharp, strict=True))
    return ValidationSet("synthetic", pairs)


def paired_set(name: str, files: Iterable[tuple[Path, Path]], multiple_of: int) -> ValidationSet:
    """A set of pairs on disk, cropped to a multiple of what the network needs."""

    def load(path: Path) -> Tensor:
        picture = load_picture(path)
        height, width = (side // multiple_of * multiple_of for side in picture.shape[1:])
        return picture[:, :height, :width]

    return ValidationSet(name, [(load(blurred), load(sharp)) for blurred, sharp in files])


class Validator:
    """Scores a network on several sets; `mean`, the mean gain over the blurred input, chooses the best weights."""

    def __init__(self, sets: Sequence[ValidationSet], device: torch.device) -> None:
        self.sets, self.device = sets, device
        self._baseline = {one.name: fmean(_psnr(*pair) for pair in one.pairs) for one in sets}

    def score(self, network: nn.Module) -> dict[str, float]:
        """Mean PSNR in dB after rounding to 8 bits of each set, of its blurred input (`NAME blurred`), and the mean
        over the sets of the gain (`mean`)."""
        scores: dict[str, float] = {}
        for one in self.sets:
            scores[one.name] = fmean(_psnr(self._restore(network, blurred), sharp) for blurred, sharp in one.pairs)
            scores[f"{one.name} blurred"] = self._baseline[one.name]
        scores["mean"] = fmean(scores[one.name] - self._baseline[one.name] for one in self.sets)
        return scores

    def picture(self, network: nn.Module) -> Tensor:
        """Blurred, restored and sharp of the first pairs of each set, a row each: 3×H×W uint8."""
        shown = [pair for one in self.sets for pair in one.pairs[:_SHOWN]]
        return contact_sheet([(blurred, self._restore(network, blurred), sharp) for blurred, sharp in shown])

    @torch.inference_mode()
    def _restore(self, network: nn.Module, blurred: Tensor) -> Tensor:
        batch = blurred.unsqueeze(0).to(self.device).float() / 255
        restored = network(batch.contiguous(memory_format=torch.channels_last))
        return round_to_uint8(restored[0]).cpu()


def _psnr(restored: Tensor, sharp: Tensor) -> float:
    return float(psnr(restored.unsqueeze(0).float(), sharp.unsqueeze(0).float(), data_range=255))
