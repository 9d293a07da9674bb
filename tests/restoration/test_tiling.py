"""Plans cover every pixel, on the network's grid, and blending weighs each pixel by one in all."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deblur_cli.errors import UsageError
from deblur_cli.restoration.tiling import WIDEST_FADE, Span, TileBlender, TilePlan, largest_overlap, plan_tiles


@st.composite
def plans(draw: st.DrawFn, longest: int = 3000, tiles: tuple[int, int] = (1, 600)) -> tuple[int, int, int, int, int]:
    """Height, width, tile, overlap and multiple that go together."""
    multiple_of = draw(st.sampled_from([1, 2, 4, 8, 16, 32]))
    tile = draw(st.integers(*tiles))
    overlap = draw(st.integers(0, largest_overlap(tile, multiple_of)))
    sides = st.integers(1, longest)
    return draw(sides), draw(sides), tile, overlap, multiple_of


def _padded(length: int, multiple_of: int) -> int:
    return -(-length // multiple_of) * multiple_of


@given(plans())
@settings(deadline=None)
def test_plans_cover_the_image_on_the_networks_grid(case: tuple[int, int, int, int, int]) -> None:
    height, width, tile, overlap, multiple_of = case
    plan = plan_tiles(height, width, tile, overlap, multiple_of)
    for length, spans in ((height, plan.rows), (width, plan.columns)):
        length = _padded(length, multiple_of)
        assert spans[0].start == spans[0].fade_start == spans[0].fade_stop == 0
        assert spans[-1].stop == length
        assert len({span.size for span in spans}) == 1
        assert spans[0].size <= max(tile, multiple_of)
        for span in spans:
            assert span.start % multiple_of == 0
            assert span.size % multiple_of == 0
            assert 0 <= span.start < span.stop <= length
        for before, after in itertools.pairwise(spans):
            assert before.start < after.start
            assert before.stop - after.start >= 2 * overlap
            assert before.fade_start < after.fade_start <= after.fade_stop <= before.stop
            assert after.fade_stop - after.fade_start >= min(2 * overlap // 3, WIDEST_FADE)
            context = min(after.fade_start - after.start, before.stop - after.fade_stop)
            assert context >= max(2 * overlap // 3, overlap - WIDEST_FADE // 2)


@given(st.integers(1, 3000), st.integers(64, 600), st.sampled_from([1, 8, 16]))
@settings(deadline=None)
def test_no_more_tiles_than_needed(length: int, tile: int, multiple_of: int) -> None:
    overlap = largest_overlap(tile, multiple_of) // 2
    spans = plan_tiles(length, 1, tile, overlap, multiple_of).rows
    shared = _padded(2 * overlap, multiple_of)
    side = tile // multiple_of * multiple_of
    one_less = len(spans) - 1
    assert one_less * side - max(one_less - 1, 0) * shared < _padded(length, multiple_of)


def _blend(plan: TilePlan, tile_of: dict[tuple[int, int], Tensor]) -> Tensor:
    """The blended image; every pixel must be written exactly once."""
    blended = torch.full((1, 1, plan.rows[-1].stop, plan.columns[-1].stop), float("nan"))

    def write(top: int, left: int, block: Tensor) -> None:
        target = blended[:, :, top : top + block.shape[2], left : left + block.shape[3]]
        assert target.isnan().all()
        target.copy_(block)

    blender = TileBlender(plan, write)
    for place in plan.tiles():
        blender.add(*place, tile_of[place].clone())
    assert not blended.isnan().any()
    return blended


@given(plans(longest=700, tiles=(16, 90)))
@settings(deadline=None, max_examples=60)
def test_what_tiles_own_covers_the_image_once_on_the_networks_grid(case: tuple[int, int, int, int, int]) -> None:
    plan = plan_tiles(*case)
    counted = torch.zeros(plan.rows[-1].stop, plan.columns[-1].stop)
    for row, column in plan.tiles():
        own = plan.own(row, column)
        assert 0 <= own.top < own.bottom <= plan.tile_height
        assert all(border % plan.multiple_of == 0 for border in own)
        top, left = plan.rows[row].start, plan.columns[column].start
        counted[top + own.top : top + own.bottom, left + own.left : left + own.right] += 1
    assert torch.equal(counted, torch.ones_like(counted))


def _cut(image: Tensor, rows: Span, columns: Span) -> Tensor:
    return image[:, :, rows.start : rows.stop, columns.start : columns.stop]


@given(plans(longest=120, tiles=(16, 90)))
@settings(deadline=None, max_examples=60)
def test_tiles_that_agree_blend_to_themselves_exactly(case: tuple[int, int, int, int, int]) -> None:
    plan = plan_tiles(*case)
    image = torch.rand(1, 1, plan.rows[-1].stop, plan.columns[-1].stop, generator=torch.Generator().manual_seed(0))
    tiles = {(r, c): _cut(image, plan.rows[r], plan.columns[c]) for r, c in plan.tiles()}
    assert torch.equal(_blend(plan, tiles), image)


@given(plans(longest=40, tiles=(16, 30)))
@settings(deadline=None, max_examples=30)
def test_weights_are_positive_local_and_sum_to_one(case: tuple[int, int, int, int, int]) -> None:
    plan = plan_tiles(*case)
    total = torch.zeros(1, 1, plan.rows[-1].stop, plan.columns[-1].stop)
    for chosen in plan.tiles():
        shape = (1, 1, plan.tile_height, plan.tile_width)
        one_hot = {place: torch.full(shape, float(place == chosen)) for place in plan.tiles()}
        weights = _blend(plan, one_hot)
        assert weights.min() >= 0
        outside = weights.clone()
        _cut(outside, plan.rows[chosen[0]], plan.columns[chosen[1]]).zero_()
        assert not outside.any()
        total += weights
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-6)


def test_two_tiles_fade_linearly_over_a_third_of_what_they_share() -> None:
    plan = plan_tiles(1, 30, 21, 6)
    assert plan.columns == (Span(0, 21, 0, 0), Span(9, 30, 13, 17))
    blended = _blend(plan, {(0, 0): torch.zeros(1, 1, 1, 21), (0, 1): torch.ones(1, 1, 1, 21)})
    assert blended.flatten().tolist() == [0] * 13 + [0.125, 0.375, 0.625, 0.875] + [1] * 13


def test_tiles_are_as_small_as_their_number_allows() -> None:
    plan = plan_tiles(4000, 6000, 1024, 32, 16)
    assert (len(plan.rows), len(plan.columns)) == (5, 7)
    assert (plan.tile_height, plan.tile_width) == (864, 912)


@pytest.mark.parametrize("tile", [0, 40, 1000])
def test_an_image_within_one_tile_stays_whole(tile: int) -> None:
    plan = plan_tiles(33, 17, tile, 4, 8)
    assert plan == TilePlan(rows=(Span(0, 40, 0, 0),), columns=(Span(0, 24, 0, 0),), multiple_of=8)
    assert plan.tile_count == 1
    assert plan.tile_pixels == 960


@pytest.mark.parametrize(("tile", "overlap"), [(64, 64), (64, 32), (64, 22), (1, 1)])
def test_an_overlap_that_leaves_too_little_of_a_tile_is_refused(tile: int, overlap: int) -> None:
    with pytest.raises(UsageError, match="or larger tiles"):
        plan_tiles(500, 500, tile, overlap)


@pytest.mark.parametrize("sizes", [(0, 5, 64, 0), (5, 0, 64, 0), (5, 5, -1, 0), (5, 5, 64, -1), (5, 5, 64, 0, 0)])
def test_senseless_sizes_are_refused(sizes: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="can cover"):
        plan_tiles(*sizes)
