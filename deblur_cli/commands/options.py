"""Options that several verbs have, and how they are read."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import typer

from deblur_cli.errors import UsageError

DEFAULT_MODEL = "lite"
"""The registry's, said again because a verb's options must not cost the import of torch."""

Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Precision = Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")]
Tile = Annotated[str, typer.Option(help="Side of the tiles in pixels, context apart; 0: none; auto.")]
Overlap = Annotated[int | None, typer.Option(min=0, help="Context on each side of a tile. [default: the network's]")]

MemoryLimit = Annotated[
    str | None, typer.Option(metavar="SIZE", help="Memory that the network may use on a processor, like 2G.")
]
Strength = Annotated[
    float, typer.Option(min=0.0, max=2.0, help="How much of the network's change is made: 0 none, 2 double.")
]
Suffix = Annotated[
    str | None,
    typer.Option(help="Put behind the names of outputs. [default: _deblurred, or _compared; none in an output folder]"),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and do nothing.")]
Report = Annotated[Path | None, typer.Option(metavar="FILE.json", help="Write what became of each input to this file.")]


def model_option(help_text: str) -> Any:
    """The option `-m`; `help_text` says which network is meant, and by default."""
    metavar = "NAME|FILE|hf:OWNER/REPO/FILE"
    return typer.Option("--model", "-m", metavar=metavar, help=help_text)


Models = Annotated[list[str] | None, model_option(f"A network; repeat for several. [default: {DEFAULT_MODEL}]")]


def model_names(model: list[str] | None) -> list[str]:
    """The networks that `Models` names, each once."""
    return list(dict.fromkeys(model or [DEFAULT_MODEL]))


_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_memory(text: str) -> int:
    """Bytes from a number with a unit: `2G`, `1.5GiB`, `800MB`, `1000000`; units are powers of 1024.

    Raises:
        UsageError: it is no such number, or less than one byte.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?\s*", text.upper())
    size = int(float(match[1]) * _UNITS[match[2]]) if match else 0
    if size < 1:
        raise UsageError(f"'{text}' is no amount of memory; write it like 2G or 800M")
    return size


def parse_time(text: str) -> float:
    """Seconds of `90`, `1:30`, `0:01:30.5`.

    Raises:
        UsageError: it is none of these.
    """
    match = re.fullmatch(r"(?:(?:(\d+):)?([0-5]?\d):)?(\d+(?:\.\d+)?)", text.strip())
    if match is None or (match[2] is not None and float(match[3]) >= 60):
        raise UsageError(f"'{text}' is not a time; write 90, 1:30 or 0:01:30.5")
    return int(match[1] or 0) * 3600 + int(match[2] or 0) * 60 + float(match[3])


def parse_rate(text: str) -> Fraction:
    """Frames a second of `25`, `29.97` or `30000/1001`.

    Raises:
        UsageError: it is none of these, or not from 1/1000 to 1000.
    """
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not Fraction(1, 1000) <= rate <= 1000:
        raise UsageError(f"'{text}' is no frame rate; write 25, 29.97 or 30000/1001")
    return rate


def engine_options(
    model: str, device: str, precision: str, tile: str, overlap: int | None, memory_limit: str | None
) -> dict[str, Any]:
    """The keyword arguments of `Restorer` from options as the user wrote them.

    Raises:
        UsageError: an amount of memory that cannot be understood.
    """
    return {
        "model": model,
        "device": device,
        "precision": precision,
        "tile": tile,
        "overlap": overlap,
        "memory_limit": None if memory_limit is None else parse_memory(memory_limit),
    }
