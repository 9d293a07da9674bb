"""Planes of frames to the device of a network and back, beside what it computes."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Parcel:
    """Tensors on a device that one thread hands to another, and when they are whole there."""

    tensors: Sequence[Tensor]
    whole: torch.cuda.Event | None = None
    """Recorded behind the last work on the tensors; None on devices without streams."""


class Courier:
    """The two ways between NumPy arrays and a device.

    On CUDA each way has a stream of its own and goes through pinned memory, so that frames travel, and are converted
    on the way, while others are restored. On a processor nothing is copied.

    Args:
        device: where the network is.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._up = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._down = torch.cuda.Stream(device) if device.type == "cuda" else None

    def reading(self) -> AbstractContextManager[Any]:
        """In this context the calling thread's work goes into the stream of what comes in."""
        return nullcontext() if self._up is None else torch.cuda.stream(self._up)

    def writing(self) -> AbstractContextManager[Any]:
        """In this context the calling thread's work goes into the stream of what goes out."""
        return nullcontext() if self._down is None else torch.cuda.stream(self._down)

    def send(self, planes: Sequence[np.ndarray]) -> list[Tensor]:
        """The h×w planes of one frame as 1×h×w tensors on the device, whole in the order of the current stream."""
        # PyTorch asks for memory that may be written, though nobody does, and for no negative strides.
        host = [torch.from_numpy(np.require(plane, requirements=["C", "W"]))[None] for plane in planes]
        if self._up is None:
            return [plane.to(self._device) for plane in host]
        return [plane.pin_memory().to(self._device, non_blocking=True) for plane in host]

    def fetch(self, planes: Sequence[Tensor]) -> tuple[np.ndarray, ...]:
        """1×h×w tensors of the current stream as arrays h×w; waits until they are there."""
        if self._down is None:
            return tuple(plane[0].cpu().numpy() for plane in planes)
        host = [torch.empty(plane.shape[1:], dtype=plane.dtype, pin_memory=True) for plane in planes]
        for pinned, plane in zip(host, planes, strict=True):
            pinned.copy_(plane[0], non_blocking=True)
        torch.cuda.current_stream(self._device).synchronize()
        return tuple(pinned.numpy() for pinned in host)

    def pack(self, tensors: Sequence[Tensor]) -> Parcel:
        """Tensors that the current stream is at work on, for another thread."""
        return Parcel(tensors, None if self._up is None else torch.cuda.current_stream(self._device).record_event())

    def unpack(self, parcel: Parcel) -> Sequence[Tensor]:
        """What is in a parcel, to be worked on in the current stream, which waits for it."""
        if parcel.whole is not None:
            stream = torch.cuda.current_stream(self._device)
            stream.wait_event(parcel.whole)
            for tensor in parcel.tensors:
                tensor.record_stream(stream)  # its memory is not given to others while this stream reads it
        return parcel.tensors


@functools.cache
def courier_to(device: torch.device) -> Courier:
    """The courier to `device`, always the same: what the allocator keeps for a stream is of no use to another."""
    return Courier(device)
