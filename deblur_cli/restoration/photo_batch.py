"""Photos restored one after the other, or one at a time, with their files read ahead and written behind.

Reading and writing happen in threads, the network in the calling one. At any time at most `jobs` photos wait to be
restored, one is being restored and `jobs` are being written, so that memory does not grow with the number of photos.
"""

from __future__ import annotations

import io
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from deblur_cli.errors import PhotoError
from deblur_cli.media import photos
from deblur_cli.media.files import is_disk_full, remove_stale
from deblur_cli.media.formats import SUFFIXES, WRITABLE
from deblur_cli.media.limits import refuse_too_large
from deblur_cli.media.photos import Photo
from deblur_cli.media.plan import Item, Plan
from deblur_cli.restoration.report import Outcome, Status, explain

if TYPE_CHECKING:
    from deblur_cli.restoration.processes import Processes
    from deblur_cli.restoration.restorer import Restorer

_log = logging.getLogger(__name__)

BYTES_AHEAD = 1 << 30
"""With so many bytes of pixels waiting to be restored or written, no further photo is read ahead."""
DIVIDER = 4
"""Width of the line between the blurred and the restored half of a comparison, in pixels."""


def restore_photo(
    source: Path | BinaryIO,
    target: Path | BinaryIO,
    restorer: Restorer,
    *,
    format_name: str | None = None,
    quality: int | None = None,
    compare: bool = False,
) -> list[str]:
    """Read one photo, restore it and write it; returns the warnings.

    Args:
        source: a file or a stream, which is read to its end and need not be seekable.
        target: a file, or a stream, to which nothing is written before the photo is whole.
        restorer: the network at work.
        format_name: the format to write (a name of `formats.WRITABLE`); by default that of the source's content, or PNG
            where that cannot be written.
        quality: of a lossy format, 1 to 100; by default as `photos.write` says.
        compare: write the blurred and the restored photo side by side.

    Raises:
        PhotoError: the photo cannot be read or written.
        OutOfMemoryError: it does not fit into memory even in the smallest tiles.
    """
    photo = photos.read(source)
    result = _restored(photo, restorer, compare, format_name)
    if isinstance(target, Path):
        return [*photo.warnings, *_save(result, target, format_name, quality)]
    whole = io.BytesIO()
    warnings = photos.write(result, whole, format=_written(photo, format_name), quality=quality)
    target.write(whole.getbuffer())
    target.flush()
    return [*photo.warnings, *warnings]


def restore_photos(
    plan: Plan,
    restorer: Restorer | None,
    *,
    jobs: int = 2,
    quality: int | None = None,
    compare: bool = False,
    done: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Do what `plan` says; returns an outcome for each of its items, in their order.

    A photo that fails is an outcome with its reason and never the end of the batch, but for a full disk, with which the
    rest is given up: each of them would fail as well. Temporary files that a killed run left behind for the same
    targets are removed first.

    Args:
        plan: what to do.
        restorer: the network at work, used in the calling thread only; None where `plan` has nothing to restore.
        jobs: how many photos are read ahead, and how many are written behind.
        quality: of lossy formats, 1 to 100; by default as `photos.write` says.
        compare: write the blurred and the restored photo side by side.
        done: called in the calling thread with each outcome as soon as it stands; once more where an interruption came
            into that.

    Raises:
        KeyboardInterrupt: after the files that are being written have been finished (and `done` has heard of them).
    """
    outcomes: dict[Path, Outcome] = {}

    def finish(outcome: Outcome) -> None:
        if outcome.source not in outcomes and done is not None:
            done(outcome)
        outcomes[outcome.source] = outcome

    for item in plan.items:
        if item.action != "restore":
            status: Status = "skipped" if item.action == "skip" else "failed"
            finish(Outcome(item.source, item.target, status, item.reason))
    remove_stale(item.target for item in plan.items if item.target is not None)
    if restorer is not None:
        _Pipeline(restorer, jobs, quality, compare, finish).run(plan.having("restore"))
    return [outcomes[item.source] for item in plan.items]


def share_of(plan: Plan, processes: Processes) -> Plan:
    """What of `plan` this process does: its share of what is to be restored; the first one also says the rest."""
    settled = [item for item in plan.items if item.action != "restore"] if processes.is_first else []
    return replace(plan, items=(*settled, *processes.share([item] for item in plan.having("restore"))))


@dataclass(frozen=True)
class _Read:
    photo: Photo
    source_bytes: int
    seconds: float


class _Pipeline:
    def __init__(
        self,
        restorer: Restorer,
        jobs: int,
        quality: int | None,
        compare: bool,
        finish: Callable[[Outcome], None],
    ) -> None:
        self.restorer = restorer
        self.jobs = jobs
        self.quality = quality
        self.compare = compare
        self.finish = finish
        self.disk_full = False
        self.reading: deque[tuple[Item, Future[_Read]]] = deque()
        self.writing: deque[tuple[Item, int, Future[Outcome]]] = deque()

    def run(self, items: Sequence[Item]) -> None:
        waiting = deque(items)
        with ThreadPoolExecutor(self.jobs, "read") as readers, ThreadPoolExecutor(self.jobs, "write") as writers:
            try:
                while (waiting or self.reading) and not self.disk_full:
                    while waiting and self._may_read_ahead():
                        item = waiting.popleft()
                        self.reading.append((item, readers.submit(_read, item.source)))
                    self._restore_next(writers)
                    self._collect_written(leave=self.jobs)
                self._collect_written(leave=0)
                for item in [*(item for item, _ in self.reading), *waiting]:
                    self.finish(Outcome(item.source, item.target, "failed", "not restored, because the disk is full"))
            finally:
                # Nothing is left to do here unless the disk is full or an exception is on its way: begin nothing new,
                # but let files that are being written be finished and counted.
                for _, read in self.reading:
                    read.cancel()
                self.writing = deque(entry for entry in self.writing if not entry[2].cancel())
                self._collect_written(leave=0)

    def _may_read_ahead(self) -> bool:
        """Whether one more may be read: the next one always, then `jobs` ahead of it while pixels do not pile up."""
        held = sum(size for _, size, _ in self.writing)
        for _, read in self.reading:
            if read.done() and read.exception() is None:
                held += _size(read.result().photo)
        return not self.reading or (len(self.reading) <= self.jobs and held < BYTES_AHEAD)

    def _restore_next(self, writers: ThreadPoolExecutor) -> None:
        item, future = self.reading.popleft()
        try:
            read = future.result()
            began = time.perf_counter()
            result = _restored(read.photo, self.restorer, self.compare, item.format)
            seconds = time.perf_counter() - began
        except Exception as error:  # noqa: BLE001  (a photo that fails must not end the batch; `explain` logs faults)
            self.finish(Outcome(item.source, item.target, "failed", explain(error, item.source)))
            return
        begun = Outcome(
            item.source,
            item.target,
            "restored",
            seconds=read.seconds + seconds,
            width=read.photo.pixels.shape[1],
            height=read.photo.pixels.shape[0],
            source_bytes=read.source_bytes,
            warnings=tuple(read.photo.warnings),
        )
        _log.info("%s: read in %.2f s, restored in %.2f s", item.source, read.seconds, seconds)
        # An interruption may come at any moment: what is being written must be known of before it is begun.
        promised: Future[Outcome] = Future()
        self.writing.append((item, _size(result), promised))
        writers.submit(_fulfil, promised, partial(_write, result, begun, item, self.quality))

    def _collect_written(self, *, leave: int) -> None:
        """Hear of the writes that have ended, in their order, and wait until at most `leave` are under way."""
        while self.writing and (len(self.writing) > leave or self.writing[0][2].done()):
            item, _, future = self.writing[0]
            try:
                outcome = future.result()
            except Exception as error:  # noqa: BLE001  (as above)
                self.disk_full = self.disk_full or is_disk_full(error)
                outcome = Outcome(item.source, item.target, "failed", explain(error, item.source))
            self.finish(outcome)
            self.writing.popleft()  # last, or an interruption on the way would lose the outcome


def _fulfil(future: Future[Outcome], work: Callable[[], Outcome]) -> None:
    """Do what `future` is promised of, unless that was cancelled."""
    if future.set_running_or_notify_cancel():
        try:
            future.set_result(work())
        except Exception as error:  # noqa: BLE001  (whoever asks for the result gets it)
            future.set_exception(error)


def _read(source: Path) -> _Read:
    began = time.perf_counter()
    photo = photos.read(source)
    return _Read(photo, source.stat().st_size, time.perf_counter() - began)


def _restored(photo: Photo, restorer: Restorer, compare: bool, format_name: str | None) -> Photo:
    width = photo.pixels.shape[1]
    # What the network makes for minutes must not fail for its size when it is to be written.
    refuse_too_large(photo, _written(photo, format_name), 2 * width + DIVIDER if compare else width)
    pixels = restorer.restore(photo.pixels)
    if not compare:
        return photo.with_pixels(pixels)
    if photo.alpha is not None:
        photo = replace(photo, alpha=_side_by_side(photo.alpha, photo.alpha))
    return photo.with_pixels(_side_by_side(photo.pixels, pixels))


def _side_by_side(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Two pictures of the same shape and type with a white line between them."""
    white = 1.0 if left.dtype.kind == "f" else np.iinfo(left.dtype).max
    line = np.full((left.shape[0], DIVIDER, *left.shape[2:]), white, dtype=left.dtype)
    return np.concatenate([left, line, right], axis=1)


def _write(result: Photo, begun: Outcome, item: Item, quality: int | None) -> Outcome:
    assert item.target is not None
    began = time.perf_counter()
    warnings = _save(result, item.target, item.format, quality)
    seconds = time.perf_counter() - began
    _log.info("%s: written in %.2f s", item.target, seconds)
    return replace(
        begun,
        seconds=begun.seconds + seconds,
        target_bytes=item.target.stat().st_size,
        warnings=(*begun.warnings, *warnings),
    )


def _save(result: Photo, target: Path, format_name: str | None, quality: int | None) -> list[str]:
    """Write a file and the folders it lies in, in a format or its own; warns where its name says something else."""
    written = _written(result, format_name)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PhotoError(f"the folder '{target.parent}' cannot be made ({error.strerror or error})") from error
    warnings = photos.write(result, target, format=written, quality=quality)
    if SUFFIXES.get(target.suffix.lower(), written) != written:
        warnings.append(
            f"its content is {result.format}, whatever its name says; the output is {written} under its name"
        )
    return warnings


def _written(photo: Photo, format_name: str | None) -> str:
    """The format to write a photo in: the one asked for, its own, or PNG where that cannot be written."""
    return format_name or (photo.format if photo.format in WRITABLE else "PNG")


def _size(photo: Photo) -> int:
    return sum(array.nbytes for array in (photo.pixels, photo.alpha, photo.inks) if array is not None)
