"""The pipeline on videos in memory: order, timestamps, state, bounds, and what happens when something fails."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import models
from deblur_cli import Restorer
from deblur_cli.media.video import Frame, PixelFormat, VideoFormat
from deblur_cli.restoration import frames as pipeline
from deblur_cli.restoration import memory, yuv
from deblur_cli.restoration.frames import AHEAD, DIVIDER, Side, Summary, restore_frames
from deblur_cli.restoration.states import SequenceState, load_state, save_state
from tests.restoration.networks import Apply, loaded, residual_network
from tests.restoration.videos import PIXEL_FORMATS, flat_frame, random_frame, video_format

pytestmark = pytest.mark.usefixtures("one_thread")

GREY = video_format("gray", 48, 64, full_range=True)


class Boom(Exception):
    """A fault that a test put there."""


def restorer_of(model: Any, **options: Any) -> Restorer:
    return Restorer(model, **({"device": "cpu", "precision": "fp32"} | options))


def run(frames: Iterable[Frame], video: VideoFormat, restorer: Restorer, **options: Any) -> tuple[list[Frame], Summary]:
    written: list[Frame] = []
    summary = restore_frames(frames, video, restorer, written.append, **options)
    assert summary.frames == len(written)
    return written, summary


def assert_same(some: Iterable[Frame], others: Iterable[Frame]) -> None:
    for one, other in itertools.zip_longest(some, others):
        assert one.pts == other.pts
        for plane, same in zip(one.planes, other.planes, strict=True):
            assert plane.dtype == same.dtype
            np.testing.assert_array_equal(plane, same)


@given(
    pixels=st.sampled_from(PIXEL_FORMATS),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    strength=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    batch=st.integers(1, 3),
)
@settings(deadline=None, max_examples=60)
def test_the_identity_gives_every_frame_back_to_the_last_bit(
    pixels: PixelFormat, size: tuple[int, int], strength: float, batch: int
) -> None:
    video = video_format(pixels.name, *size)
    restorer = restorer_of("test-tiny", strength=strength)
    restorer._batch = batch  # what a GPU has
    frames = [random_frame(video, number) for number in range(4)]
    for frame in frames:
        for plane in frame.planes:
            plane.flags.writeable = False
    written, summary = run(frames, video, restorer)
    assert_same(written, frames)
    assert not summary.stopped


@pytest.mark.parametrize("pixels", PIXEL_FORMATS, ids=lambda pixels: pixels.name)
def test_frames_are_restored_as_the_network_restores_their_rgb(pixels: PixelFormat) -> None:
    video = video_format(pixels.name, 37, 51)
    restorer = restorer_of(loaded(residual_network(), multiple_of=4))
    frames = [random_frame(video, number) for number in range(3)]
    written, _ = run(frames, video, restorer)
    for before, after in zip(frames, written, strict=True):
        planes = [torch.from_numpy(plane)[None] for plane in before.planes]
        blurred = yuv.to_rgb(planes, video)
        expected = yuv.add_change(planes, blurred, restorer.restore_tensor(blurred), video)
        assert_same([after], [Frame(tuple(plane[0].numpy() for plane in expected), before.pts)])
        assert np.abs(after.planes[0].astype(int) - before.planes[0]).mean() > 1


@pytest.mark.parametrize("strength", [1.0, 0.4, 1.7])
def test_batches_agree_with_frame_by_frame_exactly(strength: float) -> None:
    video = video_format("yuv420p10le", 40, 56)
    frames = [random_frame(video, number) for number in range(8)]
    network = Apply(residual_network())

    def with_batch(batch: int) -> list[Frame]:
        restorer = restorer_of(loaded(network, multiple_of=4), strength=strength)
        restorer._batch = batch  # what a GPU has
        network.seen.clear()
        return run(frames, video, restorer)[0]

    one_by_one = with_batch(1)
    assert {shape[0] for shape in network.seen} == {1}
    assert_same(with_batch(3), one_by_one)
    assert [shape[0] for shape in network.seen if shape[2] == 40] == [3, 3, 2]


@given(
    reading=st.lists(st.sampled_from([0.0, 0.002]), min_size=1, max_size=4),
    writing=st.lists(st.sampled_from([0.0, 0.002]), min_size=1, max_size=4),
    count=st.integers(0, 12),
    batch=st.integers(1, 4),
    ahead=st.integers(0, 3),
)
@settings(deadline=None, max_examples=25)
def test_order_and_timestamps_are_kept_whoever_is_slow(
    reading: list[float], writing: list[float], count: int, batch: int, ahead: int
) -> None:
    video = video_format("gray", 6, 8)
    frames = [flat_frame(video, number * 7, number) for number in range(count)]
    delays = itertools.cycle(writing)
    written: list[Frame] = []

    def source() -> Iterator[Frame]:
        for frame, delay in zip(frames, itertools.cycle(reading), strict=False):
            time.sleep(delay)
            yield frame

    def sink(frame: Frame) -> None:
        time.sleep(next(delays))
        written.append(frame)

    counts: list[int] = []
    restorer = restorer_of("test-tiny")
    restorer._batch = batch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "AHEAD", ahead)
        summary = restore_frames(source(), video, restorer, sink, progress=counts.append)
    assert_same(written, frames)
    assert counts == list(range(1, count + 1))
    assert summary.frames == count


@pytest.mark.parametrize("batch", [1, 3])
def test_only_a_few_frames_are_under_way_at_a_time(batch: int) -> None:
    lock, under_way, most = threading.Lock(), 0, 0

    def source() -> Iterator[Frame]:
        nonlocal under_way, most
        for number in range(60):
            with lock:
                under_way += 1
                most = max(most, under_way)
            yield flat_frame(GREY, 9, number)

    def sink(frame: Frame) -> None:
        nonlocal under_way
        time.sleep(0.001)
        with lock:
            under_way -= 1

    restorer = restorer_of("test-tiny")
    restorer._batch = batch
    restore_frames(source(), GREY, restorer, sink)
    assert under_way == 0
    assert batch < most <= 4 * batch + AHEAD  # read ahead, together in the network, submitted, waiting to be written


def failing_after(count: int, error: BaseException) -> Iterator[Frame]:
    yield from (flat_frame(GREY, number, number) for number in range(count))
    raise error


@pytest.mark.parametrize("stage", ["read", "network", "write", "progress"])
@pytest.mark.parametrize("error", [Boom(), KeyboardInterrupt()], ids=["fault", "ctrl-c"])
def test_what_goes_wrong_in_a_stage_ends_all_and_comes_out_once(stage: str, error: BaseException) -> None:
    threads = threading.active_count()
    written: list[Frame] = []

    def at_the_sixth(number: float, where: str) -> None:
        if where == stage and number == 5:
            raise error

    def network(blurred: Tensor) -> Tensor:
        at_the_sixth(round(float(blurred.max()) * 255), "network")
        return blurred

    def sink(frame: Frame) -> None:
        at_the_sixth(frame.pts, "write")
        written.append(frame)

    source = failing_after(5, error) if stage == "read" else (flat_frame(GREY, n, n) for n in range(50))
    with pytest.raises(type(error)) as caught:
        restore_frames(
            source, GREY, restorer_of(loaded(Apply(network))), sink, progress=lambda n: at_the_sixth(n, "progress")
        )
    assert caught.value is error
    assert threading.active_count() == threads
    assert [frame.pts for frame in written] == list(range(len(written)))
    assert len(written) == 5 if stage != "progress" else 5 <= len(written) < 12


def photo_film() -> tuple[VideoFormat, list[Frame]]:
    """Two shots of three frames: slow pans over smooth patterns that share nothing."""
    video = video_format("yuv420p", 64, 96, full_range=True)
    rows, columns = np.mgrid[:64, :120]
    one = 60 + 50 * np.sin(columns / 9) * np.cos(rows / 7)
    other = 160 + 80 * np.sin((columns + rows) / 15)
    chroma = np.full((32, 48), 128, np.uint8)
    shots = [shot[:, start : start + 96].astype(np.uint8) for shot in (one, other) for start in (0, 2, 4)]
    return video, [Frame((luma, chroma, chroma), pts) for pts, luma in enumerate(shots)]


def test_the_state_flows_from_frame_to_frame_and_not_across_a_cut() -> None:
    video, frames = photo_film()
    restorer = restorer_of("test-tiny-recurrent")
    whole, summary = run(frames, video, restorer)
    assert summary.cuts == 1
    parts = [run(part, video, restorer)[0] for part in (frames[:3], frames[3:])]
    assert_same(whole, parts[0] + parts[1])

    # Each frame is half itself and half the running mean of its shot.
    lumas = [frame.planes[0].astype(float) for frame in frames]
    assert np.abs(whole[1].planes[0] - (0.75 * lumas[1] + 0.25 * lumas[0])).max() <= 1
    changed, _ = run([frames[1], *frames[1:]], video, restorer)
    assert [bool((a.planes[0] != b.planes[0]).any()) for a, b in zip(whole, changed, strict=True)] == [True] * 3 + [
        False
    ] * 3

    through, summary = run(frames, video, restorer, scene_cuts=False)
    assert summary.cuts == 0
    assert_same(through[:3], whole[:3])
    assert np.abs(through[3].planes[0].astype(int) - whole[3].planes[0]).max() > 10


def test_it_stops_when_told_and_goes_on_later_where_it_was() -> None:
    video, frames = photo_film()
    restorer = restorer_of("test-tiny-recurrent")
    whole, _ = run(frames, video, restorer)
    calls = itertools.count()

    def should_stop() -> bool:
        time.sleep(0.02)  # frames of the second shot have been read ahead by then
        return next(calls) == 3

    first, summary = run(iter(frames), video, restorer, should_stop=should_stop)
    assert summary.stopped
    assert len(first) == 3
    rest, summary = run(frames[3:], video, restorer, state=summary.state)
    assert not summary.stopped
    assert summary.cuts == 1
    assert_same([*first, *rest], whole)


@pytest.mark.parametrize("options", [{}, {"tile": 64, "overlap": 0}])
def test_cut_in_two_anywhere_a_video_is_the_same(options: dict[str, Any]) -> None:
    video, frames = photo_film()
    restorer = restorer_of("test-tiny-recurrent", **options)
    whole, _ = run(frames, video, restorer)
    for place in range(len(frames) + 1):
        first, summary = run(frames[:place], video, restorer)
        state = load_state(save_state(summary.state), restorer.device)
        rest, summary = run(frames[place:], video, restorer_of("test-tiny-recurrent", **options), state=state)
        assert summary.cuts == (place <= 3)
        assert_same(first + rest, whole)


def test_a_frame_in_tiles_is_the_frame_whole() -> None:
    video, frames = photo_film()
    whole, _ = run(frames, video, restorer_of("test-tiny-recurrent", tile=0))
    tiled, summary = run(frames, video, restorer_of("test-tiny-recurrent", tile=64, overlap=8))
    assert summary.state.frame is not None
    assert summary.state.frame.plan.tile_count > 1
    assert_same(tiled, whole)


def test_memory_that_runs_out_in_mid_video_is_survived_and_said_once() -> None:
    class Fails(nn.Module):
        """A running mean of frames, for which memory is short from the third on."""

        calls = 0

        def forward(self, blurred: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
            Fails.calls += blurred.shape[3] == 96
            if Fails.calls >= 3 and blurred.shape[3] > 64:
                raise MemoryError
            mean = blurred if state is None else (blurred + state) / 2
            return mean, mean

    video, frames = photo_film()
    said: list[str] = []
    restorer = restorer_of(loaded(Fails(), recurrent=True), tile=0, notify=said.append)
    written, _ = run(frames, video, restorer, scene_cuts=False)
    assert len(said) == 1
    assert "memory is short" in said[0]
    np.testing.assert_array_equal(written[2].planes[0], frames[2].planes[0])  # begins anew
    assert (written[3].planes[0] != frames[3].planes[0]).any()  # and goes on from there


@pytest.mark.parametrize(("place", "step"), [(yuv, "to_rgb"), (torch, "cat"), (yuv, "add_change")])
def test_memory_that_runs_out_beside_the_network_is_waited_for(
    place: Any, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [random_frame(GREY, number) for number in range(5)]
    restorer = restorer_of(loaded(Apply(lambda blurred: 1 - blurred)))
    restorer._batch = 2  # what a GPU has
    undisturbed, _ = run(frames, GREY, restorer)
    real, failures = getattr(place, step), iter([MemoryError(), torch.OutOfMemoryError("CUDA out of memory.")])

    def fails_twice(*arguments: Any) -> Any:
        if (error := next(failures, None)) is not None:
            raise error
        return real(*arguments)

    monkeypatch.setattr(place, step, fails_twice)
    monkeypatch.setattr(memory, "_WAITS", (0.0, 0.0))
    written, _ = run(iter(frames), GREY, restorer)  # each is taken once, and given once
    assert next(failures, None) is None
    assert_same(written, undisturbed)


def test_srn_carries_its_memory_from_frame_to_frame() -> None:
    torch.manual_seed(0)
    video, frames = photo_film()
    info = models.model_info("srn")
    network = models.create_model("srn")
    torch.nn.init.xavier_uniform_(network.decoder1[-1].weight)  # a new one returns the picture, whatever it remembers
    restorer = restorer_of(loaded(network, recurrent=info.recurrent, multiple_of=info.multiple_of), tile=0)
    whole, summary = run(frames[1:5], video, restorer)
    assert summary.cuts == 1
    assert summary.state.frame is not None
    alone = [run([frame], video, restorer)[0][0] for frame in frames[1:5]]
    differs = [bool((a.planes[0] != b.planes[0]).any()) for a, b in zip(whole, alone, strict=True)]
    assert differs == [False, True, False, True]  # frame 3 is the first of the second shot


@pytest.mark.parametrize("pixels", PIXEL_FORMATS, ids=lambda pixels: pixels.name)
@pytest.mark.parametrize("length", [3, 50, 51])
@pytest.mark.parametrize("side", ["left", "top", "right", "bottom"])
def test_a_comparison_is_blurred_on_one_side_and_restored_on_the_other(
    pixels: PixelFormat, length: int, side: Side
) -> None:
    across = side in ("left", "right")
    video = video_format(pixels.name, *((18, length) if across else (length, 18)))
    frames = [random_frame(video, number) for number in range(2)]
    restorer = restorer_of(loaded(Apply(lambda blurred: 1 - blurred)))
    plain, _ = run(frames, video, restorer)
    compared, _ = run(frames, video, restorer, compare=side)
    start = max(0, (length - DIVIDER) // 2 // DIVIDER * DIVIDER)
    for before, after, both in zip(frames, plain, compared, strict=True):
        parts = (before.planes, after.planes) if side in ("left", "top") else (after.planes, before.planes)
        for near, far, plane, white in zip(*parts, both.planes, yuv.white(video), strict=True):
            assert plane.shape == near.shape
            # As columns, whichever way the line goes.
            near, far, plane = (one if across else one.T for one in (near, far, plane))
            scale = 1 if plane.shape[1] == length else 1 << (pixels.shift_x if across else pixels.shift_y)
            first, last = start // scale, -(-min(start + DIVIDER, length) // scale)
            np.testing.assert_array_equal(plane[:, :first], near[:, :first])
            assert (plane[:, first:last] == white).all()
            np.testing.assert_array_equal(plane[:, last:], far[:, last:])


def test_no_strength_is_no_work() -> None:
    network = Apply(torch.zeros_like)
    video = video_format("yuv420p", 20, 30)
    frames = [random_frame(video, number) for number in range(3)]
    written, summary = run(frames, video, restorer_of(loaded(network), strength=0.0))
    assert_same(written, frames)
    assert not network.seen
    assert save_state(summary.state) == save_state(SequenceState())


def test_no_frames_are_no_frames() -> None:
    assert run([], GREY, restorer_of("test-tiny"))[1] == Summary(0, 0, False, SequenceState())
    frames = [flat_frame(GREY, 1)]
    assert run(frames, GREY, restorer_of("test-tiny"), should_stop=lambda: True)[1] == Summary(
        0, 0, True, SequenceState()
    )
