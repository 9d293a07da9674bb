"""Metadata of a PNG that stands where other programs put it."""

from __future__ import annotations

import io
import zlib

import pytest

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
