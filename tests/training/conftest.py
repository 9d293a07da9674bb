from collections.abc import Iterator
from dataclasses import replace

import pytest

import models
from deblur_cli.training.accelerator import default_accelerator
from deblur_cli.training.data import Source
from deblur_cli.training.recipe import Recipe, Stage
from deblur_cli.training.schedules import Schedule
from models.critics import CRITICS
from tests.training.runs import RECIPE, SMALL_CRITIC, Rough, noise, small_critic


@pytest.fixture(scope="module", autouse=True)
def critic() -> Iterator[None]:
    """The critic that AGAINST_A_CRITIC names."""
    small_critic()
    yield
    del CRITICS[SMALL_CRITIC]


@pytest.fixture
def rough(monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """A recipe for `Rough` on sequences of three frames."""
    monkeypatch.setattr(models.registry, "_REGISTRY", dict(models.registry._REGISTRY))
    models.register_model("test-rough", "for tests", recurrent=True, hidden=True)(lambda: Rough())
    return replace(
        RECIPE,
        model="test-rough",
        steps=8,
        batch=2,
        frames=3,
        optimizer="adam",
        loss="mse",
        scales="sum",
        gradient_norm=1e-6,
        clipped="cell",
        schedule=Schedule(kind="plateau", epoch=1, patience=1, factor=0.5),
        stages=(Stage(crop=24),),
    )


@pytest.fixture
def sources() -> list[Source]:
    return noise()


@pytest.fixture
def accelerator():
    return default_accelerator("cpu")
