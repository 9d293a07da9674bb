"""When the packets of a video are shown, as its container says it: which frames a decoder has left out, and until when
the last one is to be seen."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from deblur_cli.errors import VideoError
from deblur_cli.media import ffmpeg
from deblur_cli.media.boxes import boxes
from deblur_cli.media.lengths import shortfall, top_box

# Bit of a packet that is decoded but not shown, because an edit list hides it (ffmpeg's AV_PKT_FLAG_DISCARD).
_HIDDEN = 4


class PacketTimes:
    """Reads on in the container while the times that are asked for grow; nothing is decoded for it.

    Args:
        path: the file.
        index: of the video stream in it.
        tick: the time base in which times are told.
        seek: options of the input that let it begin near the first time that is asked for.
        quicktime: whether it is a QuickTime or MP4 file. Their tables count how long packets are shown in the order of
            decoding, so that a packet may have another's length; their edit lists say when the track ends.

    Raises:
        VideoError: when times are asked for, a signal has ended the ffmpeg that reads them.
    """

    def __init__(self, path: Path, index: int, tick: Fraction, seek: list[str], *, quicktime: bool) -> None:
        listing = ["-map", f"0:{index}", "-c", "copy", "-f", "framecrc", "pipe:1"]
        self._path, self._index, self._quicktime = path, index, quicktime
        self._process = ffmpeg.Process(["-copyts", *seek, "-i", ffmpeg.file_argument(path), *listing], stdout=True)
        self._packets = self._read(tick)
        self._tick = tick
        self._waiting: set[int] = set()
        self._decoded: int | None = None
        self._ended = False
        self._latest: tuple[Fraction, Fraction] | None = None
        """When that packet so far that is shown last begins, and when it ends, in seconds."""

    def between(self, after: int, before: int | None = None) -> list[int]:
        """The times of all packets shown after `after` and ahead of `before` (None: of the end), in their order.

        `after` must not become less from call to call. What has no timestamp in the container is left out.
        """
        # No packet is shown ahead of its decoding time, and those grow: behind one at `before` nothing more is to come.
        while before is None or self._decoded is None or self._decoded < before:
            packet = next(self._packets, None)
            if packet is None:
                self._ended = True
                if (status := self._process.wait()) < 0:
                    why = ffmpeg.failure(status, self._process.messages)
                    raise VideoError(f"{self._path}: {why}; the same command goes on")
                break
            self._decoded, shown = packet
            if shown is not None:
                self._waiting.add(shown)
        self._waiting = {time for time in self._waiting if time > after}
        return sorted(time for time in self._waiting if before is None or time < before)

    def until(self, last: int, before: int | None = None) -> int | None:
        """Until when the packet shown at `last` is: the next one's time, or the end of the last of all, or `before`.

        None: the container does not say how long its packets are shown. `last` must not become less from call to call.
        """
        later = self.between(last, before)
        if later:
            return later[0]
        if not self._ended:
            return before
        end = self._end()
        if end is None or end <= last:
            return None
        return end if before is None else min(end, before)

    def close(self) -> None:
        """Stop reading."""
        self._process.kill()

    def _end(self) -> int | None:
        """When the last of all packets is no longer shown; None: the container does not say."""
        if self._latest is None:
            return None
        begin, end = self._latest
        if self._quicktime and shortfall(self._path, "mov") is None:  # else it is another packet that lasts till then
            told, exactness = _track_end(self._path, self._index)
            if told > begin and abs(told - end) > exactness:
                end = told
        return round(end / self._tick) if end > begin else None

    def _read(self, tick: Fraction) -> Iterator[tuple[int, int | None]]:
        """Decoding time of each packet, and the time at which it is shown, if it is, in ticks of `tick`."""
        base = Fraction(1)
        for raw in self._process.stdout:
            line = raw.decode("ascii", "replace")
            if line.startswith("#tb 0:"):
                base = Fraction(line.split(":")[1].strip())
            elif not line.startswith("#"):
                _, decoded, shown, length, *rest = (part.strip() for part in line.split(","))
                flags = next((int(part[2:], 16) for part in rest if part.startswith("F=")), 0)
                known = int(shown) != ffmpeg.NO_TIMESTAMP and not flags & _HIDDEN
                if known:
                    span = (int(shown) * base, (int(shown) + int(length)) * base)
                    self._latest = max(self._latest or span, span)
                yield round(int(decoded) * base / tick), round(int(shown) * base / tick) if known else None


def _track_end(path: Path, index: int) -> tuple[Fraction, Fraction]:
    """When the edit list of a video track ends, and how exactly that is said, in seconds; zeros: it does not say.

    `index` is that of the track in the QuickTime or MP4 file.
    """
    moov = top_box(path, b"moov")
    movie = list(boxes(moov, 0, len(moov)))
    clock = next((at + (20 if moov[at : at + 1] == b"\x01" else 12) for kind, at, _ in movie if kind == b"mvhd"), None)
    tracks = [(at, end) for kind, at, end in movie if kind == b"trak"]
    if clock is None or index >= len(tracks):
        return Fraction(0), Fraction(0)
    track = {kind: at for kind, at, _ in boxes(moov, *tracks[index])}
    scale = int.from_bytes(moov[clock : clock + 4])
    if not scale or not {b"edts", b"tkhd"} <= track.keys():
        return Fraction(0), Fraction(0)
    # The header's duration is the sum of the list, or zero or all ones where fragments follow.
    header = moov[track[b"tkhd"] :][:36]
    place, size = (28, 8) if header[:1] == b"\x01" else (20, 4)
    duration = int.from_bytes(header[place:][:size])
    return Fraction(duration * (duration != (1 << 8 * size) - 1), scale), Fraction(1, scale)
