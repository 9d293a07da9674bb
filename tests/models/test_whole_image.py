"""Statistics over the whole image, and tiles that agree on them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from models.whole_image import Box, SharedStatistics, WholeImageMoments

IMAGE = torch.rand(2, 5, 24, 40, generator=torch.Generator().manual_seed(0))
TILES = [(0, 0), (0, 16), (8, 0), (8, 16)]
"""Tops and lefts of four 16×24 tiles that cover the image."""
OWN = [Box(0, 12, 0, 20), Box(0, 12, 4, 24), Box(4, 16, 0, 20), Box(4, 16, 4, 24)]


def tile(number: int, image: Tensor = IMAGE) -> Tensor:
    top, left = TILES[number]
    return image[:, :, top : top + 16, left : left + 24]


def moments(image: Tensor) -> Tensor:
    """By their definition."""
    mean = image.mean(dim=(2, 3), keepdim=True)
    return torch.cat([mean, (image - mean).square().mean(dim=(2, 3), keepdim=True)], dim=1)


def test_a_whole_image_is_reduced_over_its_pixels() -> None:
    torch.testing.assert_close(WholeImageMoments()(IMAGE), moments(IMAGE))
    assert WholeImageMoments()(IMAGE.to(torch.bfloat16)).dtype == torch.float32


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_after_a_round_every_tile_gets_the_answer_of_the_whole_image(batch: int) -> None:
    statistic = WholeImageMoments()
    whole = statistic(IMAGE)
    shared = SharedStatistics(statistic)
    answers: list[Tensor] = []
    for _ in shared.rounds():
        answers = []
        for first in range(0, 4, batch):
            numbers = range(first, first + batch)
            shared.begin((16, 24), [OWN[number] for number in numbers])
            answers += statistic(torch.cat([tile(number) for number in numbers])).chunk(batch)
    for answer in answers:
        torch.testing.assert_close(answer, whole)
    torch.testing.assert_close(statistic(tile(0)), statistic(tile(0).contiguous()))
    assert not torch.equal(statistic(tile(0)), whole)  # the sharing has ended


def test_coarser_features_are_counted_over_the_same_area() -> None:
    statistic, shrink = WholeImageMoments(), nn.AvgPool2d(4)
    shared = SharedStatistics(statistic)
    for _ in shared.rounds():
        for number in range(4):
            shared.begin((16, 24), [OWN[number]])
            answer = statistic(shrink(tile(number)))
    torch.testing.assert_close(answer, moments(shrink(IMAGE)))


def test_a_batch_that_is_run_twice_counts_once() -> None:
    statistic = WholeImageMoments()
    shared = SharedStatistics(statistic)
    for _ in shared.rounds():
        for number in range(4):
            shared.begin((16, 24), [OWN[number]])
            statistic(torch.full_like(tile(number), math.nan))
            answer = statistic(tile(number))
    torch.testing.assert_close(answer, moments(IMAGE))


def test_a_chain_of_statistics_settles_on_what_the_whole_image_gives() -> None:
    class Chain(nn.Module):
        """Each step's statistic depends on all before it."""

        def __init__(self) -> None:
            super().__init__()
            self.norms = nn.ModuleList(WholeImageMoments() for _ in range(6))

        def forward(self, x: Tensor) -> Tensor:
            for norm in self.norms:
                x = torch.tanh(2 * (x - 0.5 * norm(x).chunk(2, dim=1)[0]))
            return x

    chain = Chain()
    ramp = IMAGE + torch.linspace(0, 2, 40)  # so that no tile is like the whole
    whole = chain(ramp)
    shared = SharedStatistics(chain)
    restored: list[Tensor] = []
    rounds = 0
    for _ in shared.rounds():
        rounds += 1
        restored = []
        for number in range(4):
            shared.begin((16, 24), [OWN[number]])
            restored.append(chain(tile(number, ramp)))
    assert 2 < rounds <= 7
    for number in range(4):
        torch.testing.assert_close(restored[number], tile(number, whole), rtol=0, atol=2e-3)
    assert (chain(tile(0, ramp)) - tile(0, whole)).abs().max() > 0.05  # or the sharing would show nothing


def test_one_round_is_enough_where_nothing_is_shared() -> None:
    assert len(list(SharedStatistics(nn.Conv2d(3, 3, 1)).rounds())) == 1
    assert len(list(SharedStatistics(None).rounds())) == 1
