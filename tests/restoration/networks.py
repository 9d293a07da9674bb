"""Networks whose answers are known, and pixels to give them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models import LoadedModel, ModelInfo


def loaded(network: nn.Module, **facts: Any) -> LoadedModel:
    """`network` as if it had been registered with these facts."""
    info = ModelInfo(name="under-test", description="", builder=lambda: network, options={}, **facts)
    return LoadedModel(network.eval(), info, {}, None, None, {})


class Apply(nn.Module):
    """A function as a network; keeps the shapes it saw, the small image among them that the memory estimate tries."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.seen: list[tuple[int, ...]] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> Apply:
        return self  # so that a test can ask what the restorer's copy saw

    def forward(self, blurred: Tensor) -> Tensor:
        self.seen.append(tuple(blurred.shape))
        return self.function(blurred)


def random_pixels(shape: tuple[int, ...], dtype: type, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    if dtype == np.float32:
        return generator.random(shape, dtype=np.float32)
    return generator.integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def residual_network(seed: int = 0) -> nn.Module:
    """Convolutions at a quarter of the resolution that see ±28 pixels, and a residual of a few hundredths."""
    torch.manual_seed(seed)

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.PixelUnshuffle(4),
                nn.Conv2d(48, 16, 3, padding=1),
                *(layer for _ in range(5) for layer in (nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1))),
                nn.Conv2d(16, 48, 3, padding=1),
                nn.PixelShuffle(4),
            )

        def forward(self, blurred: Tensor) -> Tensor:
            return blurred + self.body(blurred) * 0.5

    return Network()
