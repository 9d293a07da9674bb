"""Awkward photos from other projects: each comes back with all that it had, or is refused in one line."""

from __future__ import annotations

import hashlib
import io
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from deblur_cli.errors import PhotoError
from deblur_cli.media import photos

REFUSED = {
    "10bit_hdr_p3.avif": "10-bit HDR",
    "anim.webp": "animation of 42 frames",
    "anim_mixed.gif": "animation of 5 frames",
    "anim_transparent.gif": "animation of 10 frames",
    "apng.png": "animation",
    "bomb.gif": "limit of 1,000,000,000",
    "bomb.ico": "icon",
    "broken_data_stream.png": "truncated or corrupt PNG",
    "crash.tif": "corrupt TIFF",
    "incomplete.jpg": "truncated",
    "palette_alpha_apng.png": "animation of 3 frames",
    "pngsuite_xc1n0g08.png": "corrupt PNG",
    "pngsuite_xcrn0g04.png": "damaged PNG",
    "star.avifs": "animation of 5 frames",
    "truncated_jpeg.jpg": "truncated",
}
# Format, size upright, channels, bits, alpha; and how far the mean of a lossy one may be off, in levels of 255.
RESTORED: dict[str, tuple[str, tuple[int, int], int, int, bool, float]] = {
    "16bit_deflate.tif": ("TIFF", (64, 64), 1, 16, False, 0),
    "1bit_trns.png": ("PNG", (64, 64), 1, 8, True, 0),
    "bilevel_g4.tif": ("TIFF", (2548, 3296), 1, 8, False, 0),
    "cmyk.jpg": ("JPEG", (100, 100), 3, 8, False, 4),
    "exif.png": ("PNG", (512, 512), 3, 8, False, 0),
    "exif_Landscape_6.jpg": ("JPEG", (1800, 1200), 3, 8, False, 2),
    "exif_Portrait_5.jpg": ("JPEG", (1200, 1800), 3, 8, False, 2),
    "fox410.jpg": ("JPEG", (605, 806), 3, 8, False, 2),
    "hopper.avif": ("AVIF", (128, 128), 3, 8, False, 3),
    "hopper.heif": ("HEIF", (128, 128), 3, 8, False, 3),
    "huge_sof.jpg": ("JPEG", (800, 600), 3, 8, False, 2),
    "icc_profile.avif": ("AVIF", (57, 57), 3, 8, False, 3),
    "immich_denali.webp": ("WEBP", (600, 315), 3, 8, False, 3),
    "jpeg_arithmetic.jpg": ("JPEG", (227, 149), 3, 8, False, 2),
    "pngsuite_basi0g16.png": ("PNG", (32, 32), 1, 16, False, 0),
    "pngsuite_basn2c16.png": ("PNG", (32, 32), 3, 16, False, 0),
    "pngsuite_basn3p04.png": ("PNG", (32, 32), 3, 8, False, 0),
    "progressive_4comp.jpg": ("JPEG", (383, 740), 3, 8, False, 4),
    "transparent.webp": ("WEBP", (200, 150), 3, 8, True, 3),
}


def seen_by_pillow(path: Path) -> dict[str, Any]:
    """What another reader finds beside the pixels."""
    import pillow_heif

    pillow_heif.register_heif_opener()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path) as image:
            found = image.getexif()
            tags = {tag: value for tag, value in found.items() if tag not in (0x112, 0x8769, 0x8825, 0xA005)}
            nested = {number: dict(found.get_ifd(number)) for number in (0x8769, 0x8825)}
            image.load()
            facts = {
                "upright": ImageOps.exif_transpose(image).size == image.size,
                "orientation": found.get(0x112, 1),
                "icc": image.info.get("icc_profile"),
                "xmp": image.info.get("xmp"),
                "dpi": tuple(round(float(dots), 2) for dots in image.info["dpi"]) if "dpi" in image.info else None,
                "mode": image.mode,
                "exif": repr(nested),  # as text, because a lens without an aperture is NaN, unlike itself
            }
            if image.format == "TIFF":  # there the first directory is the file's own and tells how pixels are stored
                tags = {tag: value for tag, value in tags.items() if tag in (270, 271, 272, 305, 306, 315, 33432)}
                facts["dpi"] = facts["dpi"] if 282 in found else None
            return facts | {"tags": tags}


def test_the_table_is_whole(shared_data: Path) -> None:
    names = {path.name for path in (shared_data / "awkward" / "images").iterdir()}
    assert names == REFUSED.keys() | RESTORED.keys()


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_refused(name: str, shared_data: Path) -> None:
    path = shared_data / "awkward" / "images" / name
    before = hashlib.sha256(path.read_bytes()).digest()
    with pytest.raises(PhotoError) as caught:
        photos.read(path)
    message = str(caught.value)
    assert REFUSED[name] in message and message.startswith(str(path)) and "\n" not in message
    assert hashlib.sha256(path.read_bytes()).digest() == before


@pytest.mark.parametrize("name", sorted(RESTORED))
def test_restored(name: str, shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "awkward" / "images" / name
    container, size, channels, bits, has_alpha, tolerance = RESTORED[name]
    before = hashlib.sha256(path.read_bytes()).digest()
    photo = photos.read(path)
    assert photo.format == container and photo.pixels.shape == (size[1], size[0], 3)[: 2 if channels == 1 else 3]
    assert photo.pixels.dtype == {8: np.uint8, 16: np.uint16}[bits] and (photo.alpha is not None) == has_alpha
    target = tmp_path / name
    notes = photos.write(photo.with_pixels(photo.pixels.copy()), target)
    assert [note for note in notes if "4:1:0" not in note] == []
    assert hashlib.sha256(path.read_bytes()).digest() == before
    assert list(tmp_path.iterdir()) == [target]

    again = photos.read(target)
    assert again.format == container and again.pixels.dtype == photo.pixels.dtype
    assert again.pixels.shape == photo.pixels.shape
    assert np.abs(again.pixels.astype(float) - photo.pixels).mean() <= tolerance
    assert photo.alpha is None or (again.alpha is not None and (again.alpha == photo.alpha).all())
    was, now = seen_by_pillow(path), seen_by_pillow(target)
    assert now["upright"] and now["orientation"] == 1
    for key in ("icc", "xmp", "tags", "exif"):
        assert now[key] == was[key], key
    assert now["dpi"] == was["dpi"] or (now["dpi"] is not None and was["dpi"] is None)
    assert (now["mode"] == "CMYK") == (was["mode"] == "CMYK")
    if bits == 16 and container == "PNG":
        deep = cv2.imread(str(target), cv2.IMREAD_UNCHANGED)
        source = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert deep.dtype == np.uint16 and (deep == source).all()
    if bits == 16 and container == "TIFF":
        with tifffile.TiffFile(io.BytesIO(target.read_bytes())) as file:
            assert (file.asarray() == tifffile.imread(path)).all()
