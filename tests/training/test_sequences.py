import itertools
import random
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deblur_cli.training.blur import BlurSettings
from deblur_cli.training.sequences import (
    FRAMES_AVERAGED,
    doubled,
    draw_exposures,
    followers,
    shortest_clip,
    synthesise_sequence,
)
from deblur_cli.training.shake import sequence_shake

CLEAN = BlurSettings(length=(4, 12), braced=0, foreground=0, linear=0, saturation=0, defocus=0, noise=0, jpeg=0)
FRAME = (720, 1280)
SEEDS = st.integers(0, 2**31)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def film(scene: Tensor, frames: int, blur: BlurSettings, seed: int, side: int) -> tuple[Tensor, Tensor]:
    offset = torch.zeros(len(scene), 2)
    return synthesise_sequence(scene, frames, (side, side), blur, generator(seed), frame=FRAME, offset=offset)


def shifts(shake: Tensor) -> Tensor:
    """Where the image centre is seen, …×2 pixels."""
    return shake[..., 0:2] + shake[..., 3:5]


def lengths(path: Tensor) -> Tensor:
    """Lengths of …×K×2 paths."""
    return (path[..., 1:, :] - path[..., :-1, :]).norm(dim=-1).sum(dim=-1)


def centroids(images: Tensor) -> Tensor:
    """Centroid of the light of …×3×H×W images: …×2, down and right."""
    weight = images[..., 0, :, :] / images[..., 0, :, :].sum(dim=(-2, -1), keepdim=True)
    down, right = (torch.arange(float(side)) for side in weight.shape[-2:])
    return torch.stack([(weight.sum(dim=-1) * down).sum(dim=-1), (weight.sum(dim=-2) * right).sum(dim=-1)], dim=-1)


@given(seed=SEEDS, frames=st.integers(2, 6), shortest=st.floats(1, 20))
@settings(max_examples=15, deadline=None)
def test_no_exposure_is_longer_than_asked_and_the_whole_is_centred(seed: int, frames: int, shortest: float) -> None:
    wandering = BlurSettings(length=(shortest, 2 * shortest), braced=0)
    shake = sequence_shake(4, frames, wandering, generator(seed))
    assert shake.shape[:2] == (4, frames)
    assert shake.mean(dim=(1, 2)).abs().max() < 1e-3 * shortest * frames
    exposures = lengths(shifts(shake))
    assert exposures.max() <= 2 * shortest * 1.001
    # The hand comes to rest in no frame: with the walk's fading first velocity alone, later ones would be nearly sharp.
    assert exposures.mean() > 0.2 * shortest


def test_a_braced_camera_that_is_knocked_blurs_some_frames_and_comes_back() -> None:
    path = shifts(sequence_shake(400, 6, BlurSettings(length=(10, 10), braced=1.0), generator(), moments=64))
    exposures = lengths(path)
    # The longest exposure of each sequence is as long as asked.
    assert torch.allclose(exposures.amax(dim=1), torch.tensor(10.0), atol=0.01)
    # A quarter of the frames or more are hardly blurred, another quarter are.
    assert exposures.quantile(0.25) < 1
    assert exposures.quantile(0.75) > 3
    # A camera that wanders moves on by the length of an exposure from frame to frame; this one stays.
    centres = path.mean(dim=2)
    steps = (centres[:, 1:] - centres[:, :-1]).norm(dim=-1)
    assert steps.median() < 1
    assert (steps < 5).float().mean() > 0.95


def test_a_pan_goes_on_straight_through_all_frames_and_gaps() -> None:
    pan = BlurSettings(length=(10, 10), straight=1.0, braced=0)
    path = shifts(sequence_shake(16, 4, pan, generator()))
    assert torch.allclose(lengths(path), torch.full((16, 4), 10.0), atol=1e-3)
    centres = path.mean(dim=2)
    steps = centres[:, 1:] - centres[:, :-1]
    assert torch.allclose(steps, steps[:, :1].expand_as(steps), atol=1e-3)
    direction = path[:, 0, -1] - path[:, 0, 0]
    assert torch.allclose((steps[:, 0] * direction).sum(dim=1), steps[:, 0].norm(dim=1) * 10, rtol=1e-3)
    strides = steps[:, 0].norm(dim=1) / 10
    assert strides.min() >= 1 and strides.max() <= 1.53
    assert strides.unique().numel() > 4  # each sequence has its own gap


@given(seed=SEEDS)
@settings(max_examples=10, deadline=None)
def test_a_walk_goes_on_where_it_was_when_the_shutter_closed(seed: int) -> None:
    path = shifts(
        sequence_shake(8, 3, BlurSettings(length=(8, 8), straight=0.0, braced=0), generator(seed), moments=65)
    )
    paused = (path[:, 1:, 0] - path[:, :-1, -1]).norm(dim=-1)
    # Half an exposure's time at most, at a speed that varies.
    assert paused.max() <= 12 and paused.mean() <= 4


@given(seed=SEEDS)
@settings(max_examples=8, deadline=None)
def test_each_target_sits_at_the_centroid_of_its_own_exposure(seed: int) -> None:
    place = torch.arange(141.0) - 70
    spot = torch.exp(-(place.view(-1, 1) ** 2 + place**2) / (2 * 1.5**2))
    blurred, sharp = film(spot.expand(1, 3, 141, 141), 3, CLEAN, seed, 141)
    assert blurred.shape == sharp.shape == (1, 3, 3, 141, 141)
    there = centroids(sharp)
    assert torch.allclose(centroids(blurred), there, atol=0.15)
    assert (there[:, 1:] - there[:, :-1]).norm(dim=-1).max() > 1  # and the camera does move


def test_targets_keep_the_detail_of_the_scene_between_its_pixels() -> None:
    # 0.4 cycles a pixel: interpolated half-way at its own resolution, half of the contrast would be lost.
    wave = (0.4 * torch.cos(2 * torch.pi * 0.4 * torch.arange(128.0)) + 0.5).expand(1, 3, 128, 128)
    finer = doubled(wave)
    assert finer.shape == (1, 3, 256, 256)
    between = torch.arange(256.0) / 2 - 0.25
    expected = 0.4 * torch.cos(2 * torch.pi * 0.4 * between) + 0.5
    assert torch.allclose(finer[0, 0, 100, 32:-32], expected[32:-32], atol=0.02)
    assert torch.allclose(doubled(wave.transpose(2, 3)), finer.transpose(2, 3), atol=1e-5)
    _, sharp = film(wave, 3, CLEAN, 3, 64)
    contrast = sharp[0, :, 0, 8:-8, 8:-8].flatten(1).std(dim=1) * 2**0.5  # of a wave: its amplitude
    assert contrast.min() > 0.4 * 0.93


def test_noise_and_compression_are_as_strong_in_every_frame_but_never_the_same() -> None:
    flat = torch.full((6, 3, 64, 64), 0.5)
    blurred, sharp = film(flat, 3, BlurSettings(**{**vars(CLEAN), "noise": 1.0}), 1, 64)
    noise = (blurred - sharp).flatten(2)
    deviation = noise.std(dim=2)
    assert (deviation.amax(dim=1) / deviation.amin(dim=1)).max() < 1.06
    assert deviation[:, 0].max() / deviation[:, 0].min() > 1.3
    for one, other in ((0, 1), (1, 2), (0, 2)):
        likeness = (noise[:, one] * noise[:, other]).mean(dim=1) / deviation[:, one] / deviation[:, other]
        assert likeness.abs().max() < 0.05

    # A camera that does not move sees the same in each frame, so what JPEG leaves differs by its quality alone.
    scene = torch.rand(1, 3, 64, 64, generator=generator()).expand(4, 3, 64, 64)
    still = BlurSettings(**{**vars(CLEAN), "length": (1e-4, 1e-4), "jpeg": 1.0})
    blurred, _ = film(scene, 3, still, 1, 64)
    assert (blurred[:, :1] - blurred[:, 1:]).abs().mean() < 2e-3
    assert (blurred[:1, 0] - blurred[1:, 0]).abs().mean() > 1e-2


def test_everything_at_once_stays_in_range_and_repeats_with_its_seed() -> None:
    scene = torch.rand(2, 3, 64, 64, generator=generator())
    wild = BlurSettings(length=(5, 30), foreground=1, linear=0.5, saturation=1, defocus=1, noise=1, jpeg=1)
    blurred, sharp = film(scene, 4, wild, 7, 48)
    for images in (blurred, sharp):
        assert images.shape == (2, 4, 3, 48, 48)
        assert torch.isfinite(images).all()
        assert images.min() >= 0 and images.max() <= 1
    again, _ = film(scene, 4, wild, 7, 48)
    assert torch.equal(again, blurred)
    assert not torch.equal(film(scene, 4, wild, 8, 48)[0], blurred)


@given(seed=SEEDS, frames=st.integers(1, 12), spare=st.integers(0, 300))
def test_exposures_of_a_clip_are_alike_in_length_and_distance_and_lie_in_it(seed: int, frames: int, spare: int) -> None:
    length = shortest_clip(frames) + spare
    exposures = draw_exposures(length, frames, random.Random(seed))
    assert len(exposures) == frames
    (averaged,) = {exposure.stop - exposure.start for exposure in exposures}
    assert averaged in FRAMES_AVERAGED
    starts = [exposure.start for exposure in exposures]
    strides = {later - earlier for earlier, later in itertools.pairwise(starts)}
    assert len(strides) <= 1 and all(averaged <= stride <= 1.5 * averaged for stride in strides)
    assert starts[0] >= 0 and exposures[-1].stop <= length


def test_a_frame_is_followed_by_the_next_number_of_its_folder_and_name() -> None:
    names = [
        "a/000001",
        "a/000002",
        "a/000004",
        "b/000003",
        "b/000002",
        "GOPR1_01-7",
        "GOPR1_02-8",
        "GOPR1_01-8",
        "c/x",
    ]
    files = [Path(f"{name}.png") for name in names]
    assert followers(files) == [1, None, None, None, 3, 7, None, None, None]


@pytest.mark.parametrize("names", [["09", "10"], ["9", "10"], ["00000099", "00000100"]])
def test_numbers_are_read_as_numbers(names: list[str]) -> None:
    assert followers([Path("s", f"{name}.png") for name in names]) == [1, None]
