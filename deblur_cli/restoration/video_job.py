"""One video restored: read, restored and encoded in segments that survive a power cut, then joined to the target."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import chain, dropwhile, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deblur_cli.errors import DiskFullError, VideoError
from deblur_cli.media.encoders import container_of
from deblur_cli.media.ffmpeg_arguments import split_arguments
from deblur_cli.media.files import is_disk_full, remove_stale
from deblur_cli.media.video import Frame, VideoFormat
from deblur_cli.restoration.frames import Side, Summary, restore_frames
from deblur_cli.restoration.journal import Journal, Segment, fingerprint, working_folder
from deblur_cli.restoration.states import SequenceState
from deblur_cli.restoration.video_outputs import (
    PICTURES,
    Output,
    Reader,
    VideoSettings,
    expected_frames,
    open_output,
    open_source,
)
from deblur_cli.words import counted

if TYPE_CHECKING:
    from deblur_cli.restoration.restorer import Restorer

SEGMENT_SECONDS = 10.0
"""About how long the restoration of a segment takes: what a power cut costs at most."""
LEAST_FRAMES, MOST_FRAMES = 24, 240
"""Of a segment. Each begins with a key frame, and short ones make the file larger."""
SLOWEST_SECONDS, FEWEST_FRAMES = 60.0, 6
"""Where so few frames take longer than this, there are fewer of them, but never fewer than that."""
_GMACS_A_SECOND = {"cpu": 100.0, "cuda": 10_000.0, "mps": 1_000.0}
"""Multiply-accumulates, in units of 10⁹, that a device of a kind does in about a second."""


@dataclass(frozen=True)
class VideoResult:
    """What became of a video."""

    frames: int
    """How many are in the target; where it was stopped, how many are in the working folder."""
    width: int
    """Of each, in pixels, as they lie in the source."""
    height: int
    before: int = 0
    """How many of them an earlier run had done."""
    warnings: tuple[str, ...] = ()
    """What could not be kept, or should be known; one line each."""
    damaged: str | None = None
    """Why the source ends before its end, or a part of it is missing."""
    undecodable: int = 0
    """How many of the source's frames were damaged: patched by the decoder, or given up."""
    repeated: int = 0
    """How many of `frames` are the one before once more, in place of one that was given up."""
    stopped: bool = False
    """Whether `should_stop` ended it. There is no target then; the same call goes on."""


def restore_video(
    source: Path,
    target: Path,
    restorer: Restorer,
    settings: VideoSettings | None = None,
    *,
    overwrite: bool = False,
    progress: Callable[[int, int | None], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> VideoResult:
    """Restore a video; the target is whole, with every stream of the source, or not there.

    Frames are encoded in segments that begin at fixed frame numbers. Whatever ends this (an error, a kill, a power
    cut), the same call goes on behind the last whole segment, and the result is the same as if nothing had happened.

    Args:
        source: a video file, or a folder of numbered pictures.
        target: the file, or with `settings.pictures` the folder; its parents are made.
        restorer: the network at work, used in the calling thread only.
        settings: how the video is cut and encoded.
        overwrite: whether the beginning of a restoration of another source, or with other options, is thrown away.
            That the target itself is replaced is for the caller to want.
        progress: called in the calling thread with the number of frames done, and about how many there are.
        should_stop: asked before each frame; when it says so, finished segments are kept, and that is all.

    Raises:
        VideoError: the source cannot be read, or the target cannot be written.
        DiskFullError: there is no room for the target; what is done is kept.
        UsageError: settings that cannot be, or a beginning that is not this restoration's.
        OutOfMemoryError: a frame does not fit into memory even in the smallest tiles.
    """
    settings = settings or VideoSettings()
    reader = open_source(source, settings, settings.start)
    length = segment_length(restorer, reader.video)
    try:
        known_by = fingerprint(source)
    except OSError as error:
        raise VideoError(f"{source}: cannot be read ({error.strerror or error})") from error
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        output = open_output(target, working_folder(target), reader, settings)
        options = _options(target, restorer, settings, length)
        identity = {"source": known_by, "options": options, "encoding": output.identity}
        journal = Journal(target, identity, overwrite=overwrite, needed=[PICTURES] if settings.pictures else [])
    except OSError as error:
        raise VideoError(f"{target}: cannot be written ({error.strerror or error})") from error
    try:
        remove_stale([target])  # under the journal's lock: what another run is writing is not stale
        job = _Job(source, target, restorer, settings, reader, output, journal, length)
        return job.run(progress or (lambda done, expected: None), should_stop or (lambda: False))
    except OSError as error:
        of_source = source in (file := Path(str(error.filename or target)), *file.parents)
        what = f"{source}: cannot be read" if of_source else f"{target}: cannot be written"
        raise VideoError(f"{what} ({error.strerror or error})") from error
    finally:
        journal.leave()


def segment_length(restorer: Restorer, video: VideoFormat) -> int:
    """Frames of a segment: what takes about ten seconds, or a minute where the network is slow, by an estimate that
    depends on the network, the size of the frames and the kind of device alone, so that it is the same each time.
    """
    gmacs = restorer.model.gmacs * video.width * video.height / 256**2
    a_second = _GMACS_A_SECOND[restorer.device.type] / gmacs if gmacs else math.inf
    least = min(LEAST_FRAMES, max(FEWEST_FRAMES, SLOWEST_SECONDS * a_second))
    return round(min(max(SEGMENT_SECONDS * a_second, least), MOST_FRAMES))


def shown_left(reader: Reader, target: Path, settings: VideoSettings) -> Side:
    """The side of the source's frames as they are stored that is on the left when those of the target are shown."""
    if reader.info is None or not (settings.pictures or container_of(target).rotation):
        return "left"
    # They are turned counterclockwise by the rotation, then flipped.
    sides: tuple[Side, ...] = ("left", "top", "right", "bottom")
    turns = round(reader.info.rotation / 90) + (2 if reader.info.mirrored else 0)
    return sides[turns % 4]


class _Watched:
    """The frames of `frames`, of which the last that went by is kept in mind, and how many were repeats."""

    def __init__(self, frames: Iterable[Frame]) -> None:
        self.last: Frame | None = None
        self.repeated = 0
        self._frames = frames

    def __iter__(self) -> Iterator[Frame]:
        for frame in self._frames:
            self.last = frame
            self.repeated += frame.repeated
            yield frame


class _Job:
    def __init__(
        self,
        source: Path,
        target: Path,
        restorer: Restorer,
        settings: VideoSettings,
        reader: Reader,
        output: Output,
        journal: Journal,
        length: int,
    ) -> None:
        self.source, self.target = source, target
        self.restorer, self.settings = restorer, settings
        self.reader, self.output, self.journal, self.length = reader, output, journal, length
        self.expected = expected_frames(reader, settings)
        self.warnings = [journal.lost] if journal.lost else []
        self.undecodable_before = journal.undecodable

    def run(self, progress: Callable[[int, int | None], None], should_stop: Callable[[], bool]) -> VideoResult:
        before = self.journal.frames
        try:
            stopped = self._restore(self._frames(), progress, should_stop)
            if not stopped:
                self._finish()
        except (VideoError, DiskFullError, OSError) as error:
            if is_disk_full(error):
                raise DiskFullError(self._shortage()) from error
            message = self._of_target(error)
            if message == str(error):
                raise
            raise VideoError(message) from error
        finally:
            self.reader.close()
        return VideoResult(
            frames=self.journal.frames,
            width=self.reader.video.width,
            height=self.reader.video.height,
            before=before,
            warnings=tuple(dict.fromkeys([*self.warnings, *self.journal.notes, *self.reader.warnings])),
            damaged=self.journal.damaged or self.reader.damaged,
            undecodable=self.undecodable_before + self.reader.undecodable,
            repeated=sum(segment.repeated for segment in self.journal.segments),
            stopped=stopped,
        )

    def _frames(self) -> Iterator[Frame]:
        """The source's frames behind those that are done; the reader is put there."""
        if not self.journal.segments:
            return iter(self.reader)
        last = self.journal.segments[-1]
        zero = self.reader.info.file_start if self.reader.info else 0
        seconds = float(last.last * self.reader.video.time_base - zero)
        # A little before the last frame that is done, or, where a search leads astray, from the beginning.
        for start in (max(0.0, seconds - 0.001), self.settings.start):
            self.reader.close()
            self.reader = open_source(self.source, self.settings, start)
            frames = dropwhile(lambda frame: frame.pts < last.last, iter(self.reader))
            found = next(frames, None)
            if found is not None and found.pts == last.last and _digest(found) == last.digest:
                # What was damaged ahead of it has been counted already.
                self.undecodable_before = max(0, self.undecodable_before - self.reader.undecodable)
                return frames
        raise VideoError(
            f"{self.source}: the frame to go on from is not found again; remove '{self.journal.folder}' to start afresh"
        )

    def _restore(
        self, frames: Iterator[Frame], progress: Callable[[int, int | None], None], should_stop: Callable[[], bool]
    ) -> bool:
        """Restore segment by segment; whether it was stopped."""
        journal, video = self.journal, self.reader.video
        self.restorer.precision = journal.precision or self.restorer.precision
        state = self._state()
        progress(journal.frames, self.expected)
        while (first := next(frames, None)) is not None:
            number, done = len(journal.segments), journal.frames
            part = _Watched(chain([first], islice(frames, self.length - 1)))
            with self.output.segment(number, done) as sink:
                summary = restore_frames(
                    part,
                    video,
                    self.restorer,
                    sink.write,
                    scene_cuts=self.settings.scene_cuts,
                    compare=shown_left(self.reader, self.target, self.settings) if self.settings.compare else None,
                    progress=lambda written, done=done: progress(done + written, self.expected),  # type: ignore[misc]
                    should_stop=should_stop,
                    state=state,
                )
                if summary.stopped and summary.frames < self.length:
                    sink.abort()
                    return True
            self._enter(number, part, summary)
            state = summary.state
            if summary.stopped:
                return True
        return False

    def _state(self) -> SequenceState:
        """What the network remembers of the frames that are done, as far as there is memory for it now."""
        state = self.journal.state(self.restorer.device)
        if state.frame is None or self.restorer.has_room_for(state.frame):
            return state
        number = self.journal.frames + 1
        self.journal.notes.append(
            f"less memory than before: the network begins anew at frame {number}, in smaller tiles"
        )
        return replace(state, frame=None)

    def _enter(self, number: int, part: _Watched, summary: Summary) -> None:
        """Put a segment that is on the disk into the journal."""
        assert part.last is not None
        name = self.output.name(number)
        self.journal.notes = list(dict.fromkeys([*self.journal.notes, *self.reader.warnings]))
        self.journal.undecodable = self.undecodable_before + self.reader.undecodable
        self.journal.damaged = self.journal.damaged or self.reader.damaged
        self.journal.precision = self.restorer.precision
        digest, size = _digest(part.last), self.output.size(number)
        segment = Segment(name, summary.frames, part.last.pts, digest, size, part.repeated)
        self.journal.add(segment, summary.state)

    def _finish(self) -> None:
        if not self.journal.segments:
            long = self.reader.seconds
            whole = "" if long is None else f"; it is {round(float(long), 2):,} s long"
            raise VideoError(f"{self.source}: there is no frame in what was asked for{whole}")
        self.warnings += self.output.finish(self.journal.segments)
        self.journal.remove()

    def _of_target(self, error: BaseException) -> str:
        """The message of `error`, where it is of a segment as one of the target: the user knows of no segments."""
        message, folder = str(error), str(self.journal.folder)
        return f"{self.target}: {message.partition(': ')[2]}" if message.startswith(folder) else message

    def _shortage(self) -> str:
        """What to say of a full disk."""
        done, size = self.journal.frames, sum(segment.size for segment in self.journal.segments)
        kept = "; what is done is kept: " if done else "; "
        # Ahead of the first whole segment there is nothing to go by.
        whole = size / done * max(self.expected or done, done) if done else 0
        # A file is written beside its segments, which are removed afterwards; pictures are there already. The state
        # after each further segment is written beside the one before.
        state = self.journal.state_size if self.expected is None or done < self.expected else 0
        needed = ((1 if self.settings.pictures else 2) * whole - size + state) / 1e6 if whole else 0
        room = f"make room for about {math.ceil(needed)} MB" if needed else "make room"
        return (
            f"{self.target}: the disk is full after {counted(done, 'frame')}{kept}{room}, and the same command goes on"
        )


def _options(target: Path, restorer: Restorer, settings: VideoSettings, length: int) -> dict[str, Any]:
    """All that decides what the frames of the target are, as JSON can hold it."""
    model = restorer.model
    # What is for the file alone may be another when all that is left is to join the segments, where it may have failed.
    extra = split_arguments(settings.extra, container_of(target))[0] if settings.extra else []
    return asdict(settings) | {
        "extra": extra,
        "rate": None if settings.rate is None else str(settings.rate),
        "container": target.suffix.lower(),
        "model": model.info.name,
        "weights": model.sha256,
        "model options": {key: str(value) for key, value in model.options.items()},
        "strength": restorer.strength,
        "device": restorer.device.type,
        "precision": restorer.first_precision,
        "tile": restorer.tile,
        "overlap": restorer.overlap,
        "frames of a segment": length,
    }


def _digest(frame: Frame) -> str:
    hashed = hashlib.sha256()
    for plane in frame.planes:
        hashed.update(np.ascontiguousarray(plane).data)
    return hashed.hexdigest()
