import csv
import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import models
from deblur_cli.errors import TrainingError
from deblur_cli.training.accelerator import default_accelerator
from deblur_cli.training.checkpoint import CHECKPOINT, read_checkpoint, restore_checkpoint
from deblur_cli.training.curves import Report
from deblur_cli.training.data import Source
from deblur_cli.training.learner import Learner
from deblur_cli.training.recipe import Recipe, recipe_table
from deblur_cli.training.trainer import CURVES, Limits, train
from deblur_cli.training.validation import ValidationSet, Validator
from models.registry import ModelError
from models.weights import save_weights
from tests.training.runs import AGAINST_A_CRITIC, RECIPE, losses, noise, run, same_tensors

Unbroken = tuple[list[Report], Path]


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Unbroken:
    """What a run by RECIPE reports that nothing interrupts, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    return run(RECIPE, noise(), folder, default_accelerator("cpu")), folder


@pytest.fixture(scope="module")
def whole_against_a_critic(tmp_path_factory: pytest.TempPathFactory) -> Unbroken:
    """The same by AGAINST_A_CRITIC."""
    folder = tmp_path_factory.mktemp("whole")
    return run(AGAINST_A_CRITIC, noise(), folder, default_accelerator("cpu")), folder


@pytest.mark.parametrize("broken_at", [5, 13])
def test_a_resumed_run_repeats_the_losses_of_an_unbroken_one(
    tmp_path: Path, sources: list[Source], accelerator: object, whole_run: Unbroken, broken_at: int
) -> None:
    whole, folder = whole_run
    first = run(RECIPE, sources, tmp_path / "broken", accelerator, limits=Limits(steps=broken_at))
    rest = run(RECIPE, sources, tmp_path / "broken", accelerator, resume=True)
    assert losses(first) + losses(rest) == losses(whole)
    assert same_tensors(folder, tmp_path / "broken")


def test_a_run_by_muon_resumes_exactly(tmp_path: Path, sources: list[Source], accelerator: object) -> None:
    """Muon is for inner convolutions, which the tiny network of the other runs has not."""
    recipe = replace(RECIPE, model="cnn", optimizer="muon", steps=8)
    whole = run(recipe, sources, tmp_path / "whole", accelerator)
    first = run(recipe, sources, tmp_path / "broken", accelerator, limits=Limits(steps=3))
    rest = run(recipe, sources, tmp_path / "broken", accelerator, resume=True)
    assert losses(first + rest) == losses(whole)
    assert any(name.endswith("momentum") for name in read_checkpoint(tmp_path / "whole" / CHECKPOINT)[2])
    assert same_tensors(tmp_path / "whole", tmp_path / "broken")


def test_a_resumed_run_has_the_time_that_it_was_begun_with(
    tmp_path: Path, sources: list[Source], accelerator: object
) -> None:
    now = itertools.count(0.0, 0.5)
    limits = Limits(steps=3, seconds=6.0, clock=lambda: next(now))
    run(RECIPE, sources, tmp_path, accelerator, limits=limits)
    rest = run(RECIPE, sources, tmp_path, accelerator, limits=Limits(clock=lambda: next(now)), resume=True)
    assert rest[-1].elapsed >= 6.0 and rest[-1].step < RECIPE.steps


@pytest.mark.parametrize("broken_at", [3, 4, 6])  # before the critic's stage, at its beginning, and in it
def test_a_resumed_run_against_a_critic_repeats_all_its_losses(
    tmp_path: Path, sources: list[Source], accelerator: object, whole_against_a_critic: Unbroken, broken_at: int
) -> None:
    whole, folder = whole_against_a_critic
    first = run(AGAINST_A_CRITIC, sources, tmp_path / "broken", accelerator, limits=Limits(steps=broken_at))
    rest = run(AGAINST_A_CRITIC, sources, tmp_path / "broken", accelerator, resume=True)
    assert [(report.loss, report.parts) for report in first + rest] == [(report.loss, report.parts) for report in whole]
    assert same_tensors(folder, tmp_path / "broken")


def test_a_recurrent_network_learns_from_sequences_and_resumes_exactly(
    tmp_path: Path, sources: list[Source], accelerator: object, rough: Recipe
) -> None:
    whole = run(rough, sources, tmp_path / "whole", accelerator)
    first = run(rough, sources, tmp_path / "broken", accelerator, limits=Limits(steps=5))
    rest = run(rough, sources, tmp_path / "broken", accelerator, resume=True)
    assert losses(first + rest) == losses(whole)
    assert [report.rate for report in first + rest] == [report.rate for report in whole]
    assert same_tensors(tmp_path / "whole", tmp_path / "broken")


def test_a_checkpoint_of_before_there_were_critics_still_resumes(
    tmp_path: Path, sources: list[Source], accelerator: object
) -> None:
    """Its recipe and its progress lack the fields that came since."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    whole = run(RECIPE, sources, tmp_path / "whole", accelerator)
    run(RECIPE, sources, tmp_path, accelerator, limits=Limits(steps=5))
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
    rest = run(RECIPE, sources, tmp_path, accelerator, resume=True)
    assert losses(rest) == losses(whole)[5:]
    assert recipe_table(read_checkpoint(tmp_path / CHECKPOINT)[0]) == recipe_table(RECIPE)


def test_a_kill_between_checkpoints_costs_only_the_steps_since(
    tmp_path: Path, sources: list[Source], accelerator: object, whole_run: Unbroken
) -> None:
    """A run that dies is one whose last checkpoint is older than its last step."""

    class Killed(BaseException):
        pass

    def die_at_eight(report: Report) -> None:
        if report.step == 8:
            raise Killed

    with pytest.raises(Killed):
        train(RECIPE, sources, tmp_path / "killed", accelerator=accelerator, tell=die_at_eight)
    rest = run(RECIPE, sources, tmp_path / "killed", accelerator, resume=True)
    assert rest[0].step == 6
    assert losses(rest) == losses(whole_run[0])[5:]


def test_the_curves_of_a_resumed_run_hold_each_step_once(
    tmp_path: Path, sources: list[Source], accelerator: object
) -> None:
    # Which pictures are learned from does not matter here, and making them takes longest.
    recipe = replace(RECIPE, steps=120, save_every=60, pool=replace(RECIPE.pool, reuse=20))
    run(recipe, sources, tmp_path, accelerator, limits=Limits(steps=60))
    run(recipe, sources, tmp_path, accelerator, resume=True)
    with (tmp_path / CURVES).open(newline="") as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    assert steps == [50, 100]


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


def test_where_a_session_ends_does_not_decide_which_weights_are_the_best(
    tmp_path: Path, sources: list[Source], accelerator: object
) -> None:
    grey = torch.full((1, 3, 32, 32), 90, dtype=torch.uint8)
    validator = Validator([ValidationSet("grey", [(grey, grey)])], torch.device("cpu"))
    recipe = replace(RECIPE, steps=6, validate_every=4)
    whole = run(recipe, sources, tmp_path / "whole", accelerator, validator=validator)
    begun = run(recipe, sources, tmp_path / "parts", accelerator, validator=validator, limits=Limits(steps=1))
    rest = run(recipe, sources, tmp_path / "parts", accelerator, validator=validator, resume=True)
    assert [report.scores for report in begun + rest] == [report.scores for report in whole]
    assert [report.step for report in whole if report.scores] == [4, 6]


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path, sources: list[Source], accelerator: object) -> None:
    run(RECIPE, sources, tmp_path, accelerator, limits=Limits(steps=5))
    with pytest.raises(TrainingError, match="another recipe"):
        run(replace(RECIPE, loss="mse"), sources, tmp_path, accelerator, resume=True)
    # What may change: a run is prolonged by more steps, and one that came apart goes on with smaller ones, by a file of
    # the user's own where the recipe is a shipped one.
    calmer = replace(RECIPE, name="calmer", source="ours", steps=30, rate=1e-4, final_rate=1e-6, gradient_norm=0.1)
    reports = run(calmer, sources, tmp_path, accelerator, resume=True)
    assert reports[-1].step == 30
    assert max(report.rate for report in reports) <= 1e-4


def test_moments_come_back_in_the_order_of_their_parameters(
    tmp_path: Path, sources: list[Source], accelerator: object
) -> None:
    run(replace(RECIPE, optimizer="adam"), sources, tmp_path, accelerator, limits=Limits(steps=2))
    learner = Learner(replace(RECIPE, optimizer="adam"), accelerator)
    restore_checkpoint(read_checkpoint(tmp_path / CHECKPOINT)[2], learner.modules, learner.optimizers)
    ((parameter, slot), *_) = learner.optimizers[0].state.items()
    assert parameter.is_contiguous(memory_format=torch.channels_last) and not parameter.is_contiguous()
    assert slot["exp_avg"].stride() == parameter.stride()


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


def test_the_weights_that_a_run_began_with_are_not_asked_for_again(
    tmp_path: Path, sources: list[Source], accelerator: object
) -> None:
    recipe = replace(RECIPE, start=str(tmp_path / "own.safetensors"))
    save_weights(models.create_model("test-tiny"), Path(recipe.start), name="test-tiny", options={}, card={})
    run(recipe, sources, tmp_path / "run", accelerator, limits=Limits(steps=2))
    Path(recipe.start).unlink()
    assert run(recipe, sources, tmp_path / "run", accelerator, limits=Limits(steps=3), resume=True)[-1].step == 3


def test_another_run_keeps_out_of_a_folder_where_one_is_at_work(
    tmp_path: Path, sources: list[Source], accelerator: object
) -> None:
    refused = 0

    def tell(report: Report) -> None:
        nonlocal refused
        for resume in (False, True):
            before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
            with pytest.raises(TrainingError, match="another run is at work there; wait for its end"):
                train(RECIPE, sources, tmp_path, accelerator=accelerator, resume=resume)
            assert before == {file.name: file.read_bytes() for file in tmp_path.iterdir()}
            refused += 1

    train(RECIPE, sources, tmp_path, accelerator=accelerator, limits=Limits(steps=2), tell=tell)
    assert refused == 4
    assert len(run(RECIPE, sources, tmp_path, accelerator, limits=Limits(steps=3), resume=True)) == 1


def test_a_run_that_cannot_begin_leaves_no_folder_but_the_one_that_was_there(
    tmp_path: Path, sources: list[Source], accelerator: object
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    for output in (mine, tmp_path / "run"):
        with pytest.raises(ModelError):
            train(replace(RECIPE, model="no-such-network"), sources, output, accelerator=accelerator)
    assert list(tmp_path.iterdir()) == [mine]
