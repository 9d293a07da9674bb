"""`deblur eval`: networks scored on pairs of blurred and sharp pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from deblur_cli.commands.console import say, shown
from deblur_cli.commands.options import Device, Models, Overlap, Precision, Tile, engine_options, model_names
from deblur_cli.errors import EXIT_OK, EXIT_SOME_FAILED, DeblurError, DiskFullError, UsageError
from deblur_cli.media.files import is_disk_full
from deblur_cli.words import counted

if TYPE_CHECKING:
    from deblur_cli.evaluation.datasets import Dataset, Pair
    from deblur_cli.evaluation.elsewhere import RestoredPictures
    from deblur_cli.evaluation.gallery import Views
    from deblur_cli.evaluation.journal import Journal
    from deblur_cli.evaluation.perceptual import Lpips
    from deblur_cli.evaluation.report import Report
    from deblur_cli.restoration.processes import Processes
    from models.weights import LoadedModel

_WIDE = 100_000


def evaluate(
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="GOPRO, REDS, RealBlur, HIDE or Köhler, or one split of it.")
    ] = None,
    split: Annotated[
        Literal["test", "train", "val"] | None,
        typer.Option(help="The split that is scored. [default: test, of REDS val]"),
    ] = None,
    variant: Annotated[
        Literal["blur", "blur_gamma"] | None, typer.Option(help="Which blurred pictures of GOPRO. [default: blur]")
    ] = None,
    blurred: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Blurred pictures of any dataset, with --sharp.")
    ] = None,
    sharp: Annotated[Path | None, typer.Option(metavar="DIR", help="Their sharp ones, of the same names.")] = None,
    model: Models = None,
    restored: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Pictures that another program restored; repeat for several."),
    ] = None,
    metric: Annotated[
        Literal["lpips"] | None,
        typer.Option(help="A metric beside PSNR and SSIM; lpips takes its package: pip install lpips."),
    ] = None,
    align: Annotated[
        bool, typer.Option("--align", help="Lay each picture on its sharp one first, as RealBlur's protocol does.")
    ] = False,
    as_float: Annotated[bool, typer.Option("--float", help="Do not round to 8 bits before scoring.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Score only the first pairs.")] = None,
    sequence: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Score only this sequence; repeat for several.")
    ] = None,
    no_state: Annotated[
        bool, typer.Option("--no-state", help="Let a recurrent network begin anew with every frame.")
    ] = False,
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
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page with a chart, and the best and worst pictures.")
    ] = None,
    journal: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep each score here at once; the same command then goes on where it was."),
    ] = None,
    save: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the restored pictures as PNG below DIR/NETWORK.")
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    tile: Tile = "auto",
    overlap: Overlap = None,
) -> None:
    """Score networks, or what other programs restored, by PSNR and two kinds of SSIM, beside the blurred input itself.

    DIR is GOPRO, REDS, RealBlur, HIDE or Köhler as they are passed around, each scored by its own protocol; any two
    folders are scored by --blurred DIR --sharp DIR. `accelerate launch -m deblur_cli eval …` shares the work out.
    """
    names = [] if restored and not model else model_names(model)
    engines = [engine_options(name, device, precision, tile, overlap, None) for name in names]
    if require_complete and (limit or sequence):
        raise UsageError(f"{'--limit' if limit else '--sequence'} and --require-complete contradict each other")
    from deblur_cli.evaluation.outputs import check_files, check_inputs, check_save

    if not names and (save or journal):
        option = "--save" if save else "--journal"
        raise UsageError(f"{option} is for what networks restore, and there is only --restored; name a network by -m")
    files = {"--csv": csv, "--json": json, "--html": html, "--journal": journal}
    check_files(files, save)
    dataset = _dataset(folder, blurred, sharp, split=split, variant=variant, allow_partial=allow_partial)
    if align:
        dataset = dataset.aligned()
    if require_complete:
        dataset.require_whole()
    whole = dataset
    if sequence:
        dataset = dataset.only(sequence)
    if limit:
        dataset = dataset.first(limit)
    if save is not None:
        check_save(save, dataset)
    if metric and dataset.protocol != "pixelwise":
        other = "--align" if align else f"{dataset.protocol}'s protocol"
        raise UsageError(f"--metric lpips compares pixel by pixel, and {other} does not")
    from deblur_cli.evaluation.elsewhere import RestoredPictures
    from deblur_cli.restoration.device import resolve_device
    from deblur_cli.restoration.processes import Processes

    processes = Processes(device, advice="with --journal FILE, the same command goes on from what there is")
    others = [RestoredPictures(folder, dataset, resolve_device(processes.device), whole) for folder in restored or []]
    check_inputs(files, whole, others, map(Path, names))
    report, views = _score(
        dataset,
        engines,
        others,
        processes,
        rounding=not as_float,
        keep_state=not no_state,
        save=save,
        files=files,
        lpips=bool(metric),
    )
    processes.close()
    if not processes.is_first:
        raise typer.Exit(EXIT_OK)
    try:
        _write(report, views, csv, json, html)
    finally:  # only then, as a reader of the table may be gone (`| head`)
        _print(report)
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


def _score(
    dataset: Dataset,
    engines: Sequence[dict[str, Any]],
    restored: Sequence[RestoredPictures],
    processes: Processes,
    *,
    rounding: bool,
    keep_state: bool,
    save: Path | None,
    files: Mapping[str, Path | None],
    lpips: bool,
) -> tuple[Report, dict[str, Mapping[Pair, Views]]]:
    from deblur_cli.commands.scoring import Scoring
    from deblur_cli.evaluation.journal import RAN_AS
    from deblur_cli.evaluation.outputs import folders_for
    from deblur_cli.evaluation.report import Report
    from models.weights import load_model

    # All are loaded before the first is run, so that a wrong name does not come up after an hour.
    loaded = [load_model(engine["model"]) for engine in engines]
    labels = _labels([*(model.label for model in loaded), *(one.folder.name for one in restored)])
    networks, others = dict(zip(labels, loaded, strict=False)), dict(zip(labels[len(loaded) :], restored, strict=True))
    folders = folders_for(save, list(networks), dataset, files, restored) if save else {}
    metric = _lpips(processes) if lpips else None
    description = metric.description if metric else None
    if processes.count > 1 and processes.is_first:
        say(f"{processes.count} processes share {counted(len(dataset.pairs), 'pair')}; the first one's are shown")
    scoring = Scoring(
        dataset,
        processes,
        rounding=rounding,
        keep_state=keep_state,
        lpips=metric,
        pictures=files["--html"] is not None,
    )
    with ExitStack() as stack:
        kept = None
        if (journal := files["--journal"]) is not None:
            conditions = _conditions(dataset, rounding, keep_state, engines, networks)
            conditions["--metric"] = description
            conditions[RAN_AS] = _ran_as(processes, engines, networks)
            kept = _open(journal, conditions, processes, stack)
        reports = [
            scoring.network(engine | {"model": model, "device": processes.device}, label, folders.get(label), kept)
            for (label, model), engine in zip(networks.items(), engines, strict=True)
        ]
        reports += [scoring.pictures(one, label) for label, one in others.items()]
    return Report(dataset, rounding, tuple(reports), description), scoring.views


def _lpips(processes: Processes) -> Lpips:
    from deblur_cli.evaluation.perceptual import Lpips
    from deblur_cli.restoration.device import resolve_device

    with processes.first_before_others():  # whose weights may have to be fetched
        return Lpips(resolve_device(processes.device))


def _open(path: Path, conditions: dict[str, Any], processes: Processes, stack: ExitStack) -> Journal:
    from deblur_cli.evaluation.journal import Journal

    try:
        with processes.first_before_others():
            return stack.enter_context(Journal(path, conditions))
    except OSError as error:
        if is_disk_full(error):
            raise DiskFullError(f"the journal '{path}': the disk is full; make room, or take another place") from error
        raise UsageError(f"the journal '{path}' cannot be written: {error.strerror or error}") from error


def _conditions(
    dataset: Dataset,
    rounding: bool,
    keep_state: bool,
    engines: Sequence[dict[str, Any]],
    models: dict[str, LoadedModel],
) -> dict[str, Any]:
    """All that decides a score, under the names that a user knows; JSON."""
    from deblur_cli import __version__

    return {
        "dataset": [dataset.name, *map(str, dataset.folders)],
        "--split": dataset.split,
        "--variant": dataset.variant,
        "--align": dataset.protocol == "aligned",
        "--float": not rounding,
        "--no-state": not keep_state,
        "--model": {
            label: [model.info.name, model.sha256, dict(model.options)] for label, model in sorted(models.items())
        },
        **{f"--{name}": engines[0][name] for name in ("device", "precision", "tile", "overlap")},
        "version": __version__,
    }


def _ran_as(
    processes: Processes, engines: Sequence[dict[str, Any]], models: dict[str, LoadedModel]
) -> dict[str, list[str]]:
    """What `auto` means here, for each network: the kind of device, and the precision."""
    from deblur_cli.restoration.device import resolve_device, resolve_precision

    device = resolve_device(processes.device)
    return {
        label: [device.type, resolve_precision(engine["precision"], device, model.info.half_precision)]
        for engine, (label, model) in zip(engines, models.items(), strict=True)
    }


def _labels(names: Sequence[str]) -> list[str]:
    """The names, numbered where two are the same, such as files of one name in different folders."""
    labels: list[str] = []
    for own in map(shown, names):
        label, number = own, 1
        while label in labels:
            number += 1
            label = f"{own}#{number}"
        labels.append(label)
    return labels


def _print(report: Report) -> None:
    from rich.console import Console

    from deblur_cli.evaluation.report import build_notes, build_sequence_table, build_table

    # As wide as the tables are: rich would cut names and digits to fit a terminal, where a long line merely wraps.
    console = Console(width=_WIDE, markup=False, highlight=False)
    console.print(build_table(report))
    if sequences := build_sequence_table(report):
        console.print(sequences)
    for note in build_notes(report):
        typer.echo(shown(note))


def _write(
    report: Report, views: Mapping[str, Mapping[Pair, Views]], csv: Path | None, json: Path | None, html: Path | None
) -> None:
    from deblur_cli.evaluation.gallery import count_unseen
    from deblur_cli.evaluation.html_report import write_html
    from deblur_cli.evaluation.report_files import write_csv, write_json
    from deblur_cli.media.files import remove_stale

    remove_stale(path for path in (csv, json, html) if path is not None)  # of a run that was killed
    problems = []
    for path, write in ((csv, write_csv), (json, write_json), (html, partial(write_html, views=views))):
        if path is not None:
            try:
                write(report, path=path)
            except OSError as error:  # the others may lie elsewhere, and hold what took hours
                problems.append(f"'{path}' cannot be written: {error.strerror or error}")
    unseen = sum(count_unseen(model.result.images, views.get(model.label, {})) for model in report.models)
    if html is not None and unseen:
        earlier = f"{counted(unseen, 'image')} of an earlier run"
        say(f"note: '{html}' lacks pictures of {earlier}; --save keeps them for a later --html")
    if problems:
        raise DeblurError("; ".join(problems))
