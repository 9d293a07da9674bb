"""`deblur bench`: how fast networks restore frames here, beside the same networks in plain eager float32."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from deblur_cli.commands.console import say, shown
from deblur_cli.commands.options import Device, Models, Precision, Tile, model_names
from deblur_cli.errors import EXIT_OK, EXIT_SOME_FAILED, DeblurError, UsageError

_WIDE = 500


def bench(
    model: Models = None,
    size: Annotated[
        list[str] | None,
        typer.Option(metavar="WIDTHxHEIGHT", help="Size of the frames; repeat for several. [default: 1280x720]"),
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    tile: Tile = "auto",
    runs: Annotated[
        int, typer.Option(min=1, help="Timed frames of each path; fewer, but 3, where they take over 20 seconds.")
    ] = 20,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write every time, and all that decides it, to this file.")
    ] = None,
) -> None:
    """Time networks: milliseconds a frame, megapixels a second, peak memory, share of the device's matrix peak.

    The same network in plain eager float32 is timed beside, in a process of its own. Without weights it is timed with
    random ones. --device, --precision and --tile are as for restoring.
    """
    sizes = list(dict.fromkeys(map(_size, size or ["1280x720"])))
    names = model_names(model)
    if json is not None and (json.is_dir() or not json.parent.is_dir()):
        raise UsageError(f"'{json}' cannot be written: it is a folder, or its folder is not there")
    if json is not None and json.resolve() in {Path(name).resolve() for name in names}:
        raise UsageError(f"--json would write over '{json}', the weights that are timed; name another file")
    from rich.console import Console

    from deblur_cli.evaluation.speed import compare, load_or_create
    from deblur_cli.evaluation.speed_report import build_notes, build_table, write_json
    from deblur_cli.restoration.device import resolve_device, resolve_precision
    from deblur_cli.restoration.planner import parse_tile

    # So that a wrong name or option does not come up after an hour.
    parse_tile(tile)
    resolve_precision(precision, resolve_device(device))
    for name in names:
        load_or_create(name)
    speeds = []
    for name in names:
        for width, height in sizes:
            say(f"timing {name} at {width}×{height}")
            speeds.append(compare(name, width, height, device=device, precision=precision, tile=tile, runs=runs))
    # Without a terminal nothing may be cut to the 80 columns that rich then assumes.
    console = Console(width=None if sys.stdout.isatty() else _WIDE, markup=False, highlight=False)
    console.print(build_table(speeds))
    for note in build_notes(speeds):
        typer.echo(shown(note))
    if json is not None:
        try:
            write_json(speeds, json)
        except OSError as error:
            raise DeblurError(f"'{json}' cannot be written: {error.strerror or error}") from error
    raise typer.Exit(EXIT_OK if all(speed.engine for speed in speeds) else EXIT_SOME_FAILED)


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d{0,5})[x×]([1-9]\d{0,5})", text.strip().lower())
    if match is None:
        raise UsageError(f"'{text}' is no size; write it like 1280x720, the width first")
    return int(match[1]), int(match[2])
