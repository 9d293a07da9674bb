"""What of a source beside its pictures goes into a new file: the other streams, chapters, metadata, the rotation."""

from __future__ import annotations

import math
import os
import re
import tempfile
import weakref
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deblur_cli.media import ffmpeg
from deblur_cli.media.encoders import Container
from deblur_cli.media.ffmpeg_arguments import of_stream, value_of
from deblur_cli.media.ffmpeg_report import Stream
from deblur_cli.media.file_metadata import BRANDS, STATISTICS, unheld
from deblur_cli.media.lengths import top_box
from deblur_cli.media.probe import VideoInfo
from deblur_cli.media.timecode import moved_on
from deblur_cli.media.video import as_meant

_TEXT = frozenset({"mov_text", "subrip", "srt", "ass", "ssa", "webvtt", "text", "microdvd", "subviewer", "sami"})


@dataclass
class Copied:
    """The command line that takes over what a source has, and what it has to leave behind."""

    maps: list[str] = field(default_factory=list)
    """Which streams go into the file, in the source's order; the new video is `0:v:0`, the others are of `inputs`."""
    inputs: list[bool] = field(default_factory=list)
    """The source, as inputs 1, 2 …: whether each begins well before the cut, for texts that may be shown still."""
    options: list[str] = field(default_factory=list)
    """Codecs of the copied streams, metadata, chapters."""
    position: int = 0
    """The new video's place among the streams of the file."""
    texts: list[int] = field(default_factory=list)
    """The places of text subtitles."""
    last: list[str] = field(default_factory=list)
    """Options that must come behind a user's own, which they include."""
    dropped: list[str] = field(default_factory=list)
    """One line for each thing that the container cannot hold, or that goes into it but is not restored."""
    _shared: dict[bool, int] = field(default_factory=dict)

    def take(self, stream: Stream, early: bool) -> None:
        """Let a further stream go into the file, if `early` from well before the cut.

        ffmpeg reads on where a stream has come least far. One that pauses, has ended or is a cover lets it read all of
        an input, and sound from there would lie ahead of the pictures, by hours. So each sound has an input of its own,
        and all else shares another.
        """
        number = None if stream.kind == "audio" else self._shared.get(early)
        if number is None:
            self.inputs.append(early)
            number = len(self.inputs)
        if stream.kind != "audio":
            self._shared[early] = number
        self.maps += ["-map", f"{number}:{stream.index}"]


def copied(
    source: VideoInfo,
    container: Container,
    start: float | None = None,
    left_out: Collection[str] = (),
    extra: Sequence[str] = (),
) -> Copied:
    """How the streams of `source` beside its video, from second `start` on, get into a file of the kind `container`.

    Those of the kinds `left_out` (`audio`, `subtitle`, `data`) do not.
    Whether a stream can be held is found out by trying: ffmpeg writes its first packets into nothing, encoded as a
    user's arguments for the file (`extra`) say. Where those say `-map_metadata -1`, no metadata go along.

    Covers for Matroska are put into temporary files, which are there as long as `source` is.

    Raises:
        UsageError: `extra` has a word that is neither an option nor its value.
    """
    result = Copied()
    stripped = value_of("map_metadata", extra) == "-1"
    place, covers = 0, []
    kept: Counter[str] = Counter()
    for stream in sorted([*source.streams, _main(source)], key=lambda stream: stream.index):
        if stream.index == source.index:
            result.position = place
            result.maps += ["-map", "0:v:0"]
            result.options += [f"-disposition:{place}", dispositions(source)]
            result.options += [] if stripped else _metadata(source, place, start or 0.0)
        elif stream.kind in left_out or _rewritten(stream, source):
            continue
        elif container.format == "matroska" and "attached pic" in stream.dispositions:
            covers.append(stream)
            continue
        else:
            if start and stream.kind in {"audio", "data"} and not _lasts_until(source, stream, start):
                result.dropped.append(f"{stream}: it has ended where the part begins")
                continue
            wanted = of_stream(stream.kind, kept[stream.kind], extra)
            codec = _codec(source, stream, container, wanted)
            if codec is None:
                neither = f", nor with '{' '.join(wanted)}'" if wanted else ""
                result.dropped.append(f"{stream}: a {container.format} file does not hold it{neither}")
                continue
            kept[stream.kind] += 1
            text = stream.kind == "subtitle" and stream.codec in _TEXT
            result.take(stream, early=text and bool(start))
            result.options += [f"-c:{place}", codec]
            result.options += [] if stripped else _its_metadata(stream.index, place)
            result.texts += [place] if text else []
            result.last += _cut_sound(wanted, place) if start else []
            if stream.kind == "video" and "attached pic" not in stream.dispositions:
                result.dropped.append(f"{stream}: copied as it is, not restored")
        place += 1
    for number, cover in enumerate(covers):  # ffmpeg attaches files behind all that is mapped
        attached, failed = _attached(source, cover, place + number)
        result.options += attached
        result.dropped += failed
        if attached and not stripped:
            result.options += _its_metadata(cover.index, place + number)
    result.options += ["-map_chapters", "1" if container.chapters else "-1"]
    if source.chapters and not container.chapters:
        result.dropped.append(f"{len(source.chapters)} chapters: a {container.format} file does not hold them")
    if not container.exact and container.format not in source.container.split(","):
        result.dropped.append(f"the clock's zero: a {container.format} file shows all streams some milliseconds later")
    if not stripped:
        said, lost = _of_the_file(source, container)
        result.options += said
        result.dropped += lost
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


def _has_keys(source: VideoInfo) -> bool:
    """Whether a source is a QuickTime or MP4 file with a table of metadata under any names."""
    return "mov" in source.container.split(",") and b"mdta" in top_box(source.path, b"moov")


def has_time_code(source: VideoInfo) -> bool:
    """Whether a source says which time code its first frame has."""
    return any(_time_code(tags) for tags in (source.metadata, source.file_metadata))


def _main(source: VideoInfo) -> Stream:
    return Stream(source.index, "video", source.codec)


def _of_the_file(source: VideoInfo, container: Container) -> tuple[list[str], list[str]]:
    """Options that give the file what the source says of itself as a whole; and what is dropped, one line each."""
    options = ["-map_metadata", "1"]
    lost = unheld(source.file_metadata, container.format)
    if container.format in {"mp4", "mov"} and (
        any(key.startswith("com.") for key in source.file_metadata) or (lost and _has_keys(source))
    ):
        # Cameras, telephones and whoever made the source have keys of their own, which only this table can hold.
        options += ["-movflags", "+use_metadata_tags"]
        # ffmpeg takes what kind of file it was for metadata, and the table would say it again in each new file.
        for brand in sorted(BRANDS):
            options += ["-metadata", f"{brand}="]
        return options, []
    them = "it" if len(lost) == 1 else "them"
    return options, [f"the metadata {', '.join(lost)}: a {container.format} file does not hold {them}"] if lost else []


def _its_metadata(index: int, place: int) -> list[str]:
    """Options that give stream `place` of the file what the source says of its stream `index`."""
    return [f"-map_metadata:s:{place}", f"1:s:{index}"]


def _metadata(source: VideoInfo, place: int, start: float) -> list[str]:
    """Options that give the new video, stream `place` of the file, what the source says of its own from `start` on."""
    stale = [key for key in source.metadata if STATISTICS.match(key)]
    cleared = [part for key in stale for part in (f"-metadata:s:{place}", f"{key}=")]
    return [*_its_metadata(source.index, place), *cleared, *_time_codes(source, place, start)]


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


def _attached(source: VideoInfo, cover: Stream, place: int) -> tuple[list[str], list[str]]:
    """Options that make the picture `cover` stream `place` of a Matroska file; and what is dropped, one line each.

    Mapped it would become a video track of one frame, ahead of or beside the real one. Matroska has covers as attached
    files, and ffmpeg attaches none but what lies on the disk.
    """
    packet = ["-loglevel", "error", "-i", ffmpeg.file_argument(source.path), "-map", f"0:{cover.index}", "-c", "copy"]
    read = ffmpeg.run([*ffmpeg.QUIET, *packet, "-frames:v", "1", "-f", "rawvideo", "pipe:1"])
    if read.returncode or not read.stdout:
        return [], [f"{cover}: cannot be read"]
    try:
        with tempfile.NamedTemporaryFile(prefix="deblur-", delete=False) as file:
            # Of all that takes part in the writing, the caller's `source` alone is sure to be there till its end.
            weakref.finalize(source, Path(file.name).unlink, missing_ok=True)
            file.write(read.stdout)
    except OSError as error:
        return [], [f"{cover}: cannot be put into a temporary file ({error.strerror or error})"]
    kind = {"mjpeg": "jpeg"}.get(cover.codec, cover.codec)
    says = {"mimetype": f"image/{kind}", "filename": f"cover.{kind.replace('jpeg', 'jpg')}"}
    says |= {key.lower(): value for key, value in cover.metadata.items() if key.lower() in says}
    named = [part for key, value in says.items() for part in (f"-metadata:s:{place}", f"{key}={value}")]
    return ["-attach", file.name, *named], []


def _codec(source: VideoInfo, stream: Stream, container: Container, wanted: Sequence[str]) -> str | None:
    """`copy`, or what a text subtitle is turned into; None where the container does not take the stream.

    What a user has `wanted` of it comes later on the command line: `copy` gives way to a codec there.
    """
    if "attached pic" in stream.dispositions and container.format in {"webm", "avi", "mpegts"}:
        # It would become a video track of one frame, ahead of or beside the real one.
        return None
    if stream.kind == "attachment" and container.format != "matroska":
        # ffmpeg says nothing, and leaves it out or puts a track without a packet in its place.
        return None
    # Where it can be copied, but not be encoded as it is wanted, the joining fails, and says why.
    tries = [wanted, ()] if wanted else [()]
    if any(_accepted(source, stream, container, "copy", options) for options in tries):
        return "copy"
    if stream.kind == "subtitle" and stream.codec in _TEXT and container.text is not None:
        return container.text if _accepted(source, stream, container, container.text) else None
    return None


def _cut_sound(wanted: Sequence[str], place: int) -> list[str]:
    """Options that let stream `place` of the file begin at the cut, if it is a sound that is encoded as `wanted`.

    What is copied is cut by the file's options. A search would cut what is decoded by times that are not moved yet.
    """
    given = {option.partition(":")[0]: value for option, value in zip(wanted[::2], wanted[1::2], strict=True)}
    codec = given.get("-acodec") or given.get("-codec") or given.get("-c")
    if codec in {None, "copy"}:
        return []
    own = given.get("-af") or given.get("-filter")
    return [f"-filter:{place}", f"atrim=start=0,{own}" if own else "atrim=start=0"]


def _lasts_until(source: VideoInfo, stream: Stream, start: float) -> bool:
    """Whether anything of a stream is shown or heard later than second `start`.

    QuickTime hides what lies ahead of a cut. Where that is all there is, ffmpeg's muxer writes a length of many hours.
    """
    packets = ["-ss", f"{start:.6f}", "-i", ffmpeg.file_argument(source.path), "-map", f"0:{stream.index}"]
    later = ["-c", "copy", "-bsf:0", "noise=drop=lte(pts+d\\,0)", "-flush_packets", "1", "-f", "framecrc", "pipe:1"]
    process = ffmpeg.Process([*packets, *later], stdout=True)
    try:
        return any(not line.startswith(b"#") for line in process.stdout)
    finally:
        process.kill()


def _accepted(source: VideoInfo, stream: Stream, container: Container, codec: str, wanted: Sequence[str] = ()) -> bool:
    source_options = ["-loglevel", "level+warning", "-copyts", "-i", ffmpeg.file_argument(source.path)]
    stream_options = ["-map", f"0:{stream.index}", "-c", codec, *wanted, "-t", "0.5"]
    nothing = ["-f", container.format, "-y", os.devnull]
    tried = ffmpeg.run([*ffmpeg.QUIET, *source_options, *stream_options, *nothing])
    told = tried.stderr.decode("utf-8", "replace").splitlines()
    # What is said of the source as it is opened is no word on the file.
    of_source = f"[{source.container} @" if source.container != container.format else "[in#"
    doubts = [line for line in told if re.search("may not be recognized|not supported", line)]
    return tried.returncode == 0 and all(line.startswith(of_source) for line in doubts)
