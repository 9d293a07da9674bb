"""`deblur image`: photos in, sharp photos out."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deblur_cli.commands.batch import (
    check_engine,
    check_report,
    kinds,
    load_restorer,
    on_termination,
    print_plan,
    print_summary,
    save_report,
)
from deblur_cli.commands.console import Progress, say
from deblur_cli.commands.options import (
    DEFAULT_MODEL,
    Device,
    DryRun,
    MemoryLimit,
    Overlap,
    Precision,
    Report,
    Strength,
    Suffix,
    Tile,
    engine_options,
    model_option,
)
from deblur_cli.errors import EXIT_OK, EXIT_SOME_FAILED, DeblurError, PhotoError, UsageError
from deblur_cli.words import counted

if TYPE_CHECKING:
    from deblur_cli.media.plan import Plan
    from deblur_cli.restoration.processes import Processes
    from deblur_cli.restoration.report import Outcome
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
    model: Annotated[str, model_option("The network.")] = DEFAULT_MODEL,
    strength: Strength = 1.0,
    suffix: Suffix = None,
    format_name: Annotated[
        str | None, typer.Option("--format", help="Format of the outputs (png, jpg, ...). [default: each photo's own]")
    ] = None,
    quality: Annotated[
        int | None,
        typer.Option(min=1, max=100, help="Quality of lossy formats. [default: a JPEG's own, else 95 or 90]"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make outputs again that exist.")] = False,
    dry_run: DryRun = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="Write the blurred and the restored photo side by side.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Photos read ahead, and photos written behind.")] = 2,
    report: Report = None,
    device: Device = "auto",
    precision: Precision = "auto",
    tile: Tile = "auto",
    overlap: Overlap = None,
    memory_limit: MemoryLimit = None,
) -> None:
    """Make blurred photos sharp.

    Outputs lie beside the photos as NAME_deblurred, or below OUT under their own names. Inputs are never changed, and
    outputs that exist are skipped, so that a run that was broken off goes on when it is started again.
    `accelerate launch -m deblur_cli image …` shares the photos out.
    """
    from deblur_cli.restoration.processes import Processes

    processes = Processes(device, advice="what is done is kept: the same command goes on")
    engine = engine_options(model, processes.device, precision, tile, overlap, memory_limit) | {"strength": strength}
    if STREAM in inputs or output == STREAM:
        if dry_run or report or suffix is not None or processes.count > 1:
            raise UsageError("--dry-run, --report, --suffix and several processes cannot be used with '-'")
        _restore_stream(inputs, output, engine, format_name, quality, compare, overwrite)
        return
    plan = _plan(inputs, output, suffix=suffix, format_name=format_name, overwrite=overwrite, compare=compare)
    check_engine(engine)
    if dry_run:
        if report:
            raise UsageError("--dry-run writes nothing, and so no --report either")
        raise typer.Exit(print_plan(plan) if processes.is_first else EXIT_OK)
    if report:
        check_report(report, plan, model, "photo")
    # Nobody begins to write before all have seen what is there, and all go by what the first has seen.
    plan = processes.gather(plan)[0]
    code = _restore_files(plan, engine, processes, report, jobs=jobs, quality=quality, compare=compare)
    processes.close()
    raise typer.Exit(code)


def _plan(inputs: list[str], output: str | None, **options: Any) -> Plan:
    from deblur_cli.media.gather import gather_photos
    from deblur_cli.media.plan import plan_photos

    gathered = gather_photos(inputs, output=None if output is None else Path(output))
    plan = plan_photos(gathered, output=output, **options)
    if not plan.items:
        passed_over = f" ({kinds(plan)})" if plan.ignored else ""
        raise UsageError(f"there are no photos in {', '.join(inputs)}{passed_over}")
    return plan


def _restore_files(
    plan: Plan,
    engine: dict[str, Any],
    processes: Processes,
    report: Path | None,
    *,
    jobs: int,
    quality: int | None,
    compare: bool,
) -> int:
    from deblur_cli.restoration.photo_batch import restore_photos, share_of

    outcomes: dict[Path, Outcome] = {}
    share = share_of(plan, processes)
    to_restore = {item.source for item in share.having("restore")}
    progress = Progress(len(to_restore), "photos", visible=processes.is_first)
    restorer = load_restorer(engine, progress.say) if to_restore else None

    def done(outcome: Outcome) -> None:
        outcomes[outcome.source] = outcome
        if outcome.source in to_restore:
            progress.advance(_line(outcome))

    if processes.is_first:
        for folder in plan.empty:
            say(f"warning: there are no photos in {folder}")
        if processes.count > 1:
            photos = counted(len(plan.having("restore")), "photo")
            say(f"{processes.count} processes share {photos}; the first one's are shown")
    interrupted = True
    with on_termination(signal.default_int_handler):
        try:
            with progress:
                restore_photos(share, restorer, jobs=jobs, quality=quality, compare=compare, done=done)
            interrupted = False
        finally:
            # What is left to do is short, and all that tells the user what became of the photos.
            with on_termination(signal.SIG_IGN):
                code = _conclude(plan, [*outcomes.values()], restorer, processes, report, interrupted)
    return code


def _conclude(
    plan: Plan,
    outcomes: list[Outcome],
    restorer: Restorer | None,
    processes: Processes,
    report: Path | None,
    interrupted: bool,
) -> int:
    """Gather what became of the photos in all processes; the first one says and reports it. Returns the exit code."""
    try:
        shares = processes.gather((outcomes, interrupted))
    except DeblurError as error:
        say(f"deblur: {error}")
        shares = [(outcomes, True)]
    if not processes.is_first:
        return EXIT_OK
    order = {item.source: place for place, item in enumerate(plan.items)}
    outcomes = sorted((one for share, _ in shares for one in share), key=lambda outcome: order[outcome.source])
    unfinished = any(broken_off for _, broken_off in shares)
    reported = report is None or save_report(plan, outcomes, restorer, report, unfinished)
    seconds = [outcome.seconds for outcome in outcomes if outcome.status == "restored"]
    print_summary(plan, outcomes, f"{sum(seconds) / len(seconds):.2f} s each" if seconds else "")
    failed = any(outcome.status == "failed" for outcome in outcomes)
    return EXIT_SOME_FAILED if failed or unfinished or not reported else EXIT_OK


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
    from deblur_cli.media.naming import output_format
    from deblur_cli.restoration.photo_batch import restore_photo
    from deblur_cli.restoration.report import explain

    if len(inputs) == 1 and inputs[0] != STREAM and not os.path.lexists(inputs[0]):
        raise UsageError(f"there is no file '{inputs[0]}'")
    if len(inputs) != 1 or (inputs[0] != STREAM and not Path(inputs[0]).is_file()):
        raise UsageError("with '-' there is one photo: from standard input, or from a file to standard output")
    target = None if output in (None, STREAM) else Path(str(output))
    written = output_format(target, format_name)
    if target and target.is_dir():
        raise UsageError(f"'{target}' is a folder; a photo from standard input needs a file as --output")
    if target and target.exists() and not overwrite:
        raise UsageError(f"'{target}' exists; --overwrite replaces it")
    if target and inputs[0] == STREAM and _is_standard_input(target):
        raise UsageError(f"'{target}' is what standard input comes from, and inputs are never changed")
    if inputs[0] == STREAM and sys.stdin.isatty():
        raise UsageError("standard input is the terminal; pipe a photo in, or name a file")
    if target is None and sys.stdout.isatty():
        raise UsageError("standard output is the terminal; redirect it, or name a file with --output")
    restorer = load_restorer(engine, say)
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


def _is_standard_input(path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(sys.stdin.fileno()), path.stat())
    except OSError:  # there is no such file yet, or standard input is none
        return False


def _line(outcome: Outcome) -> str:
    if outcome.status == "restored":
        return f"{outcome.source} -> {outcome.target} ({outcome.width}x{outcome.height}, {outcome.seconds:.2f} s)"
    return f"{outcome.source} {outcome.status}: {outcome.reason}"
