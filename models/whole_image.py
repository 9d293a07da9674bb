"""Statistics that look at the whole image, and how the tiles of one image share them.

Instance norm takes mean and variance over all pixels. A tile's own differ from the image's, which shows as a step of
brightness from tile to tile. So these modules can be told that they see tiles (`SharedStatistics`): each counts the
pixels that belong to a tile alone, tile after tile, until it has seen the whole image, and then answers every tile the
same.

What a deep statistic counts depends on the ones before it, so the image is gone through in rounds until the answers no
longer change. The n-th statistic is exact after n rounds at most; in practice a few do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Box(NamedTuple):
    """The pixels of a tile that no other tile counts, in the coordinates of the tile."""

    top: int
    bottom: int
    left: int
    right: int


class _Count(NamedTuple):
    """The moments of the pixels counted so far; None of none."""

    value: Tensor | None = None
    pixels: int = 0


class WholeImageMoments(nn.Module):
    """Mean and (biased) variance over all pixels, one after the other along the channels: N×C×H×W to N×2C×1×1 float32.

    Without parameters, so it leaves no name in weights.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reset()

    def reset(self) -> None:
        """Take each image for a whole one (again)."""
        self._tiles: Sequence[Box] = ()
        self._size = (0, 0)
        self._answer: Tensor | None = None
        self._before = self._now = _Count()

    def forward(self, x: Tensor) -> Tensor:
        if not self._tiles:
            return _moments(x)
        # From what was counted before this batch: a batch that is run again, in another precision, counts once.
        self._now = self._before
        scale = [of_tile // of_features for of_tile, of_features in zip(self._size, x.shape[2:], strict=True)]
        for tile, box in zip(x.chunk(len(self._tiles)), self._tiles, strict=True):
            rows = slice(box.top // scale[0], box.bottom // scale[0])
            columns = slice(box.left // scale[1], box.right // scale[1])
            part = tile[:, :, rows, columns]
            value, pixels = _moments(part), self._now.pixels + part.shape[2] * part.shape[3]
            if self._now.value is not None:
                value = _joined(self._now.value, value, 1 - self._now.pixels / pixels)
            self._now = _Count(value, pixels)
        # In the first round no answer is known yet; what was counted so far is close to it.
        answer = self._now.value if self._answer is None else self._answer
        assert answer is not None
        return answer.repeat(len(self._tiles), 1, 1, 1)

    def begin(self, size: tuple[int, int], tiles: Sequence[Box]) -> None:
        """The next batch holds `tiles`, each of `size` (height, width) at full resolution."""
        self._before, self._size, self._tiles = self._now, size, tiles

    def end_round(self) -> float:
        """Let the next round answer with what this one has counted.

        Returns by how much the answer changes, as a share of its largest value; infinity after the first round.
        """
        before, answer = self._answer, self._now.value
        self._answer, self._before, self._now = answer, _Count(), _Count()
        if before is None or answer is None:
            return math.inf
        return float((answer - before).abs().max() / answer.abs().max().clamp_min(1e-12))


def _moments(x: Tensor) -> Tensor:
    variance, mean = torch.var_mean(x.float(), dim=(2, 3), correction=0, keepdim=True)
    return torch.cat([mean, variance], dim=1)


def _joined(one: Tensor, other: Tensor, share: float) -> Tensor:
    """The moments of two areas together, of which the other one's share of the pixels is `share`."""
    # Chan, Golub, LeVeque: "Updating formulae and a pairwise algorithm for computing sample variances", 1979.
    (mean, variance), (other_mean, other_variance) = one.chunk(2, dim=1), other.chunk(2, dim=1)
    between = share * (1 - share) * (other_mean - mean).square()
    return torch.cat([mean.lerp(other_mean, share), variance.lerp(other_variance, share) + between], dim=1)


class SharedStatistics:
    """The statistics of a network, while it goes through the tiles of one image.

    Args:
        network: whose `WholeImageMoments` are to be shared; None where there is but one tile. One round is
            enough where nothing is shared.
    """

    TOLERANCE = 1e-3
    """Relative change of the answers below which another round would change no pixel by a grey level."""

    def __init__(self, network: nn.Module | None) -> None:
        modules = network.modules() if network else ()
        self._statistics = [module for module in modules if isinstance(module, WholeImageMoments)]

    @property
    def needed(self) -> bool:
        """Whether there is anything to share."""
        return bool(self._statistics)

    def begin(self, size: tuple[int, int], tiles: Sequence[Box]) -> None:
        """The next batch of the network holds `tiles`, stacked along the batch, each of `size` (height, width)."""
        for statistic in self._statistics:
            statistic.begin(size, tiles)

    def rounds(self) -> Iterator[int]:
        """Yield 0, 1, …: in each round all tiles have to be gone through; the results of the last are the image's."""
        try:
            for number in range(len(self._statistics) + 1):
                yield number
                changes = [statistic.end_round() for statistic in self._statistics]
                if max(changes, default=0.0) < self.TOLERANCE:
                    return
        finally:
            for statistic in self._statistics:
                statistic.reset()
