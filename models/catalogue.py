"""What there is: each network with its size, its cost, the weights that are shipped for it and what they score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from models import measure
from models.check import SIDE
from models.registry import DEFAULT_MODEL, ModelInfo, Score, create_model, list_models, model_info
from models.weights import ShippedWeights, shipped_weights

FRAME = (720, 1280)
"""Height and width of the frame for which costs are given: GOPRO's."""

_SPEED_CLASSES = ((50, "fast"), (500, "medium"), (math.inf, "slow"))
"""GMACs a frame up to which a network is of the class. A laptop's processor does about a hundred GMACs a second, a GPU
a hundred times as many: fast runs well on the one, slow asks for the other."""

SSIM_KINDS = {
    "ssim": "SSIM",
    "ssim_matlab": "SSIM, MATLAB's kind",
    "cw": "SSIM, complex wavelet",
    "": "SSIM, kind unknown",
}


@dataclass(frozen=True)
class Entry:
    """A network in the catalogue. Sizes and costs are for its default options."""

    info: ModelInfo
    weights: tuple[ShippedWeights, ...]
    """The shipped weights, the default first."""

    @cached_property
    def _network(self) -> nn.Module:
        with torch.device("meta"):  # shapes alone: no memory, no numbers
            return create_model(self.info.name)

    @property
    def is_default(self) -> bool:
        """Whether it is used where no network is asked for."""
        return self.info.name == DEFAULT_MODEL

    @cached_property
    def parameters(self) -> int:
        """How many numbers it learns."""
        known = self.info.parameters
        return measure.parameters(self._network) if known is None else known

    @cached_property
    def gmacs(self) -> float:
        """Multiply-accumulates for a frame of 1280×720, padded to what the network asks for; in units of 10⁹.

        The registered figure for 256×256 pixels times as many squares as the frame has, within 5 % of a count; counting
        all networks takes ten seconds. Where no figure is registered they are counted.
        """
        height, width = (self.info.padded(side) for side in FRAME)
        if self.info.gmacs is None:
            return measure.macs(self._network, height, width) / 1e9
        return self.info.gmacs * height * width / self.info.padded(SIDE) ** 2

    @property
    def speed(self) -> str:
        """`fast`, `medium` or `slow`, by what a frame costs."""
        return next(name for limit, name in _SPEED_CLASSES if self.gmacs <= limit)


def catalogue() -> list[Entry]:
    """All networks but those that exist for tests: the default first, then by name.

    Raises:
        ModelError: a card of shipped weights is missing or damaged.
    """
    return sorted((entry(name) for name in list_models()), key=lambda found: (not found.is_default, found.info.name))


def entry(name: str) -> Entry:
    """The network `name`.

    Raises:
        ModelError: there is no such network, or a card of its weights is missing or damaged.
    """
    return Entry(model_info(name), tuple(shipped_weights(name)))


def measured_scores(weights: ShippedWeights) -> list[str]:
    """What we measured for these weights, a line for each set; in brackets the gain over the blurred input.

    For instance `GOPRO 28.10 dB (+2.11)`.
    """
    return [_measured(name, values) for name, values in weights.card.get("scores", {}).items()]


def published_score(score: Score) -> str:
    """A published figure in words: `32.87 dB, 0.9606 (SSIM, MATLAB's kind)`."""
    ssim = "" if score.ssim is None else f", {score.ssim:.4f} ({SSIM_KINDS[score.ssim_kind]})"
    return f"{score.psnr:.2f} dB{ssim}"


def markdown_table() -> str:
    """The catalogue as a Markdown table, for the README."""
    header = (
        "network",
        "what it is",
        "parameters",
        "GMACs, 1280×720 (within 5 %)",
        "speed",
        "recurrent",
        "weights",
        "our scores",
        "published",
    )
    rows = [
        (
            f"`{found.info.name}`" + (" (default)" if found.is_default else ""),
            found.info.description,
            f"{found.parameters:,}",
            f"{found.gmacs:,.0f}",
            found.speed,
            "yes" if found.info.recurrent else "no",
            _lines([f"`{weights.label}`" for weights in found.weights]),
            _lines([line for weights in found.weights for line in measured_scores(weights)]),
            _lines([f"{score.dataset} {published_score(score)}, {score.source}" for score in found.info.published]),
        )
        for found in catalogue()
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, ("---",) * len(header), *rows))


def _measured(name: str, values: dict[str, Any]) -> str:
    gain = f" ({values['gain']:+.2f})" if "gain" in values else ""
    return f"{name} {values['psnr']:.2f} dB{gain}"


def _lines(lines: Sequence[str]) -> str:
    return "<br>".join(lines) or "–"
