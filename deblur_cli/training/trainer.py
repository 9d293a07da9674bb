"""The training loop: one screen, for one process or many."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

import models
from deblur_cli.errors import TrainingError
from deblur_cli.media.files import is_disk_full, lock, remove_stale
from deblur_cli.restoration.memory import is_out_of_memory
from deblur_cli.training.accelerator import default_accelerator, precision_of
from deblur_cli.training.blur import BlurSettings
from deblur_cli.training.checkpoint import (
    CHECKPOINT,
    Progress,
    continued,
    read_checkpoint,
    restore_checkpoint,
    save_checkpoint,
)
from deblur_cli.training.curves import Curves, Report
from deblur_cli.training.data import Source
from deblur_cli.training.export import BEST, write_weights
from deblur_cli.training.learner import Learner, load_start
from deblur_cli.training.pictures import write_png
from deblur_cli.training.pool import Pool, pool_device, require_sources
from deblur_cli.training.recipe import Recipe
from deblur_cli.training.validation import Validator

if TYPE_CHECKING:
    from accelerate import Accelerator

CURVES = "curves.csv"
PICTURE = "validation.png"

_ADJUSTABLE = ("name", "source", "steps", "rate", "final_rate", "gradient_norm")
"""Fields in which a recipe may differ from that of the checkpoint it resumes, by a recipe file of the user's own: to
train longer, or with a lower rate."""


@dataclass(frozen=True)
class Limits:
    """Where a session of training ends before the recipe does."""

    steps: int | None = None
    """Stop after this many steps in all; the schedule is not changed by it."""
    seconds: float | None = None
    """The whole run, all its sessions together, is to take this long: the schedule ends there if not before. A run that
    is resumed without a limit has the one that it was begun with."""
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
    vgg: Path | None = None,
    accelerator: Accelerator | None = None,
    tell: Callable[[Report], None] = lambda report: None,
    wants_to_stop: Callable[[], bool] = lambda: False,
) -> Progress:
    """Train a recipe's network; leaves checkpoint, best weights, curves and a picture in `output`.

    The batch of a step depends on (seed, step) alone, so that a resumed run repeats the losses of an unbroken one to
    the last digit on a processor, unless `limits.seconds` makes the schedule depend on the clock.

    Args:
        sources: where pairs come from; the recipe's stages weigh them by their kind.
        validator: scores the averaged weights now and then, in the precision that they are trained in; the best of them
            are kept. Until it has scored some, and without a validator, the last weights are kept.
        resume: go on from the checkpoint in `output`.
        start: a network of the recipe's shape whose weights to begin with, instead of what the recipe begins with.
        vgg: the weights of VGG19, see `Learner`.
        accelerator: it brings device, precision and processes; None: `default_accelerator`'s.
        tell: called after each step.
        wants_to_stop: asked in each step; true saves and ends after it (Ctrl-C).

    Raises:
        TrainingError: a loss is not finite, memory runs out or the disk is full (the last good checkpoint stays), or
            the checkpoint is another recipe's; or another run is at work in `output`.
        UsageError, ModelError: see `Learner` and `load_start`.
    """
    accelerator = accelerator or default_accelerator(half_precision=models.model_info(recipe.model).half_precision)
    with _alone(output) if accelerator.is_main_process else contextlib.nullcontext():
        if start is None and recipe.start and not resume:
            start = load_start(recipe.start, recipe)
        learner = Learner(recipe, accelerator, start=start, vgg=vgg)
        done = _resumed(recipe, output, learner) if resume else Progress()
        limits = replace(limits, seconds=limits.seconds or done.seconds)
        done = replace(
            done,
            seconds=limits.seconds,
            material=continued(done.material, done.step, _in_words(sources)),
            precision=continued(done.precision, done.step, precision_of(accelerator)),
        )
        if accelerator.is_main_process:
            remove_stale(output / name for name in (CHECKPOINT, BEST, CURVES, PICTURE))
        started = limits.clock() - done.elapsed

        def progress_at(step: int) -> float:
            by_clock = done.elapsed / limits.seconds if limits.seconds else 0.0
            return min(1.0, max(step / recipe.steps, by_clock))

        def mixture_at(step: int) -> tuple[dict[str, float], BlurSettings]:
            stage = recipe.stage_at(progress_at(step))
            return stage.weights, stage.blur

        def keep(scores: dict[str, float]) -> None:
            write_weights(learner.average, output / BEST, recipe, done, scores)

        for stage in recipe.stages:  # now, and not when an hour has gone into the stages before
            require_sources(sources, stage.weights)
        making = pool_device(accelerator.device)
        with _memory(f"pool's {recipe.pool.pairs} pairs of {recipe.pool.size} pixels"):
            pool = Pool(sources, recipe.pool, recipe.batch, recipe.seed, making, mixture_at, recipe.frames)
        last = min(recipe.steps, limits.steps or recipe.steps)
        curves = Curves(output / CURVES, done.step, active=accelerator.is_main_process, parts=recipe.curves)
        with _room(output), curves, contextlib.closing(pool):
            finished = done.step >= last or progress_at(done.step) >= 1
            while not finished:
                progress = progress_at(done.step)
                stage, rate = recipe.stage_at(progress), recipe.rate_at(done.step, progress, done.plateau.factor)
                with _memory(f"batch of {recipe.batch} and crop of {stage.crop}"):
                    blurred, sharp = (images.to(accelerator.device) for images in pool.batch(done.step, stage.crop))
                    found = learner.learn(stage, (blurred, sharp), done.step, rate)
                # What all processes have to agree on, in one exchange: losses, time, whether somebody wants to stop.
                own = torch.tensor([limits.clock() - started, float(wants_to_stop())], device=accelerator.device)
                exchanged = accelerator.reduce(torch.cat([own, torch.stack(list(found.values()))]), "mean")
                elapsed, wish, *values = exchanged.tolist()
                losses = dict(zip(found, values, strict=True))
                if not all(map(math.isfinite, values)):
                    what = ", ".join(f"{name} {value}" for name, value in losses.items())
                    raise TrainingError(
                        f"not finite in step {done.step}: {what}; lower the recipe's rate and {_way_on(output)}"
                    )
                learner.update(done.step)
                plateau = done.plateau.after(losses["loss"], recipe.schedule)
                number = recipe.stages.index(stage)
                if stage.adversarial_weight and not recipe.stages[done.stage].adversarial_weight:
                    # Critics cost PSNR: compared with weights from before one, those that met it would never be kept.
                    done = replace(done, best=-math.inf)
                done = replace(done, step=done.step + 1, stage=number, elapsed=elapsed, plateau=plateau)
                ended = done.step >= recipe.steps or progress_at(done.step) >= 1
                finished = ended or done.step >= last or wish > 0
                scores = shut = None
                # Not where a session ends before the run does, or its sessions would decide which weights are the best.
                if validator and (done.step % recipe.validate_every == 0 or ended):
                    with _memory("validation pictures, restored whole,"), accelerator.autocast():
                        scores = validator.score(learner.scored)
                        shut = validator.shut(learner.scored)
                        picture = validator.picture(learner.scored) if accelerator.is_main_process else None
                    # Gains on other pictures say nothing beside these.
                    if scores["mean"] > done.best or not same_sets(done, validator):
                        done = replace(done, best=scores["mean"], validated=True, baseline=validator.baseline)
                        if accelerator.is_main_process:
                            keep(scores)
                    if picture is not None:
                        write_png(output / PICTURE, picture)
                if accelerator.is_main_process and (finished or done.step % recipe.save_every == 0):
                    save_checkpoint(output / CHECKPOINT, recipe, done, learner.modules, learner.optimizers)
                    if not done.validated:  # none are known to be better than the last
                        keep({})
                loss = losses.pop("loss")
                report = Report(done.step, recipe.steps, progress, loss, rate, elapsed, scores, losses, shut)
                curves.add(report)
                tell(report)
            if accelerator.is_main_process and done.step and not done.validated and not (output / BEST).exists():
                # A run of an earlier version, which kept none without validation, had nothing left to do.
                keep({})
        return done


def _resumed(recipe: Recipe, output: Path, learner: Learner) -> Progress:
    """How far the run in `output` is; the learner becomes what it was then.

    Raises:
        TrainingError: there is no checkpoint, it is damaged, or it is another recipe's.
    """
    saved, done, tensors = read_checkpoint(output / CHECKPOINT)
    if replace(saved, **{name: getattr(recipe, name) for name in _ADJUSTABLE}) != recipe:
        raise TrainingError(f"the checkpoint in {output} belongs to another recipe ('{saved.name}'); use a new folder")
    restore_checkpoint(tensors, learner.modules, learner.optimizers)
    learner.stage = recipe.stages[done.stage]
    return done


def same_sets(progress: Progress, validator: Validator) -> bool:
    """Whether a run has been validated on the pictures of `validator` so far, or not at all."""
    before, now = progress.baseline, validator.baseline
    return not before or (
        before.keys() == now.keys() and all(math.isclose(before[name], now[name], abs_tol=1e-3) for name in now)
    )


def same_material(progress: Progress, sources: Sequence[Source]) -> bool:
    """Whether a run's last session had as many photos, clips and pairs as `sources`; false where that is not known."""
    return bool(progress.material) and progress.material[-1][1] == _in_words(sources)


def _in_words(sources: Sequence[Source]) -> str:
    return ", ".join(f"{len(source)} {source.kind}" for source in sources)


@contextlib.contextmanager
def _alone(output: Path) -> Iterator[None]:
    """Make a run's folder and keep other runs out of it, where the system and the drive know locks.

    One that was made here, and stays empty, is removed again.

    Raises:
        TrainingError: another run is at work in it.
    """
    is_new = not output.exists()
    output.mkdir(parents=True, exist_ok=True)
    if os.name == "nt":  # where no folder is opened
        yield
        return
    descriptor = os.open(output, os.O_RDONLY)
    try:
        if not lock(descriptor):
            raise TrainingError(f"{output}: another run is at work there; wait for its end, or take another folder")
        try:
            yield
        finally:
            if is_new:
                with contextlib.suppress(OSError):
                    output.rmdir()  # of a run that could not begin
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _memory(use: str) -> Iterator[None]:
    """Say what memory was for where it runs out.

    Raises:
        TrainingError: it ran out.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(f"out of memory: the {use} are too large for this machine; have smaller ones") from error


@contextlib.contextmanager
def _room(output: Path) -> Iterator[None]:
    """Say how to go on where there is no more room for what a run leaves in `output`.

    Raises:
        TrainingError: the disk is full.
    """
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise TrainingError(f"{output}: the disk is full; make room and {_way_on(output)}") from error


def _way_on(output: Path) -> str:
    checkpoint = output / CHECKPOINT
    return f"go on from {checkpoint} with --resume" if checkpoint.exists() else "begin anew"
