"""`deblur train`: train a network by a recipe, go on with a run, export its weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deblur_cli.commands.console import say
from deblur_cli.commands.options import Device
from deblur_cli.errors import UsageError
from deblur_cli.words import counted

if TYPE_CHECKING:
    from deblur_cli.training.curves import Report

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def _list_recipes(wanted: bool) -> None:
    if not wanted:
        return
    from deblur_cli.training.recipe import load_recipe, shipped_recipes

    for name in shipped_recipes():
        recipe = load_recipe(name)
        typer.echo(f"{name:18} {recipe.model:11} {recipe.steps:>9,} steps of {recipe.batch:2}  {recipe.source}")
    raise typer.Exit


def train(
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder of the run: checkpoint, best weights, curves.")
    ],
    recipe: Annotated[str | None, typer.Option("--recipe", help="A shipped recipe's name, or a TOML file.")] = None,
    list_recipes: Annotated[
        bool, typer.Option("--list", is_eager=True, callback=_list_recipes, help="List the shipped recipes.")
    ] = False,
    data: Annotated[Path | None, typer.Option("--data", help="A dataset in GOPRO's layout; its train split.")] = None,
    photos: Annotated[Path | None, typer.Option("--photos", help="Sharp photos, blurred on the fly.")] = None,
    clips: Annotated[
        Path | None, typer.Option("--clips", help="Sharp clips; those of 100 frames/s and more are averaged.")
    ] = None,
    validation: Annotated[
        Path | None, typer.Option("--validation", help="GOPRO's layout; its test pairs choose the best weights.")
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option("--steps", min=1, help="Steps of the whole run. [default: the recipe's; resumed, as begun]"),
    ] = None,
    stop_at: Annotated[
        int | None,
        typer.Option("--stop-at", min=1, help="End this session at a step; the schedule stays the recipe's."),
    ] = None,
    max_time: Annotated[
        str | None, typer.Option("--max-time", help="Time for the whole run (90s, 30m, 2h); the schedule ends there.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in the run's folder.")] = False,
    start: Annotated[
        str | None, typer.Option("--start", metavar="NAME_OR_FILE", help="Begin with these weights, to fine-tune them.")
    ] = None,
    vgg: Annotated[
        Path | None,
        typer.Option("--vgg", help="VGG19's weights for a perceptual loss. [default: fetched once, 575 MB]"),
    ] = None,
    export: Annotated[
        Path | None, typer.Option("--export", help="Do not train: write the run's best weights and their card here.")
    ] = None,
    device: Device = "auto",
    precision: Annotated[
        str,
        typer.Option(help="auto, fp32, tf32 or bf16: what the network computes in. [default: auto; resumed, as begun]"),
    ] = "auto",
) -> None:
    """Train a network on pairs, sharp photos or high-speed clips.

    Several devices or machines: `accelerate launch -m deblur_cli train …`; on processors accelerate starts several
    processes only with --multi_gpu. Ctrl-C saves; --resume goes on.
    """
    from dataclasses import replace

    if export is not None:
        from deblur_cli.training.export import export_run

        others = (recipe, data, photos, clips, validation, steps, stop_at, max_time, start, vgg)
        if resume or device != "auto" or precision != "auto" or any(option is not None for option in others):
            raise UsageError("--export does not train: give it with --output alone")
        typer.echo(f"{export}  sha256 {export_run(output, export)}")
        typer.echo(f"{export.with_suffix('.json')}")
        return
    if resume and start:
        raise UsageError("--start is for a run that begins, and --resume for one that goes on; leave one out")
    if recipe is None:
        raise UsageError("which recipe? give --recipe NAME or --recipe FILE.toml")

    import models
    from deblur_cli.restoration.device import resolve_device
    from deblur_cli.training.accelerator import default_accelerator, precision_of, trains_in
    from deblur_cli.training.checkpoint import CHECKPOINT, Progress, read_checkpoint
    from deblur_cli.training.inputs import find_files, load_sources, load_validator
    from deblur_cli.training.learner import load_start
    from deblur_cli.training.pool import pool_device
    from deblur_cli.training.recipe import load_recipe
    from deblur_cli.training.trainer import Limits, same_material, same_sets
    from deblur_cli.training.trainer import train as run_training

    chosen = load_recipe(recipe)
    there = next((each for each in (output, *output.parents) if each.exists()), output)
    if there.exists() and not there.is_dir():
        raise UsageError(f"--output {output}: '{there}' is a file; name a folder for the run")
    before = Progress()
    if resume:
        begun, before, _ = read_checkpoint(output / CHECKPOINT)
        steps = steps or begun.steps
    chosen = replace(chosen, steps=steps) if steps else chosen
    seconds = parse_duration(max_time) if max_time else None
    if not resume and (output / CHECKPOINT).exists():
        raise UsageError(f"{output} holds a run already; go on with --resume, or choose another folder")
    starting = load_start(start, chosen) if start else None
    files = find_files(photos=photos, clips_folder=clips, data=data, validation=validation)
    was_in = before.precision[-1][1] if before.precision else ""
    if was_in and precision == "auto" and trains_in(resolve_device(device), was_in):
        precision = was_in
    half_precision = models.model_info(chosen.model).half_precision
    accelerator = default_accelerator(device, precision, half_precision=half_precision)
    tell = say if accelerator.is_main_process else lambda line: None
    sources = load_sources(files, chosen.pool, pool_device(accelerator.device), chosen.frames, tell)
    validator = load_validator(files, chosen, accelerator.device, tell)
    if validator is None and before.validated:
        tell("no validation from here on: best.safetensors stays as it is; give --validation or --photos as before")
    elif validator is None:
        tell("nothing to validate on: the last weights are kept; --validation or --photos let the best be found")
    elif not same_sets(before, validator):
        tell("validated on other pictures than before: the best weights are chosen anew from here on")
    if before.material and not same_material(before, sources):
        tell(f"trained on other material from here on; before it was {before.material[-1][1]}")
    if was_in and was_in != precision_of(accelerator):
        tell(f"trained in {precision_of(accelerator)} from here on; before it was {was_in}")
    with Monitor(chosen.batch, quiet=not accelerator.is_main_process) as monitor:
        done = run_training(
            chosen,
            sources,
            output,
            validator=validator,
            limits=Limits(steps=stop_at, seconds=seconds),
            resume=resume,
            start=starting,
            vgg=vgg,
            accelerator=accelerator,
            tell=monitor.tell,
            wants_to_stop=monitor.wants_to_stop,
        )
    if accelerator.is_main_process:
        gain = "" if done.best == float("-inf") else f", best gain {done.best:+.3f} dB"
        typer.echo(f"{output}: {counted(done.step, 'step')} in {done.elapsed / 60:.1f} minutes{gain}")
    if done.step == before.step and not monitor.interrupted:
        limit = f"--stop-at {stop_at} is reached" if stop_at and done.step >= stop_at else "the run is finished"
        tell(f"nothing was left to do: {limit}; a larger limit (--stop-at, --steps, --max-time) lets it go on")
    if monitor.interrupted:
        raise KeyboardInterrupt


def parse_duration(text: str) -> float:
    """Seconds of `90`, `90s`, `30m` or `1.5h`.

    Raises:
        UsageError: it is none of these.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip().lower())
    if not match or float(match[1]) <= 0:
        raise UsageError(f"'{text}' is not a time; write 90s, 30m or 2h")
    return float(match[1]) * _UNITS[match[2]]


class Monitor:
    """Shows the run on standard error (a bar on a terminal, else a line each half minute) and turns the first Ctrl-C,
    or a request to end (SIGTERM), into a wish to stop after the step, so that the run is saved whole."""

    def __init__(self, batch: int, *, quiet: bool, every: float = 30.0) -> None:
        self.batch, self.quiet, self.every = batch, quiet, every
        self.interrupted = False
        self._said = -every
        self._first: Report | None = None

    def __enter__(self) -> Monitor:
        import signal
        import sys

        from tqdm import tqdm

        self._before = {each: signal.signal(each, self._interrupt) for each in (signal.SIGINT, signal.SIGTERM)}
        self._bar = tqdm(
            total=1.0,
            bar_format="{percentage:5.1f}% |{bar}| {elapsed} left {remaining} {postfix}",
            file=sys.stderr,
            disable=self.quiet or not sys.stderr.isatty(),
        )
        return self

    def __exit__(self, *exception: object) -> None:
        import signal

        for each, handler in self._before.items():
            signal.signal(each, handler)
        self._bar.close()

    def wants_to_stop(self) -> bool:
        """Whether Ctrl-C was pressed, or the like."""
        return self.interrupted

    def tell(self, report: Report) -> None:
        """Show one step."""
        if self.quiet:
            return
        line = f"step {report.step}, loss {report.loss:.5f}, {self._speed(report):.0f} crops/s"
        if len(report.parts) > 1:
            line += "".join(f", {part} {loss:.5f}" for part, loss in report.parts.items())
        if report.scores:
            sets = {name: psnr for name, psnr in report.scores.items() if name != "mean"}
            line += ", validation " + ", ".join(f"{name} {psnr:.3f} dB" for name, psnr in sets.items())
        if report.shut is not None:
            line += f", {report.shut:.0%} of channels shut"
        self._bar.update(report.progress - self._bar.n)
        self._bar.set_postfix_str(line)
        if self._bar.disable and (report.scores or report.elapsed - self._said >= self.every):
            self._said = report.elapsed
            say(f"{100 * report.progress:.1f}%: {line}")

    def _speed(self, report: Report) -> float:
        """Crops a second since this session's first step."""
        self._first = self._first or report
        return self.batch * (report.step - self._first.step) / max(1e-9, report.elapsed - self._first.elapsed)

    def _interrupt(self, *signal: object) -> None:
        if self.interrupted:  # the second time it is meant
            raise KeyboardInterrupt
        self.interrupted = True
