"""`deblur image`: photos in, sharp photos out."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deblur_cli.commands.console import Progress, say, shown
from deblur_cli.commands.options import Device, Overlap, Precision, Tile, engine_options
from deblur_cli.errors import EXIT_OK, EXIT_SOME_FAILED, PhotoError, UsageError

if TYPE_CHECKING:
    from deblur_cli.media.plan import Plan
    from deblur_cli.restoration.photo_batch import Outcome
    from deblur_cli.restoration.restorer import Restorer

STREAM = "-"


def image(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Photos, folders, patterns; or - for standard input.")
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="OUT", help="A folder; a file for a single photo; - for standard output."
        ),
    ] = None,
    model: Annotated[str, typer.Option("--model", "-m", metavar="NAME_OR_FILE", help="The network.")] = "lite",
    strength: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="How much of the restoration is applied; 0 changes nothing.")
    ] = 1.0,
    suffix: Annotated[
        str | None,
        typer.Option(help="Put behind the names of outputs. [default: _deblurred, none in an output folder]"),
    ] = None,
    format_name: Annotated[
        str | None, typer.Option("--format", help="Format of the outputs (png, jpg, ...). [default: each photo's own]")
    ] = None,
    quality: Annotated[
        int | None, typer.Option(min=1, max=100, help="Quality of lossy formats. [default: the photo's own]")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make outputs again that exist.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and do nothing.")] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="Write the blurred and the restored photo side by side.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Photos read ahead, and photos written behind.")] = 2,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Write what became of each photo to this file.")
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    tile: Tile = "auto",
    overlap: Overlap = None,
    memory_limit: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Memory that the network may use on a processor, like 2G.")
    ] = None,
) -> None:
    """Make blurred photos sharp.

    Outputs lie beside the photos as NAME_deblurred, or below OUT under their own names. Inputs are never changed, and
    outputs that exist are skipped, so that a run that was broken off goes on when it is started again.
    """
    engine = engine_options(model, device, precision, tile, overlap, memory_limit) | {"strength": strength}
    if STREAM in inputs or output == STREAM:
        if dry_run or report or suffix is not None:
            raise UsageError("--dry-run, --report and --suffix cannot be used with '-'")
        _restore_stream(inputs, output, engine, format_name, quality, compare, overwrite)
        return
    plan = _plan(inputs, output, suffix=suffix, format_name=format_name, overwrite=overwrite, compare=compare)
    _check_model(model)
    if dry_run:
        if report:
            raise UsageError("--dry-run writes nothing, and so no --report either")
        raise typer.Exit(_print_plan(plan))
    if report:
        _check_report(report, plan)
    raise typer.Exit(_restore_files(plan, engine, report, jobs=jobs, quality=quality, compare=compare))


def _plan(inputs: list[str], output: str | None, **options: Any) -> Plan:
    from deblur_cli.media.gather import gather_photos
    from deblur_cli.media.plan import plan_photos

    gathered = gather_photos(inputs, output=None if output is None else Path(output))
    plan = plan_photos(gathered, output=output, **options)
    if not plan.items:
        passed_over = f" ({_kinds(plan)})" if plan.ignored else ""
        raise UsageError(f"there are no photos in {', '.join(inputs)}{passed_over}")
    return plan


def _check_model(name: str) -> None:
    """Raise for a network that there is not, so that it is known even where there is nothing to do."""
    from models import hub, list_models, model_info

    if name.startswith(hub.PREFIX):
        hub.HubFile.parse(name)  # complains of what names no file
        return
    network = name.partition(":")[0]
    path = Path(name)
    if network in list_models(hidden=True) or path.is_file():
        return
    if path.suffix or path.name != name:
        raise UsageError(f"there is no file of weights '{name}'")
    model_info(network)  # complains, and suggests names


def _check_report(report: Path, plan: Plan) -> None:
    if not report.parent.is_dir():
        raise UsageError(f"the report '{report}' has no folder to lie in; make '{report.parent}' first")
    taken = {path.resolve() for item in plan.items for path in (item.source, item.target) if path}
    if report.is_dir() or report.resolve() in taken:
        raise UsageError(f"the report cannot be written to '{report}', which is a folder or a photo of this run")


def _print_plan(plan: Plan) -> int:
    for item in plan.items:
        target = f" -> {item.target}" if item.target else ""
        reason = f"  ({item.reason})" if item.reason else ""
        typer.echo(f"{item.action:8}{shown(item.source)}{shown(target)}{shown(reason)}")
    counts = ", ".join(f"{len(plan.having(action))} to {action}" for action in ("restore", "skip", "refuse"))
    typer.echo(counts + (f"; passed over: {_kinds(plan)}" if plan.ignored else ""))
    return EXIT_SOME_FAILED if plan.having("refuse") else EXIT_OK


def _restore_files(
    plan: Plan, engine: dict[str, Any], report: Path | None, *, jobs: int, quality: int | None, compare: bool
) -> int:
    from deblur_cli.restoration.photo_batch import restore_photos

    outcomes: list[Outcome] = []
    to_restore = {item.source for item in plan.having("restore")}
    progress = Progress(len(to_restore), "photos")
    restorer = _restorer(engine, progress.say) if to_restore else None

    def done(outcome: Outcome) -> None:
        outcomes.append(outcome)
        if outcome.source in to_restore:
            progress.advance(_line(outcome))

    for folder in plan.empty:
        say(f"warning: there are no photos in {folder}")
    interrupted = True
    try:
        with progress:
            restore_photos(plan, restorer, jobs=jobs, quality=quality, compare=compare, done=done)
        interrupted = False
    finally:
        order = {item.source: place for place, item in enumerate(plan.items)}
        outcomes.sort(key=lambda outcome: order[outcome.source])
        reported = report is None or _save_report(plan, outcomes, restorer, report, interrupted)
        _print_summary(plan, outcomes)
    failed = any(outcome.status == "failed" for outcome in outcomes)
    return EXIT_SOME_FAILED if failed or not reported else EXIT_OK


def _restorer(engine: dict[str, Any], notify: Callable[[str], None]) -> Restorer:
    from deblur_cli.restoration.restorer import Restorer

    return Restorer(**engine, notify=lambda text: notify(f"note: {text}"))


def _save_report(
    plan: Plan, outcomes: list[Outcome], restorer: Restorer | None, report: Path, interrupted: bool
) -> bool:
    from deblur_cli.restoration.photo_report import build_report, write_report

    try:
        write_report(build_report(plan, outcomes, restorer, interrupted=interrupted), report)
    except OSError as error:
        say(f"the report '{report}' could not be written: {error.strerror or error}")
        return False
    return True


def _restore_stream(
    inputs: list[str],
    output: str | None,
    engine: dict[str, Any],
    format_name: str | None,
    quality: int | None,
    compare: bool,
    overwrite: bool,
) -> None:
    """One photo, from standard input or to standard output or both."""
    from deblur_cli.media.plan import output_format
    from deblur_cli.restoration.photo_batch import explain, restore_photo

    if len(inputs) != 1 or (inputs[0] != STREAM and not Path(inputs[0]).is_file()):
        raise UsageError("with '-' there is one photo: from standard input, or from a file to standard output")
    target = None if output in (None, STREAM) else Path(str(output))
    written = output_format(target, format_name)
    if target and target.is_dir():
        raise UsageError(f"'{target}' is a folder; a photo from standard input needs a file as --output")
    if target and target.exists() and not overwrite:
        raise UsageError(f"'{target}' exists; --overwrite replaces it")
    if inputs[0] == STREAM and sys.stdin.isatty():
        raise UsageError("standard input is the terminal; pipe a photo in, or name a file")
    if target is None and sys.stdout.isatty():
        raise UsageError("standard output is the terminal; redirect it, or name a file with --output")
    restorer = _restorer(engine, say)
    source = sys.stdin.buffer if inputs[0] == STREAM else Path(inputs[0])
    try:
        warnings = restore_photo(
            source, target or sys.stdout.buffer, restorer, format_name=written, quality=quality, compare=compare
        )
    except BrokenPipeError:
        raise
    except (OSError, MemoryError) as error:
        raise PhotoError(explain(error)) from error
    for warning in warnings:
        say(f"warning: {warning}")


def _line(outcome: Outcome) -> str:
    if outcome.status == "restored":
        return f"{outcome.source} -> {outcome.target} ({outcome.width}x{outcome.height}, {outcome.seconds:.2f} s)"
    return f"{outcome.source} {outcome.status}: {outcome.reason}"


def _print_summary(plan: Plan, outcomes: list[Outcome]) -> None:
    from rich.console import Console
    from rich.table import Table

    counts: Counter[str] = Counter(outcome.status for outcome in outcomes)
    restored = [outcome.seconds for outcome in outcomes if outcome.status == "restored"]
    remarks = {
        "restored": f"{sum(restored) / len(restored):.2f} s each" if restored else "",
        "skipped": "the output exists; --overwrite makes it again" if counts["skipped"] else "",
        "failed": "",
    }
    table = Table(box=None, show_header=False, pad_edge=False)
    for status, remark in remarks.items():
        table.add_row(status, str(counts[status]), remark)
    if plan.ignored:
        table.add_row("passed over", str(sum(plan.ignored.values())), _kinds(plan))
    Console().print(table)
    for outcome in outcomes:
        for warning in outcome.warnings:
            typer.echo(shown(f"warning: {outcome.source}: {warning}"))
    for outcome in outcomes:
        if outcome.status == "failed":
            typer.echo(shown(f"failed: {outcome.source}: {outcome.reason}"))


def _kinds(plan: Plan) -> str:
    return ", ".join(f"{number} {kind}" for kind, number in sorted(plan.ignored.items()))
