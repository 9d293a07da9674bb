"""Where the restored frames of a video go: into segments of a file, or into pictures. Either way a segment at a time.

An output knows the working folder, but no network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from deblur_cli.errors import VideoError
from deblur_cli.media import picture_chunks
from deblur_cli.media.encoders import Encoding, choose, container_of
from deblur_cli.media.ffmpeg_arguments import filters, is_rated, pixels_of, split_arguments
from deblur_cli.media.files import is_temporary, replacing
from deblur_cli.media.frame_folders import (
    FrameFolderReader,
    FrameFolderWriter,
    is_replaceable,
    write_timestamps,
)
from deblur_cli.media.probe import VideoInfo, probe
from deblur_cli.media.video import Frame, as_meant
from deblur_cli.media.video_join import join_segments, segment_suffix, timestamps
from deblur_cli.media.video_reader import VideoReader
from deblur_cli.media.video_writer import VideoWriter, origin_of
from deblur_cli.restoration import yuv
from deblur_cli.restoration.journal import Segment
from deblur_cli.words import counted

_RUNNING_CLOCKS = frozenset({"mpegts", "mpeg"})
"""Containers whose clocks begin anywhere, as they are broadcast or cut from what was."""

_ROUNDED = 0.001
"""Seconds to which Matroska keeps times."""

PICTURES = "pictures"
"""Name in the working folder of the one that becomes the target, where that is a folder of pictures."""

Reader = VideoReader | FrameFolderReader


@dataclass(frozen=True)
class VideoSettings:
    """How a video is cut, encoded and shown."""

    codec: str = "auto"
    """`auto` (the source's own, or else what the container takes), a codec, or the name of one of ffmpeg's encoders."""
    crf: float | None = None
    """Quality in the encoder's own scale."""
    preset: str | None = None
    """Effort in the encoder's own scale."""
    extra: tuple[str, ...] = ()
    """Further arguments of ffmpeg's, for the encoder or the file (see `split_arguments`)."""
    start: float | None = None
    """Seconds after the source's beginning at which to begin."""
    end: float | None = None
    """Seconds after the source's beginning at which to end."""
    compare: bool = False
    """Leave the half of each frame blurred that is the left one as the target is shown."""
    scene_cuts: bool = True
    """Let a recurrent network forget at scene cuts."""
    pictures: bool = False
    """Whether the target is a folder of pictures."""
    rate: Fraction | None = None
    """Frames a second of a source that is a folder of pictures."""


class Sink(Protocol):
    """Takes the frames of a segment."""

    def write(self, frame: Frame) -> None:
        """One frame, later than the one before."""

    def abort(self) -> None:
        """Forget the segment."""


class Output(Protocol):
    """Takes a video segment by segment."""

    identity: Sequence[str]
    """What decides how frames are written, beside the settings: segments that differ in it do not go together."""

    def segment(self, number: int, first_frame: int) -> AbstractContextManager[Sink, bool | None]:
        """A context with a sink for the frames of a segment; it is on the disk when the context ends without error."""

    def size(self, number: int) -> int:
        """Bytes that a finished segment takes."""

    def name(self, number: int) -> str:
        """The name in the working folder by which a segment is there."""

    def finish(self, segments: Sequence[Segment]) -> list[str]:
        """Make the target of all of the segments; returns what of the source it cannot hold, a line each."""


class EncodedOutput:
    """A video file, joined of encoded segments.

    Args:
        target: the file; its suffix says the container.
        folder: the working folder.
        reader: the source.
        settings: how it is encoded.

    Raises:
        VideoError, UsageError: it cannot be encoded so.
    """

    def __init__(self, target: Path, folder: Path, reader: Reader, settings: VideoSettings) -> None:
        self._target, self._folder, self._settings = target, folder, settings
        self._source: VideoInfo | None = reader.info
        self._reader = reader
        self.encoding: Encoding = choose(
            target,
            reader.video,
            reader.info,
            codec=settings.codec,
            crf=settings.crf,
            preset=settings.preset,
            pixels=pixels_of(settings.extra),
            rated=is_rated(settings.extra),
        )
        """What was chosen for the target, and so for its segments."""
        self.identity: Sequence[str] = [self.encoding.pixels, *self.encoding.arguments]
        self._extra = split_arguments(settings.extra, container_of(target))
        self._filtered = filters(self._extra[0])[0] is not None
        # No container of segments holds a picture from before zero, where a broadcast's clock has run over.
        self._begin = 0.0 if reader.info and reader.info.start < 0 else None
        self._shape: list[str] = []
        if reader.info is None and (aspect := _pixel_aspect(reader)):  # that of a video file is the writer's to keep
            whole = aspect * Fraction(reader.video.width, reader.video.height)
            self._shape = ["-aspect", f"{whole.numerator}:{whole.denominator}"]

    @contextmanager
    def segment(self, number: int, first_frame: int) -> Iterator[Sink]:
        """As `Output` says.

        Raises:
            VideoError: the encoder, or a filter of the settings, leaves frames out, makes more of them or moves them
                in time.
        """
        path = self._folder / self.name(number)
        writer = VideoWriter(
            path,
            self._source,
            self._reader.video,
            # Not `auto`: in the segments' container another codec might be the usual one.
            codec=self.encoding.codec,
            crf=self._settings.crf,
            preset=self._settings.preset,
            extra=[*self._shape, *self._extra[0]],
            with_streams=False,
            start=self._begin,
        )
        with writer:
            yield writer
        if path.exists() and (fault := self._fault(timestamps(path), writer.stamps)):
            path.unlink()
            what = "a filter of --ffmpeg-args" if self._filtered else "encoding"
            raise VideoError(f"{path}: {what} {fault}; it must not")

    def _fault(self, found: Sequence[Fraction], written: Sequence[int]) -> str | None:
        """What became of the frames `written` at these ticks, now that they are encoded; None: nothing."""
        if len(found) != len(written):
            return f"makes {counted(len(found), 'frame')} of {len(written)}"
        base, origin = self._reader.video.time_base, origin_of(self._source, self._begin)
        moved = float(max(abs(time - (tick - origin) * base) for time, tick in zip(found, written, strict=True)))
        return f"moves frames by up to {moved:.3f} seconds" if moved > _ROUNDED else None

    def size(self, number: int) -> int:
        """As `Output` says."""
        return (self._folder / self.name(number)).stat().st_size

    def name(self, number: int) -> str:
        """As `Output` says."""
        return f"{number:06d}{segment_suffix(self._target)}"

    def finish(self, segments: Sequence[Segment]) -> list[str]:
        """As `Output` says.

        Raises:
            VideoError: a segment does not hold what it held, or joining has moved or lost frames.
            DiskFullError: there is no room for the joined file.
        """
        paths = [self._folder / segment.name for segment in segments]
        # A folder of pictures has no other streams and no clock: the first segment stands for it, and begins the part.
        source = self._source or probe(paths[0])
        start, end = self._settings.start, self._settings.end
        if self._source is None:
            start, end = None if start is None else 0.0, None
        if start is None and source.container in _RUNNING_CLOCKS and container_of(self._target).format != "mpegts":
            start = 0.0  # a clip may begin hours into such a clock, and elsewhere hours of nothing would lie before it
        if start is None:
            start = self._begin
        until = self._reader.until(segments[-1].last)
        dropped = join_segments(
            paths,
            self._target,
            source,
            frames=[segment.frames for segment in segments],
            extra=self._extra[1],
            start=start,
            begin=self._begin,
            end=end,
            until=None if until is None else until * self._reader.video.time_base,
        )
        return [*self.encoding.losses, *dropped, *(f"{thing}: cannot be written" for thing in source.unkept)]


class PictureOutput:
    """A folder of PNG pictures, upright, with a file that says when each is shown.

    Args:
        target: the folder; what is in it is replaced.
        folder: the working folder.
        reader: the source.
        settings: where the source is cut.
    """

    def __init__(self, target: Path, folder: Path, reader: Reader, settings: VideoSettings) -> None:
        self._target, self._folder = target, folder
        self._video = reader.video
        self._info = reader.info
        self._rotation = reader.info.rotation if reader.info else 0.0
        self._mirrored = reader.info.mirrored if reader.info else False
        zero = reader.info.file_start if reader.info else Fraction(0)
        self._origin = zero + as_meant(settings.start or 0)
        self._sizes: dict[int, int] = {}
        aspect = _pixel_aspect(reader)
        lying = round(self._rotation / 90) % 2 == 1
        self._aspect = 1 / aspect if aspect and lying else aspect
        """Of a pixel as it stands upright."""
        self._chunks = picture_chunks.chunks(reader.video.colour, self._aspect)
        self.identity: Sequence[str] = [f"{kind.decode()} {payload.hex()}" for kind, payload in self._chunks]

    @contextmanager
    def segment(self, number: int, first_frame: int) -> Iterator[Sink]:
        """As `Output` says."""
        sink = _PictureSink(self, FrameFolderWriter(self._folder / PICTURES, first_frame, self._chunks))
        yield sink
        if not sink.aborted:
            sink.writer.synchronise()
            with replacing(self._folder / self.name(number)) as stream:
                stream.write("\n".join(map(str, sink.times)).encode("ascii"))
            self._sizes[number] = sink.writer.size

    def size(self, number: int) -> int:
        """As `Output` says."""
        return self._sizes[number]

    def name(self, number: int) -> str:
        """As `Output` says."""
        return f"{number:06d}.times"

    def finish(self, segments: Sequence[Segment]) -> list[str]:
        """As `Output` says.

        Raises:
            VideoError: a segment does not hold what it held, or a picture is missing or empty.
            OSError: the folder cannot be written.
        """
        times = [time for segment in segments for time in self._times(segment)]
        pictures = self._folder / PICTURES
        sizes = {path.name: path.stat().st_size for path in pictures.iterdir()}
        for name in (f"{number + 1:06d}.png" for number in range(len(times))):
            if not sizes.get(name):
                raise VideoError(f"{pictures}: {name} is missing or empty; remove '{self._folder}' to start afresh")
        for name in sizes:
            if is_temporary(pictures / name):  # of `write_timestamps`, which a kill has interrupted
                (pictures / name).unlink()
        write_timestamps(pictures, times)
        if self._target.exists():
            if any(self._target.iterdir()) and not is_replaceable(self._target):
                raise VideoError(f"{self._target}: other files have come there meanwhile; move them, and go on")
            self._target.replace(self._folder / "replaced")
        pictures.replace(self._target)
        return self._unsaid()

    def _unsaid(self) -> list[str]:
        """What of the source the pictures cannot hold, or hold in a way that not everybody understands; a line each."""
        lines = []
        if self._rotation % 90:
            lines.append(f"the rotation by {self._rotation:g} degrees: pictures are turned by right angles")
        if self._aspect not in {None, 1}:
            assert self._aspect is not None
            shape = f"{self._aspect.numerator}:{self._aspect.denominator}"
            lines.append(
                f"the shape of a pixel, {shape}: the pictures say it as PNG's standard does; most programs show them "
                "with square pixels, and ffmpeg reads it the wrong way round"
            )
        if self._info is not None and (self._info.mastering_display or self._info.content_light):
            lines.append("HDR10 mastering data: not written into pictures")
        return lines

    def _times(self, segment: Segment) -> list[Fraction]:
        """When each picture of a segment is shown."""
        path = self._folder / segment.name
        times = path.read_text(encoding="ascii").split()
        if len(times) != segment.frames:
            raise VideoError(
                f"{path}: times of {len(times)} frames, where {segment.frames} were written; "
                f"remove '{self._folder}' to start afresh"
            )
        return [Fraction(time) for time in times]

    def picture(self, frame: Frame) -> np.ndarray:
        """H×W×3 RGB or H×W×4 RGB and alpha, uint8 or uint16, upright."""
        rgb = yuv.to_rgb([torch.from_numpy(np.ascontiguousarray(plane))[None] for plane in frame.planes], self._video)
        white = 255 if self._video.pixels.depth == 8 else 65535
        kind = np.uint8 if white == 255 else np.uint16
        picture = rgb[0].permute(1, 2, 0).mul(white).add_(0.5).numpy().astype(kind)
        if self._video.pixels.alpha:
            opaque = (1 << self._video.pixels.depth) - 1
            alpha = (frame.planes[-1].astype(np.float32) * (white / opaque) + 0.5).astype(kind)
            picture = np.dstack([picture, alpha])
        # The pixels of the file are turned counterclockwise by the rotation, then flipped.
        picture = np.rot90(picture, round(self._rotation / 90) % 4)
        return picture[:, ::-1] if self._mirrored else picture

    def seconds(self, frame: Frame) -> Fraction:
        """When a frame is shown, after the beginning of what is written."""
        # A frame from before the beginning that comes first stands on a tick, which may be just ahead of it.
        return max(Fraction(0), frame.pts * self._video.time_base - self._origin)


class _PictureSink:
    def __init__(self, output: PictureOutput, writer: FrameFolderWriter) -> None:
        self.times: list[Fraction] = []
        self.aborted = False
        self.writer = writer
        self._output = output

    def write(self, frame: Frame) -> None:
        self.writer.write(self._output.picture(frame))
        self.times.append(self._output.seconds(frame))

    def abort(self) -> None:
        self.aborted = True


def open_source(path: Path, settings: VideoSettings, start: float | None = None) -> Reader:
    """The frames of a video file or of a folder of pictures, from `start` on.

    Raises:
        VideoError, UsageError: as the readers do.
    """
    if path.is_dir():
        return FrameFolderReader(path, rate=settings.rate, start=start, end=settings.end)
    return VideoReader(path, start=start, end=settings.end)


def expected_frames(reader: Reader, settings: VideoSettings) -> int | None:
    """About how many frames there are from the start to the end of `settings`; None where the source does not say."""
    if isinstance(reader, FrameFolderReader):
        return reader.count
    info = reader.info
    if info.frames is None or info.duration is None or not info.average_rate:
        return None
    end = info.duration if settings.end is None else min(info.duration, as_meant(settings.end))
    return max(1, min(info.frames, round((end - as_meant(settings.start or 0)) * info.average_rate)))


def _pixel_aspect(reader: Reader) -> Fraction | None:
    """Width of a pixel of the source over its height; None: not said."""
    if isinstance(reader, FrameFolderReader):
        return reader.sample_aspect
    return reader.info.sample_aspect if reader.info else None


def open_output(target: Path, folder: Path, reader: Reader, settings: VideoSettings) -> Output:
    """The output that `settings` ask for.

    Raises:
        VideoError, UsageError: it cannot be encoded so.
    """
    kind = PictureOutput if settings.pictures else EncodedOutput
    return kind(target, folder, reader, settings)
