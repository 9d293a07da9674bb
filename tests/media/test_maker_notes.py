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


def with_offset(order: str, place: int | None = None) -> bytes:
    """A block whose notes say where the name of a lens stands; the notes are at `place`, if one is given."""
    block = exif_block(1, order=order)
    block = block if place is None else exif.block_of(*exif.parse(block), place)
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


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("container", ["TIFF", "JPEG", "PNG"])
def test_offsets_in_notes_are_right_after_a_tiff_was_read_again_and_again(container: str, order: str) -> None:
    photo = Photo(smooth(24, 40), "JPEG", exif=with_offset(order, 1001))
    for _ in range(3):
        photo = photos.read(io.BytesIO(written(photo, "TIFF")))
        assert not photo.warnings and lens(photo.exif, 0, order) == LENS
    data = written(photo, container)
    assert lens(data, 0 if container == "TIFF" else data.index(photo.exif[:8]), order) == LENS


@pytest.mark.parametrize("odd", [0, 1])
def test_a_block_is_whole_whose_notes_have_a_certain_place(odd: int) -> None:
    order, directory = exif.parse(exif_block())
    block = exif.block_of(order, directory, 2000 + odd)
    assert exif.notes_at(block) == 2000 + odd == block.index(MAKER_NOTE) and exif.parse(block) == (order, directory)


@pytest.mark.parametrize(("at", "moved"), [(60_000, False), (65_300, True), (200_000, True)])
def test_notes_that_would_fit_no_jpeg_where_they_stand_move_which_is_said(at: int, moved: bool) -> None:
    far = exif.block_of(*exif.parse(exif_block()), at)
    photo = photos.read(io.BytesIO(written(Photo(smooth(8, 8), "JPEG", exif=far), "TIFF")))
    assert ["notes had to move" in said for said in photo.warnings] == [True] * moved
    assert (exif.notes_at(photo.exif) != at) == moved and MAKER_NOTE in photo.exif
    stream = io.BytesIO()
    assert photos.write(photo, stream, format="JPEG") == [] and MAKER_NOTE in stream.getvalue()


def test_notes_too_short_for_offsets_may_be_anywhere() -> None:
    short = exif.block_of("<", {exif.EXIF_DIRECTORY: {exif.MAKER_NOTE: exif.Entry(7, 4, b"note")}}, 70_000)
    photo = photos.read(io.BytesIO(written(Photo(smooth(8, 8), "JPEG", exif=short), "TIFF")))
    assert photo.exif == short and len(short) < 100 and not photo.warnings
