"""How large the pieces are in which images go through a network: whole where memory allows, else tiles."""

from __future__ import annotations

import contextlib
import functools
import operator
import os

import torch

from deblur_cli.errors import OutOfMemoryError, UsageError
from deblur_cli.restoration import memory
from deblur_cli.restoration.footprint import Footprint, footprint
from deblur_cli.restoration.tiling import TilePlan, largest_overlap, plan_tiles
from models import LoadedModel
from models.whole_image import SharedStatistics

SMALLEST_TILE = 64
"""Side in pixels below which a tile is mostly context; memory that is too small even for it is too small."""

WHOLE_PIXELS = {"cpu": 2_100_000, "cuda": 16_000_000, "mps": 16_000_000}
"""Up to how many pixels `auto` restores an image whole: a processor is as fast on larger ones in tiles and needs a
fraction of the memory; on a GPU see `_INDEXED` as well."""

_INDEXED = 2**31 - 1
"""The most values of a tensor that all of a GPU's kernels can index; some have 32 bits for it."""

_TILES = (2048, 1536, 1024, 768, 512, 384, 256)
"""Tiles with their context that `auto` chooses from, the largest that fits."""

_COMFORT = 320 << 20
"""Bytes of activations a processor's tile may take under `auto`: larger tiles are hardly faster."""

_SHARE = {"cpu": 0.5, "cuda": 0.8, "mps": 0.6}
"""Share of the memory available that activations may take; the rest is for photos read ahead, or other programs."""


class TilePlanner:
    """Plans tiles for images of any size, smaller ones as soon as memory was found to be short.

    Args:
        model: the network, on `device`.
        device: where it runs.
        tile: largest side of a tile without its context; 0 for whole images, None to choose (see `parse_tile`).
        overlap: context on each side of a tile; None for what the network asks for.
        memory_limit: bytes that activations may take on a processor; None for a share of what is available.

    Raises:
        UsageError: an overlap that makes no sense with the tile.
    """

    def __init__(
        self,
        model: LoadedModel,
        device: torch.device,
        tile: int | None,
        overlap: int | None,
        memory_limit: int | None,
    ) -> None:
        self._model = model
        self._device = device
        self._tile = tile
        self._overlap = self._check_overlap(overlap)
        self._memory_limit = memory_limit
        self.largest_tile: int | None = None
        """After memory was short, the largest side in pixels of the tiles that are planned; None before."""

    def plan(self, height: int, width: int) -> TilePlan:
        """The tiles for an image, whose activations keep to the memory limit where there is one to keep.

        Raises:
            OutOfMemoryError: the smallest tile would not.
        """
        budget = self._budget()
        while True:
            tile = self._choose_tile(height * width, budget)
            if self.largest_tile is not None:
                tile = min(tile or self.largest_tile, self.largest_tile)
            plan = plan_tiles(height, width, tile, self._overlap_in(tile), self._model.info.multiple_of)
            if self.has_room_for(plan):
                return plan
            self.halve(plan)

    def has_room_for(self, plan: TilePlan) -> bool:
        """Whether a tile of `plan` keeps to the memory limit, where there is one to keep."""
        # On a GPU a size that was asked for is tried: its allocator says for certain what an estimate guesses.
        return self._device.type != "cpu" or self._needs(plan.tile_pixels) <= self._budget()

    def halve(self, plan: TilePlan) -> None:
        """Plan tiles of half this size at most from now on.

        Raises:
            OutOfMemoryError: these were the smallest.
        """
        side = max(plan.tile_height, plan.tile_width)
        smallest = max(SMALLEST_TILE, self._model.info.multiple_of)
        if side <= smallest:
            raise _too_little_memory(side)
        self.largest_tile = max(side // 2, smallest)

    def at_a_time(self, plan: TilePlan) -> int:
        """How many tiles go through at a time: as fit into memory by the estimate, and as kernels index; at least 1."""
        indexed = self._whole_pixels // plan.tile_pixels
        return max(1, min(indexed, self._budget() // self._needs(plan.tile_pixels)))

    def _choose_tile(self, image_pixels: int, budget: int) -> int:
        """The largest side of a tile with its context, or 0 for the whole image."""
        if self._tile is not None:
            return self._tile + 2 * min(self._overlap, self._tile)
        # Tiles that share statistics are gone through again and again: a processor does that only for want of memory.
        unlimited = self._device.type == "cpu" and SharedStatistics(self._model.network).needed
        if (unlimited or image_pixels <= self._whole_pixels) and self._needs(image_pixels) <= budget:
            return 0
        comfort = min(budget, _COMFORT) if self._device.type == "cpu" else budget
        side = self._largest_tile(comfort)
        # Where context would be most of a comfortable tile, time is saved by a larger one.
        return side if side > 6 * self._overlap else self._largest_tile(budget)

    def _largest_tile(self, limit: int) -> int:
        """Of `_TILES` the largest that keeps to `limit` bytes, or else the smallest."""
        return next((side for side in _TILES if self._needs(side * side) <= limit), _TILES[-1])

    def _needs(self, pixels: int) -> int:
        """Estimated bytes of activations for so many pixels, in fp32; in half precision it is less."""
        return int(self._footprint.bytes * pixels)

    @property
    def _whole_pixels(self) -> int:
        most = WHOLE_PIXELS[self._device.type]
        return most if self._device.type == "cpu" else min(most, int(_INDEXED / self._footprint.values))

    @functools.cached_property
    def _footprint(self) -> Footprint:
        info = self._model.info
        try:
            return footprint(self._model.network, self._device, info.multiple_of, info.recurrent)
        except (MemoryError, RuntimeError) as error:
            if not memory.is_out_of_memory(error):
                raise
            raise _too_little_memory(max(SMALLEST_TILE, info.multiple_of)) from error

    def _budget(self) -> int:
        return self._ram_budget if self._device.type == "cpu" else self._share_of_memory()

    @functools.cached_property
    def _ram_budget(self) -> int:
        # Looked up once: later the allocator holds memory that counts as used and is ours to use again.
        return self._share_of_memory() if self._memory_limit is None else self._memory_limit

    def _share_of_memory(self) -> int:
        share = memory.available_memory(self._device) * _SHARE[self._device.type]
        # GPUs are shared out among the processes that were started together; their machine's RAM is one for them all.
        return int(share / _processes_here() if self._device.type == "cpu" else share)

    def _check_overlap(self, overlap: int | None) -> int:
        if overlap is None:
            return self._model.info.tile_overlap
        with contextlib.suppress(TypeError):
            overlap = operator.index(overlap)
        if not isinstance(overlap, int) or overlap < 0 or (self._tile and overlap > self._tile):
            raise UsageError(
                f"an overlap of {overlap} pixels makes no sense with tiles of {self._tile}; it is 0 to a whole tile"
            )
        return overlap

    def _overlap_in(self, tile: int) -> int:
        """The overlap for tiles of `tile` pixels in all: as asked, or in tiles nobody asked for at most a half."""
        most = largest_overlap(tile, self._model.info.multiple_of)
        return min(self._overlap, most if self._tile and tile > self._tile else min(most, tile // 4))


def _processes_here() -> int:
    """How many processes a launcher (torchrun, accelerate) has started on this machine, by its word; else 1."""
    told = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(1, int(told)) if told.isdecimal() else 1


def parse_tile(tile: str | int) -> int | None:
    """Pixels, 0 for whole images, or None for `auto`.

    Raises:
        UsageError: anything else, or tiles that are too small.
    """
    if tile == "auto":
        return None
    if isinstance(tile, str) and tile.isdecimal():
        tile = int(tile)
    with contextlib.suppress(TypeError):
        tile = operator.index(tile)  # type: ignore[arg-type]  # numpy's integers too
    if not isinstance(tile, int) or tile < 0 or 0 < tile < SMALLEST_TILE:
        raise UsageError(f"a tile of '{tile}' makes no sense; it is auto, 0 (whole images) or at least {SMALLEST_TILE}")
    return tile


def _too_little_memory(side: int) -> OutOfMemoryError:
    return OutOfMemoryError(
        f"even tiles of {side} pixels do not fit into memory; close other programs, raise the memory limit, "
        "use a smaller network, or another --device"
    )
