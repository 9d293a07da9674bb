import csv
import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import models
from deblur_cli.errors import DatasetError, TrainingError, UsageError
from deblur_cli.training.adversarial import AdversarialSettings
from deblur_cli.training.blur import BlurSettings
from deblur_cli.training.checkpoint import read_checkpoint, restore_checkpoint
from deblur_cli.training.curves import Curves, Report
from deblur_cli.training.data import Dice, PhotoSource, PoolSettings, Source
from deblur_cli.training.export import BEST, export_run
from deblur_cli.training.learner import Learner
from deblur_cli.training.recipe import Recipe, Stage, recipe_table
from deblur_cli.training.schedules import Schedule
from deblur_cli.training.trainer import CHECKPOINT, CURVES, Limits, default_accelerator, train
from deblur_cli.training.validation import ValidationSet, Validator
from models.weights import save_weights

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

AGAINST_A_CRITIC = replace(
    RECIPE,
    steps=8,
    save_every=3,
    optimizer="adam",
    loss="mse",
    adversarial=AdversarialSettings(kind="wgan-gp", critic="patch", critic_steps=2, critic_rate=1e-4),
    stages=(Stage(until=0.5, crop=32), Stage(crop=32, content_weight=10.0, adversarial_weight=0.1)),
)


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


def test_a_resumed_run_has_the_time_that_it_was_begun_with(
    tmp_path: Path, sources: list[Source], accelerator: object
) -> None:
    now = itertools.count(0.0, 0.5)
    limits = Limits(steps=3, seconds=6.0, clock=lambda: next(now))
    run(RECIPE, sources, tmp_path, accelerator, limits=limits)
    rest = run(RECIPE, sources, tmp_path, accelerator, limits=Limits(clock=lambda: next(now)), resume=True)
    assert rest[-1].elapsed >= 6.0 and rest[-1].step < RECIPE.steps


def same_tensors(one: Path, other: Path) -> bool:
    ours, theirs = (read_checkpoint(folder / CHECKPOINT)[2] for folder in (one, other))
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("broken_at", [3, 4, 6])  # before the critic's stage, at its beginning, and in it
def test_a_resumed_run_against_a_critic_repeats_all_its_losses(
    tmp_path: Path, sources: list[Source], accelerator: object, broken_at: int
) -> None:
    whole = run(AGAINST_A_CRITIC, sources, tmp_path / "whole", accelerator)
    first = run(AGAINST_A_CRITIC, sources, tmp_path / "broken", accelerator, limits=Limits(steps=broken_at))
    rest = run(AGAINST_A_CRITIC, sources, tmp_path / "broken", accelerator, resume=True)
    assert [(report.loss, report.parts) for report in first + rest] == [(report.loss, report.parts) for report in whole]
    assert same_tensors(tmp_path / "whole", tmp_path / "broken")


def test_the_critic_rests_until_its_stage_and_then_learns(
    tmp_path: Path, sources: list[Source], accelerator: object
) -> None:
    reports = run(AGAINST_A_CRITIC, sources, tmp_path, accelerator)
    assert [set(report.parts) for report in reports[3:5]] == [{"content"}, {"content", "critic", "adversarial"}]
    last = reports[-1]
    assert last.loss == pytest.approx(10 * last.parts["content"] + 0.1 * last.parts["adversarial"], rel=1e-4)
    run(AGAINST_A_CRITIC, sources, tmp_path / "early", accelerator, limits=Limits(steps=4))
    early, late = (read_checkpoint(folder / CHECKPOINT)[2] for folder in (tmp_path / "early", tmp_path))
    fresh = Learner(AGAINST_A_CRITIC, accelerator).modules["critic"].state_dict()
    assert all(torch.equal(early[f"critic.{name}"], tensor) for name, tensor in fresh.items())
    assert any(not torch.equal(late[f"critic.{name}"], tensor) for name, tensor in fresh.items())
    # Four steps of the network's, two of the critic's for each.
    steps = {float(late[name]) for name in late if name.startswith("optimizer.1.") and name.endswith(".step")}
    assert steps == {8}


def test_the_curves_of_a_run_against_a_critic_have_its_parts(tmp_path: Path) -> None:
    content = Report(1, 9, 0.1, 0.5, 1e-3, 1.0, None, {"content": 0.5})
    against = Report(2, 9, 0.2, 0.7, 1e-3, 2.0, {"set": 30.0}, {"content": 0.5, "adversarial": 0.2, "critic": 0.9})
    with Curves(tmp_path / CURVES, 0, active=True, parts=AGAINST_A_CRITIC.curves, every=1) as curves:
        curves.add(content)
        curves.add(against)
    with (tmp_path / CURVES).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["critic"] for row in rows] == ["", "0.9", None]
    assert [row["psnr"] for row in rows] == ["", "", "30.0000"]
    assert RECIPE.curves == []


def test_a_recurrent_network_learns_from_sequences_and_resumes_exactly(
    tmp_path: Path, sources: list[Source], accelerator: object, rough: Recipe
) -> None:
    whole = run(rough, sources, tmp_path / "whole", accelerator)
    first = run(rough, sources, tmp_path / "broken", accelerator, limits=Limits(steps=5))
    rest = run(rough, sources, tmp_path / "broken", accelerator, resume=True)
    assert losses(first + rest) == losses(whole)
    assert [report.rate for report in first + rest] == [report.rate for report in whole]
    assert same_tensors(tmp_path / "whole", tmp_path / "broken")


def test_a_pyramid_and_its_sequences_are_scored_frame_by_frame(
    tmp_path: Path, sources: list[Source], accelerator: object, rough: Recipe
) -> None:
    pair = (torch.full((2, 3, 32, 32), 90, dtype=torch.uint8), torch.full((2, 3, 32, 32), 100, dtype=torch.uint8))
    validator = Validator([ValidationSet("grey", [pair])], torch.device("cpu"))
    reports = run(replace(rough, steps=2), sources, tmp_path, accelerator, validator=validator)
    assert reports[-1].scores is not None and "grey" in reports[-1].scores


def test_only_the_named_gradients_are_clipped(accelerator: object, rough: Recipe) -> None:
    generator = torch.Generator().manual_seed(1)
    batch = (torch.rand(2, 3, 3, 24, 24, generator=generator), torch.rand(2, 3, 3, 24, 24, generator=generator))
    learner = Learner(rough, accelerator)
    learner.learn(rough.stages[0], batch, 0, 1e-3)
    norms = {name: float(parameter.grad.norm()) for name, parameter in learner.network.named_parameters()}
    assert math.hypot(norms["cell.weight"], norms["cell.bias"]) <= 1e-6 * 1.001
    assert norms["coarse.weight"] > 1e-3
    with pytest.raises(UsageError, match="no parameter named"):
        Learner(replace(rough, clipped="lstm"), accelerator)


def test_the_gradient_is_that_of_the_whole_sequence(accelerator: Any, rough: Recipe) -> None:
    """Against an unrolling by hand, with the state cut off from the frame before and without."""
    generator = torch.Generator().manual_seed(1)
    blurred, sharp = (torch.rand(2, 3, 3, 24, 24, generator=generator) for _ in range(2))
    recipe = replace(rough, gradient_norm=0.0, clipped="", scales="last")
    learner = Learner(recipe, accelerator)
    learner.network.eval()  # neither dropout nor pyramid
    learner.learn(recipe.stages[0], (blurred, sharp), 0, 1e-3)

    def by_hand(cut: bool) -> Tensor:
        network = Learner(recipe, accelerator).network.eval()
        state, errors = None, []
        for frame in range(3):
            with accelerator.autocast():
                restored, state = network(blurred[:, frame], state)
            state = state.detach() if cut else state
            errors.append((restored.float() - sharp[:, frame]).square().mean())
        torch.stack(errors).mean().backward()
        return network.cell.weight.grad

    found, whole, cut = learner.network.cell.weight.grad, by_hand(cut=False), by_hand(cut=True)
    assert (found - whole).norm() < 0.02 * whole.norm()  # processors that have it compute in bfloat16
    assert (found - cut).norm() > 0.04 * whole.norm()


def test_a_batch_that_cannot_be_shared_evenly_is_refused() -> None:
    with pytest.raises(UsageError, match="3 processes cannot share a batch of 4"):
        Learner(RECIPE, SimpleNamespace(process_index=0, num_processes=3))


def test_frames_are_for_recurrent_networks(accelerator: object) -> None:
    with pytest.raises(UsageError, match="recurrent"):
        Learner(replace(RECIPE, frames=2), accelerator)


def test_a_checkpoint_of_before_there_were_critics_still_resumes(
    tmp_path: Path, sources: list[Source], accelerator: object
) -> None:
    """Its recipe and its progress lack the fields that came since."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    recipe = replace(RECIPE, optimizer="adamw")
    whole = run(recipe, sources, tmp_path / "whole", accelerator)
    run(recipe, sources, tmp_path, accelerator, limits=Limits(steps=5))
    with safe_open(tmp_path / CHECKPOINT, framework="pt") as file:
        facts = json.loads(file.metadata()["deblur.checkpoint"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for field in ("scales", "adversarial", "frames", "schedule", "clipped"):
        del facts["recipe"][field]
    for stage in facts["recipe"]["stages"]:
        for field in ("content_weight", "perceptual_weight", "adversarial_weight"):
            del stage[field]
    del facts["progress"]["plateau"]
    save_file(tensors, tmp_path / CHECKPOINT, metadata={"deblur.checkpoint": json.dumps(facts)})
    rest = run(recipe, sources, tmp_path, accelerator, resume=True)
    assert losses(rest) == losses(whole)[5:]
    assert recipe_table(read_checkpoint(tmp_path / CHECKPOINT)[0]) == recipe_table(recipe)


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
    pairs = [
        tuple((side * 255).to(torch.uint8) for side in both)
        for both in zip(blurred.split(1), sharp.split(1), strict=True)
    ]
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
    restored = loaded.network(pairs[0][0] / 255)
    assert not torch.equal(restored, pairs[0][0] / 255)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, sources: list[Source], accelerator: object
) -> None:
    class Diverging(Recipe):
        def rate_at(self, step: int, progress: float, lowered: float = 1.0) -> float:
            return 1e30 if step >= 7 else super().rate_at(step, progress, lowered)

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


def test_a_recipe_can_name_the_weights_it_begins_with(tmp_path: Path, accelerator: object) -> None:
    network = models.create_model("test-tiny")
    save_weights(network, tmp_path / "own.safetensors", name="test-tiny", options={}, card={})
    recipe = replace(RECIPE, start=str(tmp_path / "own.safetensors"))
    assert torch.equal(Learner(recipe, accelerator).network.last.weight, network.last.weight)
    other = models.create_model("test-tiny")
    assert torch.equal(Learner(recipe, accelerator, start=other).network.last.weight, other.last.weight)
    with pytest.raises(UsageError, match="not weights of the network that recipe"):
        Learner(replace(recipe, options={"width": 5}), accelerator)


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path, sources: list[Source], accelerator: object) -> None:
    run(RECIPE, sources, tmp_path, accelerator, limits=Limits(steps=5))
    with pytest.raises(TrainingError, match="another recipe"):
        run(replace(RECIPE, loss="mse"), sources, tmp_path, accelerator, resume=True)
    # What may change: a run is prolonged by more steps, and one that came apart goes on with smaller ones.
    calmer = replace(RECIPE, steps=30, rate=1e-4, final_rate=1e-6, gradient_norm=0.1)
    reports = run(calmer, sources, tmp_path, accelerator, resume=True)
    assert reports[-1].step == 30
    assert max(report.rate for report in reports) <= 1e-4


def test_the_best_weights_are_those_that_met_the_critic(
    tmp_path: Path, sources: list[Source], accelerator: object
) -> None:
    class Falling:
        """Says of each validation that it is worse than the one before."""

        gain = 5.0

        def score(self, network: object) -> dict[str, float]:
            self.gain -= 1.0
            return {"set": 30 + self.gain, "set blurred": 30.0, "mean": self.gain}

        def picture(self, network: object) -> Tensor:
            return torch.zeros(3, 8, 8, dtype=torch.uint8)

    run(replace(AGAINST_A_CRITIC, validate_every=2), sources, tmp_path, accelerator, validator=Falling())
    assert read_checkpoint(tmp_path / CHECKPOINT)[1].best == 2.0  # of step 6, the first after the critic came in
    assert models.load_model(tmp_path / BEST).card["steps"] == 6


def test_moments_come_back_in_the_order_of_their_parameters(
    tmp_path: Path, sources: list[Source], accelerator: object
) -> None:
    run(replace(RECIPE, optimizer="adam"), sources, tmp_path, accelerator, limits=Limits(steps=2))
    learner = Learner(replace(RECIPE, optimizer="adam"), accelerator)
    restore_checkpoint(read_checkpoint(tmp_path / CHECKPOINT)[2], learner.modules, learner.optimizers)
    ((parameter, slot), *_) = learner.optimizers[0].state.items()
    assert parameter.is_contiguous(memory_format=torch.channels_last) and not parameter.is_contiguous()
    assert slot["exp_avg"].stride() == parameter.stride()


def test_what_a_later_stage_lacks_is_said_before_the_first(
    tmp_path: Path, sources: list[Source], accelerator: object
) -> None:
    later = replace(RECIPE.stages[-1], photos=0.0, clips=0.0)
    with pytest.raises(DatasetError, match="draws from pairs alone"):
        run(replace(RECIPE, stages=(RECIPE.stages[0], later)), sources, tmp_path, accelerator)
    odd = replace(RECIPE, stages=(RECIPE.stages[0], replace(RECIPE.stages[-1], crop=30)))
    with pytest.raises(UsageError, match="multiples of 4 pixels, not crops of 30"):
        run(odd, sources, tmp_path, accelerator)
    assert not (tmp_path / CHECKPOINT).exists()


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
