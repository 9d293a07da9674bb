"""How much of a network its ReLUs have shut off: channels that give nothing, and that are taught nothing any more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_CONVOLUTIONS = frozenset({functional.conv2d, functional.conv_transpose2d})
_RELUS = frozenset({torch.relu, torch.relu_, functional.relu, Tensor.relu, Tensor.relu_})


class ShutChannels(TorchFunctionMode):
    """While it is entered, counts the channels that a ReLU behind a convolution gives nothing of, anywhere in a batch.

    A ReLU passes no gradient where it gives 0. So what large steps shut stays shut, and a network can go on to learn
    with a part of itself while its loss looks as ever (the dying ReLU, Lu et al., "Dying ReLU and initialization",
    Commun. Comput. Phys. 2020).
    """

    def __init__(self) -> None:
        super().__init__()
        self._convolved: Tensor | None = None
        self._shut: list[Tensor] = []

    @property
    def share(self) -> float | None:
        """The share of channels, 0 to 1, over all that went by; None where there was no such ReLU."""
        return float(torch.cat(self._shut).float().mean()) if self._shut else None

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        is_behind_convolution = func in _RELUS and args[0] is self._convolved
        result = func(*args, **(kwargs or {}))
        if is_behind_convolution:
            self._shut.append(result.amax(dim=(0, 2, 3)) <= 0)
        self._convolved = result if func in _CONVOLUTIONS else None
        return result
