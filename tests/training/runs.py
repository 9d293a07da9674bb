"""Short runs that several files look at: their recipes, a network with all that a step copes with, how to run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from deblur_cli.evaluation.datasets import Pair
from deblur_cli.evaluation.pictures import read_size
from deblur_cli.training.adversarial import AdversarialSettings
from deblur_cli.training.blur import BlurSettings
from deblur_cli.training.checkpoint import CHECKPOINT, read_checkpoint
from deblur_cli.training.curves import Report
from deblur_cli.training.data import PhotoSource, Source
from deblur_cli.training.pool import PoolSettings
from deblur_cli.training.recipe import Recipe, Stage
from deblur_cli.training.trainer import train
from models.critics import CRITICS

SMALL_CRITIC = "test-patch"
"""Name of a critic that there is in these tests, where `small_critic` has been called."""

RECIPE = Recipe(
    model="test-tiny",
    name="tests",
    steps=24,
    batch=4,
    rate=3e-3,
    warmup=4,
    save_every=5,
    validate_every=8,
    pool=PoolSettings(pairs=8, size=40, chunk=4, reuse=2),
    stages=(Stage(until=0.5, crop=24, blur=BlurSettings(length=(2, 6), straight=1.0)), Stage(crop=32)),
)

AGAINST_A_CRITIC = replace(
    RECIPE,
    steps=8,
    save_every=3,
    optimizer="adam",
    loss="mse",
    adversarial=AdversarialSettings(kind="wgan-gp", critic=SMALL_CRITIC, critic_steps=2, critic_rate=1e-4),
    stages=(Stage(until=0.5, crop=32), Stage(crop=32, content_weight=10.0, adversarial_weight=0.1)),
)


def small_critic() -> None:
    """Register a critic of the layers that the one of patches has, without its millions of weights."""

    def build() -> nn.Module:
        first, second, last = nn.Conv2d(3, 16, 4, 2, 1), nn.Conv2d(16, 32, 4, 2, 1), nn.Conv2d(32, 1, 4, 1, 1)
        body = nn.Sequential(first, nn.LeakyReLU(0.2), second, nn.InstanceNorm2d(32), nn.LeakyReLU(0.2), last)
        return Unconditional(body)

    CRITICS[SMALL_CRITIC] = build


class Unconditional(nn.Module):
    """A critic that looks at the candidate alone."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, candidate: Tensor, blurred: Tensor) -> Tensor:
        return self.body(candidate)


class Rough(nn.Module):
    """A multi-scale recurrent network with dropout: all that a step has to cope with, as small as can be."""

    def __init__(self) -> None:
        super().__init__()
        self.coarse, self.cell = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, blurred: Tensor, state: Tensor | None = None) -> tuple[Tensor | list[Tensor], Tensor]:
        coarse = self.coarse(nn.functional.avg_pool2d(blurred, 2))
        state = torch.tanh(self.cell(blurred if state is None else blurred + state))
        fine = blurred + 0.1 * nn.functional.dropout(state, 0.5, self.training)
        return ([coarse, fine] if self.training else fine), state


def noise() -> list[Source]:
    """Two photos of coarse noise."""
    generator = torch.Generator().manual_seed(0)
    squares = torch.rand(2, 3, 16, 16, generator=generator)
    pictures = nn.functional.interpolate(squares, size=(96, 96), mode="nearest")
    return [PhotoSource([*(pictures * 255).to(torch.uint8)])]


def losses(reports: list[Report]) -> list[float]:
    return [report.loss for report in reports]


def run(recipe: Recipe, sources: list[Source], folder: Path, accelerator: object, **more: object) -> list[Report]:
    reports: list[Report] = []
    train(recipe, sources, folder, accelerator=accelerator, tell=reports.append, **more)  # type: ignore[arg-type]
    return reports


def same_tensors(one: Path, other: Path) -> bool:
    ours, theirs = (read_checkpoint(folder / CHECKPOINT)[2] for folder in (one, other))
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def pair_of(blurred: Path, sharp: Path) -> Pair:
    """The pair of two files, as `find_pairs` has it."""
    return Pair("", blurred.stem, blurred, sharp, read_size(blurred))


@contextmanager
def another_precision() -> Iterator[None]:
    """A time in which an Accelerator may have a precision of its own; accelerate has one a process."""
    AcceleratorState._reset_state()
    try:
        yield
    finally:
        AcceleratorState._reset_state()
