"""Segments of a JPEG that only their makers read: kept as they are, or said not to be."""

from __future__ import annotations

import io
import struct

import pytest
from PIL import Image

from deblur_cli.media import photos
from tests.media.photo_samples import encoded, jpeg_with, smooth, written


def segment(number: int, payload: bytes) -> bytes:
    return bytes((0xFF, 0xE0 + number)) + struct.pack(">H", 2 + len(payload)) + payload


def picture(*segments: bytes) -> bytes:
    data = encoded(Image.fromarray(smooth(16, 16)), "JPEG")
    for each in reversed(segments):
        data = jpeg_with(each, data)
    return data


@pytest.mark.parametrize(
    ("number", "payload"),
    [(1, b"FLIR\x00heat"), (5, b"RMETA\x00"), (6, b"GoPro\x00"), (12, b"Ducky\x00"), (13, b"Adobe_CM\x00"), (15, b"")],
)
def test_data_of_makers_stay_and_other_formats_say_that_they_do_not(number: int, payload: bytes) -> None:
    kept = segment(number, payload)
    photo = photos.read(io.BytesIO(picture(kept)))
    assert not photo.warnings
    assert written(photo, "JPEG").count(kept) == 1
    assert photos.write(photo, io.BytesIO(), format="PNG") == ["PNG is written without the JPEG's application data"]


@pytest.mark.parametrize(("number", "payload"), [(0, b"CIFF"), (2, b"FPXR\x00"), (11, b"JP\x00\x01 360"), (14, b"x")])
def test_what_may_belong_to_the_old_pixels_is_said_to_be_left(number: int, payload: bytes) -> None:
    left = segment(number, payload)
    photo = photos.read(io.BytesIO(picture(left, left)))
    assert photo.warnings == [f"application data (APP{number}) that may belong to the old pixels is not kept"]
    assert left not in written(photo, "JPEG")


def test_content_credentials_of_several_segments_are_said_once() -> None:
    photo = photos.read(io.BytesIO(picture(segment(11, b"JP\x00\x01jumbc2pa"), segment(11, b"JP\x00\x01 more of it"))))
    assert photo.warnings == ["the content credentials (C2PA) sign the old pixels and are not kept"]


def test_a_segment_that_says_rgb_of_colours_of_less_detail_does_not_hinder_writing() -> None:
    plain = encoded(Image.fromarray(smooth(16, 16)), "JPEG", subsampling=2)
    data = plain[:2] + segment(14, b"Adobe\x00d\x00\x00\x00\x00\x00") + plain[20:]  # in the place of JFIF's
    photo = photos.read(io.BytesIO(data))
    assert abs(photos.read(io.BytesIO(written(photo, "JPEG"))).pixels.astype(int) - photo.pixels).mean() < 8
