"""Sizes that a format cannot hold are refused for what is written, before anything is encoded."""

from __future__ import annotations

import io

import numpy as np
import pytest

from deblur_cli.errors import PhotoError
from deblur_cli.media import heif, limits, photos
from deblur_cli.media.limits import refuse_too_large
from deblur_cli.media.photo import Photo
from tests.media.photo_samples import smooth, written


def blank(height: int, width: int, *channels: int, dtype: type = np.uint8, **facts: bool) -> Photo:
    """A photo of any size in next to no memory."""
    alpha = np.broadcast_to(dtype(0), (height, width)) if facts.pop("alpha", False) else None
    return Photo(np.broadcast_to(dtype(0), (height, width, *channels)), "PNG", alpha, **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("container", "photo"),
    [
        ("JPEG", blank(1, 65500)),
        ("WEBP", blank(16383, 1)),
        ("AVIF", blank(32768, 9)),
        ("HEIF", blank(31, 4216)),
        ("HEIF", blank(65528, 32)),
        ("HEIF", blank(20000, 20000, 3)),
        ("TIFF", blank(32000, 32000, 3, dtype=np.uint8, alpha=True)),
        ("TIFF", blank(30000, 30000)),
        ("PNG", blank(1, 200_000)),
        ("PPM", blank(31000, 31000, 3, dtype=np.uint16)),
    ],
)
def test_what_a_format_holds_is_not_refused(container: str, photo: Photo) -> None:
    refuse_too_large(photo, container)


@pytest.mark.parametrize(
    ("container", "photo", "words"),
    [
        ("JPEG", blank(1, 65501), "^65501×1 pixels: a JPEG has at most 65500 a side; write PNG or TIFF$"),
        ("WEBP", blank(16384, 1), "^1×16384 pixels: a WebP has at most 16383 a side"),
        ("AVIF", blank(9, 32769), "an AVIF has at most 32768 a side"),
        ("HEIF", blank(31, 4217), "too narrow for its length"),
        ("HEIF", blank(4217, 31), "too narrow for its length"),
        ("HEIF", blank(65529, 40), "too long"),
        ("HEIF", blank(12000, 12000, 3, alpha=True), "a HEIC with transparency has at most 142 megapixels; write PNG"),
        ("TIFF", blank(33000, 33000, 3, alpha=True), "more than 4 GB of pixels"),
        ("TIFF", blank(33000, 33000, 3, cmyk=True), "more than 4 GB of pixels"),
        ("TIFF", blank(27000, 27000, 3, dtype=np.uint16), "more than 4 GB of pixels"),
    ],
)
def test_what_it_does_not_hold_is_refused(container: str, photo: Photo, words: str) -> None:
    with pytest.raises(PhotoError, match=words):
        refuse_too_large(photo, container)
    with pytest.raises(PhotoError, match=words.replace("^", "^standard output: ")):
        photos.write(photo, io.BytesIO(), format=container)


def test_the_width_of_what_is_written_counts() -> None:
    refuse_too_large(blank(4, 9000), "WEBP")
    with pytest.raises(PhotoError, match="18004×4 pixels: a WebP"):
        refuse_too_large(blank(4, 9000), "WEBP", 18004)


@pytest.mark.parametrize(("channels", "dtype"), [(1, np.uint8), (3, np.uint8), (3, np.uint16)])
def test_a_heic_too_large_for_its_encoder_is_made_of_tiles(
    channels: int, dtype: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pillow_heif

    photo = Photo(smooth(70, 150, channels, dtype), "PNG", depth=10)
    assert "tiling" not in pillow_heif.open_heif(written(photo, "HEIF"))[0].info
    monkeypatch.setattr(limits, "HEIC_PIXELS", 70 * 150 - 1)
    monkeypatch.setattr(heif, "_TILE", 64)
    data = written(photo, "HEIF")
    tiling = pillow_heif.open_heif(data)[0].info["tiling"]
    assert (tiling["num_columns"], tiling["num_rows"]) == (3, 2)
    pixels = photos.read(io.BytesIO(data)).pixels.astype(float)
    assert np.abs(pixels - photo.pixels).max() < 12 * np.iinfo(dtype).max / 255
    photo.alpha = smooth(70, 150, 1, dtype)
    with pytest.raises(PhotoError, match="transparency"):
        written(photo, "HEIF")
