"""What of a source beside its pictures goes into a new file: the other streams, chapters, metadata, the rotation."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from deblur_cli.media import ffmpeg
from deblur_cli.media.encoders import Container
from deblur_cli.media.ffmpeg_report import Stream
from deblur_cli.media.probe import VideoInfo
from deblur_cli.media.timecode import moved_on
from deblur_cli.media.video import as_meant

_TEXT = frozenset({"mov_text", "subrip", "srt", "ass", "ssa", "webvtt", "text", "microdvd", "subviewer", "sami"})
# Written by mkvmerge about the stream as it was.
_STATISTICS = re.compile(r"BPS|NUMBER_OF_(FRAMES|BYTES)|DURATION|_STATISTICS_|encoder$", re.IGNORECASE)


@dataclass
class Copied:
    """The command line that takes over what a source has, and what it has to leave behind."""

    maps: list[str] = field(default_factory=list)
    """Which streams go into the file, in the source's order; the new video is `0:v:0`, the source is input 1, and once
    more, from well before the cut, input 2 where there are `texts` and a cut: one of them may be shown still."""
    options: list[str] = field(default_factory=list)
    """Codecs of the copied streams, metadata, chapters."""
    position: int = 0
    """The new video's place among the streams of the file."""
    texts: list[int] = field(default_factory=list)
    """The places of text subtitles."""
    dropped: list[str] = field(default_factory=list)
    """One line for each thing that the container cannot hold."""


def copied(
    source: VideoInfo, container: Container, start: float | None = None, left_out: Collection[str] = ()
) -> Copied:
    """How the streams of `source` beside its video, from second `start` on, get into a file of the kind `container`.

    Those of the kinds `left_out` (`audio`, `subtitle`, `data`) do not.
    Whether a stream can be held is found out by trying: ffmpeg writes its first packets into nothing.
    """
    result = Copied()
    place = 0
    for stream in sorted([*source.streams, _main(source)], key=lambda stream: stream.index):
        if stream.index == source.index:
            result.position = place
            result.maps += ["-map", "0:v:0"]
            result.options += [*_metadata(source, place), *_time_codes(source, place, start or 0.0)]
        elif stream.kind in left_out or _rewritten(stream, source):
            continue
        else:
            codec = _codec(source, stream, container)
            if codec is None:
                result.dropped.append(f"{stream}: a {container.format} file does not hold it")
                continue
            text = stream.kind == "subtitle" and stream.codec in _TEXT
            result.maps += ["-map", f"{2 if text and start else 1}:{stream.index}"]
            result.options += [f"-c:{place}", codec, f"-map_metadata:s:{place}", f"1:s:{stream.index}"]
            result.texts += [place] if text else []
        place += 1
    result.options += ["-map_metadata", "1", "-map_chapters", "1" if container.chapters else "-1"]
    if source.chapters and not container.chapters:
        result.dropped.append(f"{len(source.chapters)} chapters: a {container.format} file does not hold them")
    if not container.exact and container.format not in source.container.split(","):
        result.dropped.append(f"the clock's zero: a {container.format} file shows all streams some milliseconds later")
    if container.format in {"mp4", "mov"} and any(key.startswith("com.") for key in source.file_metadata):
        # Cameras and telephones write keys of their own, which only this table can hold.
        result.options += ["-movflags", "+use_metadata_tags"]
    return result


def display_options(source: VideoInfo, container: Container) -> tuple[list[str], list[str]]:
    """Options of an input that give it the rotation and mirroring of `source`; and what is dropped, one line each."""
    if not source.rotation and not source.mirrored:
        return [], []
    if not container.rotation:
        turned = f"the rotation by {source.rotation:g} degrees" + (" and the mirroring" if source.mirrored else "")
        return [], [f"{turned}: a {container.format} file does not hold it"]
    return ["-display_rotation", f"{source.rotation:g}", *(["-display_hflip"] if source.mirrored else [])], []


def dispositions(source: VideoInfo) -> str:
    """The value of ffmpeg's `-disposition` for the video of `source`."""
    kept = sorted(name.replace(" ", "_") for name in source.dispositions - {"multilayer", "dependent"})
    return "+".join(kept) or "0"


def _main(source: VideoInfo) -> Stream:
    return Stream(source.index, "video", source.codec)


def _metadata(source: VideoInfo, place: int) -> list[str]:
    stale = [key for key in source.metadata if _STATISTICS.match(key)]
    cleared = [part for key in stale for part in (f"-metadata:s:{place}", f"{key}=")]
    chosen = [f"-map_metadata:s:{place}", f"1:s:{source.index}", *cleared]
    return [*chosen, f"-disposition:{place}", dispositions(source)]


def _time_codes(source: VideoInfo, place: int, start: float) -> list[str]:
    """Options that give the file the source's time codes, as they are at the first frame from second `start` on."""
    rate = source.nominal_rate or source.average_rate
    frames = math.ceil((source.file_start + as_meant(start) - source.start) * rate) if rate else 0
    options = []
    for where, tags in ((f":s:{place}", source.metadata), ("", source.file_metadata)):
        if code := _time_code(tags):
            moved = moved_on(code, frames, rate) if frames > 0 and rate else code
            options += [f"-metadata{where}", f"timecode={moved or ''}"]
    return options


def _time_code(tags: Mapping[str, str]) -> str | None:
    """What tags say under a name that Matroska writes in capitals."""
    return next((value for key, value in tags.items() if key.lower() == "timecode"), None)


def _rewritten(stream: Stream, source: VideoInfo) -> bool:
    """Whether a stream comes about anew: time code tracks from metadata, tracks of chapter titles from chapters."""
    if stream.kind != "data":
        return False
    return "tmcd" in stream.detail or bool(source.chapters and "(text " in stream.detail)


def _codec(source: VideoInfo, stream: Stream, container: Container) -> str | None:
    """`copy`, or what a text subtitle is turned into; None where the container does not take the stream."""
    if "attached pic" in stream.dispositions and container.format in {"matroska", "webm", "avi", "mpegts"}:
        # It would become a video track of one frame, ahead of or beside the real one.
        return None
    if _accepted(source, stream, container, "copy"):
        return "copy"
    if stream.kind == "subtitle" and stream.codec in _TEXT and container.text is not None:
        return container.text if _accepted(source, stream, container, container.text) else None
    return None


def _accepted(source: VideoInfo, stream: Stream, container: Container, codec: str) -> bool:
    source_options = ["-loglevel", "level+warning", "-copyts", "-i", ffmpeg.file_argument(source.path)]
    stream_options = ["-map", f"0:{stream.index}", "-c", codec, "-t", "0.5"]
    nothing = ["-f", container.format, "-y", os.devnull]
    tried = ffmpeg.run([*ffmpeg.QUIET, *source_options, *stream_options, *nothing])
    told = tried.stderr.decode("utf-8", "replace").splitlines()
    # What is said of the source as it is opened is no word on the file.
    of_source = f"[{source.container} @" if source.container != container.format else "[in#"
    doubts = [line for line in told if re.search("may not be recognized|not supported", line)]
    return tried.returncode == 0 and all(line.startswith(of_source) for line in doubts)
