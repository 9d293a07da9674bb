import csv
import errno
import math
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import models
from deblur_cli.errors import DatasetError, TrainingError, UsageError
from deblur_cli.training.accelerator import default_accelerator
from deblur_cli.training.blur import BlurSettings
from deblur_cli.training.checkpoint import CHECKPOINT, Progress, read_checkpoint
from deblur_cli.training.curves import Curves, Report
from deblur_cli.training.data import Dice, Source
from deblur_cli.training.export import BEST, export_run
from deblur_cli.training.learner import Learner
from deblur_cli.training.recipe import Recipe
from deblur_cli.training.trainer import CURVES, PICTURE, Limits, train
from deblur_cli.training.unrolled import Unrolled
from deblur_cli.training.validation import ValidationSet, Validator
from models.weights import save_weights
from tests.training.runs import AGAINST_A_CRITIC, RECIPE, another_precision, run


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


def test_training_learns(tmp_path: Path, sources: list[Source], accelerator: object) -> None:
    blurred, sharp = sources[0].draw(2, 64, BlurSettings(length=(3, 6)), Dice.seeded(torch.device("cpu"), 5))
    pairs = [
        tuple((side * 255).to(torch.uint8) for side in both)
        for both in zip(blurred.split(1), sharp.split(1), strict=True)
    ]
    validator = Validator([ValidationSet("held out", pairs)], torch.device("cpu"))
    # Making pictures takes longer than learning from each of them oftener.
    recipe = replace(RECIPE, steps=160, validate_every=160, pool=replace(RECIPE.pool, reuse=8))
    reports = run(recipe, sources, tmp_path, accelerator, validator=validator)
    assert reports[-1].scores is not None
    assert reports[-1].scores["mean"] > 0.1
    assert reports[0].shut is None
    assert reports[-1].scores["held out"] == pytest.approx(
        reports[-1].scores["held out blurred"] + reports[-1].scores["mean"]
    )

    (leftover := tmp_path / ".shipped.safetensors.0123abcd.part").touch()
    digest = export_run(tmp_path, tmp_path / "shipped.safetensors")
    assert not leftover.exists()
    loaded = models.load_model(tmp_path / "shipped.safetensors")
    assert loaded.sha256 == digest
    assert loaded.info.name == "test-tiny"
    assert reports[-1].shut == validator.shut(Unrolled(loaded.network, recurrent=False))
    assert loaded.card["recipe"]["name"] == "tests"
    assert loaded.card["data"] == "2 photos"
    assert loaded.card["scores"]["held out"]["gain"] == pytest.approx(reports[-1].scores["mean"], abs=1e-3)
    assert (tmp_path / "shipped.json").is_file()
    restored = loaded.network(pairs[0][0] / 255)
    assert not torch.equal(restored, pairs[0][0] / 255)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_weights_are_validated_in_the_precision_that_they_are_trained_in(
    tmp_path: Path, sources: list[Source], precision: str
) -> None:
    seen: list[torch.dtype] = []

    class Watching(Validator):
        def score(self, network: Unrolled) -> dict[str, float]:
            seen.append(network.network.first(torch.zeros(1, 3, 8, 8)).dtype)
            return super().score(network)

    pair = (torch.full((1, 3, 8, 8), 90, dtype=torch.uint8), torch.full((1, 3, 8, 8), 100, dtype=torch.uint8))
    validator = Watching([ValidationSet("grey", [pair])], torch.device("cpu"))
    with another_precision():
        run(replace(RECIPE, steps=1), sources, tmp_path, default_accelerator("cpu", precision), validator=validator)
    assert seen == [{"fp32": torch.float32, "bf16": torch.bfloat16}[precision]]


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


@pytest.mark.parametrize(("where", "what"), [("learn", "batch of 4 and crop of 24"), ("score", "validation pictures")])
def test_memory_that_runs_out_is_one_clear_line(
    tmp_path: Path, sources: list[Source], accelerator: object, monkeypatch: pytest.MonkeyPatch, where: str, what: str
) -> None:
    def out_of_memory(*arguments: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr({"learn": Learner, "score": Validator}[where], where, out_of_memory)
    grey = torch.full((1, 3, 32, 32), 90, dtype=torch.uint8)
    validator = Validator([ValidationSet("grey", [(grey, grey)])], torch.device("cpu"))
    with pytest.raises(TrainingError, match=f"out of memory: the {what}"):
        run(replace(RECIPE, validate_every=1), sources, tmp_path, accelerator, validator=validator)


def test_a_full_disk_is_said_with_the_way_on(
    tmp_path: Path, sources: list[Source], accelerator: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 4:  # the curves' heading, the first checkpoint and its weights, the second checkpoint
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TrainingError, match=rf"{tmp_path}: the disk is full; make room and go on .* --resume"):
        run(RECIPE, sources, tmp_path, accelerator)
    monkeypatch.undo()
    assert read_checkpoint(tmp_path / CHECKPOINT)[1].step == 10
    assert run(RECIPE, sources, tmp_path, accelerator, resume=True)[-1].step == RECIPE.steps
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TrainingError, match="the disk is full; make room and begin anew"):
        run(RECIPE, sources, tmp_path / "new", accelerator)


def test_a_run_can_begin_with_given_weights(tmp_path: Path, sources: list[Source], accelerator: object) -> None:
    start = models.create_model("test-tiny")
    with torch.no_grad():
        start.last.bias.fill_(0.25)
    run(replace(RECIPE, ema=0.0), sources, tmp_path, accelerator, limits=Limits(steps=1), start=start)
    tensors = read_checkpoint(tmp_path / CHECKPOINT)[2]
    assert torch.allclose(tensors["network.last.bias"], torch.full((3,), 0.25), atol=0.01)


def test_a_recipe_can_name_the_weights_it_begins_with(
    tmp_path: Path, sources: list[Source], accelerator: object
) -> None:
    network = models.create_model("test-tiny")
    save_weights(network, tmp_path / "own.safetensors", name="test-tiny", options={}, card={})
    recipe = replace(RECIPE, start=str(tmp_path / "own.safetensors"))
    limits = Limits(steps=1)
    recipe = replace(recipe, ema=0.0, rate=1e-9, final_rate=0.0)
    run(recipe, sources, tmp_path / "own", accelerator, limits=limits)
    other = models.create_model("test-tiny")
    run(recipe, sources, tmp_path / "other", accelerator, limits=limits, start=other)
    for start, folder in ((network, "own"), (other, "other")):
        weight = read_checkpoint(tmp_path / folder / CHECKPOINT)[2]["network.last.weight"]
        assert torch.allclose(weight, start.last.weight, atol=1e-6)
    with pytest.raises(UsageError, match="not weights of the network that recipe"):
        run(replace(recipe, options={"width": 5}), sources, tmp_path / "refused", accelerator)


def test_the_best_weights_are_those_that_met_the_critic(
    tmp_path: Path, sources: list[Source], accelerator: object
) -> None:
    class Falling:
        """Says of each validation that it is worse than the one before."""

        gain = 5.0
        baseline: ClassVar[dict[str, float]] = {"set": 30.0}

        def score(self, network: object) -> dict[str, float]:
            self.gain -= 1.0
            return {"set": 30 + self.gain, "set blurred": 30.0, "mean": self.gain}

        def shut(self, network: object) -> None:
            return None

        def picture(self, network: object) -> Tensor:
            return torch.zeros(3, 8, 8, dtype=torch.uint8)

    run(replace(AGAINST_A_CRITIC, validate_every=2), sources, tmp_path, accelerator, validator=Falling())
    assert read_checkpoint(tmp_path / CHECKPOINT)[1].best == 2.0  # of step 6, the first after the critic came in
    assert models.load_model(tmp_path / BEST).card["steps"] == 6


def test_a_session_on_other_pictures_that_validates_nothing_changes_nothing(
    tmp_path: Path, sources: list[Source], accelerator: object
) -> None:
    class Told:
        """Says the same gain of all weights, on pictures of this PSNR."""

        def __init__(self, gain: float, psnr: float) -> None:
            self.gain, self.baseline = gain, {"set": psnr}

        def score(self, network: object) -> dict[str, float]:
            psnr = self.baseline["set"]
            return {"set": psnr + self.gain, "set blurred": psnr, "mean": self.gain}

        def shut(self, network: object) -> None:
            return None

        def picture(self, network: object) -> Tensor:
            return torch.zeros(3, 8, 8, dtype=torch.uint8)

    recipe = replace(RECIPE, steps=8, validate_every=2)

    def session(steps: int, validator: Told, resume: bool = True) -> Progress:
        run(recipe, sources, tmp_path, accelerator, validator=validator, limits=Limits(steps=steps), resume=resume)
        return read_checkpoint(tmp_path / CHECKPOINT)[1]

    assert session(2, Told(5.0, 30.0), resume=False).best == 5.0
    kept = (tmp_path / BEST).read_bytes()
    assert session(3, Told(1.0, 20.0)).best == 5.0  # ended before it validated
    assert session(5, Told(1.0, 30.0)).best == 5.0 and (tmp_path / BEST).read_bytes() == kept
    assert session(7, Told(1.0, 20.0)).best == 1.0 and (tmp_path / BEST).read_bytes() != kept
    assert session(8, Told(0.5, 20.0)).best == 1.0


def test_weights_that_had_a_score_are_kept_where_a_critic_joins_in_without_validation(
    tmp_path: Path, sources: list[Source], accelerator: object
) -> None:
    grey = torch.full((1, 3, 32, 32), 90, dtype=torch.uint8)
    validator = Validator([ValidationSet("grey", [(grey, grey)])], torch.device("cpu"))
    recipe = replace(AGAINST_A_CRITIC, validate_every=1)
    run(recipe, sources, tmp_path, accelerator, validator=validator, limits=Limits(steps=3))
    validated = (tmp_path / BEST).read_bytes()
    run(recipe, sources, tmp_path, accelerator, resume=True)
    assert (tmp_path / BEST).read_bytes() == validated


def test_a_finished_run_without_weights_gets_them_when_it_is_resumed(
    tmp_path: Path, sources: list[Source], accelerator: object
) -> None:
    run(RECIPE, sources, tmp_path, accelerator, limits=Limits(steps=5))
    kept = (tmp_path / BEST).read_bytes()
    (tmp_path / BEST).unlink()
    assert run(RECIPE, sources, tmp_path, accelerator, resume=True, limits=Limits(steps=5)) == []
    assert (tmp_path / BEST).read_bytes() == kept


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


def test_exporting_a_run_without_weights_says_why(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=BEST):
        export_run(tmp_path, tmp_path / "out.safetensors")
    with pytest.raises(UsageError, match="safetensors"):
        export_run(tmp_path, tmp_path / "out.pth")


def test_a_pool_that_memory_does_not_hold_is_said(tmp_path: Path, sources: list[Source], accelerator: object) -> None:
    huge = replace(RECIPE, pool=replace(RECIPE.pool, pairs=10**9, size=10**4))
    with pytest.raises(TrainingError, match="out of memory: the pool's 1000000000 pairs of 10000 pixels"):
        run(huge, sources, tmp_path, accelerator)


def test_what_a_kill_has_left_half_written_is_cleared_away(
    tmp_path: Path, sources: list[Source], accelerator: object
) -> None:
    run(RECIPE, sources, tmp_path, accelerator, limits=Limits(steps=1))
    left = [tmp_path / f".{name}.0123abcd.part" for name in (CHECKPOINT, BEST, CURVES, PICTURE)]
    foreign = tmp_path / ".mine.png.0123abcd.part"
    for file in (*left, foreign):
        file.write_bytes(b"half")
    run(RECIPE, sources, tmp_path, accelerator, resume=True, limits=Limits(steps=1))
    assert [file for file in tmp_path.iterdir() if file.name.startswith(".")] == [foreign]


def test_weights_are_not_exported_over_the_checkpoint_of_a_run(
    tmp_path: Path, sources: list[Source], accelerator: object
) -> None:
    run(RECIPE, sources, tmp_path / "run", accelerator, limits=Limits(steps=1))
    checkpoint, copied = tmp_path / "run" / CHECKPOINT, tmp_path / "copied.safetensors"
    shutil.copy(checkpoint, copied)
    for target in (checkpoint, tmp_path / "run" / ".." / "run" / CHECKPOINT, copied):
        with pytest.raises(UsageError, match="is the checkpoint of a run"):
            export_run(tmp_path / "run", target)
    assert checkpoint.read_bytes() == copied.read_bytes() and read_checkpoint(checkpoint)[1].step == 1
    assert list(tmp_path.rglob("*.json")) == []
    checkpoint.unlink()
    with pytest.raises(UsageError, match="is the checkpoint of a run"):  # of its name, though it is not there
        export_run(tmp_path / "run", checkpoint)
    (tmp_path / "broken.safetensors").write_bytes(b"no weights")
    export_run(tmp_path / "run", tmp_path / "broken.safetensors")
    export_run(tmp_path / "run", tmp_path / "broken.safetensors")  # weights are no checkpoint and may be replaced
