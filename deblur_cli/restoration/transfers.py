"""Planes of frames to the device of a network and back, beside what it computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Parcel:
    """Planes of one frame or several, N×h×w each, on a device, and when they are whole there."""

    planes: Sequence[Tensor]
    whole: torch.cuda.Event | None = None
    """Recorded behind the last work on the planes; None on devices without streams."""


class Transfers:
    """The two ways between NumPy arrays and a device.

    On CUDA each way has a stream of its own and goes through pinned memory, so that frames travel while others are
    computed, whichever threads that happens in. On a processor nothing is copied.

    Args:
        device: where the network is.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._up = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._down = torch.cuda.Stream(device) if device.type == "cuda" else None

    def send(self, planes: Sequence[np.ndarray]) -> Parcel:
        """One frame to the device; returns before it is there."""
        # PyTorch asks for memory that may be written, though nobody does, and for no negative strides.
        host = [torch.from_numpy(np.require(plane, requirements=["C", "W"]))[None] for plane in planes]
        if self._up is None:
            return Parcel([plane.to(self._device) for plane in host])
        with torch.cuda.stream(self._up):
            sent = [plane.pin_memory().to(self._device, non_blocking=True) for plane in host]
            return Parcel(sent, self._up.record_event())

    def receive(self, parcels: Sequence[Parcel]) -> list[Tensor]:
        """The planes of some frames, stacked, to be worked on in the current stream, which waits for them."""
        for parcel in parcels:
            if parcel.whole is not None:
                stream = torch.cuda.current_stream(self._device)
                stream.wait_event(parcel.whole)
                for plane in parcel.planes:
                    plane.record_stream(stream)  # its memory is not given to others while this stream reads it
        if len(parcels) == 1:
            return list(parcels[0].planes)
        return [torch.cat(same) for same in zip(*(parcel.planes for parcel in parcels), strict=True)]

    def wrap(self, planes: Sequence[Tensor]) -> list[Parcel]:
        """Planes that the current stream is at work on, stacked, as a parcel for each frame."""
        whole = None if self._down is None else torch.cuda.current_stream(self._device).record_event()
        return [Parcel(frame, whole) for frame in zip(*planes, strict=True)]

    def fetch(self, parcel: Parcel) -> tuple[np.ndarray, ...]:
        """The planes of a parcel as arrays; waits until they are there."""
        if self._down is None or parcel.whole is None:
            return tuple(plane.cpu().numpy() for plane in parcel.planes)
        host = []
        with torch.cuda.stream(self._down):
            self._down.wait_event(parcel.whole)
            for plane in parcel.planes:
                plane.record_stream(self._down)
                pinned = torch.empty(plane.shape, dtype=plane.dtype, pin_memory=True)
                host.append(pinned.copy_(plane, non_blocking=True))
            self._down.synchronize()
        return tuple(plane.numpy() for plane in host)
