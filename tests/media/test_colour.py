"""CMYK through sRGB and back: what was not changed keeps its inks, and what was looks as it should."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from deblur_cli.media import colour, photos
from tests.media.photo_samples import encoded, opened, smooth, written


def inks(height: int = 20, width: int = 24) -> np.ndarray:
    """Any inks, as a separation for print has them: colour below the black, none, all."""
    made = np.random.default_rng(0).integers(0, 256, (height, width, 4), np.uint8)
    made[0], made[1], made[2] = 0, 255, (153, 102, 102, 255)
    return made


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_cmyk_tiff_that_nothing_changed_is_the_same(orientation: int) -> None:
    tags = Image.Exif()
    tags[0x112] = orientation
    photo = photos.read(io.BytesIO(encoded(Image.fromarray(inks(), mode="CMYK"), "TIFF", exif=tags)))
    after = np.asarray(opened(written(photo.with_pixels(photo.pixels.copy()), "TIFF")))
    assert np.array_equal(after, inks() if orientation == 1 else np.rot90(inks(), -1))


def test_a_cmyk_jpeg_keeps_its_share_of_black() -> None:
    whole = (smooth(24, 32, 4) // 2).astype(np.uint8)
    data = encoded(Image.fromarray(whole, mode="CMYK"), "JPEG", quality=95)
    after = np.asarray(opened(written(photos.read(io.BytesIO(data)), "JPEG")))
    assert np.abs(after.astype(int) - np.asarray(opened(data))).max() <= 3


def test_what_was_changed_is_seen_and_keeps_its_black_where_that_leaves_room() -> None:
    before = colour.to_srgb(Image.fromarray(inks(), mode="CMYK"), b"")
    wanted = np.clip(np.asarray(before, np.int16) + 9, 0, 255).astype(np.uint8)
    made = np.asarray(colour.to_cmyk(wanted, b"", inks()))
    seen = np.asarray(Image.fromarray(made, mode="CMYK").convert("RGB"))
    assert np.abs(seen.astype(int) - wanted).max() <= 1
    assert np.array_equal(made[:, :, 3], np.minimum(inks()[:, :, 3], 255 - wanted.max(axis=2)))


def test_by_a_profile_what_was_changed_is_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    def separated(pixels: np.ndarray, icc: bytes) -> Image.Image:
        return Image.fromarray(np.dstack([255 - pixels, np.zeros_like(pixels[:, :, 0])]), mode="CMYK")

    monkeypatch.setattr(colour, "_by_profile", separated)
    before = np.asarray(colour.to_srgb(Image.fromarray(inks(), mode="CMYK"), b""))
    pixels = before.copy()
    pixels[:, 12:] = 255  # also where there was nothing but black ink
    made = np.asarray(colour.to_cmyk(pixels, b"profile", inks()))
    assert np.array_equal(made[:, :12], inks()[:, :12])
    assert not made[:, 12:].any()


def test_pixels_of_another_size_have_no_inks_to_keep() -> None:
    photo = photos.read(io.BytesIO(encoded(Image.fromarray(inks(), mode="CMYK"), "TIFF")))
    wide = photo.with_pixels(np.concatenate([photo.pixels, photo.pixels], axis=1))
    assert opened(written(wide, "TIFF")).size == (48, 20)
