"""What `deblur bench` found, as a table to read, the notes that go with it, and a file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from deblur_cli import documents
from deblur_cli.evaluation.speed import Speed
from deblur_cli.words import counted

if TYPE_CHECKING:
    from rich.table import Table


def build_table(speeds: Iterable[Speed]) -> Table:
    """Two rows for each network and size: plain eager float32, and ours."""
    from rich.table import Table

    table = Table()
    for heading in ("network", "size", "path", "precision"):
        table.add_column(heading, no_wrap=True)
    for heading in ("ms/frame", "MP/s", "speed-up", "peak MB", "% of matrix peak"):
        table.add_column(heading, justify="right", no_wrap=True)
    for speed in speeds:
        size = f"{speed.width}×{speed.height}"
        for path, timing, gain in (("plain eager", speed.eager, 1.0), ("deblur", speed.engine, speed.speed_up)):
            if timing is None:
                table.add_row(speed.label, size, path, "", "out of memory", *["-"] * 4)
                continue
            table.add_row(
                speed.label,
                size,
                path,
                timing.precision,
                f"{timing.milliseconds:.1f}",
                f"{speed.megapixels_per_second(timing):.2f}",
                "-" if gain is None else f"{gain:.2f}",
                "-" if timing.peak_bytes is None else f"{timing.peak_bytes / 1e6:.0f}",
                f"{100 * speed.matrix_share(timing):.1f}",
            )
    return table


def build_notes(speeds: Iterable[Speed]) -> list[str]:
    """What the table's numbers were taken with, a line each; a line that holds for several rows comes once."""
    lines: dict[str, None] = {}
    for speed in speeds:
        timings = [timing for timing in (speed.eager, speed.engine) if timing is not None]
        threads = counted(speed.threads, "thread")
        lines[f"device {speed.device} ({speed.hardware}), {threads}, torch {torch.__version__}"] = None
        lines["protocol: batch 1, frame on the device before and after, synchronised, median after a warm-up"] = None
        if speed.device == "cpu":
            lines["note: peak memory is that of a whole process, with Python and torch"] = None
        name = f"{speed.label} at {speed.width}×{speed.height}"
        taken = ", ".join(
            f"{counted(len(timing.seconds), 'frame')} in {timing.precision} "
            f"(matrix product {timing.matrix_flops / 1e12:.3g} TFLOP/s, at rest {_megabytes(timing.rest_bytes)})"
            for timing in timings
        )
        lines[f"{name}: tile {speed.tile}, {2 * speed.macs / 1e9:,.1f} GFLOP a frame, {taken}"] = None
        if speed.sha256 is None:
            lines[f"note: {speed.label}: no weights are shipped, timed with random ones"] = None
        for note in (note for timing in timings for note in timing.notes):
            lines[f"note: {name}: {note}"] = None
    return list(lines)


def write_json(speeds: Iterable[Speed], path: Path) -> None:
    """Every time taken, all that decides it, and the figures of the table.

    Raises:
        OSError: the file cannot be written.
    """
    documents.write_json({"versions": documents.versions(), "speeds": [_plain(speed) for speed in speeds]}, path)


def _plain(speed: Speed) -> dict[str, Any]:
    """`speed` with the figures that follow from it."""
    document: dict[str, Any] = {**asdict(speed), "speed_up": speed.speed_up}
    for path, timing in (("eager", speed.eager), ("engine", speed.engine)):
        if timing is not None:
            document[path] |= {
                "milliseconds": timing.milliseconds,
                "megapixels_per_second": speed.megapixels_per_second(timing),
                "matrix_share": speed.matrix_share(timing),
            }
    return document


def _megabytes(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 1e6:.0f} MB"
