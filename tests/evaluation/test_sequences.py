"""Frames of videos: the state that goes from one to the next, where it starts anew, and flicker by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deblur_cli.evaluation.benchmark import BenchmarkResult, ImageResult, benchmark
from deblur_cli.evaluation.datasets import Dataset, Pair, find_pairs
from deblur_cli.evaluation.metrics import Scores
from deblur_cli.evaluation.sequences import Flicker, FrameRestorer
from deblur_cli.restoration.restorer import Restorer
from tests.evaluation.pictures import gopro_video, noise, write

FRAMES = [Pair("a", f"{number:03}", Path("blurred"), Path("sharp"), (20, 16)) for number in range(1, 6)]


def flat(value: float, *, size: int = 12) -> Tensor:
    return torch.full((1, 3, size, size), value)


def restorer() -> Restorer:
    return Restorer("test-tiny-recurrent", device="cpu", precision="fp32")


def means(frames: FrameRestorer, pairs: list[Pair], values: list[float]) -> list[float]:
    """Mean grey levels of what becomes of one scene at these mean grey levels."""
    scene = torch.arange(-32.0, 32.0).expand(1, 3, 64, 64)
    scene = scene - scene.mean()
    found = []
    for pair, value in zip(pairs, values, strict=True):
        frames.prepare(pair, (scene + value).to(torch.uint8))
        found.append(255 * float(frames.restore((scene + value) / 255).mean()))
    return found


def test_the_state_goes_from_frame_to_frame() -> None:
    # The running mean is 100, 110, 125; each frame comes out as its mean with that.
    found = means(FrameRestorer(restorer(), keep_state=True), FRAMES[:3], [100, 120, 140])
    assert found == pytest.approx([100, 115, 132.5], abs=1e-3)


@pytest.mark.parametrize(
    "third",
    [
        replace(FRAMES[2], sequence="b"),
        FRAMES[3],  # one is missing before it
        replace(FRAMES[2], size=(16, 20)),
    ],
)
def test_it_starts_anew_where_the_frames_do_not_go_on(third: Pair) -> None:
    found = means(FrameRestorer(restorer(), keep_state=True), [*FRAMES[:2], third], [100, 120, 140])
    assert found == pytest.approx([100, 115, 140], abs=1e-3)


def test_it_starts_anew_after_a_frame_that_failed_and_with_each_where_none_is_kept() -> None:
    frames = FrameRestorer(restorer(), keep_state=True)
    means(frames, FRAMES[:1], [100])
    frames.forget()
    assert means(frames, FRAMES[1:2], [120]) == pytest.approx([120], abs=1e-3)
    assert means(FrameRestorer(restorer(), keep_state=False), FRAMES[:2], [100, 120]) == pytest.approx([100, 120])


def test_it_starts_anew_where_the_scene_changes() -> None:
    scenes = [noise(seed, 64, 64) // 4 + 190 * (seed % 2) for seed in (0, 1)]
    frames = FrameRestorer(restorer(), keep_state=True)
    for pair, pixels in zip(FRAMES[:3], (scenes[0], scenes[0], scenes[1].astype(np.uint8)), strict=True):
        blurred = torch.from_numpy(pixels).permute(2, 0, 1)[None]
        frames.prepare(pair, blurred)
        restored = frames.restore(blurred.float() / 255)
    assert torch.allclose(restored, blurred.float() / 255, atol=1e-6)


def test_flicker_by_hand() -> None:
    flicker = Flicker()
    sharp = [flat(value) for value in (10, 20, 30)]
    assert flicker.of(FRAMES[0], flat(15), sharp[0]) is None
    assert flicker.of(FRAMES[1], flat(25), sharp[1]) == 0  # wrong by 5 both times
    assert flicker.of(FRAMES[2], flat(31), sharp[2]) == 4  # it grew by 6 where the sharp one grew by 10
    assert flicker.of(replace(FRAMES[3], sequence="b"), flat(31), sharp[2]) is None
    half = flat(31)
    half[..., :6] += 8
    assert flicker.of(replace(FRAMES[4], sequence="b"), half, sharp[2]) == 4


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 100), st.integers(0, 100))
def test_neither_the_sharp_video_nor_an_error_that_stands_still_flickers(seed: int, error: int) -> None:
    first, second = (torch.from_numpy(noise(seed + index)).permute(2, 0, 1)[None] for index in range(2))
    flicker = Flicker()
    flicker.of(FRAMES[0], first.float() + error, first)
    assert flicker.of(FRAMES[1], second.float() + error, second) == 0


@pytest.fixture
def videos(tmp_path: Path) -> Dataset:
    gopro_video(tmp_path, count=1, sequence="GOPR0384_11_00")
    return find_pairs(gopro_video(tmp_path, count=4))


def test_scores_of_frames_have_their_flicker_and_sequences_their_means(videos: Dataset) -> None:
    result = benchmark(restorer(), videos)
    assert [image.flicker is None for image in result.images] == [True, True, False, False, False]
    # From frame to frame the sharp pictures get brighter by 4, the blurred ones by 5.
    assert result.blurred_flicker == pytest.approx(1)
    assert [image.blurred_flicker for image in result.images[2:]] == [1, 1, 1]
    assert {name: len(images) for name, images in result.sequences.items()} == {
        "GOPR0384_11_00": 1,
        "GOPR0410_11_00": 4,
    }
    alone = benchmark(restorer(), videos, keep_state=False)
    assert [image.gain for image in alone.images] == [0] * 5
    assert [image.gain == 0 for image in result.images] == [True, True, False, False, False]


def test_long_sequences_count_no_more_than_short_ones_in_the_mean_over_sequences() -> None:
    pairs = [replace(FRAMES[0], sequence=name, name=str(number)) for number, name in enumerate("abb")]
    scores = [Scores(psnr, 0.5, 0.5) for psnr in (30.0, 20.0, 22.0)]
    images = tuple(ImageResult(pair, one, one, 1.0) for pair, one in zip(pairs, scores, strict=True))
    result = BenchmarkResult(images, ())
    assert result.restored.psnr == 24
    assert result.over_sequences.psnr == 25.5


def test_photos_do_not_flicker_and_carry_no_state(tmp_path: Path) -> None:
    for number in range(3):
        for side in ("input", "target"):
            write(tmp_path / side / f"photo{number * 5}.png", noise(number))
    result = benchmark(restorer(), find_pairs(tmp_path))
    assert (result.flicker, result.blurred_flicker) == (None, None)
    assert result.restored.identical == 3


def test_a_share_is_scored_alone_and_what_is_done_is_not_done_again(videos: Dataset) -> None:
    whole = benchmark(restorer(), videos)
    first, second = videos.groups()
    parts = [benchmark(restorer(), videos, share=group) for group in (first, second)]
    scores = [(image.pair, image.restored, image.flicker) for image in whole.images]
    assert [(image.pair, image.restored, image.flicker) for part in parts for image in part.images] == scores
    seen: list[object] = []
    again = benchmark(restorer(), videos, done=whole.images[:1], progress=seen.append)
    assert len(seen) == 4
    assert [(image.pair, image.restored, image.flicker) for image in again.images] == scores
    assert benchmark(restorer(), videos, done=whole.images, progress=seen.append) == whole
    assert len(seen) == 4
