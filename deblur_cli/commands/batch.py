"""What the verbs that restore files share: checks before, the plan, and what is said and reported afterwards."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from deblur_cli.commands.console import say, shown
from deblur_cli.errors import EXIT_OK, EXIT_SOME_FAILED, UsageError

if TYPE_CHECKING:
    from deblur_cli.media.plan import Plan
    from deblur_cli.restoration.report import Outcome
    from deblur_cli.restoration.restorer import Restorer


def check_engine(engine: dict[str, Any]) -> None:
    """Raise for a network, device, precision or tile that there is not, so that it is known even where there is nothing
    to do."""
    from deblur_cli.restoration.device import resolve_device, resolve_precision
    from deblur_cli.restoration.planner import parse_tile

    _check_model(engine["model"])
    parse_tile(engine["tile"])
    resolve_precision(engine["precision"], resolve_device(engine["device"]))


def check_report(report: Path, plan: Plan, model: str, noun: str) -> None:
    """Raise for a report that cannot be written, or would be over the weights or a file of this run (each a `noun`)."""
    if not report.parent.is_dir():
        raise UsageError(f"the report '{report}' has no folder to lie in; make '{report.parent}' first")
    if str(report) == "-":
        raise UsageError("the report is a file; what is printed goes to standard output already")
    taken = {path.resolve() for item in plan.items for path in (item.source, item.target, Path(model)) if path}
    if report.is_dir() or report.resolve() in taken:
        what = f"a folder, the weights or a {noun} of this run"
        raise UsageError(f"the report cannot be written to '{report}', which is {what}")


def _check_model(name: str) -> None:
    """Raise for a network that there is not."""
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


def load_restorer(engine: dict[str, Any], notify: Callable[[str], None]) -> Restorer:
    """The engine with these options; `notify` hears what the user should."""
    from deblur_cli.restoration.restorer import Restorer

    return Restorer(**engine, notify=lambda text: notify(f"note: {text}"))


@contextmanager
def on_termination(handler: Any) -> Iterator[None]:
    """SIGTERM, which also ends the other processes of a run where one has died, goes to `handler` (see `signal`)."""
    before = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def print_plan(plan: Plan) -> int:
    """Print what would be done; returns the exit code."""
    for item in plan.items:
        target = f" -> {item.target}" if item.target else ""
        reason = f"  ({item.reason})" if item.reason else ""
        typer.echo(f"{item.action:8}{shown(item.source)}{shown(target)}{shown(reason)}")
    counts = ", ".join(f"{len(plan.having(action))} to {action}" for action in ("restore", "skip", "refuse"))
    typer.echo(counts + (f"; passed over: {kinds(plan)}" if plan.ignored else ""))
    return EXIT_SOME_FAILED if plan.having("refuse") else EXIT_OK


def save_report(
    plan: Plan, outcomes: Sequence[Outcome], restorer: Restorer | None, report: Path, interrupted: bool
) -> bool:
    """Write the report; says so and returns False where that fails."""
    from deblur_cli.documents import write_json
    from deblur_cli.media.files import remove_stale
    from deblur_cli.restoration.report import build_report

    remove_stale([report])  # of a run that was killed
    try:
        write_json(build_report(plan, outcomes, restorer, interrupted=interrupted), report)
    except OSError as error:
        say(f"the report '{report}' could not be written: {error.strerror or error}")
        return False
    return True


def print_summary(plan: Plan, outcomes: Sequence[Outcome], pace: str) -> None:
    """Print what became of the files of a batch: a table, the warnings, the failures. `pace`: how fast it went."""
    from rich.console import Console
    from rich.table import Table

    counts: Counter[str] = Counter(outcome.status for outcome in outcomes)
    remarks = {
        "restored": pace,
        "skipped": "the output exists; --overwrite makes it again" if counts["skipped"] else "",
        "failed": "",
    }
    table = Table(box=None, show_header=False, pad_edge=False)
    for status, remark in remarks.items():
        table.add_row(status, str(counts[status]), remark)
    if left := len(plan.items) - len(outcomes):
        table.add_row("not done", str(left), "the same command goes on with the rest")
    if plan.ignored:
        table.add_row("passed over", str(sum(plan.ignored.values())), kinds(plan))
    Console().print(table)
    for outcome in outcomes:
        for warning in outcome.warnings:
            typer.echo(shown(f"warning: {outcome.source}: {warning}"))
    for outcome in outcomes:
        if outcome.status == "failed":
            typer.echo(shown(f"failed: {outcome.source}: {outcome.reason}"))


def kinds(plan: Plan) -> str:
    """What was passed over, in words."""
    return ", ".join(f"{number} {kind}" for kind, number in sorted(plan.ignored.items()))
