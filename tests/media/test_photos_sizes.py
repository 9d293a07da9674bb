"""What EXIF and XMP say of the size is true of the picture that is written, turned or beside another."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest

from deblur_cli.media import exif, photos, xmp
from deblur_cli.media.photo import Photo
from tests.media.photo_samples import XMP, exif_block, smooth, written

_ATTRIBUTES = b'tiff:ImageWidth="40" tiff:ImageLength="24" exif:PixelXDimension="40" exif:PixelYDimension="24" '
PACKET = XMP.replace(b"tiff:Orientation", _ATTRIBUTES + b"tiff:Orientation")
ELEMENTS = re.sub(rb'((?:tiff|exif):\w+)="(\d+)" ', rb"<\1>\2</\1>", _ATTRIBUTES)


def sizes(photo: Photo) -> list[tuple[int, int]]:
    """Width and height by the EXIF, and as the XMP says twice."""
    order, tags = exif.parse(photo.exif)
    details = tags[exif.EXIF_DIRECTORY]
    assert isinstance(details, dict)
    numbers = []
    for tag in (40962, 40963):
        entry = details[tag]
        assert isinstance(entry, exif.Entry)
        numbers.append(int.from_bytes(entry.value, "little" if order == "<" else "big"))
    numbers += map(int, re.findall(rb"""(?:Width|Length|Dimension)["'=>]+(\d+)""", photo.xmp))
    return list(zip(numbers[::2], numbers[1::2], strict=True))


@pytest.mark.parametrize("container", ["JPEG", "PNG", "TIFF", "HEIF"])
@pytest.mark.parametrize("orientation", [3, 6])
def test_sizes_turn_with_the_pixels(container: str, orientation: int) -> None:
    source = Photo(smooth(24, 40), container, exif=exif_block(orientation), xmp=PACKET % orientation)
    photo = photos.read(io.BytesIO(written(source, container)))
    height, width = photo.pixels.shape[:2]
    assert sizes(photo) == [(width, height)] * 3
    assert len(photo.xmp) == len(PACKET % 1)


@pytest.mark.parametrize("order", ["<", ">"])
def test_sizes_are_those_of_other_pixels_and_a_sphere_is_none_any_more(order: str) -> None:
    panorama = b'GPano:ProjectionType="equirectangular" GPano:FullPanoWidthPixels="40" tiff:Orientation'
    packet = PACKET.replace(b"tiff:Orientation", panorama) % 1
    photo = Photo(smooth(24, 40), "JPEG", exif=exif_block(1, order=order), xmp=packet)
    compared = photo.with_pixels(np.zeros((24, 70_084, 3), np.uint8))
    assert sizes(compared) == [(70_084, 24)] * 3 and b"GPano:" not in compared.xmp
    assert len(compared.exif) == len(photo.exif) and b"Harbour" in compared.xmp
    assert photo.with_pixels(photo.pixels).xmp == packet, "of the same size nothing changes"
    scaled = Photo(smooth(12, 20), "JPEG", exif=exif_block(1, order=order), xmp=packet)
    assert sizes(scaled.with_pixels(smooth(12, 44))) == [(40, 24)] * 3, "what was not true is not ours"
    assert xmp.resized(b"<GPano:A>1</GPano:A>" + ELEMENTS, (40, 24), (84, 24)) == b" " * 20 + ELEMENTS.replace(
        b"40", b"84"
    )
    assert exif.resized(b"no EXIF", (1, 1), (2, 2)) == b"no EXIF"


@pytest.mark.parametrize(("orientation", "dots"), [(3, (300, 150)), (6, (150, 300))])
def test_resolutions_in_the_xmp_turn_with_the_pixels(orientation: int, dots: tuple[int, int]) -> None:
    attributes = b'tiff:XResolution="300/1" tiff:YResolution="150/1" tiff:Or'
    element = b"<exif:FocalPlane%bResolution>%d/1</exif:FocalPlane%bResolution>"
    elements = element % (b"X", 300, b"X") + element % (b"Y", 150, b"Y")
    packet = XMP.replace(b"tiff:Or", attributes).replace(b"<dc:title>", elements + b"<dc:title>") % orientation
    photo = photos.read(io.BytesIO(written(Photo(smooth(24, 40), "JPEG", xmp=packet), "JPEG")))
    for name in (rb'tiff:%bResolution="(\d+)/1"', rb"<exif:FocalPlane%bResolution>(\d+)/1</exif:FocalPlane%b"):
        stated = [re.findall(name.replace(b"%b", axis), photo.xmp) for axis in (b"X", b"Y")]
        assert stated == [[b"%d" % number] for number in dots]
