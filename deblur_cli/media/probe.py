"""What a video file holds: its picture's format, its times, what must survive, and the other streams in it.

There is no ffprobe beside imageio-ffmpeg's ffmpeg. ffmpeg's own report on opening a file names the streams; its
`showinfo` filter tells of the first decoded frame what the report rounds or leaves out, the exact time base among it.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

from deblur_cli.errors import VideoError
from deblur_cli.media import ffmpeg
from deblur_cli.media.ffmpeg_report import Chapter, ColourTags, FirstFrame, Report, Stream
from deblur_cli.media.lengths import top_box
from deblur_cli.media.pixel_formats import nearest_planar
from deblur_cli.media.video import Colour, PixelFormat, VideoFormat

# What ffmpeg reads through to other files, whatever its own is called: outputs would lie beside the list, and what it
# names is not the user's to have named.
_LISTS = frozenset({"concat", "hls", "dash", "imf", "sdp", "rtsp", "webm_dash_manifest", "avisynth", "vapoursynth"})


@dataclass(frozen=True)
class MasteringDisplay:
    """The display that a film was graded on (SMPTE ST 2086): CIE 1931 x, y, and luminance in cd/m²."""

    red: tuple[Fraction, Fraction]
    green: tuple[Fraction, Fraction]
    blue: tuple[Fraction, Fraction]
    white: tuple[Fraction, Fraction]
    luminance: tuple[Fraction, Fraction]
    """Least and greatest."""


@dataclass(frozen=True)
class VideoInfo:
    """What `probe` finds in a file, above all in its first video stream that is no attached picture and not empty."""

    path: Path
    container: str
    """ffmpeg's names of it, separated by commas."""
    index: int
    """Of the video stream in the file."""
    codec: str
    profile: str | None
    source_pixels: str
    """ffmpeg's name of the format it decodes to; `video.pixels` is the planar one nearest to it."""
    video: VideoFormat
    tags: ColourTags
    decoder: str | None = None
    """The decoder to ask for where ffmpeg's own choice would lose something."""
    rotation: float = 0.0
    """Degrees counterclockwise that a player turns the picture by, before `mirrored`."""
    mirrored: bool = False
    """Whether a player flips the picture left to right."""
    sample_aspect: Fraction | None = None
    """Width of a pixel over its height; None: not said."""
    average_rate: Fraction | None = None
    nominal_rate: Fraction | None = None
    """Frames a second: counted, and as the stream means them."""
    file_start: Fraction = Fraction(0)
    """When the first stream of the file begins, in seconds of its clock."""
    start: Fraction = Fraction(0)
    """When the first frame is shown, in seconds of the file's clock."""
    duration: Fraction | None = None
    """Of the file, in seconds."""
    bit_rate: int | None = None
    """Of the video stream, in bits a second."""
    field_order: str = "progressive"
    """`progressive`, `top first` or `bottom first`."""
    mastering_display: MasteringDisplay | None = None
    content_light: tuple[int, int] | None = None
    """MaxCLL and MaxFALL in cd/m² (CTA-861.3)."""
    unkept: tuple[str, ...] = ()
    """What it has that no writer here can put into a new stream: HDR10+ curves, a second eye …"""
    dispositions: frozenset[str] = frozenset()
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Of the video stream."""
    file_metadata: Mapping[str, str] = field(default_factory=dict)
    streams: tuple[Stream, ...] = ()
    """All the other streams."""
    chapters: tuple[Chapter, ...] = ()

    @property
    def interlaced(self) -> bool:
        """Whether its frames are made of two fields from different moments."""
        return self.field_order != "progressive"

    @property
    def frames(self) -> int | None:
        """About how many frames there are; None where the file does not say how long it is."""
        if self.duration is None or not self.average_rate:
            return None
        return max(1, round((self.duration - (self.start - self.file_start)) * self.average_rate))


def probe(path: Path) -> VideoInfo:
    """Find out what the file `path` holds, decoding one frame of it.

    Raises:
        VideoError: there is no such file, it is no video or holds none, or not a single frame can be decoded.
    """
    if not path.exists():
        raise VideoError(f"{path}: no such file")
    if path.is_dir():
        raise VideoError(f"{path}: a folder, not a video")
    lines = _look(path)
    report = Report(lines)
    if report.container is None:
        raise VideoError(f"{path}: not a video that can be read ({_why(path, lines)})")
    if report.container in {"tty", "image2"} or report.container.endswith("_pipe"):
        raise VideoError(f"{path}: not a video (it looks like '{report.container}')")
    if report.container in _LISTS:
        raise VideoError(
            f"{path}: no video but a list of other files (it looks like '{report.container}'); give those, or join "
            "them to a file first"
        )
    main = report.main_video()
    if main is None:
        kinds = {"a still picture" if stream.kind == "video" else stream.kind for stream in report.streams}
        raise VideoError(f"{path}: no video in it, only {' and '.join(sorted(kinds)) or 'nothing'}")
    decoder = _decoder(main)
    if decoder is not None:
        lines = _look(path, main, decoder)
    frame = FirstFrame(lines)
    while not frame.found and _is_empty(path, main):
        # Windows Media of several bit rates may have been cut down to one of them, and name the others still. A file
        # that is written would lack their frames: no more is said of them.
        report.streams.remove(main)
        following = report.main_video()
        if following is None:
            break
        main, decoder = following, _decoder(following)
        lines = _look(path, main, decoder)
        frame = FirstFrame(lines)
    if not frame.found:
        raise VideoError(f"{path}: none of its frames can be decoded ({_why(path, lines)})")
    try:
        info = _assemble(path, report, main, frame)
    except VideoError as error:
        raise VideoError(f"{path}: {error}") from error
    if any("Display Matrix" in entry for entry in report.side_data.get(main.index, ())):
        rotation, mirrored = _display_matrix(path, main.index) or (frame.rotation, False)
        info = replace(info, rotation=rotation, mirrored=mirrored)
    return replace(info, decoder=decoder)


def resolve_colour(tags: ColourTags, pixels: PixelFormat, height: int) -> Colour:
    """The colours of a stream with gaps in its tags filled as players fill them.

    A matrix beyond the three of `Colour` counts as the one of them that is nearest: what is turned into RGB with it is
    turned back with it too, so that only the working space is a little off.
    """
    if pixels.kind == "rgb":
        return Colour("gbr", True, tags.primaries, tags.transfer, "left")
    by_size = "bt709" if height >= 720 else "smpte170m"
    named = {"bt470bg": "smpte170m", "fcc": "smpte170m", "bt2020c": "bt2020nc", "ictcp": "bt2020nc"}
    named |= dict.fromkeys(("smpte240m", "ycgco", "gbr", "chroma-derived-nc", "chroma-derived-c"), "bt709")
    named |= {matrix: matrix for matrix in ("bt709", "smpte170m", "bt2020nc")}
    location = tags.chroma_location if tags.chroma_location in {"left", "center", "topleft"} else "left"
    return Colour(named.get(tags.matrix, by_size), tags.range == "pc", tags.primaries, tags.transfer, location)


def _look(path: Path, stream: Stream | None = None, decoder: str | None = None) -> list[str]:
    """What ffmpeg says about the file and about the first frame of `stream`, or of its first no attached picture."""
    given = ["-c:V", decoder] if decoder else []
    source = ["-noautorotate", "-copyts", *given, "-i", ffmpeg.file_argument(path)]
    mapped = "0:V:0" if stream is None else f"0:{stream.index}"
    shown = ["-map", mapped, "-frames:v", "1", "-vf", "showinfo=checksum=0", "-f", "null", "-"]
    told = ffmpeg.run([*ffmpeg.QUIET, "-loglevel", "repeat+info", *source, *shown])
    return told.stderr.decode("utf-8", "replace").splitlines()


def _why(path: Path, lines: list[str]) -> str:
    """ffmpeg's reason, without the file's name in it."""
    if path.stat().st_size == 0:
        return "the file is empty"
    if any("moov atom not found" in line for line in lines):
        return "its index is missing: truncated, or never finished"
    if re.search(rb"stsd.{12}(encv|drmi)", top_box(path, b"moov"), re.DOTALL):
        return "its pictures are encrypted"
    opening = _search(r"Error opening input: (.*)", lines)
    told = opening[1] if opening else ffmpeg.reason(line for line in lines if re.search(r"^\[|Invalid|rror", line))
    return told.replace(ffmpeg.file_argument(path), path.name)


def _is_empty(path: Path, stream: Stream) -> bool:
    """Whether a stream of the file has no packet at all."""
    packet = ["-i", ffmpeg.file_argument(path), "-map", f"0:{stream.index}", "-c", "copy", "-copyinkf"]
    listed = ffmpeg.run([*ffmpeg.QUIET, *packet, "-frames:v", "1", "-f", "framecrc", "pipe:1"])
    return listed.returncode == 0 and all(line.startswith(b"#") for line in listed.stdout.splitlines())


def _decoder(stream: Stream) -> str | None:
    """The decoder to ask for where ffmpeg's own choice would lose the transparency."""
    return {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(stream.codec) if _has_alpha(stream) else None


def _has_alpha(stream: Stream) -> bool:
    return any(key.lower() == "alpha_mode" and value == "1" for key, value in stream.metadata.items())


def _assemble(path: Path, report: Report, main: Stream, frame: FirstFrame) -> VideoInfo:
    pixels = nearest_planar(frame.pixels)
    tags = replace(frame.tags, range="pc") if frame.pixels.startswith("yuvj") else frame.tags
    colour = resolve_colour(tags, pixels, frame.height)
    profile = re.match(r"[^ ,]+ \(([^)/]*)\)", main.detail)
    bits = re.search(r", (\d+) kb/s", main.detail)
    first = frame.pts * frame.time_base
    light = _search(r"Content light level metadata: MaxCLL=(\d+), MaxFALL=(\d+)", frame.side_data)
    return VideoInfo(
        path=path,
        container=report.container or "",
        index=main.index,
        codec=main.codec,
        profile=profile[1] if profile else None,
        source_pixels=frame.pixels,
        video=VideoFormat(frame.width, frame.height, pixels, colour, frame.time_base),
        tags=tags,
        rotation=frame.rotation,
        sample_aspect=frame.aspect,
        average_rate=_average_rate(main.detail, frame.rate),
        nominal_rate=frame.rate,
        file_start=first if report.start is None or abs(report.start - first) < Fraction(1, 10**6) else report.start,
        start=first,
        duration=report.duration,
        bit_rate=int(bits[1]) * 1000 if bits else None,
        field_order=_field_order(main.detail, frame.field),
        mastering_display=_mastering_display(frame.side_data),
        content_light=(int(light[1]), int(light[2])) if light else None,
        # Of captions that begin later than the first frame ffmpeg 8 speaks in the line about the stream.
        unkept=_unkept(frame.side_data, [*report.side_data.get(main.index, []), main.detail]),
        dispositions=main.dispositions,
        metadata=main.metadata,
        file_metadata=report.metadata,
        streams=tuple(stream for stream in report.streams if stream.index != main.index),
        chapters=tuple(report.chapters),
    )


def _average_rate(detail: str, nominal: Fraction | None) -> Fraction | None:
    """Of the report, or else the nominal one: also where that of the clock stands in its place, as for raw DV."""
    told = {unit: (number, k) for number, k, unit in re.findall(r", ([\d.]+)(k?) (fps|tbn)", detail)}
    if "fps" not in told:
        return nominal
    number, k = told["fps"]
    rate = float(number) * (1000 if k else 1)
    clocked = told["fps"] == told.get("tbn") and nominal is not None and rate > nominal
    return nominal if clocked else _exact_rate(rate)


def _exact_rate(rounded: float) -> Fraction | None:
    """The frame rate that prints as `rounded`, with two digits: NTSC's 1000/1001 are told from whole numbers."""
    if abs(rounded - round(rounded)) > 0.005:
        ntsc = Fraction(round(rounded * 1.001) * 1000, 1001)
        if abs(rounded - ntsc) < 0.005:
            return ntsc
    return Fraction(rounded).limit_denominator(1000) or None


def _field_order(detail: str, first_frame: str) -> str:
    """Of the report, which has looked at several frames, or else of the first frame."""
    for said, order in (("progressive", "progressive"), ("top ", "top first"), ("bottom ", "bottom first")):
        if re.search(rf"[(,] ?{said}", detail):
            return order
    return {"T": "top first", "B": "bottom first"}.get(first_frame, "progressive")


def _search(pattern: str, lines: list[str]) -> re.Match[str] | None:
    return next((found for line in lines if (found := re.search(pattern, line))), None)


def _mastering_display(side_data: list[str]) -> MasteringDisplay | None:
    told = _search(r"Mastering display metadata: .*", side_data)
    if told is None:
        return None
    numbers = [Fraction(number) for number in re.findall(r"-?\d+\.\d+", told[0])]
    if len(numbers) != 10:
        return None
    red, green, blue, white, luminance = (tuple(numbers[k : k + 2]) for k in range(0, 10, 2))
    return MasteringDisplay(red, green, blue, white, luminance)  # type: ignore[arg-type] # pairs, each


def _unkept(frame: list[str], stream: list[str]) -> tuple[str, ...]:
    names = {
        "HDR10+": "HDR10+ tone curves",
        "Dolby Vision": "Dolby Vision metadata",
        "DOVI": "Dolby Vision metadata",
        "Stereo 3D": "the second eye's view and its 3D tags",
        "Spherical": "360° projection tags",
        "Closed Captions": "the closed captions inside its pictures",
    }
    told = "\n".join([*frame, *stream])
    return tuple(dict.fromkeys(phrase for name, phrase in names.items() if name in told))


def _display_matrix(path: Path, index: int) -> tuple[float, bool] | None:
    """Rotation in degrees counterclockwise and mirroring of a stream with a display matrix.

    ffmpeg prints the rotation alone. It does write the whole matrix into the track header of a QuickTime file,
    whatever container it came from, so that one packet is copied into such a file in memory.
    """
    packet = ["-i", ffmpeg.file_argument(path), "-map", f"0:{index}", "-c", "copy", "-frames:v", "1"]
    copy = ffmpeg.run([*ffmpeg.QUIET, *packet, "-f", "mov", "-movflags", "empty_moov", "pipe:1"])
    at = copy.stdout.find(b"tkhd")
    if copy.returncode or at < 0:
        return None
    # 36 bytes of a version-0 header lie between the flags and the matrix, 48 of a version-1 header.
    matrix_at = at + 8 + (48 if copy.stdout[at + 4] else 36)
    a, b, _, c, d, *_ = struct.unpack(">9i", copy.stdout[matrix_at : matrix_at + 36])
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b, c, d = -a, b, -c, d
    angle = -math.degrees(math.atan2(b, a))
    return round(angle, 2) % 360, mirrored
