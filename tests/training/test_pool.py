"""The pool: the same batches whenever it is built, crops that agree, memory and reuse as said."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import Tensor

from deblur_cli.errors import DatasetError
from deblur_cli.training.blur import BlurSettings
from deblur_cli.training.data import Dice
from deblur_cli.training.pool import Pool, PoolSettings, pool_device
from tests.training.runs import noise

CPU = torch.device("cpu")
BLUR = BlurSettings(length=(2, 8))


class Numbered:
    """A source whose every pair is filled with a number, to see what the pool does with them; a sequence's frames get
    brighter by 1 from frame to frame, all over a picture of random dots."""

    kind = "pairs"

    def __init__(self, is_read: bool = False) -> None:
        self.drawn: list[int] = []
        self.is_read = is_read

    def __len__(self) -> int:
        return 1

    def draw(self, count: int, size: int, blur: BlurSettings, dice: Dice, frames: int = 1) -> tuple[Tensor, Tensor]:
        key = dice.host.randrange(200)
        self.drawn.append(count * frames)
        if frames == 1:
            image = torch.full((count, 3, size, size), key / 255)
            return image, image
        dots = torch.randint(0, 200, (count, 1, 3, size, size), generator=dice.generator)
        image = (dots + torch.arange(frames).view(-1, 1, 1, 1)) / 255
        return image, image


def pool(source: object, batch: int = 4, frames: int = 1) -> Pool:
    settings = PoolSettings(pairs=8, size=32, chunk=4, reuse=2)
    mixture = {"pairs": 1.0, "photos": 1.0}
    return Pool([source], settings, batch, 1, CPU, lambda step: (mixture, BLUR), frames)  # type: ignore[list-item]


@pytest.mark.parametrize("frames", [1, 3])
def test_a_pool_built_late_gives_the_batches_of_one_that_was_there_from_the_start(frames: int) -> None:
    (source,) = noise()
    steady, late = pool(source, frames=frames), pool(source, frames=frames)
    batches = [steady.batch(step, 24) for step in range(9)]
    for step in (0, 3, 8):
        blurred, sharp = late.batch(step, 24) if step else pool(source, frames=frames).batch(0, 24)
        assert torch.equal(blurred, batches[step][0])
        assert torch.equal(sharp, batches[step][1])
    assert not torch.equal(batches[0][0], batches[1][0])


def test_each_pair_is_reused_as_often_as_said() -> None:
    source = Numbered()
    filled = pool(source)
    for step in range(40):
        filled.batch(step, 16)
    crops = 40 * 4
    made_after_the_first_fill = sum(source.drawn) - 8
    assert made_after_the_first_fill == pytest.approx(crops / 2, abs=4)


def test_what_is_read_is_read_before_it_is_due() -> None:
    third = threading.Event()  # two chunks fill the pool, and the third is due in step 2

    class Tells(Numbered):
        def draw(self, *arguments: Any) -> tuple[Tensor, Tensor]:
            if len(self.drawn) == 2:
                third.set()
            return super().draw(*arguments)

    reads = pool(Tells(is_read=True))
    reads.batch(0, 16)
    assert third.wait(30)
    reads.close()


def test_what_is_read_ahead_gives_the_same_batches() -> None:
    reads, makes = pool(Numbered(is_read=True)), pool(Numbered())
    for step in range(20):
        assert torch.equal(reads.batch(step, 16)[1], makes.batch(step, 16)[1])
    reads.close()


def test_what_fails_while_it_is_read_ahead_fails_the_step_that_it_is_due_in() -> None:
    class Ends(Numbered):
        def draw(self, *arguments: Any) -> tuple[Tensor, Tensor]:
            if len(self.drawn) == 2:
                raise DatasetError("the drive is gone")
            return super().draw(*arguments)

    ends = pool(Ends(is_read=True))
    ends.batch(0, 16)
    ends.batch(1, 16)
    with pytest.raises(DatasetError, match="the drive is gone"):
        ends.batch(2, 16)
    ends.close()


def test_blurred_and_sharp_are_cut_and_turned_alike() -> None:
    blurred, sharp = pool(Numbered(), batch=8).batch(5, 16)
    assert blurred.shape == (8, 3, 16, 16)
    assert torch.equal(blurred, sharp)


def test_all_frames_of_a_sequence_are_cut_and_turned_alike() -> None:
    blurred, sharp = pool(Numbered(), batch=8, frames=3).batch(5, 16)
    assert blurred.shape == (8, 3, 3, 16, 16)
    assert torch.equal(blurred, sharp)
    steps = ((sharp[:, 1:] - sharp[:, :-1]) * 255).round()
    assert torch.equal(steps, torch.ones_like(steps))
    assert len({float(one) for one in sharp[:, 0, 0, 0, 0]}) > 4  # at many places


@pytest.mark.parametrize("frames", [1, 2, 3, 8, 20])
def test_sequences_take_no_more_memory_than_pairs(frames: int) -> None:
    source = Numbered()
    filled = Pool(
        [source], PoolSettings(pairs=32, size=16, chunk=4), 2, 1, CPU, lambda step: ({"pairs": 1}, BLUR), frames
    )
    filled.batch(0, 8)
    assert 20 <= sum(source.drawn) <= 32


def test_a_stage_without_its_material_says_so() -> None:
    empty = Pool([Numbered()], PoolSettings(8, 32, 4, 2), 4, 1, CPU, lambda step: ({"photos": 1.0, "pairs": 0.0}, BLUR))
    with pytest.raises(DatasetError, match="photos"):
        empty.batch(0, 16)


@pytest.mark.parametrize(("device", "expected"), [("cpu", "cpu"), ("cuda:1", "cuda:1"), ("mps", "cpu")])
def test_pairs_are_made_where_they_are_trained_on_unless_it_cannot_sample(device: str, expected: str) -> None:
    assert pool_device(torch.device(device)) == torch.device(expected)
