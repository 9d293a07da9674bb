"""How much memory a network takes for its activations.

It is run on a small image, while the bytes of all tensors that are alive at a time, and the values of the largest
tensor, are counted.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_PROBE = 64
"""Side in pixels of the image that is tried; activations of convolutional networks grow with the pixels."""

_SCRATCH = 2.0
"""What packed weights, workspaces and gaps between blocks take besides, as a factor: 1.3 to 2.3 in the resident memory
on processors, the most where the allocator keeps its blocks (`memory.tune_allocator`)."""


@dataclass(frozen=True)
class Footprint:
    """What a network takes for each pixel of an image."""

    bytes: float
    """At its peak, in float32, input and output included."""
    values: float
    """Of the largest tensor."""


class _LiveBytes(TorchFunctionMode):
    """Counts the bytes of the tensors that are made while it is entered, for as long as each lives.

    It sees what torch's functions return, not what they make and drop inside; that would take a mode of torch's
    dispatcher, whose first use imports the compiler for a second, and says the same of convolutional networks.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = 0
        self.peak = 0
        self.largest = 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:  # a view, or the result of an operation in place
            return
        self._known.add(storage)
        self.live += storage.nbytes()
        self.largest = max(self.largest, storage.nbytes())
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, storage.nbytes())

    def _forget(self, size: int) -> None:
        self.live -= size


def footprint(network: nn.Module, device: torch.device, multiple_of: int = 1, recurrent: bool = False) -> Footprint:
    """What `network` takes.

    Args:
        network: N×3×H×W to the same, on `device`.
        device: where to try it.
        multiple_of: of which height and width must be multiples.
        recurrent: whether it takes a state as well (None is given) and returns one.
    """
    side = -(-_PROBE // multiple_of) * multiple_of
    counter = _LiveBytes()
    with torch.no_grad(), counter:
        blurred = torch.zeros(1, 3, side, side, device=device)
        network(blurred, None) if recurrent else network(blurred)
    return Footprint(counter.peak / side**2 * _SCRATCH, counter.largest / torch.float32.itemsize / side**2)
