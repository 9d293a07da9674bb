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
        by_decoding: whether the container counts how long packets are shown in the order of decoding, as QuickTime
            does. Where that is not the order in which they are shown, only the sum of them means something.

    Raises:
        VideoError: when times are asked for, a signal has ended the ffmpeg that reads them.
    """

    def __init__(self, path: Path, index: int, tick: Fraction, seek: list[str], by_decoding: bool = False) -> None:
        self._source = ["-i", ffmpeg.file_argument(path), "-map", f"0:{index}", "-c", "copy"]
        self._path = path
        self._process = ffmpeg.Process(["-copyts", *seek, *self._source, *_LISTED], stdout=True)
        self._by_decoding = by_decoding
        self._tick = tick
        self._packets = self._read()
        self._waiting: set[int] = set()
        self._decoded: int | None = None
        self._ended = False
        self._decoded_last: _Packet | None = None
        self._shown_last: _Packet | None = None
        """Of the packets so far, in the order of decoding and in that of showing."""

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

    def _read(self) -> Iterator[tuple[int, int | None]]:
        """Decoding time of each packet, and the time at which it is shown, if it is, in ticks."""
        for packet in _listed(self._process.stdout):
            self._decoded_last = packet
            if packet.shown is not None and (self._shown_last is None or packet.shown > cast(Fraction, self._shown_last.shown)):
                self._shown_last = packet
            known = packet.shown is not None and not packet.hidden
            yield round(packet.decoded / self._tick), round(packet.shown / self._tick) if known else None
