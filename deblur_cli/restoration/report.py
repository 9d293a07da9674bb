"""What became of each file of a batch, and the report that says it and what decided it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from deblur_cli.documents import versions
from deblur_cli.errors import DeblurError
from deblur_cli.media.plan import Plan

if TYPE_CHECKING:
    from deblur_cli.restoration.restorer import Restorer

logger = logging.getLogger(__name__)

NOT_DONE = "not done"
"""The outcome of a file that an interruption came before."""
Status = Literal["restored", "skipped", "failed"]


@dataclass(frozen=True)
class Outcome:
    """What became of one photo or video."""

    source: Path
    target: Path | None
    status: Status
    reason: str = ""
    """Why it was skipped or failed; one line."""
    seconds: float = 0.0
    """Spent on reading, restoring and writing it, waiting apart."""
    width: int | None = None
    """Of the blurred photo, upright, or of a frame as it lies in the video; in pixels."""
    height: int | None = None
    source_bytes: int | None = None
    target_bytes: int | None = None
    warnings: tuple[str, ...] = ()
    """What could not be kept, or should be known; one line each."""


def explain(error: BaseException, source: object = "") -> str:
    """Why a file failed, in one line without its own name at its head."""
    if isinstance(error, DeblurError):
        return " ".join(str(error).split()).removeprefix(f"{source}: ")
    from deblur_cli.restoration.memory import is_out_of_memory  # torch, which is loaded where something was restored

    if is_out_of_memory(error):
        return "there is not enough memory for pictures of this size"
    if isinstance(error, OSError):
        return " ".join((error.strerror or str(error)).split())
    logger.info("%s failed", source, exc_info=error)
    return " ".join(f"a fault in deblur itself ({type(error).__name__}: {error})".split())


def build_report(
    plan: Plan, outcomes: Sequence[Outcome], restorer: Restorer | None, *, interrupted: bool = False
) -> dict[str, Any]:
    """The report on a batch: counts, an entry for each item of `plan`, the network, where it ran, and versions.

    `restorer` is None where there was nothing to restore. Sizes are in pixels and bytes, times in seconds. Items
    without an outcome count as not done.
    """
    by_source = {outcome.source: outcome for outcome in outcomes}
    files = []
    for item in plan.items:
        entry: dict[str, Any] = {"source": item.source, "target": item.target, "status": NOT_DONE}
        if item.source in by_source:
            entry = asdict(by_source[item.source])
        entry["outcome"] = entry.pop("status")
        files.append({key: str(value) if isinstance(value, Path) else value for key, value in entry.items()})
    return {
        "interrupted": interrupted,
        "counts": dict(Counter(entry["outcome"] for entry in files)),
        "ignored": dict(plan.ignored),
        "model": None if restorer is None else _model(restorer),
        "device": None if restorer is None else str(restorer.device),
        "precision": None if restorer is None else restorer.precision,
        "versions": versions(),
        "files": files,
    }


def _model(restorer: Restorer) -> dict[str, Any]:
    model = restorer.model
    return {"name": model.info.name, "label": model.label, "weights_sha256": model.sha256, "options": model.options}
