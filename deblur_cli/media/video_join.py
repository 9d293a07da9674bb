"""Parts of a video joined into one file without encoding anew, and the timestamps by which that is checked."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

from deblur_cli.errors import DiskFullError, VideoError
from deblur_cli.media import ffmpeg
from deblur_cli.media.encoders import Container, container_of
from deblur_cli.media.ffmpeg_arguments import left_out, value_of
from deblur_cli.media.files import temporary_name
from deblur_cli.media.probe import VideoInfo, probe
from deblur_cli.media.streams import copied, display_options, has_time_code
from deblur_cli.media.video_writer import container_options, limit_options, origin_of, source_inputs
from deblur_cli.words import counted

_MOST_CODES = 255
"""Time codes a second that QuickTime's track of them can count; of a single frame the muxer takes the clock's rate."""
_CLOSE = Fraction(1, 1000)
_BY_DECODING = frozenset({"mp4", "mov", "3gp"})
"""Containers whose tables of durations go by the order of decoding."""
_MATROSKA = frozenset({".mkv", ".webm"})


def segment_suffix(target: Path) -> str:
    """The suffix that segments of `target` must have, so that joining them moves no timestamp.

    Matroska rounds to milliseconds, so that only what becomes Matroska may be kept in it; it alone holds VP9's alpha.
    QuickTime keeps any time base, and colour tags of codecs that have none in their own bytes.
    """
    suffix = target.suffix.lower()
    if suffix in _MATROSKA:
        return suffix
    return ".mov" if suffix == ".mov" else ".mp4"


def timestamps(path: Path, *, decode: bool = False) -> list[Fraction]:
    """When each frame of the first video stream is shown, in seconds of the file's clock, in order.

    They are read from the packets, which takes no decoding. That is exact for files written here; where an edit list
    hides frames, only decoding tells which.

    Args:
        path: the file.
        decode: whether to decode; a file without timestamps in it (AVI) is decoded anyway.

    Raises:
        VideoError: the file has no video that can be read.
    """
    if decode:
        return _decoded_timestamps(path)
    source = ["-loglevel", "error", "-copyts", "-i", ffmpeg.file_argument(path), "-map", "0:V:0"]
    listed = ffmpeg.run([*ffmpeg.QUIET, *source, "-c", "copy", "-f", "framecrc", "pipe:1"])
    base, ticks = Fraction(0), []
    for line in listed.stdout.decode("ascii", "replace").splitlines():
        if line.startswith("#tb 0:"):
            base = Fraction(line.split(":")[1].strip())
        elif not line.startswith("#"):
            ticks.append(int(line.split(",")[2]))
    if listed.returncode or not base:
        messages = listed.stderr.decode("utf-8", "replace").splitlines()
        raise VideoError(f"{path}: {ffmpeg.failure(listed.returncode, messages)}")
    if any(tick == ffmpeg.NO_TIMESTAMP for tick in ticks):
        return _decoded_timestamps(path)
    return [tick * base for tick in sorted(ticks)]


def join_segments(
    segments: Sequence[Path],
    target: Path,
    source: VideoInfo,
    *,
    frames: Sequence[int] | None = None,
    extra: Sequence[str] = (),
    start: float | None = None,
    end: float | None = None,
    begin: float | None = None,
    until: Fraction | None = None,
) -> list[str]:
    """Join the segments of a video, and copy the other streams of its source into the file beside it.

    Each segment is what `VideoWriter(…, with_streams=False)` wrote to a file with the suffix `segment_suffix` says,
    its frames with the source's own timestamps, or from `begin` on with those that the writer has then. The joined file
    gets its name when it is whole and each frame is where it was in its segment; the segments stay.

    Args:
        segments: in the order in which they are shown.
        target: the file to write; its suffix says the container.
        source: the file that the frames came from.
        frames: how many were written to each segment; None: as many as it holds.
        extra: further arguments for ffmpeg's command line, put after all others of the output.
        start: where the source was cut, in seconds after its beginning; time in the file starts there.
        end: where it ends, likewise.
        begin: the writer's `start` for the segments.
        until: until when the last frame is shown, in seconds of the source's clock; None: about as long as the one
            before, as far as the container says how long frames are shown.

    Returns:
        What of the source the file cannot hold, one line each.

    Raises:
        VideoError: a segment is missing, does not hold what it held or cannot be joined, or a timestamp has moved.
        DiskFullError: there is no room for the joined file.
    """
    container = container_of(target)
    parts = _read(target, segments, frames, source)
    without, extra = left_out(extra)
    others = copied(source, container, start, without, extra)
    turned, lost = display_options(source, container)
    # Matroska notes beside the pictures that they have alpha; what the source's own stream says of itself has no such.
    opacity = [f"-metadata:s:{others.position}", "alpha_mode=1"] if _has_noted_alpha(segments[0]) else []
    origin = origin_of(source, start) * source.video.time_base
    moved = origin - origin_of(source, begin) * source.video.time_base  # from the segments' clock
    first = Fraction(_begin(parts[0]), 1_000_000)
    stamps = [stamp - moved for part in parts for stamp in part]
    lasting: list[str] = []
    if until is not None:
        lasting = [f"-bsf:{others.position}", _lasting(stamps, until - origin, container.format in _BY_DECODING)]
        lost += _long_last(container, stamps, until - origin)
    stripped = value_of("map_metadata", extra) == "-1"
    codeless = "" if stripped else _without_time_code(container, source, len(stamps))
    if codeless:
        lost.append(f"the time code: not written for {codeless}")
    temporary, links = temporary_name(target), ExitStack()
    joined = ["-copyts", *turned, "-itsoffset", f"{float(first - moved):.6f}", "-protocol_whitelist", "file,pipe"]
    try:
        told = ffmpeg.run(
            [
                *(*ffmpeg.QUIET, "-loglevel", "level+warning", *joined),
                *("-f", "concat", "-safe", "0", "-i", "pipe:0"),
                *source_inputs(source, start, others),
                *(*others.maps, *others.options, f"-c:{others.position}", "copy", *opacity, *lasting),
                *(
                    *(["-write_tmcd", "0"] if codeless else []),
                    *container_options(container, target, source.video.time_base),
                    *limit_options(source, container, start, end, others.texts, stamps[-1]),
                    *(*extra, *others.last),
                ),
                *("-f", container.format, "-y", ffmpeg.file_argument(temporary)),
            ],
            _list(_on_one_line(segments, links), parts).encode("utf-8", "surrogateescape"),
        )
        if told.returncode:
            messages = told.stderr.decode("utf-8", "replace").splitlines()
            if ffmpeg.is_disk_full(messages):
                needed = math.ceil(sum(segment.stat().st_size for segment in segments) / 1e6)
                raise DiskFullError(f"{target}: the disk is full; joining the segments needs about {needed} MB")
            raise VideoError(f"{target}: its segments cannot be joined ({ffmpeg.failure(told.returncode, messages)})")
        later = _check(target, temporary, stamps, drift=not container.exact)
        # Of another container `copied` has said so, and a broadcast's clock has no zero to come later than.
        if later > _CLOSE and container.format in source.container.split(",") and container.format != "mpegts":
            lost.append(f"the clock's zero: all streams are shown {float(later) * 1000:.0f} milliseconds later")
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(target)
    finally:
        links.close()
        temporary.unlink(missing_ok=True)
    return [*others.dropped, *lost]


def _read(
    target: Path, segments: Sequence[Path], frames: Sequence[int] | None, source: VideoInfo
) -> list[list[Fraction]]:
    """The timestamps of each segment; raises VideoError where one is not what it was, or the source has gone."""
    for segment in segments:
        if not segment.exists():
            raise VideoError(
                f"{target}: '{segment}', a part of what was restored, is gone; the same command begins afresh"
            )
    if not source.path.exists():
        raise VideoError(
            f"{target}: '{source.path}', whose other streams are to be copied, is gone; what is done is kept: put it "
            "back, and the same command goes on"
        )
    parts = [_times(target, segment) for segment in segments]
    for segment, part, count in zip(segments, parts, frames or map(len, parts), strict=True):
        if len(part) != count:
            why = f"holds {counted(len(part), 'frame')}, where {count} were written"
            raise VideoError(f"{target}: its segment '{segment}' {why}; remove its folder to start afresh")
    if not parts or not all(parts):
        raise VideoError(f"{target}: there is a segment without frames, or none at all")
    return parts


def _lasting(stamps: Sequence[Fraction], until: Fraction, by_decoding: bool) -> str:
    """A bitstream filter that lets the last of the frames shown at `stamps` be shown `until` then, in seconds.

    What comes in has no word of it: the raw frames that go to the encoder have a time each, and no duration. The frame
    that is decoded last may be shown ahead of it, and QuickTime's tables of durations go `by_decoding`: where that one
    did not last till the end, the tables would end before the film. Players go by the times at which frames are shown;
    ffmpeg, where it makes the rate constant, goes by the tables.
    """
    ahead = (stamps[-1] + stamps[-2]) / 2 if len(stamps) > 1 else stamps[-1] - 1
    end = f"round({float(until):.9f}/TB)"
    others = "DURATION"
    if by_decoding:
        others = f"if(eq(NEXT_DTS\\,NOPTS)\\,max(1\\,{end}-DTS-STARTPTS+STARTDTS)\\,DURATION)"
    return f"setts=pts=PTS:dts=DTS:duration=if(gt(PTS*TB\\,{float(ahead):.9f})\\,{end}-PTS\\,{others})"


def _long_last(container: Container, stamps: Sequence[Fraction], until: Fraction) -> list[str]:
    """What is lost of the last frame's time where a container has no durations."""
    if container.format != "mpegts" or len(stamps) < 2:
        return []
    stays = until - stamps[-1]
    if stays <= 1.5 * (stamps[-1] - stamps[-2]):  # players take it for as long as the one before
        return []
    return [f"that the last frame stays for {float(stays):.2f} seconds: a {container.format} file does not hold it"]


def _without_time_code(container: Container, source: VideoInfo, count: int) -> str:
    """Which films of so many frames cannot have the time code of their source; empty: it has none, or this one can."""
    if container.format not in {"mp4", "mov"} or not has_time_code(source):
        return ""
    rate = source.nominal_rate or source.average_rate or 0
    if rate > _MOST_CODES:
        return f"{float(rate):g} frames a second"
    return "a single frame" if count == 1 else ""


def _times(target: Path, segment: Path) -> list[Fraction]:
    """The timestamps of a segment."""
    try:
        return timestamps(segment)
    except VideoError as error:
        why = str(error).removeprefix(f"{segment}: ")
        # Which may be no damage, but a signal that has ended ffmpeg.
        advice = "if that stays, remove its folder to start afresh"
        raise VideoError(f"{target}: its segment '{segment}' cannot be read ({why}); {advice}") from error


def _has_noted_alpha(segment: Path) -> bool:
    return segment.suffix in _MATROSKA and probe(segment).metadata.get("alpha_mode") == "1"


def _on_one_line(segments: Sequence[Path], until: ExitStack) -> list[Path]:
    """The segments, by links that are there `until` it is closed if a line of a script cannot hold their names."""
    if not any(len(str(segment.absolute()).splitlines()) > 1 for segment in segments):
        return list(segments)
    folder = Path(until.enter_context(TemporaryDirectory()))
    links = [folder / f"{number}{segment.suffix}" for number, segment in enumerate(segments)]
    for link, segment in zip(links, segments, strict=True):
        link.symlink_to(segment.absolute())
    return links


def _list(segments: Sequence[Path], parts: Sequence[Sequence[Fraction]]) -> str:
    """The script of ffmpeg's concat demuxer.

    It puts the in-point of each file where the ones before it end by their durations. With the beginnings of the
    segments as in-points, and the distances between them as durations, every file is moved by as much as the first.
    """
    begins = [_begin(part) for part in parts]
    lines = ["ffconcat version 1.0"]
    for segment, begin, after in zip(segments, begins, [*begins[1:], begins[-1] + 1_000_000], strict=True):
        name = str(segment.absolute()).replace("'", "'\\''")
        lines += [f"file 'file:{name}'", f"inpoint {begin}us", f"duration {after - begin}us"]
    return "\n".join(lines) + "\n"


def _begin(part: Sequence[Fraction]) -> int:
    """When a segment begins, in whole microseconds, not before its first frame: ffmpeg looks for it backward."""
    return math.ceil(part[0] * 1_000_000)


def _check(target: Path, written: Path, expected: Sequence[Fraction], *, drift: bool) -> Fraction:
    """Raises VideoError unless `written` shows its frames at the times `expected`, to a millisecond for Matroska.

    With `drift` all of them may be later by the same time, which is returned.
    """
    found = timestamps(written)
    if len(found) != len(expected):
        raise VideoError(f"{target}: joining has lost frames: {len(found)} of {len(expected)} are there")
    shift = found[0] - expected[0] if drift else Fraction(0)
    error = max(abs(one - other - shift) for one, other in zip(found, expected, strict=True))
    if error > _CLOSE:
        raise VideoError(f"{target}: joining has moved frames by up to {float(error) * 1000:.1f} ms")
    return shift


def _decoded_timestamps(path: Path) -> list[Fraction]:
    """As `timestamps`, from the frames that the decoder gives."""
    source = ["-loglevel", "error", "-copyts", "-i", ffmpeg.file_argument(path), "-map", "0:V:0"]
    told = ffmpeg.run([*ffmpeg.QUIET, *source, *ffmpeg.stamp_options("pipe:1"), "-f", "null", os.devnull])
    lines = told.stdout.decode("ascii").splitlines()
    if not lines:
        raise VideoError(f"{path}: {ffmpeg.reason(told.stderr.decode('utf-8', 'replace').splitlines())}")
    return [ticks * base for ticks, base in map(ffmpeg.read_stamp, lines)]
