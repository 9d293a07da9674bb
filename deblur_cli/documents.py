"""JSON for other programs: reports on a batch, scores, times."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from deblur_cli import __version__
from deblur_cli.media.files import replacing


def write_json(document: dict[str, Any], path: Path) -> None:
    """Write `document` in one step: what was at `path` before is there until the new one is whole.

    Raises:
        OSError: it cannot be written.
        ValueError: a number in it is not finite, for which JSON has no word.
    """
    with replacing(path) as stream:
        # Names that are no text (arbitrary bytes, as Linux allows) pass as escapes.
        stream.write((json.dumps(document, indent=2, allow_nan=False) + "\n").encode("ascii"))


def versions() -> dict[str, str | None]:
    """What wrote a document: deblur, torch and Python. None stands for a torch that was not installed as a package."""
    try:
        torch = version("torch")  # not asked of torch itself, which nothing may have needed
    except PackageNotFoundError:
        torch = None
    return {"deblur": __version__, "torch": torch, "python": platform.python_version()}
