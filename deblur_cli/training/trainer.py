"""The training loop: one screen, for one process or many."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import models
from deblur_cli.errors import TrainingError
from deblur_cli.training.checkpoint import Progress, read_checkpoint, restore_checkpoint, save_checkpoint
from deblur_cli.training.curves import Curves, Report
from deblur_cli.training.data import Pool, Source
from deblur_cli.training.export import BEST, write_weights
from deblur_cli.training.losses import content_loss
from deblur_cli.training.optimizers import make_optimizers
from deblur_cli.training.recipe import Recipe
from deblur_cli.training.validation import Validator

CHECKPOINT = "checkpoint.safetensors"
CURVES = "curves.csv"


@dataclass(frozen=True)
class Limits:
    """Where a session of training ends before the recipe does."""

    steps: int | None = None
    """Stop after this many steps in all; the schedule is not changed by it."""
    seconds: float | None = None
    """The whole run, all its sessions together, is to take this long: the schedule ends there if not before."""
    clock: Callable[[], float] = time.monotonic
    """What counts the seconds; `time.process_time` makes runs on a busy machine comparable."""


def train(
    recipe: Recipe,
    sources: Sequence[Source],
    output: Path,
    *,
    validator: Validator | None = None,
    limits: Limits = Limits(),
    resume: bool = False,
    accelerator: Any = None,
    tell: Callable[[Report], None] = lambda report: None,
    wants_to_stop: Callable[[], bool] = lambda: False,
) -> Progress:
    """Train a recipe's network; leaves `checkpoint.safetensors`, `best.safetensors` and `curves.csv` in `output`.

    The batch of a step depends on (seed, step) alone, so that a resumed run repeats the losses of an unbroken one to
    the last digit on a processor, unless `limits.seconds` makes the schedule depend on the clock.

    Args:
        sources: where pairs come from; the recipe's stages weigh them by their kind.
        validator: scores the averaged weights now and then; the best are kept apart.
        resume: go on from the checkpoint in `output`.
        accelerator: an `accelerate.Accelerator`, made here if None; it brings device, precision and processes.
        tell: called after each step.
        wants_to_stop: asked after each step; true saves and ends (Ctrl-C).

    Raises:
        TrainingError: the loss is not finite (the last good checkpoint stays), or the checkpoint is another recipe's.
    """
    accelerator = accelerator or default_accelerator()
    torch.manual_seed(recipe.seed)
    network = models.create_model(recipe.model, **recipe.options).to(accelerator.device)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(network).requires_grad_(False).eval()
    optimizers = make_optimizers(network, recipe)
    done = Progress()
    if resume:
        saved, done, tensors = read_checkpoint(output / CHECKPOINT)
        if replace(saved, steps=recipe.steps) != recipe:
            raise TrainingError(
                f"the checkpoint in {output} belongs to another recipe ('{saved.name}'); use a new folder"
            )
        restore_checkpoint(tensors, network, average, optimizers)
    output.mkdir(parents=True, exist_ok=True)
    loss_of = content_loss(recipe.loss)
    parallel = accelerator.prepare(network)
    rank, processes = accelerator.process_index, accelerator.num_processes
    clock = _Clock(recipe.steps, limits, done)
    pool = Pool(
        sources,
        recipe.pool,
        recipe.batch,
        recipe.seed,
        accelerator.device,
        lambda step: (lambda stage: (stage.weights, stage.blur))(recipe.stage_at(clock.progress(step))),
    )
    material = {source.kind: len(source) for source in sources}
    last = min(recipe.steps, limits.steps or recipe.steps)

    def save(progress: Progress) -> None:
        if accelerator.is_main_process:
            save_checkpoint(output / CHECKPOINT, recipe, progress, network, average, optimizers)

    with Curves(output / CURVES, done.step, active=accelerator.is_main_process) as curves:
        while done.step < last and clock.progress(done.step) < 1:
            progress = clock.progress(done.step)
            rate = recipe.rate_at(done.step, progress)
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = rate
            blurred, sharp = pool.batch(done.step, recipe.stage_at(progress).crop)
            blurred, sharp = (
                images[rank::processes].contiguous(memory_format=torch.channels_last) for images in (blurred, sharp)
            )
            with accelerator.autocast():
                restored = parallel(blurred)
            loss = loss_of(restored.float(), sharp, blurred)
            network.zero_grad(set_to_none=True)
            accelerator.backward(loss)
            if recipe.gradient_norm:
                accelerator.clip_grad_norm_(network.parameters(), recipe.gradient_norm)
            value = float(accelerator.reduce(loss.detach(), "mean"))
            if not value < float("inf"):
                raise TrainingError(
                    f"the loss of step {done.step} is {value}; the last good state is in {output / CHECKPOINT}: "
                    "lower the learning rate and go on with --resume"
                )
            for optimizer in optimizers:
                optimizer.step()
            _update_average(average, network, recipe.ema, done.step)
            done = replace(done, step=done.step + 1, elapsed=clock.elapsed())
            finished = done.step >= last or clock.progress(done.step) >= 1
            scores = None
            if validator and (finished or done.step % recipe.validate_every == 0):
                scores = validator.score(average)
                if scores["mean"] > done.best:
                    done = replace(done, best=scores["mean"])
                    if accelerator.is_main_process:
                        write_weights(average, output / BEST, recipe, done, scores, material)
            stopping = wants_to_stop()
            if finished or stopping or done.step % recipe.save_every == 0:
                save(done)
            report = Report(
                done.step,
                recipe.steps,
                progress,
                value,
                rate,
                done.elapsed,
                clock.speed(done.step) * recipe.batch,
                scores,
            )
            curves.add(report)
            tell(report)
            if stopping:
                break
    return done


def default_accelerator(device: str = "auto") -> Any:
    """An Accelerator with bfloat16 where the device is fast at it."""
    from accelerate import Accelerator

    from deblur_cli.restoration.device import fast_bfloat16, resolve_device, tune_allocator

    chosen = resolve_device(device)
    if chosen.type == "cpu":
        tune_allocator()
    return Accelerator(cpu=chosen.type == "cpu", mixed_precision="bf16" if fast_bfloat16(chosen) else "no")


class _Clock:
    """Progress of a run by steps and, where it has a time to keep, by the clock."""

    def __init__(self, steps: int, limits: Limits, done: Progress) -> None:
        self.steps, self.seconds, self.now, self.before = steps, limits.seconds, limits.clock, done
        self.start = self.now()

    def elapsed(self) -> float:
        return self.before.elapsed + self.now() - self.start

    def progress(self, step: int) -> float:
        by_steps = step / self.steps
        return by_steps if self.seconds is None else min(1.0, max(by_steps, self.elapsed() / self.seconds))

    def speed(self, step: int) -> float:
        return (step - self.before.step) / max(1e-9, self.now() - self.start)


@torch.no_grad()
def _update_average(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    # Early on a long memory would be one of random weights: it grows with the steps, as in TensorFlow's moving average.
    decay = min(decay, (1 + step) / (10 + step))
    ours: list[Tensor] = list(average.state_dict().values())
    theirs = list(network.state_dict().values())
    torch._foreach_lerp_(
        [t for t in ours if t.is_floating_point()], [t for t in theirs if t.is_floating_point()], 1 - decay
    )
