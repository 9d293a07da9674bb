"""Cuts are found, and pans, flashes, fades and noise are none: films made of the sample photos."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from deblur_cli.restoration.scene_cuts import SceneCuts

SHARP = Path(__file__).parents[2] / "sample_media" / "sharp"
PHOTOS = sorted(path.stem for path in SHARP.glob("*.png"))


@functools.cache
def luma(name: str) -> np.ndarray:
    from PIL import Image

    with Image.open(SHARP / f"{name}.png") as image:
        return np.asarray(image.convert("L").resize((640, 480)))


def cuts(frames: Iterable[np.ndarray], depth: int = 8) -> list[int]:
    detector = SceneCuts(depth)
    return [number for number, frame in enumerate(frames) if detector.is_cut(frame)]


def pan(name: str, speed: int, count: int = 12) -> list[np.ndarray]:
    """A camera that moves to the right by so many pixels a frame, over a view of 320×240."""
    return [luma(name)[100:340, start : start + 320] for start in range(0, min(count * speed, 320), speed)]


def test_there_are_photos_to_make_films_of() -> None:
    assert len(PHOTOS) >= 5


@pytest.mark.parametrize(("one", "other"), list(itertools.permutations(PHOTOS, 2)))
def test_a_hard_cut_is_found_where_it_is(one: str, other: str) -> None:
    assert cuts([*pan(one, 4, 3), *pan(other, 4, 3)]) == [3]


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("speed", [3, 15, 30])
def test_a_pan_is_no_cut(name: str, speed: int) -> None:
    """Up to a tenth of the width a frame, at which the picture has gone by in a third of a second."""
    assert not cuts(pan(name, speed))


@pytest.mark.parametrize("name", PHOTOS)
def test_fades_are_no_cuts(name: str) -> None:
    steps = np.linspace(1, 0, 10)
    fade = [(luma(name) * step).astype(np.uint8) for step in steps]
    assert not cuts([*fade, *fade[::-1]])


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("gain", [0.5, 1.8])
def test_a_flash_or_a_jump_of_exposure_is_no_cut(name: str, gain: float) -> None:
    flash = (luma(name) * gain).clip(0, 255).astype(np.uint8)
    assert not cuts([luma(name), flash, luma(name)])


@pytest.mark.parametrize("level", [10, 128])
def test_noise_is_no_cut(level: int) -> None:
    generator = np.random.default_rng(0)
    flat = (generator.normal(level, 20, (240, 320)).clip(0, 255).astype(np.uint8) for _ in range(10))
    assert not cuts(flat)
    photo = luma("camera").astype(float)
    assert not cuts((photo + generator.normal(0, 25, photo.shape)).clip(0, 255).astype(np.uint8) for _ in range(5))


def test_a_cut_to_black_and_back_is_two() -> None:
    black = np.full_like(luma("camera"), 16)
    assert cuts([luma("camera"), black, black, luma("coffee")]) == [1, 3]


def test_deeper_samples_are_judged_alike() -> None:
    film = [*pan("chelsea", 10, 4), *pan("coffee", 10, 4)]
    assert cuts([frame.astype(np.uint16) << 2 for frame in film], depth=10) == cuts(film) == [4]


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (63, 65), (200, 3)])
def test_every_size_can_be_looked_at(size: tuple[int, int]) -> None:
    assert not cuts([np.full(size, 100, np.uint8)] * 3)


def test_a_change_of_size_is_a_cut() -> None:
    assert cuts([luma("camera"), luma("camera")[:100]]) == [1]


def test_a_detector_goes_on_from_what_another_saw_last() -> None:
    first = SceneCuts()
    assert not first.is_cut(luma("camera"))
    assert SceneCuts(last_look=first.last_look).is_cut(luma("coffee"))
    assert not SceneCuts(last_look=first.last_look).is_cut(luma("camera"))
