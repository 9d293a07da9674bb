"""BigTIFF keeps its tags as TIFF does; directories made to cost hours or gigabytes cost neither."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from deblur_cli.media import bigtiff, exif, photos
from tests.media.photo_samples import XMP, exif_block, opened, smooth, srgb, written
from tests.media.test_photos_metadata import check_exif


def directory(order: str, entries: list[tuple[int, int, int, bytes]], tail: bytes = b"") -> bytes:
    """A BigTIFF file of one directory at its beginning, and what stands behind it."""
    head = (b"II+\x00" if order == "<" else b"MM\x00+") + struct.pack(order + "HHQQ", 8, 0, 16, len(entries))
    body = [struct.pack(order + "HHQ", *entry[:3]) + entry[3].ljust(8, b"\x00") for entry in entries]
    return head + b"".join(body) + bytes(8) + tail


def test_exif_gps_and_all_else_of_a_bigtiff_stay() -> None:
    pixels, tags = smooth(12, 16), Image.Exif()
    tags.load(exif.PREFIX + exif_block(6))
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "TIFF", exif=tags, icc_profile=srgb(), dpi=(300, 150), big_tiff=True)
    photo = photos.read(io.BytesIO(stream.getvalue()))
    assert np.array_equal(photo.pixels, np.rot90(pixels, -1))
    assert ["notes had to move" in said for said in photo.warnings] == [True]
    assert photo.icc == srgb() and photo.dpi == (150, 300)
    for container in ("TIFF", "JPEG"):
        check_exif(opened(written(photo, container)).getexif())


@pytest.mark.parametrize("order", ["<", ">"])
def test_xmp_and_tags_that_no_exif_has_stay(order: str) -> None:
    stream = io.BytesIO()
    further = [(700, 1, len(XMP % 1), XMP % 1, True), (42112, 2, 0, "<GDALMetadata/>", True), (65000, 16, 1, 7, True)]
    settings = {"byteorder": order, "bigtiff": True, "extratags": further, "metadata": None}
    tifffile.imwrite(stream, smooth(12, 16, dtype=np.uint16), photometric="rgb", **settings)
    photo = photos.read(io.BytesIO(stream.getvalue()))
    assert photo.xmp == XMP % 1
    with tifffile.TiffFile(io.BytesIO(written(photo, "TIFF"))) as file:
        tags = file.pages[0].tags
        assert (tags.valueof(42112), tags.valueof(65000)) == ("<GDALMetadata/>", 7)


@pytest.mark.parametrize("order", ["<", ">"])
def test_numbers_of_64_bits_become_such_of_32_where_they_fit(order: str) -> None:
    wide = [(65000, 16, 1, struct.pack(order + "Q", 1 << 32)), (65001, 17, 1, struct.pack(order + "q", -5))]
    assert bigtiff.parse(directory(order, wide)) == (order, {65001: exif.Entry(9, 1, struct.pack(order + "i", -5))})


@pytest.mark.parametrize("kind", [exif, bigtiff])
def test_directories_that_lead_back_are_walked_once(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    count, walked, real = 20, [], kind._directory

    def counted(*args: Any, **settings: Any) -> exif.Directory:
        walked.append(args)
        found: exif.Directory = real(*args, **settings)
        return found

    monkeypatch.setattr(kind, "_directory", counted)
    if kind is bigtiff:
        data = directory("<", [(exif.EXIF_DIRECTORY, 18, 1, struct.pack("<Q", 16))] * count)
    else:
        back = struct.pack("<HHII", exif.EXIF_DIRECTORY, 4, 1, 8)
        data = b"II*\x00" + struct.pack("<IH", 8, count) + back * count + bytes(4)
    assert list(kind.parse(data)[1]) == [exif.EXIF_DIRECTORY]
    assert len(walked) == 3


def test_tags_that_share_a_value_do_not_multiply_it() -> None:
    count, size = 500, 100_000
    shared = b"".join(struct.pack("<HHII", 40000 + number, 7, size, 100) for number in range(count))
    block = b"II*\x00" + struct.pack("<IH", 8, count) + shared + bytes(4 + size)
    assert len(exif.parse(block)[1]) == 1
    many = [(40000 + number, 7, size, struct.pack("<Q", 100)) for number in range(count)]
    assert len(bigtiff.parse(directory("<", many, bytes(size)))[1]) == 1
