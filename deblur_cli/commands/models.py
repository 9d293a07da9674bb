"""`deblur models`: which networks there are, and all there is to know of one."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deblur_cli.commands.console import shown
from deblur_cli.errors import EXIT_OK, EXIT_SOME_FAILED, UsageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from models.catalogue import Entry
    from models.check import CheckResult
    from models.weights import ShippedWeights

_PIPE_WIDTH = 1000


def models(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Show all there is to know of this one.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Run them, or NAME alone, forward and backward; compare with known figures.")
    ] = False,
) -> None:
    """List the networks: size, cost, shipped weights, measured scores."""
    if markdown and check:
        raise UsageError("--markdown prints a table and --check tests the networks; choose one")
    if name is not None and markdown:
        raise UsageError("--markdown prints the table of all networks; leave out the name")
    if check:
        raise typer.Exit(_check(name))
    from models.catalogue import catalogue, entry, markdown_table

    if markdown:
        typer.echo(markdown_table())
    elif name is None:
        console = _console()
        console.print(_overview(catalogue(), plain=not console.is_terminal))
        if console.is_terminal:
            console.print(
                "GMACs are for a frame of 1280×720, within 5 %; 'deblur models NAME' tells more of a network."
            )
    else:
        _show(_console(), entry(name))


def _check(name: str | None) -> int:
    """Check the networks, a line each as soon as it is done; returns the exit code."""
    from models import list_models, model_info
    from models.check import check

    names = list_models() if name is None else [model_info(name).name]
    width = max(len(name) for name in [*names, "network"])
    typer.echo(f"{'network':<{width}}  {'parameters':>11}  {'GMACs':>8}  {'seconds':>7}  result")
    failed = False
    for each in names:
        found = check(each)
        failed |= not found.passed
        typer.echo(
            f"{each:<{width}}  {_figure(found.parameters, ',')}  {_figure(found.gmacs, '.2f', 8)}  "
            f"{_figure(found.seconds, '.1f', 7)}  {_verdict(found)}"
        )
    return EXIT_SOME_FAILED if failed else EXIT_OK


def _figure(value: float | None, form: str, width: int = 11) -> str:
    return f"{'–' if value is None else format(value, form):>{width}}"


def _verdict(found: CheckResult) -> str:
    if not found.passed:
        return shown(f"FAIL: {'; '.join(found.faults)}")
    figures = {"parameters": found.info.parameters, "GMACs": found.info.gmacs}
    unknown = " or ".join(figure for figure, expected in figures.items() if expected is None)
    return f"pass (no figure for {unknown} is registered)" if unknown else "pass"


def _console() -> Console:
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH  # what reads a pipe wants a line a network, not lines folded for a screen
    return console


def _overview(entries: list[Entry], *, plain: bool) -> Table:
    from rich import box
    from rich.table import Table

    from models.catalogue import measured_scores

    table = Table(box=None if plain else box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2 if plain else 1, 0, 0))
    for heading in ("network", "size", "GMACs", "speed", "recurrent", "weights"):
        table.add_column(heading, justify="right" if heading in ("size", "GMACs") else "left", no_wrap=True)
    table.add_column("measured (gain)", overflow="fold")  # the one that gives way on a narrow screen
    for found in entries:
        facts = (
            found.info.name + (" (default)" if found.is_default else ""),
            f"{found.parameters / 1e6:.{1 if found.parameters >= 1e5 else 2}f} M",
            f"{found.gmacs:,.0f}",
            found.speed,
            _yes_no(found.info.recurrent),
        )
        if not found.weights:
            table.add_row(*facts, "none", "")
        for number, weights in enumerate(found.weights):
            scores = _joined(measured_scores(weights), "")
            table.add_row(*(facts if number == 0 else [""] * len(facts)), weights.label, scores)
    return table


def _show(console: Console, found: Entry) -> None:
    info = found.info
    _print_facts(
        console,
        info.name + (" (default)" if found.is_default else ""),
        {
            "description": info.description,
            "paper": info.paper or "none; it is ours",
            "parameters": f"{found.parameters:,}",
            "cost": f"about {found.gmacs:,.0f} GMACs for a frame of 1280×720 ({found.speed})",
            "recurrent": _yes_no(info.recurrent),
            "sizes": f"multiples of {info.multiple_of} pixels a side; others are padded",
            "tile overlap": f"{info.tile_overlap} pixels",
            "half precision": "safe" if info.half_precision else "not by itself; can be asked for",
            "options": _joined((f"{key}={value}" for key, value in info.options.items()), "none"),
        },
    )
    if info.published:
        from models.catalogue import published_score

        _print_facts(
            console,
            "published, not measured by us",
            {f"{score.dataset}, {score.source}": published_score(score) for score in info.published},
        )
    for weights in found.weights:
        _print_facts(console, f"weights {weights.label}", _card_facts(weights))
    if not found.weights:
        _print_facts(
            console,
            "no weights are shipped; get some in one of these ways",
            {
                "train": _training_command(info.name),
                "a file": "-m FILE, its authors' .pth, or safetensors",
                "the hub": "-m hf:OWNER/REPO/FILE[@REVISION], such a file on huggingface.co",
            },
        )


def _training_command(name: str) -> str:
    """How to train network `name`: by the shipped recipes for it where there are any."""
    from deblur_cli.training.recipe import load_recipe, shipped_recipes

    own = [recipe for recipe in shipped_recipes() if load_recipe(recipe).model == name] or ["FILE.toml"]
    others = f" (or {', '.join(own[1:])})" if own[1:] else ""
    return f"deblur train --recipe {own[0]}{others} --data DIR -o RUN"


def _card_facts(weights: ShippedWeights) -> dict[str, str]:
    """A card as lines: known things in words, everything else as it stands."""
    from models.catalogue import measured_scores

    facts = {"file": f"{weights.path.name}, {weights.path.stat().st_size / 1e6:.1f} MB"}
    for key, value in weights.card.items():
        if key == "scores":
            facts["measured (gain)"] = "; ".join(measured_scores(weights))
        elif key != "model":
            facts[key] = _in_words(value)
    return facts


def _in_words(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _print_facts(console: Console, title: str, facts: dict[str, str]) -> None:
    from rich.table import Table

    console.print(f"\n{title}", style="bold")
    if not console.is_terminal:  # a line a fact, however long it is
        width = max(map(len, facts))
        for key, value in facts.items():
            typer.echo(shown(f"  {key:<{width}}  {value}"))
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in facts.items():
        table.add_row(f"  {key}", value)
    console.print(table)


def _joined(parts: Iterable[str], nothing: str) -> str:
    return ", ".join(parts) or nothing


def _yes_no(value: bool) -> str:
    return "yes" if value else "no"
