from dataclasses import replace

import pytest
import torch

import models
from deblur_cli.training.data import PhotoSource, Source
from deblur_cli.training.recipe import Recipe, Stage
from deblur_cli.training.schedules import Schedule
from deblur_cli.training.trainer import default_accelerator
from tests.training.runs import RECIPE, Rough


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
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(2, 3, 16, 16, generator=generator)
    pictures = torch.nn.functional.interpolate(noise, size=(96, 96), mode="nearest")
    return [PhotoSource([*(pictures * 255).to(torch.uint8)])]


@pytest.fixture
def accelerator():
    return default_accelerator("cpu")
