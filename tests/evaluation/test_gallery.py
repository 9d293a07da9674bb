"""Which pictures are kept while a network is scored, and that they are those that the page asks for."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from deblur_cli.evaluation import gallery as module
from deblur_cli.evaluation.benchmark import ImageResult
from deblur_cli.evaluation.datasets import Pair
from deblur_cli.evaluation.gallery import Gallery, Views, best_and_worst, with_saved
from deblur_cli.evaluation.metrics import Scores
from tests.evaluation.pictures import noise, write


def image(number: int, gain: float, blurred: Path = Path("b.png")) -> ImageResult:
    pair = Pair("s", f"{number:03}", blurred, Path("s.png"), (20, 16))
    return ImageResult(pair, Scores(30 + gain, 0.9, 0.9), Scores(30, 0.8, 0.8), 0.01)


def shown(picture: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))


def test_the_best_come_first_and_no_image_twice() -> None:
    images = [image(number, gain) for number, gain in enumerate(range(-15, 15))]
    best, worst = best_and_worst(images)
    assert [round(one.gain) for one in best] == list(range(14, 4, -1))
    assert [round(one.gain) for one in worst] == list(range(-15, -5))
    best, worst = best_and_worst(images[:3])
    assert [round(one.gain) for one in best] == [-13, -14]
    assert [round(one.gain) for one in worst] == [-15]
    assert best_and_worst([]) == ([], [])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0, float("inf")]) | st.floats(-3, 3), max_size=60))
@example([0.0] * 11)
@example([0.0] * 50)
def test_the_gallery_keeps_what_will_be_asked_for_and_little_more(gains: list[float]) -> None:
    gallery, picture = Gallery(), torch.zeros(1, 3, 2, 2)
    images = [image(number, gain) for number, gain in enumerate(gains)]
    for one in images:
        gallery.add(one, picture.byte(), picture)
        assert len(gallery.views) <= 2 * module.COUNT
    best, worst = best_and_worst(images)
    assert {one.pair for one in (*best, *worst)} <= gallery.views.keys()


def test_pictures_are_those_that_were_scored() -> None:
    smooth = torch.linspace(0, 1, 60).expand(1, 3, 40, 60)
    gallery, one = Gallery(), image(0, 1)
    gallery.add(one, (smooth * 255).byte(), 1 - smooth)
    blurred, restored = (shown(view).astype(int) for view in gallery.views[one.pair])
    assert blurred.shape == restored.shape == (40, 60, 3)
    assert np.abs(blurred - (smooth * 255)[0].permute(1, 2, 0).numpy()).max() < 12
    assert np.abs(blurred + restored - 255).max() < 24


@pytest.mark.parametrize(
    "height, width, shape", [(16, 2560, (8, 1280, 3)), (2000, 10, (1280, 6, 3)), (9, 7, (9, 7, 3))]
)
def test_large_pictures_are_kept_small(height: int, width: int, shape: tuple[int, int, int]) -> None:
    gallery, one = Gallery(), image(0, 1)
    gallery.add(one, torch.zeros(1, 3, height, width, dtype=torch.uint8), torch.zeros(1, 3, height, width))
    assert [shown(view).shape for view in gallery.views[one.pair]] == [shape] * 2


def test_saved_pictures_serve_where_they_can_be_read(tmp_path: Path) -> None:
    pixels = np.full((16, 20, 3), 200, np.uint8)
    images = [image(number, number, write(tmp_path / f"in/{number}.png", pixels)) for number in range(4)]
    write(tmp_path / "saved/s/000.png", pixels // 2)
    (tmp_path / "saved/s/001.png").write_bytes(b"no picture")
    write(tmp_path / "saved/s/003.png", pixels)
    kept = {images[3].pair: Views(b"kept", b"here")}
    views = with_saved(kept, images, tmp_path / "saved")
    assert views.keys() == {images[0].pair, images[3].pair}
    assert views[images[3].pair] == (b"kept", b"here")
    assert [int(shown(view)[8, 10, 0]) for view in views[images[0].pair]] == pytest.approx([200, 100], abs=3)


def test_noise_is_the_most_that_a_picture_takes() -> None:
    gallery, one = Gallery(), image(0, 1)
    pixels = torch.from_numpy(noise(0, 720, 1280)).permute(2, 0, 1)[None]
    gallery.add(one, pixels, pixels / 255)
    assert all(len(view) < 1.5e6 for view in gallery.views[one.pair])
