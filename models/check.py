"""Does a network keep its word? Built, counted against its registered facts, run forward and backward."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models import measure
from models.registry import ModelInfo, create_model, model_info

SIDE = 256
"""Height and width of the image, before it is padded to what the network asks for."""

_GMACS_TOLERANCE = 0.02  # published figures are rounded
_FRAMES = 2  # of a recurrent network, as the first is restored without a state


@dataclass(frozen=True)
class CheckResult:
    """What was found of a network with its default options."""

    info: ModelInfo
    """Its registered facts, among them the expected figures."""
    parameters: int | None
    """None where the network could not be built."""
    gmacs: float | None
    """For a 256×256 image, padded to what the network asks for; None where it could not be counted."""
    seconds: float | None
    """Forward and backward on the processor; None where that failed."""
    faults: tuple[str, ...]
    """In words, what is wrong; empty where the network passes."""

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults


def check(name: str) -> CheckResult:
    """Check network `name`, built with its default options and random weights, always the same.

    Its parameters must be as many as registered and its multiply-accumulates within 2 % of what is registered (facts
    that are None are not compared). In eval mode it must give one image of the input's shape. In training mode it is
    run forward and backward, a recurrent network over two frames: each image must have RGB, the last of a pyramid the
    input's shape, all values must be finite, and every parameter must get a gradient.

    Raises:
        ModelError: there is no such network. What is wrong with one there is stands in the result's `faults`.
    """
    info = model_info(name)
    parameters, gmacs, seconds = None, None, None
    faults: list[str] = []
    side = info.padded(SIDE)
    try:
        with torch.device("meta"):
            network = create_model(name).eval()
        parameters = measure.parameters(network)
        if info.parameters not in (None, parameters):
            faults.append(f"{parameters:,} parameters, where {info.parameters:,} are registered")
        gmacs = measure.macs(network, side, side) / 1e9
        if info.gmacs is not None and not math.isclose(gmacs, info.gmacs, rel_tol=_GMACS_TOLERANCE):
            faults.append(f"{gmacs:.4g} GMACs, where {info.gmacs:.4g} are registered")
        faults += _restores(network, side, info)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = create_model(name).train()
            frames = torch.rand(_FRAMES if info.recurrent else 1, 1, 3, side, side)
            begun = time.perf_counter()
            faults += _trains(network, frames, info)
            seconds = time.perf_counter() - begun
    except Exception as error:  # noqa: BLE001  (whatever a network raises is what is to be told of it)
        faults.append(f"{type(error).__name__}: {' '.join(str(error).split())}")
    return CheckResult(info, parameters, gmacs, seconds, tuple(faults))


def _restores(network: nn.Module, side: int, info: ModelInfo) -> Iterator[str]:
    """What is wrong with the type or shape of the output in eval mode; `network` lies on torch's meta device."""
    with torch.no_grad():
        output = network(torch.zeros(1, 3, side, side, device="meta"))
    restored = output[0] if info.recurrent else output
    if not isinstance(restored, Tensor):
        yield f"gives a {type(restored).__name__} in eval mode and not an image"
    elif restored.shape != (1, 3, side, side):
        yield f"gives {_shape(restored)} in eval mode for {side}×{side} pixels"


def _trains(network: nn.Module, frames: Tensor, info: ModelInfo) -> Iterator[str]:
    """What is wrong with the output in training mode for `frames` (T×N×3×H×W), and with the gradients."""
    images = [image for pyramid in _restored(network, frames, info) for image in pyramid]
    strange = [image for image in images if image.ndim != 4 or image.shape[:2] != frames.shape[1:3]]
    if strange or images[-1].shape != frames.shape[1:]:
        yield f"gives {_shape((strange or images)[-1])} in training mode for {_shape(frames[0])}"
    if not all(bool(image.isfinite().all()) for image in images):
        yield "gives values that are not finite"
    torch.stack([image.square().mean() for image in images]).sum().backward()
    learned = dict(network.named_parameters())
    yield from _named("without a gradient", [key for key, value in learned.items() if value.grad is None])
    found = {key: value.grad for key, value in learned.items() if value.grad is not None}
    yield from _named("with a gradient that is not finite", [key for key in found if not found[key].isfinite().all()])


def _restored(network: nn.Module, frames: Tensor, info: ModelInfo) -> Iterator[list[Tensor]]:
    """The pyramid of each frame, coarsest first; of one image where the network gives only that."""
    state: Any = None
    for frame in frames:
        if info.recurrent:
            output, state = network(frame, state)
        else:
            output = network(frame)
        yield [output] if isinstance(output, Tensor) else list(output)


def _named(what: str, keys: list[str]) -> Iterator[str]:
    if keys:
        yield f"{len(keys)} parameters {what}, the first {keys[0]}"


def _shape(tensor: Tensor) -> str:
    return "×".join(str(size) for size in tensor.shape)
