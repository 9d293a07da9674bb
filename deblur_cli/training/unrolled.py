"""A network as training calls it: batches of images in, restored images out, whether it is recurrent or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

Restored = Tensor | list[Tensor]
"""A restored batch, or the pyramid of a multi-scale network in training, coarsest first, the last at full size."""


class Unrolled(nn.Module):
    """Runs a recurrent network through sequences, its state going from frame to frame; other networks as they are.

    All frames of a sequence are in one graph, so the gradient of a frame reaches all frames before it (backpropagation
    through time). It is a module so that several processes exchange gradients once for the whole sequence.

    Args:
        network: `forward(blurred)`, or `forward(blurred, state)` where it is recurrent.
        recurrent: whether it is.
    """

    def __init__(self, network: nn.Module, *, recurrent: bool) -> None:
        super().__init__()
        self.network, self.recurrent = network, recurrent

    def forward(self, blurred: Tensor, frames: int = 1) -> Restored:
        """(N·frames)×3×H×W to the same or a pyramid of it, in float32.

        The frames of a sequence are next to each other; each sequence starts with a state of None.
        """
        if not self.recurrent:
            return _together([self.network(blurred)])
        state = None
        sequence: list[Restored] = []
        for frame in blurred.unflatten(0, (-1, frames)).unbind(1):
            restored, state = self.network(frame, state)
            sequence.append(restored)
        return _together(sequence)


def full_size(restored: Restored) -> Tensor:
    """The image of full size: a tensor itself, of a pyramid the last."""
    return restored if isinstance(restored, Tensor) else restored[-1]


def _together(frames: Sequence[Restored]) -> Restored:
    """What the network gave for each frame of N sequences as one batch, the frames of a sequence next to each other."""
    if isinstance(frames[0], list):
        return [_joined(scale) for scale in zip(*frames, strict=True)]
    return _joined(frames)


def _joined(frames: Any) -> Tensor:
    return torch.stack(frames, dim=1).flatten(0, 1).float() if len(frames) > 1 else frames[0].float()
