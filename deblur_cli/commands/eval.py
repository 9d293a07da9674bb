"""`deblur eval`: networks scored on pairs of blurred and sharp pictures."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from deblur_cli.commands.console import Progress, shown
from deblur_cli.commands.options import Device, Overlap, Precision, Tile, engine_options
from deblur_cli.errors import EXIT_OK, EXIT_SOME_FAILED, UsageError

if TYPE_CHECKING:
    from deblur_cli.evaluation.datasets import Dataset
    from deblur_cli.evaluation.report import ModelReport, Report
    from models.weights import LoadedModel

_WIDE = 500


def evaluate(
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="A dataset in one of GOPRO's layouts, or one split of it.")
    ] = None,
    split: Annotated[
        Literal["test", "train"] | None, typer.Option(help="The split that is scored. [default: test]")
    ] = None,
    variant: Annotated[
        Literal["blur", "blur_gamma"] | None, typer.Option(help="Which blurred pictures of GOPRO. [default: blur]")
    ] = None,
    blurred: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Blurred pictures of any dataset, with --sharp.")
    ] = None,
    sharp: Annotated[Path | None, typer.Option(metavar="DIR", help="Their sharp ones, of the same names.")] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", metavar="NAME_OR_FILE", help="A network; repeat for several. [default: lite]"),
    ] = None,
    as_float: Annotated[bool, typer.Option("--float", help="Do not round to 8 bits before scoring.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Score only the first pairs.")] = None,
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Leave out pictures that do not pair instead of stopping.")
    ] = False,
    require_complete: Annotated[
        bool, typer.Option("--require-complete", help="Stop unless the whole known dataset is there.")
    ] = False,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a row for each image to this file.")] = None,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write all scores, and all that decides them, to this file.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the restored pictures as PNG below DIR/NETWORK.")
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    tile: Tile = "auto",
    overlap: Overlap = None,
) -> None:
    """Score networks by PSNR and two kinds of SSIM, beside the blurred input itself.

    DIR is a dataset in GOPRO's layout; any two folders are scored by --blurred DIR --sharp DIR.
    """
    names = list(dict.fromkeys(model or ["lite"]))
    engines = [engine_options(name, device, precision, tile, overlap, None) for name in names]
    if limit and require_complete:
        raise UsageError("--limit and --require-complete contradict each other")
    for file in (csv, json):
        if file is not None:
            _check_file(file)
    dataset = _dataset(folder, blurred, sharp, split=split, variant=variant, allow_partial=allow_partial)
    if require_complete:
        dataset.require_whole()
    if limit:
        dataset = dataset.first(limit)
    if save is not None:
        _check_save(save, dataset)
    report = _score(dataset, engines, rounding=not as_float, save=save)
    _print(report)
    _write(report, csv, json)
    failed = any(one.result.failures for one in report.models)
    raise typer.Exit(EXIT_SOME_FAILED if failed else EXIT_OK)


def _dataset(
    folder: Path | None,
    blurred: Path | None,
    sharp: Path | None,
    *,
    split: str | None,
    variant: str | None,
    allow_partial: bool,
) -> Dataset:
    from deblur_cli.evaluation.datasets import find_pairs, pair_folders

    if folder is not None and blurred is None and sharp is None:
        return find_pairs(folder, split=split, variant=variant, allow_partial=allow_partial)
    if folder is not None or blurred is None or sharp is None:
        raise UsageError("name either a dataset's folder, or two folders by --blurred DIR --sharp DIR")
    if split or variant:
        raise UsageError("--split and --variant belong to a dataset's folder, not to --blurred and --sharp")
    return pair_folders(blurred, sharp, allow_partial=allow_partial)


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise UsageError(f"'{path}' is a folder; name a file to write")
    if not path.parent.is_dir():
        raise UsageError(f"'{path}' has no folder to lie in; make '{path.parent}' first")


def _check_save(save: Path, dataset: Dataset) -> None:
    if save.exists() and not save.is_dir():
        raise UsageError(f"'{save}' is a file; --save takes a folder")
    for folder in dataset.folders:
        if save.resolve().is_relative_to(folder):
            raise UsageError(f"--save cannot be inside the pictures that are scored, '{folder}'")


def _score(dataset: Dataset, engines: Sequence[dict[str, Any]], *, rounding: bool, save: Path | None) -> Report:
    from deblur_cli.evaluation.report import Report
    from models.weights import load_model

    # All are loaded before the first is run, so that a wrong name does not come up after an hour.
    loaded = [load_model(engine["model"]) for engine in engines]
    report = Report(dataset, rounding, ())
    for model, label, engine in zip(loaded, _labels(loaded), engines, strict=True):
        below = save / re.sub(r"[^\w.+-]", "-", label) if save else None
        done = _score_one(report, engine | {"model": model}, label, below)
        report = Report(dataset, rounding, (*report.models, done))
    return report


def _score_one(report: Report, engine: dict[str, Any], label: str, save: Path | None) -> ModelReport:
    """One network over the dataset; the blurred pictures' scores are taken from those that ran before."""
    from deblur_cli.evaluation.benchmark import Failure, ImageResult, benchmark
    from deblur_cli.evaluation.report import describe
    from deblur_cli.restoration.restorer import Restorer

    notes: list[str] = []

    def notify(text: str) -> None:
        notes.append(text)
        progress.say(f"{label}: {text}")

    def advance(done: ImageResult | Failure) -> None:
        name = "/".join(filter(None, (done.pair.sequence, done.pair.name)))
        if isinstance(done, Failure):
            progress.say(f"{label}: {name} failed: {done.reason}")
            progress.advance(f"{label}: {name} failed")
        else:
            progress.advance(f"{label}: {name} {done.gain:+.2f} dB")

    progress = Progress(len(report.dataset.pairs), label)
    with progress:
        restorer = Restorer(**engine, notify=notify)
        try:
            result = benchmark(
                restorer,
                report.dataset,
                rounding=report.rounding,
                save=save,
                known=report.blurred_scores,
                progress=advance,
            )
        except OSError as error:
            raise UsageError(f"the restored pictures cannot be saved: {error}") from error
    return describe(restorer, result, label=label, tile=engine["tile"], overlap=engine["overlap"], notes=notes)


def _labels(models: Sequence[LoadedModel]) -> list[str]:
    """The models' labels, numbered where two are the same, such as files of one name in different folders."""
    labels: list[str] = []
    for own in (shown(model.label) for model in models):
        number = sum(label.partition("#")[0] == own for label in labels)
        labels.append(f"{own}#{number + 1}" if number else own)
    return labels


def _print(report: Report) -> None:
    from rich.console import Console

    from deblur_cli.evaluation.report import build_notes, build_table

    # Without a terminal nothing may be cut to the 80 columns that rich then assumes.
    console = Console(width=None if sys.stdout.isatty() else _WIDE, markup=False, highlight=False)
    console.print(build_table(report))
    for note in build_notes(report):
        typer.echo(shown(note))


def _write(report: Report, csv: Path | None, json: Path | None) -> None:
    from deblur_cli.evaluation.report import write_csv, write_json

    for path, write in ((csv, write_csv), (json, write_json)):
        if path is not None:
            try:
                write(report, path)
            except OSError as error:
                raise UsageError(f"'{path}' cannot be written: {error}") from error
