"""The frames of a video through a network: read ahead, restored and written behind, each in a thread of its own.

To RGB belongs to reading and back to planes to writing, so that the network waits for neither. A few frames are under
way at a time, however long the video is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from deblur_cli.errors import DeblurError
from deblur_cli.media.video import Frame, VideoFormat
from deblur_cli.restoration import yuv
from deblur_cli.restoration.courier import Parcel, courier_to
from deblur_cli.restoration.device import worker
from deblur_cli.restoration.memory import is_out_of_memory, patiently
from deblur_cli.restoration.restorer import Restorer
from deblur_cli.restoration.scene_cuts import SceneCuts
from deblur_cli.restoration.states import SequenceState

AHEAD = 1
"""So many frames more are read ahead than go through the network together."""
DIVIDER = 4
"""Width of the line between the blurred and the restored half of a comparison, in pixels: a whole number of chroma
samples in every format."""


Side = Literal["left", "top", "right", "bottom"]
"""Of a frame as it is stored."""


@dataclass(frozen=True)
class Summary:
    """What became of the frames."""

    frames: int
    """How many were restored and written."""
    cuts: int
    """How many scene cuts a recurrent network was told of."""
    stopped: bool
    """Whether `should_stop` ended it, before the last frame perhaps."""
    state: SequenceState
    """With which the frames that follow are restored as if these had come before them in the same call."""


def restore_frames(
    frames: Iterable[Frame],
    video: VideoFormat,
    restorer: Restorer,
    sink: Callable[[Frame], None],
    *,
    scene_cuts: bool = True,
    compare: Side | None = None,
    progress: Callable[[int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    state: SequenceState | None = None,
) -> Summary:
    """Restore the frames of a video in their order, with their timestamps.

    A recurrent network is given the state of the frame before; the others see as many frames together as are best for
    the device. What a network leaves alone comes out as it went in, to the last bit (see `yuv`); at a strength of 0
    that is everything.

    Args:
        frames: iterated in a thread of its own; what is read ahead is bounded.
        video: the format of each of them.
        restorer: the network at work, used in the calling thread only.
        sink: called in a thread of its own with each restored frame, one after the other. Planes that did not change
            may be those of the frame that came in.
        scene_cuts: let a recurrent network forget at scene cuts.
        compare: leave the half of each frame on that side blurred, with a white line beside it.
        progress: called in the calling thread with the number of frames written so far.
        should_stop: asked before each frame, or frames that go together; when it says so, what was restored is
            written, and that is all. What `frames` has given ahead is lost; to go on, let it begin anew behind the last
            frame written, or end it (`itertools.islice`) where one call shall end and the next begin.
        state: what an earlier call returned, to go on from there on the same device; None at the start of a video and
            after a seek.

    Raises:
        Exception: the first that `frames`, the network or `sink` raised, after all threads have ended, and so not
            before `frames` has given what it was asked for. What was restored before it has been written, unless it was
            `sink` that failed.
        KeyboardInterrupt: likewise.
    """
    return _Pipeline(video, restorer, sink, scene_cuts, compare, state or SequenceState()).run(
        frames, progress or (lambda written: None), should_stop or (lambda: False)
    )


@dataclass(frozen=True)
class _Read:
    """A frame on its way through."""

    frame: Frame
    parcel: Parcel
    """Its planes and, for a network that has work to do, its RGB."""
    is_cut: bool
    last_look: Tensor | None


class _Pipeline:
    def __init__(
        self,
        video: VideoFormat,
        restorer: Restorer,
        sink: Callable[[Frame], None],
        scene_cuts: bool,
        compare: Side | None,
        state: SequenceState,
    ) -> None:
        self._video = video
        self._restorer = restorer
        self._sink = sink
        self._compare = compare
        self._state = state
        self._courier = courier_to(restorer.device)
        self._works = restorer.strength > 0
        looks = scene_cuts and restorer.model.info.recurrent and self._works
        self._cuts = SceneCuts(video.pixels.depth, state.last_look) if looks else None
        self._cut_count = 0
        self._written = 0
        self._ended = False
        self._sink_failed = False
        self._reading: deque[Future[_Read | None]] = deque()
        self._writing: deque[Future[None]] = deque()

    def run(self, frames: Iterable[Frame], progress: Callable[[int], None], should_stop: Callable[[], bool]) -> Summary:
        source = iter(frames)
        stopped = False
        device = self._restorer.device
        with worker("read", device) as reader, worker("write", device) as writer:
            try:
                while not self._ended and not (stopped := should_stop()):
                    together = self._restorer.frames_at_a_time(self._video.height, self._video.width)
                    # Nothing here holds on to the frames, which at 4K take 100 MB each as RGB.
                    self._forward(self._next(source, reader, together), writer)
                    self._collect(progress, leave=together)
                self._collect(progress, leave=0)
            finally:
                for future in self._reading:
                    future.cancel()
                # An error that comes now would hide the one that is on its way.
                wait(self._writing)
        return Summary(self._written, self._cut_count, stopped, self._state)

    def _next(self, source: Iterator[Frame], reader: Executor, together: int) -> list[_Read]:
        """The next `together` frames; fewer at the end. More are being read when it returns."""
        batch: list[_Read] = []
        while len(batch) < together and not self._ended:
            while len(self._reading) < together + AHEAD:
                self._reading.append(reader.submit(self._read, source))
            read = self._reading.popleft().result()
            self._ended = read is None
            batch += [] if read is None else [read]
        return batch

    def _forward(self, batch: Sequence[_Read], writer: Executor) -> None:
        """Restore some frames and have them written."""
        for read, restored in zip(batch, self._restored(batch), strict=True):
            self._writing.append(writer.submit(self._write, read, restored))

    def _read(self, source: Iterator[Frame]) -> _Read | None:
        frame = next(source, None)
        if frame is None:
            return None
        is_cut = self._cuts is not None and self._cuts.is_cut(frame.planes[0])
        last_look = None if self._cuts is None else self._cuts.last_look
        with torch.inference_mode(), self._courier.reading():
            tensors = patiently(self._restorer.device, lambda: self._sent(frame))
            return _Read(frame, self._courier.pack(tensors), is_cut, last_look)

    def _sent(self, frame: Frame) -> list[Tensor]:
        """What `_Read.parcel` holds of a frame."""
        planes = self._courier.send(frame.planes)
        return [*planes, yuv.to_rgb(planes, self._video)] if self._works else planes

    def _restored(self, batch: Sequence[_Read]) -> list[Parcel]:
        """The restored RGB of each frame; nothing of those that no network works on."""
        if not self._works or not batch:
            return [Parcel([]) for _ in batch]
        parcels: list[Parcel] = []
        while len(parcels) < len(batch):
            most = self._restorer.frames_at_a_time(self._video.height, self._video.width)
            some = batch[len(parcels) :][:most]
            try:
                parcels += self._restored_together(some)
                continue
            except (DeblurError, MemoryError, RuntimeError) as error:
                if len(some) == 1 or not is_out_of_memory(error):
                    raise
            # There is no room for so many frames themselves, however few of them go through the network at a time.
            self._restorer.take_fewer(len(some) // 2)
        return parcels

    def _restored_together(self, batch: Sequence[_Read]) -> list[Parcel]:
        is_cut = batch[0].is_cut  # recurrent networks get one frame at a time, and others do not ask
        self._cut_count += is_cut
        with torch.inference_mode():
            blurred = [self._courier.unpack(read.parcel)[-1] for read in batch]
            together = blurred[0]
            if len(blurred) > 1:
                together = patiently(self._restorer.device, lambda: torch.cat(blurred))
            restored, state = self._restorer.restore_frame(together, None if is_cut else self._state.frame)
            self._state = SequenceState(state, batch[-1].last_look)
            return [self._courier.pack([frame]) for frame in restored.split(1)]

    def _write(self, read: _Read, restored: Parcel) -> None:
        if self._sink_failed:
            return  # no frame after a gap
        try:
            with torch.inference_mode(), self._courier.writing():
                before, after = self._courier.unpack(read.parcel), self._courier.unpack(restored)
                planes = patiently(self._restorer.device, lambda: self._courier.fetch(self._changed(before, after)))
                self._sink(Frame(planes, read.frame.pts))
        except BaseException:
            self._sink_failed = True
            raise

    def _changed(self, read: Sequence[Tensor], restored: Sequence[Tensor]) -> Sequence[Tensor]:
        """The planes to write, of those that were read."""
        planes = changed = read
        if restored:
            *planes, blurred = read
            changed = yuv.add_change(planes, blurred, restored[0], self._video)
        return _halves(planes, changed, self._video, self._compare) if self._compare else changed

    def _collect(self, progress: Callable[[int], None], *, leave: int) -> None:
        """Hear of the frames that have been written, and wait until at most `leave` are not."""
        while self._writing and (len(self._writing) > leave or self._writing[0].done()):
            self._writing.popleft().result()
            self._written += 1
            progress(self._written)


def _halves(blurred: Sequence[Tensor], restored: Sequence[Tensor], video: VideoFormat, side: Side) -> list[Tensor]:
    """One half of `blurred`, a white line and the other half of `restored`, as planes."""
    across = side in ("left", "right")
    dim, length, by = (2, video.width, video.pixels.shift_x) if across else (1, video.height, video.pixels.shift_y)
    start = max(0, (length - DIVIDER) // 2) // DIVIDER * DIVIDER
    stop = min(start + DIVIDER, length)
    together = []
    for *both, white in zip(blurred, restored, yuv.white(video), strict=True):
        near, far = both if side in ("left", "top") else reversed(both)
        here = near.shape[dim]
        shift = 0 if here == length else by
        first, last = start >> shift, -(-stop >> shift)
        line = torch.full_like(near.narrow(dim, first, last - first), white)
        together.append(torch.cat([near.narrow(dim, 0, first), line, far.narrow(dim, last, here - last)], dim=dim))
    return together
