"""Frames out of a video file, with the timestamps that they have in it.

ffmpeg decodes to raw planes on one pipe and tells the timestamp of each frame, in the ticks of the source's own time
base, on another. Colours are left as they are: turning them into RGB is the frame pipeline's work.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from types import TracebackType
from typing import IO, Self, cast

import numpy as np

from deblur_cli.errors import UsageError, VideoError
from deblur_cli.media import ffmpeg
from deblur_cli.media.lengths import shortfall
from deblur_cli.media.packet_times import PacketTimes
from deblur_cli.media.probe import VideoInfo, probe
from deblur_cli.media.video import GAP, Frame, PixelFormat, as_meant
from deblur_cli.media.video_writer import origin_of
from deblur_cli.words import counted

# Seconds before a wanted start at which decoding begins: a key frame is found by decoding time, which lies before the
# presentation time, and frames shown before their key frame cannot be decoded from it. Where frames are seconds apart
# decoding may lie far ahead: what the first of these does not reach is looked for with the next.
_RUN_UPS = (1.0, 60.0, math.inf)
# Containers with an index of their key frames. In others a search ends anywhere, and decoding begins with the file.
_INDEXED = frozenset({"mov", "matroska", "webm", "mp4"})
_DAMAGE = re.compile(
    r"File ended prematurely|partial file|Error during demuxing|truncat|Truncat|[Ii]nvalid data at end|EOF in"
    r"|invalid as first byte of an EBML number|exceeds containing master element"
)
_PATCHED = re.compile(r"corrupt decoded frame")
# A message's level comes after what speaks. What is told of a file at lower ones holds its name, titles, descriptions.
_SERIOUS = re.compile(r"(?:\[[^\]]* @ [^\]]*\] )*\[(warning|error|fatal|panic)\] ")
_REFUSED = re.compile(r"Error submitting (a )?packet to decoder|Decoding error")
# Codecs some of whose packets show nothing even where all is well: hidden reference frames, "as before" frames.
_SILENT_PACKETS = frozenset({"vp8", "mpeg4", "msmpeg4v1", "msmpeg4v2", "msmpeg4v3", "h263", "flv1"})


_BEHIND = 50
"""So many frames in a row that are shown more than a second before one that came earlier: no damage, another clock."""


class VideoReader:
    """The frames of a video, in the order in which they are shown; iterating again reads the file again.

    Frames come in the planar pixel format nearest to the source's: its depth, chroma sampling and alpha are kept. They
    are not turned upright. Interlaced frames are deinterlaced (one frame per frame, by bwdif), with a warning. Where
    the size changes midway, later frames are scaled to the size of the first, with a warning.

    A frame that the decoder patched comes as it left it. In place of one that it gave up, the one before comes again,
    at the time at which the container would have it shown. Where that time is not known, the frame before is shown
    longer: in AVI, where packets themselves are lost (Matroska and transport streams are searched for the next whole
    one), in interlaced material, and for VP8 and MPEG-4 part 2, whose packets need not show anything. What is lost
    ahead of the first frame that decodes, and at the end of a truncated file, is left out.

    Args:
        path: the file.
        start: seconds after the file's beginning; frames shown earlier are left out. Where the next is shown more than
            50 milliseconds later, or not before `end`, the one that is on the screen comes first, moved to the start.
        end: seconds after the file's beginning; frames shown then or later are left out.
        pixels: the planar pixel format to decode to in place of the nearest one.

    Raises:
        VideoError: the file is missing, no video, or none of it can be decoded.
        UsageError: `start` is negative, or not before `end`.
    """

    def __init__(
        self, path: Path, *, start: float | None = None, end: float | None = None, pixels: PixelFormat | None = None
    ) -> None:
        if (start or 0) < 0 or (end is not None and end <= (start or 0)):
            raise UsageError(f"there is nothing between second {start or 0:g} and second {end or 0:g}")
        self.info: VideoInfo = probe(path)
        """All that is known of the file."""
        self.video = replace(self.info.video, pixels=pixels) if pixels else self.info.video
        """The format of the frames that come."""
        self.warnings: list[str] = []
        """What was done to frames that were not as they should be, one line each."""
        self.damaged: str | None = None
        """Why the file ends before its end, or a part of it is missing; known when the last frame has come."""
        self._start = None if start is None else as_meant(start)
        self._end = None if end is None else as_meant(end)
        self._origin = origin_of(self.info, start)
        self._patched = self._refused = 0
        self._repeated: set[int] = set()
        self._complained = False
        self._process: ffmpeg.Process | None = None
        self._stamps: IO[bytes] | None = None
        self._packets: PacketTimes | None = None

    @property
    def undecodable(self) -> int:
        """How many frames were damaged: those that the decoder patched, and those that it gave up."""
        # A decoder that gives up one packet may be silent about those that need it.
        return self._patched + max(self._refused, len(self._repeated))

    @property
    def seconds(self) -> Fraction | None:
        """How long the whole file is; None: it does not say."""
        return self.info.duration

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop decoding, wherever it is; nothing is left running. Closing twice is fine."""
        if self._process is not None:
            self._process.kill()
            self._process = None
        if self._stamps is not None:
            self._stamps.close()
            self._stamps = None
        if self._packets is not None:
            self._packets.close()
            self._packets = None

    def __iter__(self) -> Iterator[Frame]:
        for run_up in _RUN_UPS:
            seek = self._seek(self._start or Fraction(0), run_up)
            self.close()
            self.warnings, self.damaged, self._complained = self._expected(), None, False
            self._patched, self._refused, self._repeated = 0, 0, set()
            stamps, pipe = self._begin(seek)
            process = cast(ffmpeg.Process, self._process)
            try:
                frames = self._frames(stamps, pipe)
                first = list(islice(frames, 1))
                if not seek or (first and self._seconds(first[0].pts) <= (self._start or 0)):
                    yield from self._part(chain(first, frames), process)
                    return
            finally:
                # Another iteration may have begun since; what it started is its own.
                if self._process is process:
                    self.close()

    def _part(self, frames: Iterable[Frame], process: ffmpeg.Process) -> Iterator[Frame]:
        """Those of all decoded frames that are wanted."""
        held: Frame | None = None
        count = 0
        for frame in frames:
            seconds = self._seconds(frame.pts)
            if self._start is not None and seconds < self._start:
                held = frame
                continue
            ended = self._end is not None and seconds >= self._end
            if held is not None and (ended or (frame.pts - self._origin) * self.video.time_base > GAP):
                yield replace(held, pts=self._origin)
            held = None
            if ended:
                return
            count += 1
            yield frame
        status = process.wait()
        if status and self.damaged is None:
            self.damaged = ffmpeg.reason(process.messages)
        self.damaged = self.damaged or shortfall(self.info.path, self.info.container)
        if held is not None and (self.until(held.pts) or self._origin) > self._origin:
            yield replace(held, pts=self._origin)
        if not count and self._start is None:
            why = self.damaged or ffmpeg.reason(process.messages)
            raise VideoError(f"{self.info.path}: none of its frames can be decoded ({why})")

    def until(self, last: int) -> int | None:
        """The tick until which the frame at tick `last`, the last to come, is shown; None: the file does not say."""
        before = None
        if self._end is not None:
            before = max(last + 1, math.floor((self._end + self.info.file_start) / self.video.time_base))
        packets = self._packets_near(last)
        try:
            return packets.until(last, before)
        finally:
            packets.close()

    def _begin(self, seek: list[str]) -> tuple[IO[bytes], IO[bytes]]:
        """Start decoding where the options `seek` say; the pipe of timestamps and the pipe of planes."""
        stamps_out, stamps_in = os.pipe()
        try:
            self._process = ffmpeg.Process(
                self._arguments(seek, stamps_in), stdout=True, pass_fds=(stamps_in,), listener=self._hear
            )
        except BaseException:
            os.close(stamps_out)
            raise
        finally:
            os.close(stamps_in)
        self._stamps = os.fdopen(stamps_out, "rb")
        return self._stamps, self._process.stdout

    def _arguments(self, seek: list[str], stamps: int) -> list[str]:
        info = self.info
        chain = ["bwdif=mode=send_frame:deint=interlaced"] if info.interlaced else []
        chain.append(f"scale={info.video.width}:{info.video.height}")
        return [
            *("-noautorotate", "-copyts", *seek),
            *(("-c:V", info.decoder) if info.decoder else ()),
            *("-i", ffmpeg.file_argument(info.path), "-map", f"0:{info.index}"),
            *("-vf", ",".join(chain), *ffmpeg.stamp_options(f"pipe:{stamps}")),
            *("-f", "rawvideo", "-pix_fmt", self._raw_name(), "pipe:1"),
        ]

    def _seconds(self, pts: int) -> Fraction:
        """How long after the file's beginning a frame is shown."""
        return pts * self.video.time_base - self.info.file_start

    def _seek(self, seconds: Fraction, run_up: float = _RUN_UPS[0]) -> list[str]:
        """Options of the input that let it begin at a key frame ahead of second `seconds`, where it can be found.

        Its decoding time is `run_up` seconds ahead, or more. There are none where the file is read from its beginning.
        """
        if seconds <= run_up or not _INDEXED & set(self.info.container.split(",")):
            return []
        return ["-ss", f"{float(seconds) - run_up:.6f}", "-noaccurate_seek"]

    def _raw_name(self) -> str:
        """The pixel format to ask ffmpeg for: the source's own name where that has the very same planes.

        `yuvj420p` is `yuv420p` of full range. Asked for the latter, ffmpeg might squeeze the range.
        """
        source = self.info.source_pixels
        return source if source.replace("yuvj", "yuv") == self.video.pixels.name else self.video.pixels.name

    def _frames(self, stamps: IO[bytes], pipe: IO[bytes]) -> Iterator[Frame]:
        """All that is decoded, with timestamps made to increase where the source's do not."""
        process = cast(ffmpeg.Process, self._process)
        unstamped = behind = 0
        last: Frame | None = None
        tick = self.video.time_base
        latest = None
        for line in stamps:
            planes = self._planes(pipe)
            if planes is None:
                break
            ticks, base = ffmpeg.read_stamp(line.decode("ascii"))
            pts = ticks if base == tick else round(ticks * base / tick)
            latest = pts if latest is None else max(latest, pts)
            behind = behind + 1 if (latest - pts) * tick > 1 else 0
            if behind > _BEHIND:
                raise VideoError(
                    f"{self.info.path}: its clock goes back from {float(latest * tick):.1f} to {float(pts * tick):.1f} "
                    "seconds, as where recordings were joined end to end; 'ffmpeg -i IN -c copy OUT.mkv' gives it one"
                )
            if pts in self._repeated:
                continue  # A damaged number put it behind its turn, and its place is taken.
            if last is not None:
                if pts <= last.pts:
                    pts = last.pts + 1
                    unstamped += 1
                yield from self._repeats(last, pts)
            last = Frame(planes, pts)
            yield last
        status = process.wait()
        if status < 0:  # which is no damage of the file: there may be more in it
            why = ffmpeg.failure(status, process.messages)
            raise VideoError(f"{self.info.path}: {why}; the same command goes on")
        if last is not None:
            yield from self._repeats(last, None)
        if unstamped:
            them = f"{counted(unstamped, 'frame')} had no later time than the one before, and"
            self.warnings.append(f"{them} {'follows' if unstamped == 1 else 'follow'} it by a tick")

    def _repeats(self, last: Frame, before: int | None) -> Iterator[Frame]:
        """`last` once more for each frame that the decoder gave up between it and the tick `before` (None: the end)."""
        process = cast(ffmpeg.Process, self._process)
        process.hear()
        silent = self.info.interlaced or self.info.codec in _SILENT_PACKETS
        if not self._complained or silent or (before is None and self.damaged):
            return
        if self._packets is None:
            self._packets = self._packets_near(last.pts)
        for pts in self._packets.between(last.pts, before):
            self._repeated.add(pts)
            yield replace(last, pts=pts, repeated=True)

    def _packets_near(self, pts: int) -> PacketTimes:
        """The times of the packets, from ahead of tick `pts` on."""
        info, seek = self.info, self._seek(self._seconds(pts))
        quicktime = "mov" in info.container.split(",")
        return PacketTimes(info.path, info.index, self.video.time_base, seek, quicktime=quicktime)

    def _planes(self, pipe: IO[bytes]) -> tuple[np.ndarray, ...] | None:
        """The planes of the next frame, views of one buffer; None where the pipe ends."""
        video = self.video
        buffer = np.empty(video.pixels.frame_bytes(video.height, video.width), np.uint8)
        room = buffer.data
        filled = 0
        while filled < len(room):
            got = cast("Callable[[memoryview], int]", pipe.readinto)(room[filled:])  # type: ignore[attr-defined]
            if not got:
                return None
            filled += got
        planes, at = [], 0
        for rows, columns in video.pixels.plane_shapes(video.height, video.width):
            length = rows * columns * video.pixels.dtype.itemsize
            planes.append(buffer[at : at + length].view(video.pixels.dtype).reshape(rows, columns))
            at += length
        return tuple(planes)

    def _expected(self) -> list[str]:
        """Warnings that are clear before the first frame."""
        if self.info.interlaced:
            return [f"interlaced ({self.info.field_order}): deinterlaced, one frame for each frame"]
        return []

    def _hear(self, message: str) -> None:
        """Take note of a message of ffmpeg's."""
        if level := _SERIOUS.match(message):
            self._complained = self._complained or level[1] == "error"
            if _PATCHED.search(message):
                self._patched += 1
            elif _REFUSED.search(message) or f"corrupt input packet in stream {self.info.index}" in message:
                self._refused += 1
            elif _DAMAGE.search(message) and self.damaged is None:
                self.damaged = ffmpeg.reason([message])
        elif resized := re.search(r"Reconfiguring filter graph because video parameters changed.*?(\d+x\d+)", message):
            size = f"{self.video.width}x{self.video.height}"
            if resized[1] != size:
                self.warnings.append(f"the size changes to {resized[1]} midway: scaled to {size}")
