"""Small videos of every kind that breaks tools, made by ffmpeg, and what is compared of two files."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from deblur_cli.media import ffmpeg
from deblur_cli.media.ffmpeg_report import Stream
from deblur_cli.media.probe import VideoInfo
from deblur_cli.media.video import Frame, PixelFormat

PICTURE = ("-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=0.6")
TONE = ("-f", "lavfi", "-i", "sine=d=0.6:frequency=330")
QUICK = ("-preset", "ultrafast", "-crf", "30")
VARIABLE = (
    "-vf",
    "settb=1/90000,setpts=(N/25+mod(N*7\\,5)*0.0041)/TB",
    "-fps_mode",
    "passthrough",
    "-enc_time_base",
    "1/90000",
)
H264 = ("-c:v", "libx264", *QUICK)
SUBTITLES = "1\n00:00:00,100 --> 00:00:00,300\nshaken\n\n2\n00:00:00,320 --> 00:00:00,500\nnot stirred\n"
CHAPTERS = """;FFMETADATA1
title=Two halves
[CHAPTER]
TIMEBASE=1/1000
START=0
END=300
title=One
[CHAPTER]
TIMEBASE=1/1000
START=300
END=600
title=Other
"""


def make(target: Path, *arguments: str | Path) -> Path:
    """Run ffmpeg with `arguments` to make the file `target`."""
    made = ffmpeg.run(["-hide_banner", "-loglevel", "error", "-y", *map(str, arguments), str(target)])
    assert made.returncode == 0, made.stderr.decode()
    return target


def packet_hashes(path: Path, kind: str = "a") -> list[str]:
    """MD5 of the packets of each stream of a kind (`a`: audio, `s`: subtitle), in their order."""
    hashing = ("-map", "0", "-c", "copy", "-f", "streamhash", "-hash", "md5", "-")
    told = ffmpeg.run(["-loglevel", "error", "-i", str(path), "-ignore_unknown", *hashing]).stdout.decode()
    assert told
    return [line.split("=")[1] for line in told.splitlines() if line.split(",")[1] == kind]


def sound_times(path: Path) -> list[Fraction]:
    """When each packet of the first sound stream is heard, in seconds of the file's clock."""
    listing = ("-copyts", "-i", str(path), "-map", "0:a:0", "-c", "copy", "-f", "framecrc", "-")
    told = ffmpeg.run(["-loglevel", "error", *listing]).stdout.decode().splitlines()
    base = next(Fraction(line.split(":")[1].strip()) for line in told if line.startswith("#tb"))
    return [int(line.split(",")[2]) * base for line in told if not line.startswith("#")]


def spoil(source: Path, target: Path, number: int, *, beginning: int = 0) -> int:
    """A copy of an MP4 file of nothing but video, with one of its packets overwritten from byte `beginning` on.

    `number` counts in the order of decoding. Returns when the packet's frame is shown, in ticks of the stream.
    """
    copied = ("-copyts", "-i", str(source), "-c", "copy", "-f", "framecrc", "-")
    told = ffmpeg.run(["-loglevel", "error", *copied]).stdout.decode().splitlines()
    packets = [[int(part) for part in line.split(",")[2:5]] for line in told if not line.startswith("#")]
    data = bytearray(source.read_bytes())
    begin = data.find(b"mdat") + 4 + sum(size for _, _, size in packets[:number])
    shown, _, size = packets[number]
    data[begin + beginning : begin + size] = bytes(value ^ 0x5A for value in data[begin + beginning : begin + size])
    target.write_bytes(data)
    return shown


def subtitle_text(path: Path) -> str:
    """The first subtitle stream as SubRip."""
    return ffmpeg.run(["-loglevel", "error", "-i", str(path), "-map", "0:s:0", "-f", "srt", "-"]).stdout.decode()


def noise(pixels: PixelFormat, height: int, width: int, pts: int, seed: int = 0) -> Frame:
    """A frame of random samples over the whole range."""
    random = np.random.default_rng(seed)
    shapes = pixels.plane_shapes(height, width)
    planes = [random.integers(0, 1 << pixels.depth, shape, np.uint16).astype(pixels.dtype) for shape in shapes]
    return Frame(tuple(planes), pts)


def differences(before: VideoInfo, after: VideoInfo) -> list[str]:
    """What `after` does not have as `before` had it, apart from timestamps and codec."""
    found = []
    tags = {
        # Of limited range and untagged are the same: H.264 has no way to tell them apart.
        "range": (before.tags.range == "pc", after.tags.range == "pc"),
        "matrix": (before.tags.matrix, after.tags.matrix),
        "primaries": (before.tags.primaries, after.tags.primaries),
        "transfer": (before.tags.transfer, after.tags.transfer),
        "location": (before.video.colour.chroma_location, after.video.colour.chroma_location),
    }
    for name, (one, other) in tags.items():
        if one != other:
            found.append(f"{name}: {one} became {other}")
    for name in ("rotation", "mirrored", "mastering_display", "content_light"):
        if getattr(before, name) != getattr(after, name):
            found.append(f"{name}: {getattr(before, name)} became {getattr(after, name)}")
    if (before.sample_aspect or Fraction(1)) != (after.sample_aspect or Fraction(1)):
        found.append(f"aspect: {before.sample_aspect} became {after.sample_aspect}")
    if (before.video.width, before.video.height) != (after.video.width, after.video.height):
        found.append("size")
    if before.video.pixels != after.video.pixels:
        found.append(f"pixels: {before.video.pixels.name} became {after.video.pixels.name}")
    streams = [[_kept(stream) for stream in info.streams if stream.kind != "data"] for info in (before, after)]
    if streams[0] != streams[1]:
        found.append(f"streams: {streams[0]} became {streams[1]}")
    chapters = [[(c.title, round(c.start, 2), round(c.end, 2)) for c in info.chapters] for info in (before, after)]
    if chapters[0] != chapters[1]:
        found.append(f"chapters: {chapters[0]} became {chapters[1]}")
    if before.file_metadata.get("title") != after.file_metadata.get("title"):
        found.append("title")
    return found


def _kept(stream: Stream) -> tuple[str, str | None, frozenset[str]]:
    # Which streams are on by default is MP4's to say in its own way: the first of each kind always is.
    return stream.kind, stream.language, stream.dispositions - {"default"}
