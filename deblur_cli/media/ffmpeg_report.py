"""What ffmpeg prints about a file when it opens it, and about the first frame that it decodes, as data."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

UNKNOWN = "unknown"
_DISPOSITIONS = frozenset(
    {"default", "dub", "original", "comment", "lyrics", "karaoke", "forced", "hearing impaired", "visual impaired"}
    | {"clean effects", "attached pic", "timed thumbnails", "captions", "descriptions", "metadata", "dependent"}
    | {"still image", "non-diegetic", "multilayer"}
)


@dataclass(frozen=True)
class Stream:
    """Another stream of the file."""

    index: int
    kind: str
    """`video`, `audio`, `subtitle`, `data`, `attachment` or `unknown`."""
    codec: str
    language: str | None = None
    dispositions: frozenset[str] = frozenset()
    """As ffmpeg names them: `default`, `forced`, `attached pic` …"""
    metadata: Mapping[str, str] = field(default_factory=dict)
    detail: str = ""
    """What the report says of it after its codec."""

    @property
    def title(self) -> str | None:
        """Its title or, in MP4, the name of its handler."""
        return self.metadata.get("title") or self.metadata.get("handler_name")

    def __str__(self) -> str:
        language = f", {self.language}" if self.language else ""
        return f"{self.kind} stream {self.index} ({self.codec}{language})"


@dataclass(frozen=True)
class Chapter:
    """A chapter, in seconds of the file's clock."""

    start: float
    end: float
    title: str | None = None


@dataclass(frozen=True)
class ColourTags:
    """What the stream itself says of its colours, in ffmpeg's names; `unknown` where it says nothing."""

    range: str = UNKNOWN
    """`tv` (limited) or `pc` (full)."""
    matrix: str = UNKNOWN
    primaries: str = UNKNOWN
    transfer: str = UNKNOWN
    chroma_location: str = UNKNOWN


class Report:
    """What ffmpeg prints when it has opened a file."""

    _STREAM = re.compile(
        r"\s+Stream #0:(\d+)(?:\[0x[0-9a-f]+\])?(?:\(([^)]*)\))?: (Video|Audio|Subtitle|Data|Attachment|Unknown): (.*)"
    )
    _CHAPTER = re.compile(r"\s+Chapter #0:\d+: start (-?[\d.]+), end (-?[\d.]+)")
    _ENTRY = re.compile(r"\s+(\S.*?)?\s*: (.*)")

    def __init__(self, lines: list[str]) -> None:
        self.container: str | None = None
        self.metadata: dict[str, str] = {}
        self.streams: list[Stream] = []
        self.chapters: list[Chapter] = []
        self.side_data: dict[int, list[str]] = {}
        self.start: Fraction | None = None
        self.duration: Fraction | None = None
        self._parse(self._section(lines))
        # Programmes of a transport stream may share a stream, which is told with each of them.
        once = {stream.index: stream for stream in self.streams}
        self.streams = [once[index] for index in sorted(once)]

    @staticmethod
    def _section(lines: list[str]) -> Iterator[str]:
        """The lines about the input."""
        inside = False
        for line in lines:
            if line.startswith("Input #0"):
                inside = True
            elif line.startswith(("Stream mapping:", "Output #0")):
                return
            if inside:
                yield line

    def _parse(self, lines: Iterator[str]) -> None:
        entries, section, key = self.metadata, "", ""
        for line in lines:
            if opened := re.match(r"Input #0, (\S+), from", line):
                self.container = opened[1]
            elif found := self._STREAM.match(line):
                entries = {}
                self.streams.append(_stream(found, entries))
                section = ""
            elif found := self._CHAPTER.match(line):
                entries = {}
                self.chapters.append(Chapter(float(found[1]), float(found[2])))
                section = "Chapter"
            elif found := re.match(r"\s+Duration: (\S+?),(?: start: (-?[\d.]+),)?", line):
                self.duration = _seconds(found[1])
                self.start = Fraction(found[2]) if found[2] else None
            elif line.strip() in {"Metadata:", "Side data:"}:
                section = f"{'Chapter ' if section.startswith('Chapter') else ''}{line.strip()}"
            elif re.match(r"\s+(Program \d+|Stream group #)", line):
                entries = {}
            elif section.endswith("Metadata:") and (entry := self._ENTRY.match(line)):
                # A value of several lines goes on below, without a key.
                key = entry[1] or key
                entries[key] = entry[2] if entry[1] else f"{entries.get(key, '')}\n{entry[2]}"
                if section.startswith("Chapter") and key == "title":
                    self.chapters[-1] = replace(self.chapters[-1], title=entries[key])
            elif section == "Side data:" and self.streams:
                self.side_data.setdefault(self.streams[-1].index, []).append(line.strip())

    def main_video(self) -> Stream | None:
        """The first video stream that is neither an attached picture nor a preview; what ffmpeg's `V` selects."""
        pictures = {"attached pic", "timed thumbnails", "still image"}
        found = (stream for stream in self.streams if stream.kind == "video" and not pictures & stream.dispositions)
        return next(found, None)


class FirstFrame:
    """What the showinfo filter tells of the first frame that was decoded."""

    _FRAME = re.compile(r"n: *\d+ pts: *(\S+) .* fmt:(\S+) cl:(\S+) sar:(\d+)/(\d+) s:(\d+)x(\d+) i:(.)")

    def __init__(self, lines: list[str]) -> None:
        told = [line.split("] ", 1)[1] for line in lines if line.startswith("[Parsed_showinfo") and "] " in line]
        self.found = False
        self.tags = ColourTags()
        self.side_data: list[str] = []
        self.time_base, self.rate = Fraction(0), None
        self.rotation = 0.0
        for line in told:
            if base := re.match(r"config in time_base: (\d+/\d+), frame_rate: (\d+)/(\d+)", line):
                self.time_base = Fraction(base[1])
                self.rate = Fraction(int(base[2]), int(base[3])) if int(base[2]) and int(base[3]) else None
            elif frame := self._FRAME.match(line):
                if self.found:
                    return
                self.found = True
                self.pts = int(frame[1]) if frame[1] != "NOPTS" else 0
                self.pixels = frame[2]
                self.location = UNKNOWN if frame[3] == "unspecified" else frame[3]
                self.aspect = Fraction(int(frame[4]), int(frame[5])) if int(frame[4]) and int(frame[5]) else None
                self.width, self.height = int(frame[6]), int(frame[7])
                self.field = frame[8]
            elif tags := re.match(r"color_range:(\S+) color_space:(\S+) color_primaries:(\S+) color_trc:(\S+)", line):
                extent, matrix, primaries, transfer = (UNKNOWN if tag == "reserved" else tag for tag in tags.groups())
                self.tags = ColourTags(extent, matrix, primaries, transfer, self.location)
            elif "side data - " in line:
                self.side_data.append(line.split("side data - ", 1)[1])
                if turned := re.search(r"displaymatrix: rotation of (-?[\d.]+)", line):
                    self.rotation = float(turned[1]) % 360


def _stream(found: re.Match[str], metadata: dict[str, str]) -> Stream:
    """The stream of a report's line; its metadata come on the lines below."""
    detail = found[4]
    endings = re.search(r"(?: \([a-z][a-z -]+\))*$", detail)
    said = frozenset(re.findall(r"\(([^)]*)\)", endings[0] if endings else ""))
    return Stream(
        index=int(found[1]),
        kind=found[3].lower(),
        codec=re.split(r"[ ,]", detail, maxsplit=1)[0],
        language=None if found[2] in {None, "", "und"} else found[2],
        dispositions=said & _DISPOSITIONS,
        metadata=metadata,
        detail=detail,
    )


def _seconds(clock: str) -> Fraction | None:
    """Seconds of `HH:MM:SS.cc`; None of `N/A`."""
    if clock == "N/A":
        return None
    hours, minutes, seconds = clock.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
