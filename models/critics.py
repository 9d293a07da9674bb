"""Critics: networks that tell sharp images from restored ones, for adversarial training.

A critic is called as `critic(candidate, blurred)`, both N×3×H×W in [0, 1], and gives logits, the higher the more it
takes the candidate for sharp. What a loss wants of them, a sigmoid or the bare number, the loss does.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.registry import ModelError


class PatchCritic(nn.Module):
    """Judges each 70×70 patch by itself (PatchGAN; Isola et al., CVPR 2017, https://arxiv.org/abs/1611.07004).

    For H×W it gives N×1×(H/8 − 2)×(W/8 − 2) logits: 30×30 for 256×256.

    Args:
        conditional: whether it sees the blurred image beside the candidate; otherwise it ignores it.
    """

    def __init__(self, conditional: bool) -> None:
        super().__init__()
        self.conditional = conditional
        self.body = nn.Sequential(
            nn.Conv2d(6 if conditional else 3, 64, 4, stride=2, padding=1),
            _leaky_relu(),
            *_normalised(64, 128, stride=2),
            *_normalised(128, 256, stride=2),
            *_normalised(256, 512, stride=1),
            nn.Conv2d(512, 1, 4, stride=1, padding=1),
        )

    def forward(self, candidate: Tensor, blurred: Tensor) -> Tensor:
        return self.body(torch.cat([blurred, candidate], dim=1) if self.conditional else candidate)


class NineLayerCritic(nn.Module):
    """Judges a crop of 256×256 as a whole: N×3×256×256 to N×1 logits (Xu, Jiao, Zhao; Table I of their paper).

    The nine convolutions and the fully connected layer are those that Nah et al., CVPR 2017, train against.
    """

    SIDE = 256

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_judging(3, 32, stride=2),
            *_judging(32, 64, stride=1),
            *_judging(64, 64, stride=2),
            *_judging(64, 128, stride=1),
            *_judging(128, 128, stride=4),
            *_judging(128, 256, stride=1),
            *_judging(256, 256, stride=4),
            *_judging(256, 512, stride=1),
            nn.Conv2d(512, 512, 4, stride=4),
            _leaky_relu(),
            nn.Flatten(),
            nn.Linear(512, 1),
        )

    def forward(self, candidate: Tensor, blurred: Tensor) -> Tensor:
        """The logits N×1; `blurred` is ignored.

        Raises:
            ValueError: the crop is not of 256×256.
        """
        height, width = candidate.shape[2:]
        if (height, width) != (self.SIDE, self.SIDE):
            raise ValueError(f"the nine-layer critic judges crops of {self.SIDE}×{self.SIDE}, not of {height}×{width}")
        return self.body(candidate)


def _leaky_relu() -> nn.LeakyReLU:
    return nn.LeakyReLU(0.2, inplace=True)


def _normalised(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 4, stride, padding=1), nn.InstanceNorm2d(outputs), _leaky_relu()]


def _judging(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 5, stride, padding=2), _leaky_relu()]


CRITICS: dict[str, Callable[[], nn.Module]] = {
    "patch": lambda: PatchCritic(conditional=False),
    "patch-conditional": lambda: PatchCritic(conditional=True),
    "nine-layer": NineLayerCritic,
}


def create_critic(name: str) -> nn.Module:
    """Build critic `name`, one of `CRITICS`, with random weights.

    Raises:
        ModelError: there is none of that name.
    """
    if name not in CRITICS:
        raise ModelError(f"no critic is called '{name}'; there are {', '.join(CRITICS)}")
    return CRITICS[name]()
