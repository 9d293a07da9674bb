"""Two untrained networks that let every verb run end to end in seconds. They exist for tests and are not listed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.registry import register_model


class Tiny(nn.Module):
    """Two 3×3 convolutions and the input: N×3×H×W in [0, 1] to the same. Starts as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.last = nn.Conv2d(width, 3, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, blurred: Tensor) -> Tensor:
        return blurred + self.last(torch.relu(self.first(blurred)))


class TinyRecurrent(nn.Module):
    """Mixes a running mean of the frames into each: the smallest thing with a state that flows.

    `forward(blurred, state) -> (restored, state)`; a state of None starts anew.
    """

    def __init__(self, momentum: float) -> None:
        super().__init__()
        self.momentum = nn.Parameter(torch.tensor(momentum))

    def forward(self, blurred: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        mean = blurred if state is None else torch.lerp(blurred, state, self.momentum)
        return 0.5 * (blurred + mean), mean


@register_model("test-tiny", "two convolutions, untrained, for tests", multiple_of=4, tile_overlap=8, hidden=True)
def test_tiny(width: int = 8) -> nn.Module:
    return Tiny(width)


@register_model("test-tiny-recurrent", "a running mean of frames, for tests", recurrent=True, hidden=True)
def test_tiny_recurrent(momentum: float = 0.5) -> nn.Module:
    return TinyRecurrent(momentum)
