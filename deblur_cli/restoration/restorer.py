"""The engine: pixels in, restored pixels out, whatever their size, depth and the memory there is."""

from __future__ import annotations

import copy
import dataclasses
import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deblur_cli.errors import DeblurError, OutOfMemoryError, UsageError
from deblur_cli.restoration import device as devices
from deblur_cli.restoration.footprint import bytes_per_pixel
from deblur_cli.restoration.pixels import Pixels
from deblur_cli.restoration.tiling import Span, TileBlender, TilePlan, largest_overlap, pad, plan_tiles
from models import LoadedModel, load_model
from models.whole_image import SharedStatistics

SMALLEST_TILE = 64
"""Side in pixels below which a tile is mostly context; memory that is too small even for it is too small."""

_TILES = (1024, 768, 512, 384, 256)
"""Tiles that `auto` chooses from, the largest that fits."""

_WHOLE_PIXELS = {"cpu": 2_100_000, "cuda": 16_000_000, "mps": 16_000_000}
"""Up to how many pixels `auto` restores an image whole: a processor is as fast on larger ones in tiles and needs a
fraction of the memory; a GPU's kernels index with 32 bits, and 16 Mpx with 128 channels are just below that."""

_COMFORT = 320 << 20
"""Bytes of activations a processor's tile may take under `auto`: larger tiles are hardly faster."""

_SHARE = {"cpu": 0.5, "cuda": 0.8, "mps": 0.6}
"""Share of the memory available that activations may take; the rest is for photos read ahead, or other programs."""

_BATCH = 8
"""Most tiles that go through a GPU at a time; on a processor one is as fast."""

_log = logging.getLogger(__name__)


class Restorer:
    """A network on a device at a precision, ready to restore images.

    Images of any size from 1×1 go in: they are padded by reflection (by their last row and column where they are
    smaller than the padding) to the network's multiple and cropped afterwards. What does not fit into memory whole is
    restored in overlapping tiles, and where tiles do not fit they are halved, which is remembered for the next image.

    Not for several threads at a time. On Linux the first one on a processor tunes the allocator of the process
    (`device.tune_allocator`).

    Args:
        model: a registered name, a file with weights, or a loaded model, which is copied and stays as it is.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        precision: `auto`, `fp32`, `bf16` or `fp16` (see `device.resolve_precision`). Output that is not finite is
            restored again in fp32, which is then kept.
        tile: largest side in pixels of the tiles an image is cut into, at least 64, to which their context is added; 0
            for whole images; `auto` chooses by memory and, on a processor, speed. Also as a string of digits.
        overlap: context in pixels on each side of a tile, at most `tile`; by default what the network asks for. Tiles
            that become small for want of memory take less.
        strength: how much of the restoration is applied, 0 to 1: blurred + strength · (restored − blurred).
        memory_limit: bytes that the activations of one pass may take on a processor, by an estimate; by default half of
            the RAM available now. A GPU's limit is its own memory.
        notify: called once with each distinct thing the user should hear of; by default that is a logged warning.

    Attributes:
        model: the network, on the device, with its facts.
        device: the `torch.device`.
        precision: `fp32`, `bf16` or `fp16`.

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
        self._tile = _parse_tile(tile)
        if not 0.0 <= strength <= 1.0:
            raise UsageError(f"a strength of {strength} makes no sense; it goes from 0 (nothing) to 1 (all)")
        if memory_limit is not None and memory_limit <= 0:
            raise UsageError(f"a memory limit of {memory_limit} bytes leaves nothing to work with")
        self.device = devices.resolve_device(device)
        if self.device.type == "cpu":
            devices.tune_allocator()
        self.model = _placed(model, self.device)
        self.precision = devices.resolve_precision(precision, self.device, self.model.info.half_precision)
        self._overlap = self._check_overlap(overlap)
        self._strength = strength
        self._memory_limit = memory_limit
        self._notify = _log.warning if notify is None else notify
        self._told: set[str] = set()
        self._largest_tile: int | None = None
        self._batch = 1 if self.device.type == "cpu" else _BATCH

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
        image = Pixels(pixels, self._strength)
        if self._strength == 0.0:
            return np.array(pixels)
        if image.beyond_range:
            self._tell("float pixels outside of 0 to 1 are clipped")
        self._restore_tiles(
            image.height, image.width, lambda rows, columns: image.read(rows, columns).to(self.device), image.write
        )
        if self.device.type == "cpu" and image.height * image.width > _WHOLE_PIXELS["cpu"]:
            devices.trim_allocator()  # photos of this size are read and written beside the next
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
        restored = torch.empty_like(blurred, memory_format=torch.contiguous_format)
        height, width = blurred.shape[2:]

        def read(rows: Span, columns: Span) -> Tensor:
            return blurred[:, :, rows.start : rows.stop, columns.start : columns.stop]

        def write(top: int, left: int, block: Tensor) -> None:
            target = restored[:, :, top : top + block.shape[2], left : left + block.shape[3]]
            target.copy_(block[:, :, : target.shape[2], : target.shape[3]])

        self._restore_tiles(height, width, read, write)
        return self._applied(blurred, restored)

    def restore_frame(self, blurred: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """The next frames of N sequences, restored whole, and the state to give with the frames after them.

        Args:
            blurred: N×3×H×W, floating point in [0, 1], on any device.
            state: what the call for the frames before returned; None at the start and after a scene cut.

        Returns:
            N×3×H×W float32 in [0, 1] on the restorer's device, and the state, None for a network without.

        Raises:
            UsageError: another shape or type.
            OutOfMemoryError: the frames do not fit into memory whole (a state belongs to a whole frame).
            DeblurError: the network's output is not finite even in fp32.
        """
        blurred = self._checked(blurred)
        height, width = blurred.shape[2:]
        multiple_of = self.model.info.multiple_of
        padded = pad(blurred, -height % multiple_of, -width % multiple_of)
        try:
            restored, state = self._run(padded, state)
        except (MemoryError, RuntimeError) as error:
            if not devices.is_out_of_memory(error):
                raise
            raise OutOfMemoryError(
                f"a frame of {width}×{height} does not fit into memory; use --device cpu, or a smaller network"
            ) from error
        return self._applied(blurred, restored[:, :, :height, :width]), state

    def _restore_tiles(
        self,
        height: int,
        width: int,
        read: Callable[[Span, Span], Tensor],
        write: Callable[[int, int, Tensor], None],
    ) -> None:
        """Restore an image that `read` cuts tiles from and `write` takes finished blocks of, within memory.

        `read` gives what there is of a tile on this side of the image's border; `write` leaves out what lies beyond.
        An image is begun anew when memory runs out, so `write` may see a pixel more than once.
        """
        before = self._largest_tile
        while True:
            plan = self._plan(height, width)
            try:
                with torch.inference_mode():
                    self._follow(plan, read, write)
                break
            except (MemoryError, RuntimeError) as error:
                if not devices.is_out_of_memory(error):
                    raise
            # Only here, with the exception gone, are the tensors of the frames it held free.
            devices.empty_cache(self.device)
            if self._batch > 1:
                self._batch = 1
            else:
                self._halve(plan)
        if self._largest_tile != before:
            self._tell(f"memory is short: going on in tiles of at most {self._largest_tile} pixels")

    def _follow(
        self, plan: TilePlan, read: Callable[[Span, Span], Tensor], write: Callable[[int, int, Tensor], None]
    ) -> None:
        order, size = list(plan.tiles()), self._batch_size(plan)
        batches = [order[i : i + size] for i in range(0, len(order), size)]
        statistics = SharedStatistics(self.model.network if len(order) > 1 else None)
        for _ in statistics.rounds():
            blender = TileBlender(plan, write)
            for places in batches:
                statistics.begin((plan.tile_height, plan.tile_width), [plan.own(*place) for place in places])
                tiles = [read(plan.rows[row], plan.columns[column]) for row, column in places]
                tiles = [pad(t, plan.tile_height - t.shape[2], plan.tile_width - t.shape[3]) for t in tiles]
                restored, _ = self._run(tiles[0] if len(tiles) == 1 else torch.cat(tiles), None)
                for (row, column), tile in zip(places, restored.chunk(len(places)), strict=True):
                    blender.add(row, column, tile)

    def _run(self, blurred: Tensor, state: Any) -> tuple[Tensor, Any]:
        """The network's output, float32 in [0, 1], and its new state; the input's size is the network's multiple."""
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
        blurred = blurred.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), devices.autocast(self.device, precision):
            output = self.model.network(blurred, state) if self.model.info.recurrent else self.model.network(blurred)
            restored, state = output if self.model.info.recurrent else (output, None)
            # The state stays float32 between frames, so that one frame can be in another precision than the last.
            state = _map_state(Tensor.float, state)
            checks: list[Tensor] = [restored.isfinite().all()]
            _map_state(lambda tensor: checks.append(tensor.isfinite().all()), state)
            finite = bool(torch.stack(checks).all())
            # A new tensor in any case: a network may return its input, and blending works in place.
            return restored.float().clamp(0.0, 1.0), state, finite

    def _plan(self, height: int, width: int) -> TilePlan:
        """The tiles for an image, whose activations keep to the memory limit where there is one to keep."""
        budget = self._budget()
        while True:
            tile = self._choose_tile(height * width, budget)
            if self._largest_tile is not None:
                tile = min(tile or self._largest_tile, self._largest_tile)
            plan = plan_tiles(height, width, tile, self._overlap_in(tile), self.model.info.multiple_of)
            # On a GPU a size that was asked for is tried: its allocator says for certain what an estimate guesses.
            if self.device.type != "cpu" or self._needs(plan.tile_pixels) <= budget:
                return plan
            self._halve(plan)

    def _choose_tile(self, image_pixels: int, budget: int) -> int:
        """The largest side of a tile with its context, or 0 for the whole image."""
        if self._tile is not None:
            return self._tile + 2 * min(self._overlap, self._tile)
        if image_pixels <= _WHOLE_PIXELS[self.device.type] and self._needs(image_pixels) <= budget:
            return 0
        comfort = min(budget, _COMFORT) if self.device.type == "cpu" else budget
        # Where context would be most of a comfortable tile, time is saved by a larger one.
        limits = ((side, budget if side <= 6 * self._overlap else comfort) for side in _TILES)
        return next((side for side, limit in limits if self._needs(side * side) <= limit), _TILES[-1])

    def _halve(self, plan: TilePlan) -> None:
        side = max(plan.tile_height, plan.tile_width)
        smallest = max(SMALLEST_TILE, self.model.info.multiple_of)
        if side <= smallest:
            raise _too_little_memory(side)
        self._largest_tile = max(side // 2, smallest)

    def _batch_size(self, plan: TilePlan) -> int:
        if min(self._batch, plan.tile_count) == 1:
            return 1
        return max(1, min(self._batch, plan.tile_count, self._budget() // self._needs(plan.tile_pixels)))

    def _needs(self, pixels: int) -> int:
        """Estimated bytes of activations for so many pixels, in fp32; in half precision it is less."""
        return int(self._bytes_per_pixel * pixels)

    @functools.cached_property
    def _bytes_per_pixel(self) -> float:
        info = self.model.info
        try:
            return bytes_per_pixel(self.model.network, self.device, info.multiple_of, info.recurrent)
        except (MemoryError, RuntimeError) as error:
            if not devices.is_out_of_memory(error):
                raise
            raise _too_little_memory(max(SMALLEST_TILE, info.multiple_of)) from error

    def _budget(self) -> int:
        return self._ram_budget if self.device.type == "cpu" else self._share_of_memory()

    @functools.cached_property
    def _ram_budget(self) -> int:
        # Looked up once: later the allocator holds memory that counts as used and is ours to use again.
        return self._share_of_memory() if self._memory_limit is None else self._memory_limit

    def _share_of_memory(self) -> int:
        return int(devices.available_memory(self.device) * _SHARE[self.device.type])

    def _check_overlap(self, overlap: int | None) -> int:
        if overlap is None:
            return self.model.info.tile_overlap
        if overlap < 0 or (self._tile and overlap > self._tile):
            raise UsageError(
                f"an overlap of {overlap} pixels makes no sense with tiles of {self._tile}; it is 0 to a whole tile"
            )
        return overlap

    def _overlap_in(self, tile: int) -> int:
        """The overlap for tiles of `tile` pixels in all: as asked, or in tiles nobody asked for at most a half."""
        most = largest_overlap(tile, self.model.info.multiple_of)
        return min(self._overlap, most if self._tile and tile > self._tile else min(most, tile // 4))

    def _checked(self, blurred: Tensor) -> Tensor:
        if blurred.ndim != 4 or blurred.shape[1] != 3 or not blurred.is_floating_point() or blurred.numel() == 0:
            raise UsageError(
                f"frames are N×3×H×W floating point, not {'×'.join(map(str, blurred.shape))} {blurred.dtype}"
            )
        return blurred.detach().to(self.device, torch.float32)

    def _applied(self, blurred: Tensor, restored: Tensor) -> Tensor:
        """Apply the strength; the result is an ordinary tensor, where one of inference mode could not be changed."""
        return torch.lerp(blurred, restored, self._strength) if self._strength != 1.0 else restored.clone()

    def _tell(self, message: str) -> None:
        if message not in self._told:
            self._told.add(message)
            self._notify(message)


def _parse_tile(tile: str | int) -> int | None:
    """Pixels, 0 for whole images, or None for `auto`."""
    if tile == "auto":
        return None
    if isinstance(tile, str) and tile.isdecimal():
        tile = int(tile)
    if not isinstance(tile, int) or tile < 0 or 0 < tile < SMALLEST_TILE:
        raise UsageError(f"a tile of '{tile}' makes no sense; it is auto, 0 (whole images) or at least {SMALLEST_TILE}")
    return tile


def _placed(model: str | Path | LoadedModel, device: torch.device) -> LoadedModel:
    if isinstance(model, LoadedModel):
        model = dataclasses.replace(model, network=copy.deepcopy(model.network))
    else:
        model = load_model(model)
    model.network.eval().requires_grad_(False).to(device, torch.float32)
    model.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def _too_little_memory(side: int) -> OutOfMemoryError:
    return OutOfMemoryError(
        f"even tiles of {side} pixels do not fit into memory; close other programs, raise the memory limit, "
        "use a smaller network, or another --device"
    )


def _map_state(function: Callable[[Tensor], Any], state: Any) -> Any:
    """`function` of every tensor in a state of nested tuples, lists and dictionaries."""
    if isinstance(state, Tensor):
        return function(state)
    if isinstance(state, dict):
        return {key: _map_state(function, value) for key, value in state.items()}
    if isinstance(state, tuple | list):
        values = [_map_state(function, value) for value in state]
        return type(state)(*values) if hasattr(state, "_fields") else type(state)(values)  # a named tuple, or not
    return state
