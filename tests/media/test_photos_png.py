"""Metadata of a PNG that stands where other programs put it."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest

from deblur_cli.errors import PhotoError
from deblur_cli.media import exif, photos
from deblur_cli.media.photo import Photo
from tests.media.photo_samples import XMP, chunk, exif_block, opened, png, smooth, srgb, written
from tests.media.test_photos_metadata import check_exif


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt"])
def test_xmp_in_other_texts_than_its_own_moves_into_its_chunk(kind: bytes) -> None:
    def text(keyword: bytes, words: bytes) -> bytes:
        return chunk(kind, keyword + b"\x00" + (b"\x00" + zlib.compress(words) if kind == b"zTXt" else words))

    def raw(profile: bytes) -> bytes:
        return f"\nany\n{len(profile):8d}\n{profile.hex()}\n".encode()

    packet = XMP % 6
    segment = b"http://ns.adobe.com/xap/1.0/\x00" + packet
    for found in (
        text(b"XML:com.adobe.xmp", packet),
        text(b"Raw profile type xmp", raw(packet)),
        text(b"Raw profile type APP1", raw(segment)),
    ):
        photo = photos.read(io.BytesIO(png(smooth(8, 16), found)))
        assert photo.pixels.shape == (16, 8, 3)
        assert photo.xmp == XMP % 1 and not photo.warnings
        assert photos.read(io.BytesIO(written(photo, "PNG"))).xmp == XMP % 1
    block = text(b"Raw profile type APP1", raw(exif.PREFIX + exif_block(6)))
    check_exif(opened(written(photos.read(io.BytesIO(png(smooth(8, 16), block))), "PNG")).getexif())
    damaged = photos.read(io.BytesIO(png(smooth(8, 16), text(b"Raw profile type xmp", b"\nxmp\n 4\nxyz"))))
    assert damaged.warnings == ["a profile of the type xmp in its text is damaged and is not kept"]


def test_a_profile_of_several_megabytes_stays_in_a_png() -> None:
    profile = srgb() + bytes(3_000_000)
    data = written(Photo(smooth(8, 8), "PNG", icc=profile), "PNG")
    assert photos.read(io.BytesIO(data)).icc == profile


def header(width: int, height: int, depth: int, colour_type: int) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0))


def read(*chunks: bytes) -> Photo:
    return photos.read(io.BytesIO(b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + chunk(b"IEND", b"")))


@pytest.mark.parametrize("high", [0, 0xAB00])
@pytest.mark.parametrize("depth", [2, 4, 8])
def test_a_clear_level_of_few_bits_is_clear(depth: int, high: int) -> None:
    levels = np.arange(8, dtype=np.uint8) & ((1 << depth) - 1)
    bits = (levels[:, None] >> np.arange(depth)[::-1]) & 1
    row = zlib.compress(b"\x00" + np.packbits(bits.ravel()).tobytes())
    photo = read(header(8, 1, depth, 0), chunk(b"tRNS", struct.pack(">H", 2 | high)), chunk(b"IDAT", row))
    assert photo.alpha is not None
    assert np.array_equal(photo.alpha[0], np.where(levels == 2, 0, 255))
    assert np.array_equal(photo.pixels[0], levels * (255 // ((1 << depth) - 1)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_chunks_that_may_be_copied_are_and_others_are_said_not_to_be(dtype: Any) -> None:
    further = [chunk(kind, b"12345678 ") for kind in (b"oFFs", b"prVt", b"sTER", b"gdAT", b"gdAT", b"caBX", b"iDOT")]
    photo = photos.read(io.BytesIO(png(smooth(8, 16, dtype=dtype), *further) + b"\x00\x00\x00\x03gdaTabcdefg\n"))
    assert photo.warnings == [
        "the content credentials (C2PA) sign the old pixels and are not kept",
        "16 bytes behind the picture are not kept",
        "chunks that belong to the old pixels (sTER, gdAT) are not kept",
    ]
    data = written(photo, "PNG")
    assert [further[0] in data, further[1] in data] == [True, True]
    assert not any(kind in data for kind in (b"sTER", b"gdAT", b"gdaT", b"caBX", b"iDOT"))
    assert "JPEG is written without the PNG's further chunks" in photos.write(photo, io.BytesIO(), format="JPEG")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_damaged_text_costs_the_text_and_not_the_photo(dtype: Any) -> None:
    text = chunk(b"tEXt", b"Comment\x00hello")
    pixels = smooth(8, 16, dtype=dtype)
    photo = photos.read(io.BytesIO(png(pixels, text.replace(b"hello", b"jello"))))
    assert np.array_equal(photo.pixels, pixels)
    assert photo.warnings == ["a damaged chunk (tEXt) is not kept"]
    assert b"jello" not in written(photo, "PNG")


def test_a_resolution_of_nothing_is_none() -> None:
    photo = photos.read(io.BytesIO(png(smooth(8, 16), chunk(b"pHYs", struct.pack(">IIB", 0, 0, 1)))))
    assert photo.dpi is None and b"pHYs" not in written(photo, "PNG")


def test_where_a_library_says_nothing_no_brackets_stand() -> None:
    with pytest.raises(PhotoError, match=r"corrupt PNG$"):
        read(header(1, 1, 8, 3), chunk(b"IDAT", zlib.compress(b"\x00\x00")))


def test_a_profile_that_cannot_be_unfolded_is_said_not_to_be_kept() -> None:
    damaged = chunk(b"iCCP", b"ICC Profile\x00\x00" + b"no deflate")
    photo = photos.read(io.BytesIO(png(smooth(8, 16), damaged)))
    assert photo.icc == b"" and photo.warnings == ["its ICC profile is damaged and is not kept"]
    sound = chunk(b"iCCP", b"ICC Profile\x00\x00" + zlib.compress(srgb()))
    assert not photos.read(io.BytesIO(png(smooth(8, 16), sound))).warnings
