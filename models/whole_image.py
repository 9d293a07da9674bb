"""Statistics that look at the whole image, and how the tiles of one image share them.

Channel attention and instance norm take the mean or the maximum over all pixels. A tile's own differs from the image's,
which shows as a step of brightness from tile to tile. So these modules can be told that they see tiles
(`SharedStatistics`): each counts the pixels that belong to a tile alone, tile after tile, until it has seen the whole
image, and then answers every tile the same.

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


class WholeImageStatistic(nn.Module):
    """A statistic over all pixels: N×C×H×W to N×C×1×1 float32. Without parameters, so it leaves no name in weights."""

    def __init__(self) -> None:
        super().__init__()
        self._tiles: Sequence[Box] | None = None
        self._size = (0, 0)
        self._answer: Tensor | None = None
        self._counted: Tensor | None = None
        self._pixels = 0

    def forward(self, x: Tensor) -> Tensor:
        if self._tiles is None:
            return self.over(x.float())
        scale = [of_tile // of_features for of_tile, of_features in zip(self._size, x.shape[2:], strict=True)]
        for tile, box in zip(x.detach().chunk(len(self._tiles)), self._tiles, strict=True):
            rows = slice(box.top // scale[0], box.bottom // scale[0])
            columns = slice(box.left // scale[1], box.right // scale[1])
            part = tile[:, :, rows, columns].float()
            pixels = part.shape[2] * part.shape[3]
            self._counted = self.joined(self._counted, self._pixels, self.over(part), pixels)
            self._pixels += pixels
        # In the first round no answer is known yet; what was counted so far is close to it.
        answer = self._counted if self._answer is None else self._answer
        assert answer is not None
        return answer.repeat(len(self._tiles), 1, 1, 1)

    def over(self, x: Tensor) -> Tensor:
        """The statistic of N×C×H×W float32, as N×C×1×1."""
        raise NotImplementedError

    def joined(self, one: Tensor | None, pixels: int, other: Tensor, more: int) -> Tensor:
        """The statistic of two areas together, from each one's own and its number of pixels; `one` is None at first."""
        raise NotImplementedError

    def begin(self, size: tuple[int, int], tiles: Sequence[Box]) -> None:
        """The next batch holds `tiles`, each of `size` (height, width) at full resolution."""
        self._size, self._tiles = size, tiles

    def end_round(self) -> float:
        """Answer with what was counted from now on; returns by how much that changes, relative to the largest value."""
        before, answer = self._answer, self._counted
        self._answer, self._counted, self._pixels = answer, None, 0
        if before is None or answer is None:
            return math.inf
        return float((answer - before).abs().max() / answer.abs().max().clamp_min(1e-12))

    def reset(self) -> None:
        """Take each image for a whole one again."""
        self._tiles = self._answer = self._counted = None
        self._pixels = 0


class WholeImageMean(WholeImageStatistic):
    """The mean over all pixels."""

    def over(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3), keepdim=True)

    def joined(self, one: Tensor | None, pixels: int, other: Tensor, more: int) -> Tensor:
        return other if one is None else torch.lerp(one, other, more / (pixels + more))


class WholeImageMax(WholeImageStatistic):
    """The maximum over all pixels."""

    def over(self, x: Tensor) -> Tensor:
        return x.amax(dim=(2, 3), keepdim=True)

    def joined(self, one: Tensor | None, pixels: int, other: Tensor, more: int) -> Tensor:
        return other if one is None else torch.maximum(one, other)


class SharedStatistics:
    """The statistics of a network, while it goes through the tiles of one image.

    Args:
        network: whose `WholeImageStatistic` modules are to be shared; where there are none, one round is enough.
    """

    TOLERANCE = 1e-3
    """Relative change of the answers below which another round would change no pixel by a grey level."""

    def __init__(self, network: nn.Module) -> None:
        self._statistics = [module for module in network.modules() if isinstance(module, WholeImageStatistic)]

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
