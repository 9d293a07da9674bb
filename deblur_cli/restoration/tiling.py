"""Cut an image into overlapping tiles and join the restored tiles without a seam.

A tile sees less of the image than the whole does, which shows near its borders. So neighbouring tiles share a band; in
the middle of it the image fades linearly from one to the other, and to both sides of that it is left to the tile that
sees farther. (A wide fade would give weight to a tile's worst pixels, a hard cut would show as a line.)
The joining keeps these bands only; every pixel is handed on as soon as it is final.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor

from deblur_cli.errors import UsageError
from models.whole_image import Box

WIDEST_FADE = 32
"""Pixels over which one tile fades to the next; wider, it would hide no more and cost context."""


@dataclass(frozen=True)
class Span:
    """The pixels from `start` up to, not including, `stop` that a tile covers along one axis.

    Before `fade_start` the span before counts alone, from there to `fade_stop` they are blended; at the first span both
    are its start.
    """

    start: int
    stop: int
    fade_start: int
    fade_stop: int

    @property
    def size(self) -> int:
        """In pixels."""
        return self.stop - self.start


@dataclass(frozen=True)
class TilePlan:
    """A grid of tiles of one size over an image padded to the network's multiple: each row span with each column span.

    Neighbouring spans share pixels, which are blended in the order of the spans.
    """

    rows: tuple[Span, ...]
    columns: tuple[Span, ...]
    multiple_of: int = 1
    """The network's multiple, to which the image is padded."""

    @property
    def tile_height(self) -> int:
        """Of each tile with its context, in pixels."""
        return self.rows[0].size

    @property
    def tile_width(self) -> int:
        """Of each tile with its context, in pixels."""
        return self.columns[0].size

    @property
    def tile_pixels(self) -> int:
        """Of each tile with its context."""
        return self.tile_height * self.tile_width

    @property
    def tile_count(self) -> int:
        """Of the whole grid."""
        return len(self.rows) * len(self.columns)

    def covers(self, height: int, width: int) -> bool:
        """Whether an image of this size, padded to the multiple, is just what the grid covers."""
        sizes = zip((height, width), (self.rows, self.columns), strict=True)
        return all(_round_up(size, self.multiple_of) == spans[-1].stop for size, spans in sizes)

    def own(self, row: int, column: int) -> Box:
        """The part of a tile up to the middle of each band it shares: these parts cover the padded image once."""
        (top, bottom), (left, right) = (
            _own(spans, place, self.multiple_of) for spans, place in ((self.rows, row), (self.columns, column))
        )
        return Box(top, bottom, left, right)

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
            that, and fade over a third of what they share, but over no more than `WIDEST_FADE` pixels. Rounded up to
            what the multiple asks.
        multiple_of: the network's multiple.

    Raises:
        UsageError: negative sizes, or an overlap that leaves too little of a tile.
    """
    if min(height, width, multiple_of) < 1 or tile < 0 or overlap < 0:
        raise UsageError(f"no tiles of {tile} with overlap {overlap} can cover an image of {width}×{height}")
    return TilePlan(
        rows=_plan_axis(height, tile, overlap, multiple_of),
        columns=_plan_axis(width, tile, overlap, multiple_of),
        multiple_of=multiple_of,
    )


def largest_overlap(tile: int, multiple_of: int = 1) -> int:
    """The largest overlap for tiles of `tile` pixels, of which context takes two thirds at most.

    Each further tile must cover at least `multiple_of` pixels that the one before does not.
    """
    steps = max(tile // multiple_of, 1)
    return min(steps * multiple_of // 3, (steps - 1) * multiple_of // 2)


def _plan_axis(length: int, tile: int, overlap: int, multiple_of: int) -> tuple[Span, ...]:
    length = _round_up(length, multiple_of)
    size = max(tile // multiple_of, 1) * multiple_of if tile else length
    if tile and overlap > largest_overlap(tile, multiple_of):
        raise UsageError(
            f"an overlap of {overlap} pixels on each side leaves too little of tiles of {tile}; "
            f"use at most {largest_overlap(tile, multiple_of)}, or larger tiles"
        )
    if size >= length:
        return (Span(0, length, 0, 0),)
    shared = _round_up(2 * overlap, multiple_of)
    count = _divide_up(length - shared, size - shared)
    size = _round_up(_divide_up(length + (count - 1) * shared, count), multiple_of)
    room = (length - size) // multiple_of
    starts = [room * i // (count - 1) * multiple_of for i in range(count)]
    spans = [Span(0, size, 0, 0)]
    for before, start in itertools.pairwise(starts):
        band = before + size - start
        outer = (band - min(band // 3, WIDEST_FADE)) // 2
        spans.append(Span(start, start + size, start + outer, before + size - outer))
    return tuple(spans)


def _own(spans: tuple[Span, ...], place: int, multiple_of: int) -> tuple[int, int]:
    """From where to where a span of an axis is its own, counted from its start; on the network's grid."""
    here = spans[place]
    borders = [(span.fade_start + span.fade_stop) // 2 // multiple_of * multiple_of for span in spans[1:]]
    first, last = (0, *borders)[place], (*borders, spans[-1].stop)[place]
    return first - here.start, last - here.start


def _divide_up(value: int, by: int) -> int:
    return -(-value // by)


def _round_up(value: int, multiple_of: int) -> int:
    return _divide_up(value, multiple_of) * multiple_of


def pad(image: Tensor, bottom: int, right: int) -> Tensor:
    """N×C×H×W with so many rows and columns more: its reflection, or its border where it is too small for that."""
    for axis, extra in ((3, right), (2, bottom)):
        if extra:
            mode = "reflect" if extra < image.shape[axis] else "replicate"
            image = functional.pad(image, (0, extra, 0, 0) if axis == 3 else (0, 0, 0, extra), mode=mode)
    return image


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
        rows, columns = self._plan.rows[row : row + 2], self._plan.columns[column : column + 2]
        if column == 0:
            self._right = None
        strip, self._right = _join(self._right, tile, columns, dim=3)
        block, below = _join(self._below.pop(column, None), strip, rows, dim=2)
        if below is not None:
            self._below[column] = below
        self._write(rows[0].fade_start, columns[0].fade_start, block)


def _join(before: Tensor | None, tile: Tensor, spans: tuple[Span, ...], dim: int) -> tuple[Tensor, Tensor | None]:
    """Blend one tile with the one before it along `dim`.

    Args:
        before: what the tile before left to blend with; None for the first.
        tile: the tile, from which its finished part is cut without a copy.
        spans: the tile's span and, where there is one, the next.
        dim: 2 for rows, 3 for columns.

    Returns:
        The pixels that are final now, and those that wait for the next tile (None after the last).
    """
    span = spans[0]
    if before is not None:
        _fade(before, tile.narrow(dim, span.fade_start - span.start, span.fade_stop - span.fade_start), dim)
    if len(spans) == 1:
        return tile.narrow(dim, span.fade_start - span.start, span.stop - span.fade_start), None
    following = spans[1]
    waiting = tile.narrow(dim, following.fade_start - span.start, following.fade_stop - following.fade_start).clone()
    return tile.narrow(dim, span.fade_start - span.start, following.fade_start - span.fade_start), waiting


def _fade(before: Tensor, band: Tensor, dim: int) -> None:
    """Blend `before` into `band`, which has its shape, along `dim`: from nearly all `before` to nearly all `band`."""
    width = band.shape[dim]
    ramp = (torch.arange(width, dtype=band.dtype, device=band.device) + 0.5) / max(width, 1)
    band.copy_(torch.lerp(before, band, ramp if dim == 3 else ramp[:, None]))
