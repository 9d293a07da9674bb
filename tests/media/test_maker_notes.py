"""Makers' notes with offsets that count from the EXIF's beginning, as Canon's, Sony's and Panasonic's."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import tifffile

from deblur_cli.media import exif, photos
from deblur_cli.media.photo import Photo
from tests.media.photo_samples import MAKER_NOTE, exif_block, smooth, srgb, written

LENS = b"EF50mm f/1.4 USM\x00"


def with_offset(order: str) -> bytes:
    """A block whose notes say where the name of a lens stands."""
    block = exif_block(1, order=order)
    at = block.index(MAKER_NOTE)
    note = struct.pack(order + "I", at + 20).ljust(20, b"\x00") + LENS
    return block[:at] + note.ljust(len(MAKER_NOTE), b"\x00") + block[at + len(MAKER_NOTE) :]


def lens(data: bytes, start: int, order: str) -> bytes:
    """What the notes of `data` point to, in a file whose offsets count from `start`."""
    details = exif.parse(data[start:])[1][exif.EXIF_DIRECTORY]
    assert isinstance(details, dict)
    note = details[exif.MAKER_NOTE]
    assert isinstance(note, exif.Entry)
    at = start + struct.unpack_from(order + "I", note.value)[0]
    return data[at : at + len(LENS)]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("container", ["JPEG", "PNG", "TIFF", "HEIF"])
def test_offsets_in_notes_are_right_in_every_file(container: str, order: str) -> None:
    block = with_offset(order)
    data = written(Photo(smooth(24, 40), "JPEG", exif=block), container)
    start = 0 if container == "TIFF" else data.index(block[:4] + block[4:8])
    assert lens(data, start, order) == LENS


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_tiff_with_notes_is_whole(dtype: type, order: str) -> None:
    pixels = smooth(700, 400, 3, dtype)  # of several strips
    photo = Photo(pixels, "JPEG", exif=with_offset(order), icc=srgb())
    data = written(photo, "TIFF")
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        assert len(page.dataoffsets) > 1 and page.tags[34665].value["PixelXDimension"] == 40
        np.testing.assert_array_equal(page.asarray(), pixels)
    again = photos.read(io.BytesIO(data))
    np.testing.assert_array_equal(again.pixels, pixels)
    assert again.icc == srgb() and exif.parse(again.exif)[1].keys() >= {271, exif.EXIF_DIRECTORY, exif.GPS_DIRECTORY}
    assert not exif.in_place(b"no EXIF") and not exif.in_place(exif.block_of("<", {271: exif.Entry(2, 2, b"A\0")}))
