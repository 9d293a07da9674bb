import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import models
from deblur_cli.errors import TrainingError
from deblur_cli.training.blur import BlurSettings
from deblur_cli.training.checkpoint import read_checkpoint
from deblur_cli.training.curves import Report
from deblur_cli.training.data import Dice, PhotoSource, PoolSettings, Source
from deblur_cli.training.export import BEST, export_run
from deblur_cli.training.recipe import Recipe, Stage
from deblur_cli.training.trainer import CHECKPOINT, CURVES, Limits, default_accelerator, train
from deblur_cli.training.validation import ValidationSet, Validator

RECIPE = Recipe(
    model="test-tiny",
    name="tests",
    steps=24,
    batch=4,
    rate=3e-3,
    warmup=4,
    save_every=5,
    validate_every=8,
    optimizer="muon",
    pool=PoolSettings(pairs=8, size=40, chunk=4, reuse=2),
    stages=(Stage(until=0.5, crop=24, blur=BlurSettings(length=(2, 6), straight=1.0)), Stage(crop=32)),
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


def losses(reports: list[Report]) -> list[float]:
    return [report.loss for report in reports]


def run(recipe: Recipe, sources: list[Source], folder: Path, accelerator: object, **more: object) -> list[Report]:
    reports: list[Report] = []
    train(recipe, sources, folder, accelerator=accelerator, tell=reports.append, **more)  # type: ignore[arg-type]
    return reports


@pytest.mark.parametrize("broken_at", [5, 13])
def test_a_resumed_run_repeats_the_losses_of_an_unbroken_one(
    tmp_path: Path, sources: list[Source], accelerator: object, broken_at: int
) -> None:
    whole = run(RECIPE, sources, tmp_path / "whole", accelerator)
    first = run(RECIPE, sources, tmp_path / "broken", accelerator, limits=Limits(steps=broken_at))
    rest = run(RECIPE, sources, tmp_path / "broken", accelerator, resume=True)
    assert losses(first) + losses(rest) == losses(whole)
    ours, theirs = (read_checkpoint(tmp_path / name / CHECKPOINT)[2] for name in ("whole", "broken"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_kill_between_checkpoints_costs_only_the_steps_since(
    tmp_path: Path, sources: list[Source], accelerator: object
) -> None:
    """A run that dies is one whose last checkpoint is older than its last step."""

    class Killed(BaseException):
        pass

    def die_at_eight(report: Report) -> None:
        if report.step == 8:
            raise Killed

    whole = run(RECIPE, sources, tmp_path / "whole", accelerator)
    with pytest.raises(Killed):
        train(RECIPE, sources, tmp_path / "killed", accelerator=accelerator, tell=die_at_eight)
    rest = run(RECIPE, sources, tmp_path / "killed", accelerator, resume=True)
    assert rest[0].step == 6
    assert losses(rest) == losses(whole)[5:]


def test_the_curves_of_a_resumed_run_hold_each_step_once(
    tmp_path: Path, sources: list[Source], accelerator: object
) -> None:
    recipe = replace(RECIPE, steps=120, save_every=60)
    run(recipe, sources, tmp_path, accelerator, limits=Limits(steps=60))
    run(recipe, sources, tmp_path, accelerator, resume=True)
    with (tmp_path / CURVES).open(newline="") as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    assert steps == [50, 100]


def test_training_learns(tmp_path: Path, sources: list[Source], accelerator: object) -> None:
    blurred, sharp = sources[0].draw(2, 64, BlurSettings(length=(3, 6)), Dice.seeded(torch.device("cpu"), 5))
    pairs = [((b * 255).to(torch.uint8), (s * 255).to(torch.uint8)) for b, s in zip(blurred, sharp, strict=True)]
    validator = Validator([ValidationSet("held out", pairs)], torch.device("cpu"))
    reports = run(replace(RECIPE, steps=160, validate_every=160), sources, tmp_path, accelerator, validator=validator)
    assert reports[-1].scores is not None
    assert reports[-1].scores["mean"] > 0.1
    assert reports[-1].scores["held out"] == pytest.approx(
        reports[-1].scores["held out blurred"] + reports[-1].scores["mean"]
    )

    digest = export_run(tmp_path, tmp_path / "shipped.safetensors")
    loaded = models.load_model(tmp_path / "shipped.safetensors")
    assert loaded.sha256 == digest
    assert loaded.info.name == "test-tiny"
    assert loaded.card["recipe"]["name"] == "tests"
    assert loaded.card["data"] == "2 photos"
    assert loaded.card["scores"]["held out"]["gain"] == pytest.approx(reports[-1].scores["mean"], abs=1e-3)
    assert (tmp_path / "shipped.json").is_file()
    restored = loaded.network(pairs[0][0].unsqueeze(0) / 255)
    assert not torch.equal(restored, pairs[0][0].unsqueeze(0) / 255)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, sources: list[Source], accelerator: object
) -> None:
    class Diverging(Recipe):
        def rate_at(self, step: int, progress: float) -> float:
            return 1e30 if step >= 7 else super().rate_at(step, progress)

    diverging = Diverging(**{field: getattr(RECIPE, field) for field in RECIPE.__dataclass_fields__})
    with pytest.raises(TrainingError, match="--resume"):
        train(diverging, sources, tmp_path, accelerator=accelerator)
    _, progress, tensors = read_checkpoint(tmp_path / CHECKPOINT)
    assert progress.step == 5
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())


def test_a_wish_to_stop_saves_the_step_just_done(tmp_path: Path, sources: list[Source], accelerator: object) -> None:
    reports: list[Report] = []
    done = train(
        RECIPE,
        sources,
        tmp_path,
        accelerator=accelerator,  # type: ignore[arg-type]
        tell=reports.append,
        wants_to_stop=lambda: len(reports) >= 6,
    )
    assert done.step == 7
    assert read_checkpoint(tmp_path / CHECKPOINT)[1].step == 7


def test_a_run_can_begin_with_given_weights(tmp_path: Path, sources: list[Source], accelerator: object) -> None:
    start = models.create_model("test-tiny")
    with torch.no_grad():
        start.last.bias.fill_(0.25)
    run(replace(RECIPE, ema=0.0), sources, tmp_path, accelerator, limits=Limits(steps=1), start=start)
    tensors = read_checkpoint(tmp_path / CHECKPOINT)[2]
    assert torch.allclose(tensors["network.last.bias"], torch.full((3,), 0.25), atol=0.01)


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path, sources: list[Source], accelerator: object) -> None:
    run(RECIPE, sources, tmp_path, accelerator, limits=Limits(steps=5))
    with pytest.raises(TrainingError, match="another recipe"):
        run(replace(RECIPE, rate=1e-2), sources, tmp_path, accelerator, resume=True)
    # More steps is the one thing that may change: it is how a run is prolonged.
    assert run(replace(RECIPE, steps=30), sources, tmp_path, accelerator, resume=True)[-1].step == 30


def test_damaged_and_foreign_checkpoints_are_one_clear_line(
    tmp_path: Path, sources: list[Source], accelerator: object
) -> None:
    with pytest.raises(TrainingError, match="no checkpoint"):
        read_checkpoint(tmp_path / CHECKPOINT)
    run(RECIPE, sources, tmp_path, accelerator, limits=Limits(steps=5))
    whole = (tmp_path / CHECKPOINT).read_bytes()
    (tmp_path / CHECKPOINT).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TrainingError, match="damaged"):
        read_checkpoint(tmp_path / CHECKPOINT)
    (tmp_path / CHECKPOINT).write_bytes(b"")
    with pytest.raises(TrainingError, match="damaged"):
        read_checkpoint(tmp_path / CHECKPOINT)


def test_exporting_a_run_without_weights_says_why(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=BEST):
        export_run(tmp_path, tmp_path / "out.safetensors")
    with pytest.raises(TrainingError, match="safetensors"):
        export_run(tmp_path, tmp_path / "out.pth")
