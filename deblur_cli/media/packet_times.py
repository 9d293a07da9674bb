"""When the packets of a video are shown, as its container says it: which frames a decoder has left out, and until when
the last one is to be seen."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from deblur_cli.errors import VideoError
from deblur_cli.media import ffmpeg

# Bit of a packet that is decoded but not shown, because an edit list hides it (ffmpeg's AV_PKT_FLAG_DISCARD).
_HIDDEN = 4


class PacketTimes:
    """Reads on in the container while the times that are asked for grow; nothing is decoded for it.

    Args:
        path: the file.
        index: of the video stream in it.
        tick: the time base in which times are told.
        seek: options of the input that let it begin near the first time that is asked for.

    Raises:
        VideoError: when times are asked for, a signal has ended the ffmpeg that reads them.
    """

    def __init__(self, path: Path, index: int, tick: Fraction, seek: list[str]) -> None:
        listing = ["-map", f"0:{index}", "-c", "copy", "-f", "framecrc", "pipe:1"]
        self._path = path
        self._process = ffmpeg.Process(["-copyts", *seek, "-i", ffmpeg.file_argument(path), *listing], stdout=True)
        self._packets = self._read(tick)
        self._waiting: set[int] = set()
        self._decoded: int | None = None
        self._ended = False
        self._end: int | None = None
        """When the last of the packets so far is no longer shown."""

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
        if self._end is None or self._end <= last:
            return None
        return self._end if before is None else min(self._end, before)

    def close(self) -> None:
        """Stop reading."""
        self._process.kill()

    def _read(self, tick: Fraction) -> Iterator[tuple[int, int | None]]:
        """Decoding time of each packet, and the time at which it is shown, if it is, in ticks of `tick`."""
        scale = Fraction(1)
        for raw in self._process.stdout:
            line = raw.decode("ascii", "replace")
            if line.startswith("#tb 0:"):
                scale = Fraction(line.split(":")[1].strip()) / tick
            elif not line.startswith("#"):
                _, decoded, shown, length, *rest = (part.strip() for part in line.split(","))
                flags = next((int(part[2:], 16) for part in rest if part.startswith("F=")), 0)
                known = int(shown) != ffmpeg.NO_TIMESTAMP and not flags & _HIDDEN
                if known and int(length) > 0:
                    end = round((int(shown) + int(length)) * scale)
                    self._end = end if self._end is None else max(self._end, end)
                yield round(int(decoded) * scale), round(int(shown) * scale) if known else None
