"""Validation during training: PSNR of the averaged weights on sets that are never trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from deblur_cli.training.blur import BlurSettings
from deblur_cli.training.data import PhotoSource, load_picture, seeded


@dataclass(frozen=True)
class ValidationSet:
    """Pairs with a name, 3×H×W uint8 each, of any sizes that are multiples of the network's."""

    name: str
    pairs: Sequence[tuple[Tensor, Tensor]]


def synthetic_set(photos: PhotoSource, blur: BlurSettings, count: int = 32, size: int = 256) -> ValidationSet:
    """A fixed set made from held-out photos: the same pairs in every run."""
    generator = seeded(torch.device("cpu"), "validation")
    pairs = []
    for _ in range(count // 4):
        both = torch.stack(photos.draw(4, size, blur, generator), dim=1)
        pairs += [(pair[0], pair[1]) for pair in (both * 255).round().to(torch.uint8)]
    return ValidationSet("synthetic", pairs)


def paired_set(name: str, files: Sequence[tuple[Path, Path]], multiple_of: int = 16) -> ValidationSet:
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
        self._baseline = {one.name: _mean(_psnr(*pair) for pair in one.pairs) for one in sets}

    @torch.inference_mode()
    def score(self, network: nn.Module) -> dict[str, float]:
        """Mean PSNR in dB after rounding to 8 bits of each set, of its blurred input (`NAME blurred`), and the mean
        over the sets of the gain (`mean`)."""
        scores: dict[str, float] = {}
        for one in self.sets:
            scores[one.name] = _mean(_psnr(self._restore(network, blurred), sharp) for blurred, sharp in one.pairs)
            scores[f"{one.name} blurred"] = self._baseline[one.name]
        scores["mean"] = _mean(scores[one.name] - self._baseline[one.name] for one in self.sets)
        return scores

    def _restore(self, network: nn.Module, blurred: Tensor) -> Tensor:
        batch = blurred.unsqueeze(0).to(self.device).float() / 255
        restored = network(batch.contiguous(memory_format=torch.channels_last))
        return (restored[0].clamp(0, 1) * 255).round().cpu()


def _psnr(restored: Tensor, sharp: Tensor) -> float:
    error = (restored.double() - sharp.double()).square().mean()
    return float(10 * torch.log10(255**2 / error))


def _mean(values: Iterator[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)
