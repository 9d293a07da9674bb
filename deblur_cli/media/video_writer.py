"""Frames into a video file, with their timestamps, and with everything else that the source has beside its pictures.

Frames go to ffmpeg as an IVF stream of raw planes, the simplest container that carries a timestamp with each frame.
ffmpeg encodes them and copies the other streams, chapters and metadata from the source.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from deblur_cli.errors import DiskFullError, VideoError
from deblur_cli.media import ffmpeg
from deblur_cli.media.encoders import Container, choose, container_of
from deblur_cli.media.ffmpeg_arguments import filters, is_rated, left_out, merged, pixels_of
from deblur_cli.media.ffmpeg_report import UNKNOWN, ColourTags
from deblur_cli.media.files import temporary_name
from deblur_cli.media.filter_graphs import surrounded
from deblur_cli.media.pixel_formats import fourcc, nearest_planar
from deblur_cli.media.probe import VideoInfo
from deblur_cli.media.streams import Copied, copied, display_options
from deblur_cli.media.video import Frame, VideoFormat, as_meant

_LONGEST_TEXT = 600.0
"""Seconds ahead of a cut from which texts are looked for: one from there may be shown still."""


class VideoWriter:
    """Encodes frames to a file that is whole or not there: it gets its name when `close` succeeds.

    Depth, chroma sampling and alpha are kept where the codec holds them, and so are colour tags, sample aspect ratio,
    rotation and mirroring, and HDR10 mastering data. Used as a context manager it closes at the end of the block, or
    aborts where the block raises.

    Default quality and effort: libx264 crf 17 medium, libx265 crf 19 medium, libsvtav1 crf 22 preset 6, libaom-av1
    crf 20 cpu-used 6, libvpx-vp9 crf 22 cpu-used 3, prores_ks profile hq or 4444; ffv1 is lossless. A bit rate or a
    quantiser in `extra` (`-b:v`, `-qp`) takes the place of a default crf.

    Args:
        target: the file to write; its suffix says the container.
        source: the file that the frames come from; None: there is none, and the colours of `video` are tagged.
        video: what the frames are.
        codec: `auto` (the source's own, or else what the container takes), `h264`, `hevc`, `av1`, `vp9`, `prores`,
            `ffv1`, or the name of one of ffmpeg's encoders.
        crf: quality in the encoder's own scale.
        preset: effort in the encoder's own scale.
        extra: further arguments for ffmpeg's command line, put after all others of the output; parameters that the
            encoder has already been given (`-x265-params`) are joined to those, filters (`-vf`) to those that keep the
            colours and the shape of the pixels.
        with_streams: whether audio, subtitles, chapters and metadata of the source are copied too.
        start: seconds after the source's beginning from which its frames come; time in the file starts there, and the
            other streams are cut alike.
        end: seconds after the source's beginning at which they end.

    Raises:
        VideoError: no such container or codec, no encoder, or a combination that cannot be.
        UsageError: the codec has no `crf` or `preset`; `extra` has a word that is neither an option nor its value.
    """

    def __init__(
        self,
        target: Path,
        source: VideoInfo | None,
        video: VideoFormat,
        *,
        codec: str = "auto",
        crf: float | None = None,
        preset: str | None = None,
        extra: Sequence[str] = (),
        with_streams: bool = True,
        start: float | None = None,
        end: float | None = None,
    ) -> None:
        self.target = target
        self.video = video
        self.dropped: list[str] = []
        """What of the source the file cannot hold, one line each."""
        self.stamps: list[int] = []
        """The ticks of the frames that were written."""
        container = container_of(target)
        if container.format == "avi" and (source is None or "avi" not in source.container.split(",")):
            raise VideoError(f"{target}: AVI has no timestamps, and would change when frames are shown; take .mkv")
        named, rated = pixels_of(extra), is_rated(extra)
        chosen = choose(target, video, source, codec=codec, crf=crf, preset=preset, pixels=named, rated=rated)
        without, extra = left_out(extra)
        arguments, extra = merged(chosen.arguments, extra)
        self._extra_filters, extra = filters(extra)
        self.encoding = replace(chosen, arguments=tuple(arguments))
        """The encoder, pixel format and options that were chosen."""
        self.dropped += self.encoding.losses
        self._source = source
        self._origin = origin_of(source, start)
        others = Copied(["-map", "0:v:0"])
        if source is not None and with_streams:
            others = copied(source, container, start, without, extra)
        self.dropped += others.dropped
        turned: list[str] = []
        if source is not None:
            turned, lost = display_options(source, container)
            self.dropped += [*lost, *(f"{thing}: cannot be written" for thing in source.unkept)]
        self._temporary = temporary_name(target)
        self._process: ffmpeg.Process | None = ffmpeg.Process(
            [
                *("-copyts", "-noautorotate", *turned, "-c:v", "rawvideo", "-f", "ivf", "-i", "pipe:0"),
                *(source_inputs(source, start, others) if source is not None and with_streams else ()),
                *(*others.maps, *self._encoder_arguments(others.position, container), *others.options),
                *container_options(container, target, video.time_base),
                *(*limit_options(source, container, start, end, others.texts), *extra, *others.last),
                *("-f", container.format, "-y", ffmpeg.file_argument(self._temporary)),
            ],
            stdin=True,
        )
        self._send(_ivf_header(video))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abort()

    def write(self, frame: Frame) -> None:
        """Encode a frame, later than the one before, its planes as the writer's format says.

        Raises:
            VideoError: ffmpeg gave up. Nothing of the file is left then.
            DiskFullError: likewise.
        """
        shapes = [plane.shape for plane in frame.planes]
        if shapes != self.video.pixels.plane_shapes(self.video.height, self.video.width):
            raise ValueError(f"planes of {shapes} are no frame of {self.video}")
        if self.stamps and frame.pts <= self.stamps[-1]:
            raise ValueError(f"a frame at {frame.pts} cannot follow one at {self.stamps[-1]}")
        planes = [np.ascontiguousarray(plane, dtype=self.video.pixels.dtype) for plane in frame.planes]
        self._send(struct.pack("<Iq", sum(plane.nbytes for plane in planes), frame.pts - self._origin))
        for plane in planes:
            self._send(plane.data.cast("B"))
        self.stamps.append(frame.pts)

    def close(self) -> None:
        """Finish the file, synchronise it to the disk and give it its name. Closing twice is fine.

        Raises:
            VideoError: no frame was written, or ffmpeg could not finish. Nothing is left then.
            DiskFullError: likewise.
        """
        if self._process is None:
            return
        if not self.stamps:
            self.abort()
            raise VideoError(f"{self.target}: there was no frame to write")
        try:
            failed = self._process.wait() != 0
        except BaseException:
            self.abort()
            raise
        if failed:
            self._fail()
        self._process = None
        try:
            with self._temporary.open("rb") as written:
                os.fsync(written.fileno())
            self._temporary.replace(self.target)
        except OSError as error:
            self._temporary.unlink(missing_ok=True)
            raise VideoError(f"{self.target}: cannot be written ({error.strerror})") from error

    def abort(self) -> None:
        """Stop, and leave nothing behind."""
        if self._process is not None:
            self._process.kill()
            self._process = None
            self._temporary.unlink(missing_ok=True)

    def _send(self, data: bytes | memoryview) -> None:
        if self._process is None:
            raise VideoError(f"{self.target}: is closed")
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._process.stdin.write(rest) :]
        except BrokenPipeError:
            self._fail()

    def _fail(self) -> None:
        """Clean up after an ffmpeg that has given up or is about to, and say why."""
        assert self._process is not None
        status, messages = self._process.wait(), list(self._process.messages)
        size = self._temporary.stat().st_size if self._temporary.exists() else 0
        self.abort()
        if ffmpeg.is_disk_full(messages):
            # Nothing tells how many of the frames that went in are in these bytes, and how many the encoder still held.
            raise DiskFullError(f"{self.target}: the disk is full after {size / 1e6:.1f} MB")
        raise VideoError(f"{self.target}: cannot be encoded ({ffmpeg.failure(status, messages)})")

    def _encoder_arguments(self, place: int, container: Container) -> list[str]:
        """Filters and encoder of the new video, which is stream `place` of the file."""
        options = [f"-c:{place}", *self.encoding.arguments]
        tag = [f"-tag:{place}", "hvc1"] if self.encoding.codec == "hevc" and container.format in {"mp4", "mov"} else []
        timing = ["-fps_mode", "passthrough", f"-enc_time_base:{place}", "demux"]
        return [f"-filter:{place}", self._filters(), *options, *tag, *timing]

    def _filters(self) -> str:
        """Tags of the frames that come in, the user's own filters, then the encoder's pixel format."""
        tags = self._tags()
        extent = tags.range
        if extent == UNKNOWN and self.video.pixels.kind == "yuv" and not self.video.colour.full_range:
            # Encoders that know of two ranges only would get it from a scaler, which leaves out the chroma's location.
            extent = "tv"
        colours = f"range={extent}:color_primaries={tags.primaries}:color_trc={tags.transfer}"
        colours += f":colorspace={tags.matrix}"
        if tags.chroma_location != UNKNOWN:
            colours += f":chroma_location={tags.chroma_location}"
        chain = [f"setparams={colours}"]
        encoded = nearest_planar(self.encoding.pixels)
        if encoded.kind == "yuv" and self.video.pixels.kind == "grey":
            # To ffmpeg all grey is of full range and of no matrix. It would squeeze what is of limited range already,
            # and turn samples into RGB and back to give them a matrix.
            coloured = self.video.pixels.name.replace("gray", "yuv420p")
            chain = ["setparams=range=pc:colorspace=unknown", f"format={coloured}", *chain]
        if self._source is not None and self._source.sample_aspect:
            aspect = self._source.sample_aspect
            chain.append(f"setsar={aspect.numerator}/{aspect.denominator}:max={max(aspect.as_integer_ratio())}")
        encodable = [f"format={self.encoding.pixels}"]
        if encoded.kind == "yuv" and self.video.pixels.kind == "rgb":
            matrix = "bt2020nc" if tags.primaries == "bt2020" else "bt709"
            converted = f"setparams=range=tv:colorspace={matrix}:color_primaries={tags.primaries}"
            encodable = [f"scale=out_color_matrix={matrix}:out_range=limited", converted, *encodable]
        return surrounded(",".join(chain), self._extra_filters, ",".join(encodable))

    def _tags(self) -> ColourTags:
        """The source's own, untagged where it is, as long as the frames still have its colours."""
        if self._source is not None and self._source.video.colour == self.video.colour:
            return self._source.tags
        colour = self.video.colour
        extent = "pc" if colour.full_range else "tv"
        return ColourTags(extent, colour.matrix, colour.primaries, colour.transfer, colour.chroma_location)


def origin_of(source: VideoInfo | None, start: float | None) -> int:
    """The tick of the source that becomes tick 0 where only the part from second `start` on is written."""
    if source is None or start is None:
        return 0
    return math.floor((source.file_start + as_meant(start)) / source.video.time_base)


def source_inputs(source: VideoInfo, start: float | None, others: Copied) -> list[str]:
    """The source as ffmpeg's inputs from 1 on, as `others` need it; second `start` of it is called zero."""
    moved = ["-i", ffmpeg.file_argument(source.path)]
    if start is not None:
        moved = ["-itsoffset", f"{-float(origin_of(source, start) * source.video.time_base):.6f}", *moved]
    inputs: list[str] = []
    for early in others.inputs or [False]:  # its metadata are wanted of a source without other streams too
        begin = max(0.0, (start or 0.0) - (_LONGEST_TEXT if early else 0.0))
        # A search for the very beginning may still pass what lies ahead of the first picture.
        inputs += [*(["-noaccurate_seek", "-ss", f"{begin:.6f}"] if begin else []), *moved]
    return inputs


def limit_options(
    source: VideoInfo | None,
    container: Container,
    start: float | None,
    end: float | None,
    texts: Sequence[int] = (),
    last: Fraction | None = None,
) -> list[str]:
    """Options of the output that let streams end at second `end` of the source, and keep their times from `start`.

    `texts` are the places of text subtitles in the file: each of their packets is cut itself. `last` is when the last
    picture is shown in the file, in seconds: a clock of milliseconds may have rounded it up to the end.
    """
    if source is None:
        return []
    options: list[str] = []
    if start is not None and container.format not in {"mp4", "mov"}:
        # Packets from before the cut lie at negative times, which QuickTime hides. Elsewhere they would move the rest.
        options += ["-copypriorss", "0"]
    limit = None
    if end is not None:
        limit = float(source.file_start + as_meant(end) - origin_of(source, start) * source.video.time_base)
        limit = limit if last is None else max(limit, float(last) + 0.0005)
        options += ["-t", f"{limit:.6f}"]
    if start is not None or limit is not None:
        for place in texts:
            options += [f"-copypriorss:{place}", "1", f"-bsf:{place}", _cut_text(limit)]
    return options


def _cut_text(limit: float | None) -> str:
    """Bitstream filters that leave of text subtitles what is shown from zero on, and until second `limit`.

    A text may be shown for long, so that one from before the cut may be wanted still, and the last would make the file
    longer than its pictures. What is turned into another codec has passed the options that drop early packets.
    """
    begin, finish, outside = "max(PTS\\,0)", "PTS+DURATION", "lte(pts+d\\,0)"
    if limit is not None:
        finish, outside = f"min({finish}\\,{limit:.6f}/TB)", f"{outside}+gte(pts*tb\\,{limit:.6f})"
    return f"noise=drop={outside},setts=pts={begin}:dts=max(DTS\\,0):duration={finish}-{begin}"


def container_options(container: Container, target: Path, time_base: Fraction) -> list[str]:
    """Options of the output that keep timestamps as they are."""
    if container.format in {"mp4", "mov", "3gp"}:
        return ["-video_track_timescale", str(time_base.denominator)]
    if container.format == "mpegts":
        # The muxer would begin later otherwise, to leave room for a decoder's buffer.
        blu_ray = ["-mpegts_m2ts_mode", str(int(target.suffix.lower() in {".m2ts", ".mts"}))]
        return ["-muxdelay", "0", "-muxpreload", "0", *blu_ray]
    if container.format in {"matroska", "webm"}:
        # Ogg's first sound lies ahead of zero, by what its decoder needs; the muxer would move everything for it.
        return ["-avoid_negative_ts", "disabled"]
    return []


def _ivf_header(video: VideoFormat) -> bytes:
    """The 32 bytes before the frames of an IVF stream: version, length, fourcc, size, time base, frames (not known)."""
    base = video.time_base
    return b"DKIF" + struct.pack(
        "<HH4sHHIIII", 0, 32, fourcc(video.pixels), video.width, video.height, base.denominator, base.numerator, 0, 0
    )
