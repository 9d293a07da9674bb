"""What a recurrent network remembers of a video, in memory and as bytes from which a later run goes on.

Bytes are a safetensors file: the tensors, and in its metadata, as JSON, how they are nested. Nothing in it is executed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from deblur_cli.errors import DeblurError
from deblur_cli.restoration.tiling import Span, TilePlan

_KEY = "nest"


@dataclass(frozen=True)
class FrameState:
    """The states of a network after a frame."""

    plan: TilePlan
    """How the frame was cut; a single tile where it was restored whole."""
    tiles: tuple[Any, ...]
    """The network's own state of each tile, in the order of `TilePlan.tiles`: tensors, in any nest."""


@dataclass(frozen=True)
class SequenceState:
    """All that the frames of a video so far mean to the next."""

    frame: FrameState | None = None
    """None at the start of a video, and for a network without a state."""
    last_look: Tensor | None = None
    """What the scene cut detector keeps of the last frame (`SceneCuts.last_look`), never on a GPU."""


def map_state(function: Callable[[Tensor], Any], state: Any) -> Any:
    """`function` of every tensor in a state of nested tuples, lists and dictionaries."""
    if isinstance(state, Tensor):
        return function(state)
    if isinstance(state, dict):
        return {key: map_state(function, value) for key, value in state.items()}
    if isinstance(state, tuple | list):
        values = [map_state(function, value) for value in state]
        return type(state)(*values) if hasattr(state, "_fields") else type(state)(values)  # a named tuple, or not
    return state


def save_state(state: SequenceState) -> bytes:
    """A state as bytes.

    Raises:
        TypeError: the network's state holds something other than tensors, numbers, strings, None, tuples, lists and
            dictionaries with string keys.
    """
    tensors: list[Tensor] = []
    nest: dict[str, Any] = {"last_look": _packed(state.last_look, tensors), "frame": None}
    if state.frame is not None:
        plan = state.frame.plan
        nest["frame"] = {
            "rows": [astuple(span) for span in plan.rows],
            "columns": [astuple(span) for span in plan.columns],
            "multiple_of": plan.multiple_of,
            "tiles": [_packed(tile, tensors) for tile in state.frame.tiles],
        }
    # Copies, because safetensors takes no views and no tensors that share memory.
    named = {str(number): tensor.detach().cpu().clone().contiguous() for number, tensor in enumerate(tensors)}
    return save(named, metadata={_KEY: json.dumps(nest)})


def load_state(data: bytes, device: torch.device | str = "cpu") -> SequenceState:
    """The state that `save_state` wrote, with the network's tensors on `device`; the last look is a processor's.

    Raises:
        DeblurError: these are not such bytes, or they are damaged.
    """
    try:
        tensors = load(data)
        nest = json.loads(_metadata(data)[_KEY])
        frame = nest["frame"]
        return SequenceState(
            frame=frame
            and FrameState(
                plan=TilePlan(
                    rows=tuple(Span(*span) for span in frame["rows"]),
                    columns=tuple(Span(*span) for span in frame["columns"]),
                    multiple_of=frame["multiple_of"],
                ),
                tiles=tuple(
                    map_state(lambda tensor: tensor.to(device), _unpacked(tile, tensors)) for tile in frame["tiles"]
                ),
            ),
            last_look=_unpacked(nest["last_look"], tensors),
        )
    except (SafetensorError, KeyError, TypeError, ValueError, IndexError) as error:
        raise DeblurError(f"the saved state of a video is damaged ({error})") from error


def _metadata(data: bytes) -> dict[str, str]:
    """Of a safetensors file: its length in 8 bytes, then a JSON header with the metadata under a name of its own."""
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]


def _packed(state: Any, tensors: list[Tensor]) -> Any:
    """JSON with each tensor's number in `tensors`, to which it is added."""
    if isinstance(state, Tensor):
        tensors.append(state)
        return {"tensor": len(tensors) - 1}
    if type(state) in (tuple, list):
        return {type(state).__name__: [_packed(value, tensors) for value in state]}
    if isinstance(state, dict) and all(isinstance(key, str) for key in state):
        return {"dict": {key: _packed(value, tensors) for key, value in state.items()}}
    if state is None or isinstance(state, bool | int | float | str):
        return state
    raise TypeError(f"a network's state with a {type(state).__name__} in it cannot be saved")


def _unpacked(packed: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(packed, dict):
        return packed
    ((kind, content),) = packed.items()
    if kind == "tensor":
        return tensors[str(content)]
    if kind == "dict":
        return {key: _unpacked(value, tensors) for key, value in content.items()}
    values = (_unpacked(value, tensors) for value in content)
    return tuple(values) if kind == "tuple" else list(values)
