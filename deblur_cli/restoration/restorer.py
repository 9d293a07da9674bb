"""The engine: pixels in, restored pixels out, whatever their size, depth and the memory there is."""

from __future__ import annotations

import copy
import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from deblur_cli.errors import DeblurError, OutOfMemoryError, UsageError
from deblur_cli.restoration import memory
from deblur_cli.restoration.device import autocast, resolve_device, resolve_precision
from deblur_cli.restoration.pixels import Pixels
from deblur_cli.restoration.planner import WHOLE_PIXELS, TilePlanner, parse_tile
from deblur_cli.restoration.states import FrameState, map_state
from deblur_cli.restoration.tiling import Span, TileBlender, TilePlan, pad
from deblur_cli.words import counted
from models import LoadedModel, load_model
from models.whole_image import SharedStatistics

_BATCH = 8
"""Most tiles, or frames, that go through a GPU at a time; on a processor one is as fast."""

_log = logging.getLogger(__name__)

_Read = Callable[[Span, Span], Tensor]
_Write = Callable[[int, int, Tensor], None]
_Result = TypeVar("_Result")


class Restorer:
    """A network on a device at a precision, ready to restore images.

    Images of any size from 1×1 go in: they are padded by reflection (by their last row and column where they are
    smaller than the padding) to the network's multiple and cropped afterwards. What does not fit into memory whole is
    restored in overlapping tiles, and where tiles do not fit they are halved, which is remembered for the next image.

    Not for several threads at a time. On Linux the first one on a processor tunes the allocator of the process
    (`memory.tune_allocator`).

    Args:
        model: a registered name, a file with weights, or a loaded model, which is copied and stays as it is.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        precision: `auto`, `fp32`, `bf16` or `fp16` (see `device.resolve_precision`). Output that is not finite is
            restored again in fp32, which is then kept.
        tile: largest side in pixels of the tiles an image is cut into, at least 64, to which their context is added; 0
            for whole images; `auto` chooses by memory and, on a processor, speed. Also as a string of digits.
        overlap: context in pixels on each side of a tile, at most `tile`; by default what the network asks for. Tiles
            that become small for want of memory take less.
        strength: how much of the network's change is made, 0 to 2: blurred + strength · (restored − blurred), clipped
            to [0, 1].
        memory_limit: bytes that the activations of one pass may take on a processor, by an estimate; by default half of
            the RAM available now. A GPU's limit is its own memory.
        notify: called once with each distinct thing the user should hear of; by default that is a logged warning.

    Attributes:
        model: the network, on the device, with its facts.
        device: the `torch.device`.
        precision: `fp32`, `bf16` or `fp16`: the one in force, which a caller may set between images.
        first_precision: the one it began with, by what was asked for.
        tile: as given; None for `auto`.
        overlap: as given.
        strength: as given.

    Raises:
        UsageError: an option out of its range, or a device or precision that is not to be had.
        ModelError: no such network, or weights that cannot be loaded.
    """

    def __init__(
        self,
        model: str | Path | LoadedModel = "lite",
        *,
        device: str = "auto",
        precision: str = "auto",
        tile: str | int = "auto",
        overlap: int | None = None,
        strength: float = 1.0,
        memory_limit: int | None = None,
        notify: Callable[[str], None] | None = None,
    ) -> None:
        self.tile, self.overlap = parse_tile(tile), overlap
        if not isinstance(strength, (int, float, np.number)) or not 0.0 <= strength <= 2.0:
            raise UsageError(f"a strength of {strength} makes no sense; it goes from 0 (nothing) over 1 to 2 (double)")
        if memory_limit is not None and (not isinstance(memory_limit, (int, float, np.number)) or memory_limit <= 0):
            raise UsageError(f"a memory limit of {memory_limit} bytes makes no sense; it is a number above 0")
        self.device = resolve_device(device)
        if self.device.type == "cpu":
            memory.tune_allocator()
        self.model = _placed(model, self.device)
        self.first_precision = resolve_precision(precision, self.device, self.model.info.half_precision)
        self.precision = self.first_precision
        self.strength = float(strength)
        self._planner = TilePlanner(self.model, self.device, self.tile, overlap, memory_limit)
        self._notify = _log.warning if notify is None else notify
        self._told: set[str] = set()
        self._batch = 1 if self.device.type == "cpu" else _BATCH
        self._together = 0  # tiles, or frames, that last went through together; none yet
        self._logged: TilePlan | None = None
        source = f"{self.model.path}, sha256 {self.model.sha256}" if self.model.path else "untrained"
        threads = f", {counted(torch.get_num_threads(), 'thread')}" if self.device.type == "cpu" else ""
        name = self.model.info.name
        _log.info("network %s (%s) on %s in %s%s", name, source, self.device, self.precision, threads)

    def restore(self, pixels: np.ndarray) -> np.ndarray:
        """The restored image; a recurrent network sees it as the first of a sequence.

        Args:
            pixels: H×W or H×W×1 (grey), H×W×2 (grey, alpha), H×W×3 (RGB) or H×W×4 (RGB, alpha); uint8, uint16 or
                float32 in [0, 1] (what lies beyond is clipped, and said). Need not be contiguous or writable, and is
                not changed.

        Returns:
            A new array of the same shape and type, rounded half up where it holds integers, alpha as it was.

        Raises:
            UsageError: another shape or type, no pixels, or values that are not finite.
            OutOfMemoryError: the smallest tiles do not fit into memory.
            DeblurError: the network's output is not finite even in fp32.
        """
        image = Pixels(pixels, self.strength)
        if self.strength == 0.0:
            return np.array(pixels)
        if image.beyond_range:
            self._tell("float pixels outside of 0 to 1 are clipped")

        def read(rows: Span, columns: Span) -> Tensor:
            return image.read(rows, columns).to(self.device)

        def write(top: int, left: int, block: Tensor) -> None:
            image.write(top, left, block.clamp(0.0, 1.0))

        self._within_memory(image.height, image.width, lambda plan: self._follow(plan, read, write))
        if self.device.type == "cpu" and image.height * image.width > WHOLE_PIXELS["cpu"]:
            memory.trim_allocator()  # photos of this size are read and written beside the next
        return image.restored

    def restore_tensor(self, blurred: Tensor) -> Tensor:
        """The restored images; each is the first of a sequence to a recurrent network.

        Args:
            blurred: N×3×H×W, floating point in [0, 1], on any device.

        Returns:
            N×3×H×W float32 in [0, 1] on the restorer's device.

        Raises:
            UsageError: another shape or type.
            OutOfMemoryError, DeblurError: as `restore`.
        """
        blurred = self._checked(blurred)
        height, width = blurred.shape[2:]

        def attempt(plan: TilePlan) -> Tensor:
            restored = self._room_for(blurred)
            size = self._batch_size(plan, len(blurred)) if plan.tile_count == 1 else 1
            for some, target in zip(blurred.split(size), restored.split(size), strict=True):
                self._follow(plan, _reader(some), _writer(target), images=len(some))
            return self._applied(blurred, restored)

        return self._within_memory(height, width, attempt)

    def restore_frame(self, blurred: Tensor, state: FrameState | None = None) -> tuple[Tensor, FrameState | None]:
        """The next frames of N sequences and the state to give with the frames after them.

        Frames that do not fit into memory are restored in tiles, each with its own state. When memory runs out on the
        way, they start anew in smaller ones.

        Args:
            blurred: N×3×H×W, floating point in [0, 1], on any device.
            state: what the call for the frames before returned; None at the start and after a scene cut.

        Returns:
            N×3×H×W float32 in [0, 1] on the restorer's device, and the state, None for a network without.

        Raises:
            UsageError: another shape or type, or a state of frames of another size.
            OutOfMemoryError, DeblurError: as `restore`.
        """
        if not self.model.info.recurrent:
            return self.restore_tensor(blurred), None
        blurred = self._checked(blurred)
        height, width = blurred.shape[2:]
        if state is not None and not state.plan.covers(height, width):
            raise UsageError(f"the state of frames of another size cannot be given with one of {width}×{height}")

        def attempt(plan: TilePlan) -> tuple[Tensor, FrameState]:
            restored = self._room_for(blurred)
            anew: Sequence[Any] = [None] * plan.tile_count
            tiles = state.tiles if state is not None and state.plan == plan else anew
            following = FrameState(plan, self._follow(plan, _reader(blurred), _writer(restored), tiles))
            return self._applied(blurred, restored), following

        return self._within_memory(height, width, attempt, None if state is None else state.plan)

    def has_room_for(self, state: FrameState) -> bool:
        """Whether tiles like those of a state keep to a processor's memory limit; what a GPU holds is found out."""
        return self._planner.has_room_for(state.plan)

    def frames_at_a_time(self, height: int, width: int) -> int:
        """How many frames of this size are best given to `restore_frame` together; fewer after memory ran out."""
        if self._batch == 1 or self.model.info.recurrent:
            return 1
        plan = self._planner.plan(height, width)
        return self._batch_size(plan, self._batch) if plan.tile_count == 1 else 1

    def take_fewer(self, frames: int) -> None:
        """Let `frames_at_a_time` be so many at most: there was no memory for more of them."""
        self._batch = min(self._batch, frames)

    def _within_memory(
        self, height: int, width: int, attempt: Callable[[TilePlan], _Result], plan: TilePlan | None = None
    ) -> _Result:
        """What `attempt` gives with the tiles for an image: with `plan` at first, if given, then with smaller ones for
        as long as memory runs out. It begins anew each time.
        """
        before, began = self._planner.largest_tile, time.perf_counter()
        while True:
            plan = plan or self._planner.plan(height, width)
            self._together = 0
            try:
                result = attempt(plan)
                break
            except (MemoryError, RuntimeError) as error:
                if not memory.is_out_of_memory(error):
                    raise
                if self._together == 0:
                    raise OutOfMemoryError(f"there is no room for the restored {width}×{height} pixels") from error
            # Only here, with the exception gone, are the tensors of the frames it held free.
            memory.empty_cache(self.device)
            if self._together > 1:
                self._batch = self._together // 2
            else:
                self._planner.halve(plan)
                plan = None
        if self._planner.largest_tile != before:
            self._tell(f"memory is short: going on in tiles of at most {self._planner.largest_tile} pixels")
        if plan != self._logged:  # the frames of a video are alike
            self._logged = plan
            tiles = f"{counted(plan.tile_count, 'tile')} of {plan.tile_width}×{plan.tile_height}"
            _log.info("%d×%d in %s: %.2f s", width, height, tiles, time.perf_counter() - began)
        return result

    @torch.inference_mode()
    def _follow(
        self, plan: TilePlan, read: _Read, write: _Write, states: Sequence[Any] | None = None, *, images: int = 1
    ) -> tuple[Any, ...]:
        """Restore an image that `read` cuts tiles from and `write` takes finished blocks of.

        `read` gives what there is of a tile on this side of the image's border; `write` clamps to [0, 1], leaves out
        what lies beyond the border, and may see a pixel more than once. With `states`, one of each tile (None to start
        anew), the tiles go one by one and the new states are returned in their order; without, they go in batches. Each
        tile is of so many `images`.
        """
        order = list(plan.tiles())
        size = 1 if states else self._batch_size(plan, len(order))
        statistics = SharedStatistics(self.model.network if len(order) > 1 else None)
        new_states: list[Any] = []
        for _ in statistics.rounds():
            blender = TileBlender(plan, write)
            new_states.clear()
            for first in range(0, len(order), size):
                places = order[first : first + size]
                self._together = 1 if states else images * len(places)  # sequences were not put together here
                statistics.begin((plan.tile_height, plan.tile_width), [plan.own(*place) for place in places])
                tiles = [read(plan.rows[row], plan.columns[column]) for row, column in places]
                tiles = [pad(t, plan.tile_height - t.shape[2], plan.tile_width - t.shape[3]) for t in tiles]
                together = tiles[0] if len(tiles) == 1 else torch.cat(tiles)
                restored, state = self._run(together, states[first] if states else None)
                new_states.append(state)
                for (row, column), tile in zip(places, restored.chunk(len(places)), strict=True):
                    # Blending works in place, and a network's output may be its input, or its state.
                    blender.add(row, column, tile.clamp(0.0, 1.0) if len(order) > 1 else tile)
        return tuple(new_states)

    def _run(self, blurred: Tensor, state: Any) -> tuple[Tensor, Any]:
        """The network's output, float32, and its new state; the input's size is the network's multiple."""
        restored, new_state, finite = self._run_at(self.precision, blurred, state)
        if not finite and self.precision != "fp32":
            restored, new_state, finite = self._run_at("fp32", blurred, state)
            if finite:
                self._tell(f"{self.model.label} gave values that are not finite in {self.precision}; going on in fp32")
                self.precision = "fp32"
        if not finite:
            raise DeblurError(
                f"{self.model.label} gave values that are not finite: its weights, or the pixels given, are damaged"
            )
        return restored, new_state

    def _run_at(self, precision: str, blurred: Tensor, state: Any) -> tuple[Tensor, Any, bool]:
        # Convolutions bring it into the order of their weights (channels last) themselves, at least as fast.
        blurred = blurred.contiguous()
        with torch.inference_mode(), autocast(self.device, precision):
            output = self.model.network(blurred, state) if self.model.info.recurrent else self.model.network(blurred)
            restored, state = output if self.model.info.recurrent else (output, None)
            # The state stays float32 between frames, so that one frame can be in another precision than the last.
            restored, state = restored.float(), map_state(Tensor.float, state)
            # A sum is finite if its terms are, and much faster than looking at each.
            sums = [restored.sum()]
            map_state(lambda tensor: sums.append(tensor.sum()), state)
            return restored, state, bool(torch.stack(sums).isfinite().all())

    def _batch_size(self, plan: TilePlan, count: int) -> int:
        """How many of so many images of the size of a tile go through the network at a time."""
        most = min(self._batch, count)
        return most if most == 1 else min(most, self._planner.at_a_time(plan))

    def _checked(self, blurred: Tensor) -> Tensor:
        if not isinstance(blurred, Tensor):
            raise UsageError(f"frames are a tensor of torch's, not {type(blurred).__name__}")
        if blurred.ndim != 4 or blurred.shape[1] != 3 or not blurred.is_floating_point() or blurred.numel() == 0:
            raise UsageError(
                f"frames are N×3×H×W floating point, not {'×'.join(map(str, blurred.shape))} {blurred.dtype}"
            )
        return blurred.detach().to(self.device, torch.float32)

    def _applied(self, blurred: Tensor, restored: Tensor) -> Tensor:
        if self.strength == 1.0:
            return restored
        return torch.lerp(blurred, restored, self.strength, out=restored).clamp_(0.0, 1.0)

    def _room_for(self, blurred: Tensor) -> Tensor:
        """What frames are restored into; smaller tiles would not help where there is no memory for it."""
        return memory.patiently(self.device, lambda: torch.empty_like(blurred, memory_format=torch.contiguous_format))

    def _tell(self, message: str) -> None:
        if message not in self._told:
            self._told.add(message)
            self._notify(message)


def _reader(images: Tensor) -> _Read:
    return lambda rows, columns: images[:, :, rows.start : rows.stop, columns.start : columns.stop]


def _writer(images: Tensor) -> _Write:
    def write(top: int, left: int, block: Tensor) -> None:
        target = images[:, :, top : top + block.shape[2], left : left + block.shape[3]]
        torch.clamp(block[:, :, : target.shape[2], : target.shape[3]], 0.0, 1.0, out=target)

    return write


def _placed(model: str | Path | LoadedModel, device: torch.device) -> LoadedModel:
    if isinstance(model, LoadedModel):
        model = dataclasses.replace(model, network=copy.deepcopy(model.network))
    else:
        model = load_model(model)
    model.network.eval().requires_grad_(False).to(device, torch.float32)
    model.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model
