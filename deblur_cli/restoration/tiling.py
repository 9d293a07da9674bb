"""Cut an image into overlapping tiles and join the restored tiles without a seam.

A tile sees less of the image than the whole does, which shows near its borders. So neighbouring tiles share a band, and
there the image fades linearly from one to the other: a pixel at a tile's very border counts for next to nothing.
The joining keeps these bands only; every pixel is handed on as soon as it is final.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from deblur_cli.errors import UsageError


@dataclass(frozen=True)
class Span:
    """The pixels from `start` up to, not including, `stop` that a tile covers along one axis."""

    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class TilePlan:
    """A grid of tiles of one size over an image padded to the network's multiple: each row span with each column span.

    Neighbouring spans share pixels; those of two spans are blended, in the order of the spans.
    """

    rows: tuple[Span, ...]
    columns: tuple[Span, ...]

    @property
    def tile_height(self) -> int:
        return self.rows[0].size

    @property
    def tile_width(self) -> int:
        return self.columns[0].size

    @property
    def tile_pixels(self) -> int:
        return self.tile_height * self.tile_width

    @property
    def tile_count(self) -> int:
        return len(self.rows) * len(self.columns)

    def tiles(self) -> Iterator[tuple[int, int]]:
        """Positions (row, column) in the grid, row by row: the order in which a `TileBlender` wants them."""
        return itertools.product(range(len(self.rows)), range(len(self.columns)))


def plan_tiles(height: int, width: int, tile: int, overlap: int, multiple_of: int = 1) -> TilePlan:
    """Cover an image with as few tiles of at most `tile`×`tile` pixels as possible, all of one size.

    The image counts as padded to multiples of `multiple_of` at its bottom and right. Sizes and origins of the tiles are
    multiples as well, so that a network's grid lies in a tile as it lies in the whole image, and the tiles are made as
    small as their number allows.

    Args:
        height, width: of the image in pixels, at least 1.
        tile: the largest side of a tile in pixels, context included, rounded down to a multiple; 0 is the whole image.
        overlap: pixels of context that a tile has on each side where another tile joins it: neighbours share twice
            that. Rounded up to what the multiple asks.
        multiple_of: the network's multiple.

    Raises:
        UsageError: negative sizes, or an overlap that leaves too little of a tile.
    """
    if min(height, width, multiple_of) < 1 or tile < 0 or overlap < 0:
        raise UsageError(f"no tiles of {tile} with overlap {overlap} can cover an image of {width}×{height}")
    return TilePlan(
        rows=_plan_axis(height, tile, overlap, multiple_of), columns=_plan_axis(width, tile, overlap, multiple_of)
    )


def largest_overlap(tile: int, multiple_of: int = 1) -> int:
    """The largest overlap for tiles of `tile` pixels: context is at most half of each, and each adds one multiple."""
    steps = max(tile // multiple_of, 1)
    return min(steps * multiple_of // 4, (steps - 1) * multiple_of // 2)


def _plan_axis(length: int, tile: int, overlap: int, multiple_of: int) -> tuple[Span, ...]:
    length = _round_up(length, multiple_of)
    size = max(tile // multiple_of, 1) * multiple_of if tile else length
    if tile and overlap > largest_overlap(tile, multiple_of):
        raise UsageError(
            f"an overlap of {overlap} pixels on each side leaves too little of tiles of {tile}; "
            f"use at most {largest_overlap(tile, multiple_of)}, or larger tiles"
        )
    if size >= length:
        return (Span(0, length),)
    shared = _round_up(2 * overlap, multiple_of)
    count = _divide_up(length - shared, size - shared)
    size = _round_up(_divide_up(length + (count - 1) * shared, count), multiple_of)
    room = (length - size) // multiple_of
    starts = [room * i // (count - 1) * multiple_of for i in range(count)]
    return tuple(Span(start, start + size) for start in starts)


def _divide_up(value: int, by: int) -> int:
    return -(-value // by)


def _round_up(value: int, multiple_of: int) -> int:
    return _divide_up(value, multiple_of) * multiple_of


class TileBlender:
    """Joins the tiles of a plan, given in the order of `TilePlan.tiles`, with linear ramps where they overlap.

    At each pixel the weights of the tiles are (1 − w) for what is there and w for the tile that joins it, so they add
    up to one without being added up anywhere.

    Args:
        plan: the grid.
        write: called as `write(top, left, block)` with each finished block N×C×h×w and the place of its first pixel in
            the padded image; the blocks cover the image once, without overlap.
    """

    def __init__(self, plan: TilePlan, write: Callable[[int, int, Tensor], None]) -> None:
        self._plan = plan
        self._write = write
        self._right: Tensor | None = None
        self._below: dict[int, Tensor] = {}

    def add(self, row: int, column: int, tile: Tensor) -> None:
        """Blend the restored tile N×C×h×w at (`row`, `column`) of the grid; changes `tile` in place."""
        rows, columns = self._plan.rows, self._plan.columns
        if self._right is not None:
            _fade(self._right, tile, dim=3)
        last_column = column + 1 == len(columns)
        finished_width = tile.shape[3] if last_column else columns[column + 1].start - columns[column].start
        self._right = None if last_column else tile[:, :, :, finished_width:].clone()
        block = tile[:, :, :, :finished_width]
        if row > 0:
            _fade(self._below.pop(column), block, dim=2)
        last_row = row + 1 == len(rows)
        finished_height = tile.shape[2] if last_row else rows[row + 1].start - rows[row].start
        if not last_row:
            self._below[column] = block[:, :, finished_height:].clone()
        self._write(rows[row].start, columns[column].start, block[:, :, :finished_height])


def _fade(before: Tensor, tile: Tensor, dim: int) -> None:
    """Blend `before` into the first pixels of `tile` along `dim`, from all `before` to all `tile`."""
    width = before.shape[dim]
    ramp = (torch.arange(width, dtype=tile.dtype, device=tile.device) + 0.5) / max(width, 1)
    band = tile.narrow(dim, 0, width)
    band.copy_(torch.lerp(before, band, ramp if dim == 3 else ramp[:, None]))
