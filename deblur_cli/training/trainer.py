"""The training loop: one screen, for one process or many."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import models
from deblur_cli.errors import TrainingError
from deblur_cli.training.blur import BlurSettings
from deblur_cli.training.checkpoint import Progress, read_checkpoint, restore_checkpoint, save_checkpoint
from deblur_cli.training.curves import Curves, Report
from deblur_cli.training.data import Pool, Source
from deblur_cli.training.export import BEST, write_weights
from deblur_cli.training.losses import content_loss
from deblur_cli.training.optimizers import make_optimizers
from deblur_cli.training.pictures import write_png
from deblur_cli.training.recipe import Recipe
from deblur_cli.training.validation import Validator

CHECKPOINT = "checkpoint.safetensors"
CURVES = "curves.csv"
PICTURE = "validation.png"


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
    start: nn.Module | None = None,
    accelerator: Any = None,
    tell: Callable[[Report], None] = lambda report: None,
    wants_to_stop: Callable[[], bool] = lambda: False,
) -> Progress:
    """Train a recipe's network; leaves checkpoint, best weights, curves and a picture in `output`.

    The batch of a step depends on (seed, step) alone, so that a resumed run repeats the losses of an unbroken one to
    the last digit on a processor, unless `limits.seconds` makes the schedule depend on the clock.

    Args:
        sources: where pairs come from; the recipe's stages weigh them by their kind.
        validator: scores the averaged weights now and then; the best are kept apart.
        resume: go on from the checkpoint in `output`.
        start: a network of the recipe's shape whose weights the run begins with, instead of random ones.
        accelerator: an `accelerate.Accelerator`, made here if None; it brings device, precision and processes.
        tell: called after each step.
        wants_to_stop: asked in each step; true saves and ends after it (Ctrl-C).

    Raises:
        TrainingError: the loss is not finite (the last good checkpoint stays), or the checkpoint is another recipe's.
    """
    accelerator = accelerator or default_accelerator()
    torch.manual_seed(recipe.seed)
    network = models.create_model(recipe.model, **recipe.options).to(accelerator.device)
    if start is not None:
        network.load_state_dict(start.state_dict())
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
    parallel = accelerator.prepare(network)
    rank, processes = accelerator.process_index, accelerator.num_processes
    started = limits.clock() - done.elapsed

    def progress_at(step: int) -> float:
        by_clock = done.elapsed / limits.seconds if limits.seconds else 0.0
        return min(1.0, max(step / recipe.steps, by_clock))

    def mixture_at(step: int) -> tuple[dict[str, float], BlurSettings]:
        stage = recipe.stage_at(progress_at(step))
        return stage.weights, stage.blur

    pool = Pool(sources, recipe.pool, recipe.batch, recipe.seed, accelerator.device, mixture_at)
    material = {source.kind: len(source) for source in sources}
    last = min(recipe.steps, limits.steps or recipe.steps)
    with Curves(output / CURVES, done.step, active=accelerator.is_main_process) as curves:
        finished = done.step >= last or progress_at(done.step) >= 1
        while not finished:
            progress = progress_at(done.step)
            rate = recipe.rate_at(done.step, progress)
            for group in (group for optimizer in optimizers for group in optimizer.param_groups):
                group["lr"] = rate * group["share"]
            stage = recipe.stage_at(progress)
            batch = pool.batch(done.step, stage.crop)
            blurred, sharp = (images[rank::processes].contiguous(memory_format=torch.channels_last) for images in batch)
            with accelerator.autocast():
                restored = parallel(blurred)
            loss = content_loss(stage.loss or recipe.loss)(restored.float(), sharp, blurred)
            network.zero_grad(set_to_none=True)
            accelerator.backward(loss)
            if recipe.gradient_norm:
                accelerator.clip_grad_norm_(network.parameters(), recipe.gradient_norm)
            # What all processes have to agree on, in one exchange: the loss, the time, whether somebody wants to stop.
            own = torch.tensor([limits.clock() - started, float(wants_to_stop())], device=accelerator.device)
            value, elapsed, wish = accelerator.reduce(torch.cat([loss.detach().view(1), own]), "mean").tolist()
            if not math.isfinite(value):
                raise TrainingError(
                    f"the loss of step {done.step} is {value}; the last good state is in {output / CHECKPOINT}: "
                    "lower the learning rate and go on with --resume"
                )
            for optimizer in optimizers:
                optimizer.step()
            update_average(average, network, recipe.ema, done.step)
            done = replace(done, step=done.step + 1, elapsed=elapsed)
            finished = done.step >= last or progress_at(done.step) >= 1 or wish > 0
            scores = None
            if validator and (done.step % recipe.validate_every == 0 or (finished and not wish)):
                scores = validator.score(average)
                if scores["mean"] > done.best:
                    done = replace(done, best=scores["mean"])
                    if accelerator.is_main_process:
                        write_weights(average, output / BEST, recipe, done, scores, material)
                if accelerator.is_main_process:
                    write_png(output / PICTURE, validator.picture(average))
            if accelerator.is_main_process and (finished or done.step % recipe.save_every == 0):
                save_checkpoint(output / CHECKPOINT, recipe, done, network, average, optimizers)
            report = Report(done.step, recipe.steps, progress, value, rate, elapsed, scores)
            curves.add(report)
            tell(report)
    return done


def default_accelerator(device: str = "auto") -> Any:
    """An Accelerator with bfloat16 where the device is fast at it."""
    from accelerate import Accelerator

    from deblur_cli.restoration.device import fast_bfloat16, resolve_device, tune_allocator

    chosen = resolve_device(device)
    if chosen.type == "cpu":
        tune_allocator()
    return Accelerator(cpu=chosen.type == "cpu", mixed_precision="bf16" if fast_bfloat16(chosen) else "no")


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Move the floating-point tensors of `average` towards the network's, in place."""
    # Early on a long memory would be one of random weights: it grows with the steps, as in TensorFlow's moving average.
    decay = min(decay, (1 + step) / (10 + step))
    ours: list[Tensor] = list(average.state_dict().values())
    theirs = list(network.state_dict().values())
    torch._foreach_lerp_(
        [t for t in ours if t.is_floating_point()], [t for t in theirs if t.is_floating_point()], 1 - decay
    )
