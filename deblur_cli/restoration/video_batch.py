"""Videos restored one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deblur_cli.media.files import is_disk_full
from deblur_cli.media.plan import Item, Plan
from deblur_cli.restoration.journal import clear_up
from deblur_cli.restoration.report import Outcome, Status, explain
from deblur_cli.restoration.video_job import restore_video
from deblur_cli.restoration.video_outputs import VideoSettings

if TYPE_CHECKING:
    from deblur_cli.restoration.restorer import Restorer


@dataclass(frozen=True)
class VideoOutcome(Outcome):
    """What became of one video."""

    frames: int = 0
    """How many frames the target has."""
    frames_before: int = 0
    """How many of them an earlier run had done."""
    undecodable: int = 0
    """How many of the source's frames were damaged: patched by the decoder, or given up."""
    repeated: int = 0
    """How many of `frames` are the one before once more, in place of one that was given up."""
    damaged: str | None = None
    """Why the source ends before its end; all frames that could be decoded are in the target."""


def restore_videos(
    plan: Plan,
    restorer: Restorer | None,
    settings: VideoSettings | None = None,
    *,
    overwrite: bool = False,
    begin: Callable[[Item], None] | None = None,
    progress: Callable[[int, int | None], None] | None = None,
    done: Callable[[VideoOutcome], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    stopped: Callable[[Item, int], None] | None = None,
) -> list[VideoOutcome]:
    """Do what `plan` says; returns an outcome for each of its items, in their order.

    A video that fails is an outcome with its reason and never the end of the batch, but for a full disk, with which the
    rest is given up. Each of them goes on where an earlier run of the same was ended (see `restore_video`).

    Args:
        plan: what to do.
        restorer: the network at work, used in the calling thread only; None where `plan` has nothing to restore.
        settings: how videos are cut and encoded.
        overwrite: whether beginnings of other restorations of the same targets are thrown away.
        begin: called with each item that is about to be restored.
        progress: called with the number of frames of it that are done, and about how many there are, or None.
        done: called with each outcome as soon as it stands.
        should_stop: asked before each frame; when it says so, the batch ends as by Ctrl-C.
        stopped: called then, with the item at work and the number of its frames that are kept to go on from.

    Raises:
        KeyboardInterrupt: after what is done of the video at work was kept.
    """
    outcomes: dict[Path, VideoOutcome] = {}

    def finish(outcome: VideoOutcome) -> None:
        outcomes[outcome.source] = outcome
        if done is not None:
            done(outcome)

    for item in plan.items:
        if item.action != "restore":
            status: Status = "skipped" if item.action == "skip" else "failed"
            finish(VideoOutcome(item.source, item.target, status, item.reason))
    clear_up([item.target for item in plan.having("skip") if item.target is not None])
    disk_full = False
    for item in plan.having("restore") if restorer is not None else []:
        assert restorer is not None and item.target is not None
        if disk_full:
            finish(VideoOutcome(item.source, item.target, "failed", "not restored, because the disk is full"))
            continue
        if begin is not None:
            begin(item)
        try:
            result = _restored(item.source, item.target, restorer, settings, overwrite, progress, should_stop)
        except Exception as error:  # noqa: BLE001  (a video that fails must not end the batch; `explain` logs faults)
            disk_full = is_disk_full(error)
            reason = explain(error, item.source).removeprefix(f"{item.target}: ")
            result = VideoOutcome(item.source, item.target, "failed", reason)
        if not isinstance(result, VideoOutcome):
            if stopped is not None:
                stopped(item, result)
            raise KeyboardInterrupt
        finish(result)
    return [outcomes[item.source] for item in plan.items]


def _restored(
    source: Path,
    target: Path,
    restorer: Restorer,
    settings: VideoSettings | None,
    overwrite: bool,
    progress: Callable[[int, int | None], None] | None,
    should_stop: Callable[[], bool] | None,
) -> VideoOutcome | int:
    """What became of a video; where it was stopped, how many of its frames are kept."""
    began = time.perf_counter()
    result = restore_video(
        source, target, restorer, settings, overwrite=overwrite, progress=progress, should_stop=should_stop
    )
    if result.stopped:
        return result.frames
    return VideoOutcome(
        source,
        target,
        "restored",
        seconds=time.perf_counter() - began,
        width=result.width,
        height=result.height,
        source_bytes=_bytes(source),
        target_bytes=_bytes(target),
        warnings=result.warnings,
        frames=result.frames,
        frames_before=result.before,
        undecodable=result.undecodable,
        repeated=result.repeated,
        damaged=result.damaged,
    )


def _bytes(path: Path) -> int:
    return sum(each.stat().st_size for each in path.iterdir()) if path.is_dir() else path.stat().st_size
