"""Where one shot of a video ends and the next begins: there a recurrent network has to forget.

Each frame's luma is looked at in small, about 64 blocks along the shorter side, and compared with the frame before in
three ways, none of which is enough alone:

- the mean absolute difference, small between frames that differ by noise only;
- half the sum of absolute differences of the histograms, 0 to 1, small however fast the camera pans;
- the correlation, high however much brighter or darker the picture gets (flashes, fades, exposure).

A cut is where all three say so. In 90 frames of each of seven clips (handheld, panning, sport, one with a jump of
exposure) and in the sample photos, consecutive frames of a shot differed by at most 0.03 and 0.22 and correlated by at
least 0.89; frames of different shots by at least 0.15 and 0.29, and by at most 0.62. The thresholds lie between. A
dissolve is no cut: the network's state fades along with it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

LEAST_DIFFERENCE = 0.06
LEAST_HISTOGRAM_DISTANCE = 0.15
MOST_CORRELATION = 0.75

_BLOCKS = 64
_SAMPLES = 4
"""Pixels of a block that are averaged, along each side."""
_BINS = 32


class SceneCuts:
    """Finds the cuts in a sequence of frames of one size.

    Args:
        depth: bits of a sample.
        last_look: that of another `SceneCuts` after the frame before the first one here; None at the start of a video.

    Attributes:
        last_look: the luma of the last frame in small, float32 in [0, 1].
    """

    def __init__(self, depth: int = 8, last_look: Tensor | None = None) -> None:
        self._scale = 1.0 / ((1 << depth) - 1)
        self.last_look = last_look

    def is_cut(self, luma: np.ndarray) -> bool:
        """Whether this frame, luma (or green) H×W in integers, begins another shot; false for the first of all."""
        look, before = self._look(luma), self.last_look
        self.last_look = torch.from_numpy(look)
        if before is None or before.shape != look.shape:
            return before is not None
        return _is_cut(before.numpy(), look)

    def _look(self, luma: np.ndarray) -> np.ndarray:
        block = max(1, min(luma.shape) // _BLOCKS)
        step = -(-block // _SAMPLES)
        samples = luma[::step, ::step]
        side = max(1, block // step)
        rows, columns = (size // side for size in samples.shape)
        blocks = samples[: rows * side, : columns * side].reshape(rows, side, columns, side)
        return blocks.mean(axis=(1, 3), dtype=np.float32) * np.float32(self._scale)


def _is_cut(one: np.ndarray, other: np.ndarray) -> bool:
    return (
        float(np.abs(one - other).mean()) > LEAST_DIFFERENCE
        and _histogram_distance(one, other) > LEAST_HISTOGRAM_DISTANCE
        and _correlation(one, other) < MOST_CORRELATION
    )


def _histogram_distance(one: np.ndarray, other: np.ndarray) -> float:
    counts = [np.histogram(look, bins=_BINS, range=(0.0, 1.0))[0] for look in (one, other)]
    return float(np.abs(counts[0] - counts[1]).sum()) / (2 * one.size)


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's; 0 where one of them is flat."""
    one, other = one - one.mean(), other - other.mean()
    norm = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / norm if norm > 1e-6 else 0.0
