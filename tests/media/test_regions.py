"""Faces and subjects are where EXIF and XMP say that they are, however the picture was turned."""

from __future__ import annotations

import io
import re
import struct

import numpy as np
import pytest

from deblur_cli.media import exif, photos, regions, xmp
from deblur_cli.media.photo import Photo
from tests.media.photo_samples import XMP, written

WIDTH, HEIGHT, LEFT, TOP, ACROSS, DOWN = 40, 24, 4, 12, 6, 8
X, Y = (LEFT + ACROSS / 2) / WIDTH, (TOP + DOWN / 2) / HEIGHT
ATTRIBUTES = b'<mwg-rs:Area stArea:h="%f" stArea:w="%f" stArea:x="%f" stArea:y="%f" stArea:unit="normalized"/>'
ELEMENTS = b"<mwg-rs:Area><stArea:h>%f</stArea:h><stArea:w>%f</stArea:w>%b</mwg-rs:Area>" % (
    DOWN / HEIGHT,
    ACROSS / WIDTH,
    b"<stArea:x>%f</stArea:x><stArea:y>%f</stArea:y>" % (X, Y),
)
APPLIED = b'<mwg-rs:AppliedToDimensions stDim:w="%d" stDim:h="%d" stDim:unit="pixel"/>'
RECTANGLE = b'<r MPReg:Rectangle="%f, %f, %f, %f"/>' % (LEFT / WIDTH, TOP / HEIGHT, ACROSS / WIDTH, DOWN / HEIGHT)


POINT = b"<Iptc4xmpExt:rbX>%f</Iptc4xmpExt:rbX><Iptc4xmpExt:rbY>%f</Iptc4xmpExt:rbY>"
BOUNDARY = b"<Iptc4xmpExt:RegionBoundary><Iptc4xmpExt:rbUnit>%b</Iptc4xmpExt:rbUnit>%b</Iptc4xmpExt:RegionBoundary>"
RECTANGULAR = POINT + b"<Iptc4xmpExt:rbW>%f</Iptc4xmpExt:rbW><Iptc4xmpExt:rbH>%f</Iptc4xmpExt:rbH>"
POLYGON = b"<Iptc4xmpExt:rbVertices><rdf:li>%b</rdf:li><rdf:li>%b</rdf:li></Iptc4xmpExt:rbVertices>" % (POINT, POINT)
CIRCLE = (
    b'<Iptc4xmpExt:RegionBoundary Iptc4xmpExt:rbUnit="%b" Iptc4xmpExt:rbX="%f" Iptc4xmpExt:rbY="%f" '
    b'Iptc4xmpExt:rbRx="%f"/>'
)


def packet(inner: bytes, orientation: int) -> bytes:
    return (XMP % orientation).replace(b"<dc:title>", inner + b"<dc:title>")


def face() -> np.ndarray:
    """A white rectangle on black."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[TOP : TOP + DOWN, LEFT : LEFT + ACROSS] = 255
    return pixels


def found(pixels: np.ndarray) -> list[float]:
    """Centre, width and height of the rectangle, as parts of the picture's."""
    rows, columns = np.nonzero(pixels[:, :, 0] > 128)
    (height, width), top, left = pixels.shape[:2], rows.min(), columns.min()
    down, across = rows.max() + 1 - top, columns.max() + 1 - left
    return [(left + across / 2) / width, (top + down / 2) / height, across / width, down / height]


def areas(text: bytes) -> list[list[float]]:
    """Centre, width and height of each region."""
    result = []
    for area in re.findall(rb"<mwg-rs:Area [^>]*/>|<mwg-rs:Area>.*?</mwg-rs:Area>", text):
        sides = {name: float(side) for name, side in re.findall(rb"""stArea:([xywh])["'=>]+([\d.]+)""", area)}
        result.append([sides[name] for name in (b"x", b"y", b"w", b"h")])
    for rectangle in re.findall(rb'Rectangle="([^"]*)"', text):
        left, top, width, height = map(float, rectangle.split(b","))
        result.append([left + width / 2, top + height / 2, width, height])
    return result


@pytest.mark.parametrize("container", ["JPEG", "TIFF", "HEIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_faces_turn_with_the_pixels(container: str, orientation: int) -> None:
    attributes = ATTRIBUTES % (DOWN / HEIGHT, ACROSS / WIDTH, X, Y)
    text = packet(APPLIED % (WIDTH, HEIGHT) + attributes + ELEMENTS + RECTANGLE, orientation)
    tag = exif.Entry(3, 1, struct.pack("<H", orientation))
    source = Photo(face(), container, exif=exif.block_of("<", {exif.ORIENTATION: tag}), xmp=text)
    photo = photos.read(io.BytesIO(written(source, container)))
    stated = areas(photo.xmp)
    assert len(stated) == 3
    for area in stated:
        np.testing.assert_allclose(area, found(photo.pixels), atol=1e-5)
    height, width = photo.pixels.shape[:2]
    assert APPLIED % (width, height) in photo.xmp and (orientation > 1 or photo.xmp == text)


def test_regions_of_the_upright_picture_and_what_is_damaged_stay() -> None:
    upright = packet(APPLIED % (HEIGHT, WIDTH) + ELEMENTS, 6)
    assert regions.upright(upright, 6, (HEIGHT, WIDTH)) == upright
    for damaged in (b"9e9e9", b"7.5", b"-"):
        text = ELEMENTS.replace(b"<stArea:x>0.", b"<stArea:x>" + damaged)
        assert regions.upright(text, 3, (WIDTH, HEIGHT)) == text
    assert regions.upright(b'<r MPReg:Rectangle="1, 2"/>', 3, (9, 9)) == b'<r MPReg:Rectangle="1, 2"/>'
    circle = b'<mwg-rs:Area stArea:x="0.25" stArea:y="0.5" stArea:d="0.1"/>'
    assert regions.upright(circle, 2, (9, 9)) == circle.replace(b"0.25", b"0.750000").replace(b"0.5", b"0.500000")
    endless = b"<mwg-rs:Area " * 100_000
    assert regions.upright(endless, 3, (9, 9)) == endless
    named = b"<mwg-rs:Regions>" + ELEMENTS + b"</mwg-rs:Regions>"
    assert xmp.resized(named, (9, 9), (22, 9)) == b" " * len(named), "beside another picture they would be wrong"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_subject_turns_with_the_pixels(orientation: int, order: str) -> None:
    def numbers(*values: int) -> exif.Entry:
        return exif.Entry(3, len(values), struct.pack(f"{order}{len(values)}H", *values))

    centre = LEFT + ACROSS // 2, TOP + DOWN // 2
    for area in ((*centre, ACROSS, DOWN), (*centre, ACROSS), centre):
        details: exif.Directory = {37396: numbers(*area), 40962: numbers(WIDTH), 40963: numbers(HEIGHT)}
        details[41492] = numbers(*centre)
        block = exif.block_of(order, {exif.ORIENTATION: numbers(orientation), exif.EXIF_DIRECTORY: details})
        photo = photos.read(io.BytesIO(written(Photo(face(), "PNG", exif=block), "PNG")))
        x, y, across, down = found(photo.pixels)
        height, width = photo.pixels.shape[:2]
        after = exif.parse(photo.exif)[1][exif.EXIF_DIRECTORY]
        assert isinstance(after, dict)
        expected = [x * width, y * height, across * width, down * height][: len(area)]
        if len(area) == 3:
            expected[2] = ACROSS
        assert after[37396] == numbers(*map(round, expected))
        assert after[41492] == numbers(round(x * width), round(y * height))


def test_a_subject_outside_of_the_picture_stays() -> None:
    block = exif.block_of(
        "<",
        {
            exif.ORIENTATION: exif.Entry(3, 1, b"\3\0"),
            exif.EXIF_DIRECTORY: {
                37396: exif.Entry(3, 2, struct.pack("<HH", 5000, 2)),
                40962: exif.Entry(4, 1, struct.pack("<I", 40)),
                40963: exif.Entry(4, 1, struct.pack("<I", 24)),
            },
        },
    )
    after = exif.parse(exif.upright(block, 3, (WIDTH, HEIGHT)))[1]
    assert after[exif.EXIF_DIRECTORY] == exif.parse(block)[1][exif.EXIF_DIRECTORY]


def boundaries(text: bytes) -> list[float]:
    """The numbers of IPTC's regions, in their order."""
    return [float(number) for number in re.findall(rb"""Iptc4xmpExt:rb(?:X|Y|W|H|Rx)["'=>]+([\d.]+)""", text)]


@pytest.mark.parametrize("unit", [b"relative", b"pixel"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_regions_of_iptc_turn_with_the_pixels(orientation: int, unit: bytes) -> None:
    across, down = (1, 1) if unit == b"pixel" else (WIDTH, HEIGHT)
    left, right, top, bottom = LEFT / across, (LEFT + ACROSS) / across, TOP / down, (TOP + DOWN) / down
    text = packet(
        BOUNDARY % (unit, RECTANGULAR % (left, top, right - left, bottom - top))
        + CIRCLE % (unit, (left + right) / 2, (top + bottom) / 2, ACROSS / across)
        + BOUNDARY % (unit, POLYGON % (left, top, right, bottom)),
        orientation,
    )
    photo = photos.read(io.BytesIO(written(Photo(face(), "JPEG", xmp=text), "JPEG")))
    (height, width), (x, y, wide, high) = photo.pixels.shape[:2], found(photo.pixels)
    across, down = (width, height) if unit == b"pixel" else (1, 1)
    left, right, top, bottom = (
        side * scale
        for side, scale in ((x - wide / 2, across), (x + wide / 2, across), (y - high / 2, down), (y + high / 2, down))
    )
    stated = boundaries(photo.xmp)
    assert stated[:4] == pytest.approx([left, top, right - left, bottom - top], abs=1e-5)
    assert stated[4:7] == pytest.approx([x * across, y * down, ACROSS * across / width], abs=1e-5)
    assert sorted(stated[7::2]) == pytest.approx([left, right], abs=1e-5)
    assert sorted(stated[8::2]) == pytest.approx([top, bottom], abs=1e-5)


def test_damaged_regions_of_iptc_stay_and_none_is_left_beside_another_picture() -> None:
    sound = BOUNDARY % (b"relative", RECTANGULAR % (0.5, 0.25, 0.125, 0.5))
    assert boundaries(regions.upright(sound, 3, (9, 9))) == [0.375, 0.25, 0.125, 0.5]
    for old, new in ((b"0.5", b"5"), (b"0.500000", b"-"), (b"rbX>", b"rbZ>"), (b"rbX>", b"rbW>"), (b"rbY>", b"rbX>")):
        damaged = sound.replace(old, new)
        assert damaged != sound and regions.upright(damaged, 3, (9, 9)) == damaged
    twice = BOUNDARY % (b"relative", RECTANGULAR % (0.5, 0.25, 0.125, 0.5) + b"<Iptc4xmpExt:rbW>0.5</Iptc4xmpExt:rbW>")
    endless = b"<Iptc4xmpExt:RegionBoundary " * 100_000
    vast = CIRCLE.replace(b'Rx="%f"', b'Rx="1e999"') % (b"relative", 0.5, 0.5)
    for text in (twice, endless, vast):
        assert regions.upright(text, 3, (9, 9)) == text
    named = b"<Iptc4xmpExt:ImageRegion>" + sound + b"</Iptc4xmpExt:ImageRegion>"
    assert xmp.resized(named, (9, 9), (22, 9)) == b" " * len(named)


@pytest.mark.parametrize("stated", [b"", b'exif:PixelXDimension="%d" exif:PixelYDimension="%d"'])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_subject_by_the_xmp_and_by_an_exif_without_a_size_turns(orientation: int, stated: bytes) -> None:
    # The XMP may be measured in pixels of another size, which it states.
    scale = 2 if stated else 1
    area = LEFT + ACROSS // 2, TOP + DOWN // 2, ACROSS, DOWN
    items = b"".join(b"<rdf:li>%d</rdf:li>" % (number * scale) for number in area)
    text = packet(b"<exif:SubjectArea><rdf:Seq>" + items + b"</rdf:Seq></exif:SubjectArea>", orientation)
    if stated:
        text = text.replace(b"tiff:Or", stated % (WIDTH * scale, HEIGHT * scale) + b" tiff:Or")
    details: exif.Directory = {37396: exif.Entry(3, 4, struct.pack("<4H", *area))}
    tags: exif.Directory = {274: exif.Entry(3, 1, struct.pack("<H", orientation)), exif.EXIF_DIRECTORY: details}
    photo = photos.read(io.BytesIO(written(Photo(face(), "PNG", exif=exif.block_of("<", tags), xmp=text), "PNG")))
    (height, width), (x, y, across, down) = photo.pixels.shape[:2], found(photo.pixels)
    expected = [round(each) for each in (x * width, y * height, across * width, down * height)]
    after = exif.parse(photo.exif)[1][exif.EXIF_DIRECTORY]
    assert isinstance(after, dict)
    assert after[37396] == exif.Entry(3, 4, struct.pack("<4H", *expected))
    assert [int(item) for item in re.findall(rb"<rdf:li>(\d+)", photo.xmp)] == [scale * each for each in expected]
