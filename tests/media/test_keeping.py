"""A change of format: what only the photo's own format holds goes along in another way, or is said to be lost."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image

from deblur_cli.media import exif, keeping, photos
from deblur_cli.media.photo import AvifFacts, HeifFacts, Photo
from tests.media.photo_samples import chunk, encoded, exif_block, jpeg_with, png, smooth, srgb

GAMMA = chunk(b"gAMA", struct.pack(">I", 45455))
WHITE = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)


def converted(photo: Photo, container: str) -> tuple[bytes, list[str]]:
    stream = io.BytesIO()
    notes = photos.write(photo, stream, format=container)
    return stream.getvalue(), notes


def lost(data: bytes, container: str) -> list[str]:
    return converted(photos.read(io.BytesIO(data)), container)[1]


def coded_in(data: bytes) -> bytes | None:
    """What a PNG says in its cICP chunk."""
    at = data.find(b"cICP")
    return None if at < 0 else data[at + 4 : at + 8]


@pytest.mark.parametrize("container", ["PNG", "WEBP", "TIFF", "AVIF", "BMP"])
def test_segments_of_a_jpeg_are_said_to_be_lost(container: str) -> None:
    data = encoded(Image.fromarray(smooth(16, 16)), "JPEG")
    assert lost(data, container) == []
    for segment in (
        b"\xff\xed" + struct.pack(">H", 2 + 14 + 6) + b"Photoshop 3.0\x00" + b"8BIM\x04\x04",
        b"\xff\xfe" + struct.pack(">H", 2 + 3) + b"one",
        b"\xff\xfe" + struct.pack(">H", 2 + 3) + b"two",
        b"\xff\xe1" + struct.pack(">H", 2 + 35 + 4) + b"http://ns.adobe.com/xmp/extension/\x00" + b"more",
    ):
        data = jpeg_with(segment, data)
    named = "extended XMP, comments" + ", IPTC and Photoshop data" * (container != "TIFF")
    assert lost(data, container) == [f"{container} is written without the JPEG's {named}"]
    assert lost(data, "JPEG") == []


@pytest.mark.parametrize(
    ("chunks", "words"),
    [
        ([chunk(b"sRGB", b"\x00"), chunk(b"gAMA", struct.pack(">I", 50000))], ""),
        ([GAMMA, chunk(b"cHRM", WHITE)], ""),
        ([chunk(b"pHYs", struct.pack(">IIB", 2, 1, 0))], ""),
        ([chunk(b"cICP", bytes((1, 13, 0, 1))), chunk(b"gAMA", struct.pack(">I", 50000))], ""),
        ([chunk(b"gAMA", struct.pack(">I", 100000))], "gamma"),
        ([GAMMA, chunk(b"cHRM", struct.pack(">8I", *range(31270, 31278)))], "chromaticities"),
        ([chunk(b"cICP", bytes((9, 16, 0, 1))), chunk(b"cLLI", bytes(8))], "coded colour, mastering data"),
        (
            [GAMMA, chunk(b"tEXt", b"Title\x00Harbour"), chunk(b"iTXt", b"Author\x00\x00\x00\x00\x00Zo\xc3\xab")],
            "texts",
        ),
    ],
)
def test_chunks_of_a_png_are_said_to_be_lost_unless_they_say_what_is_taken_for_granted(
    chunks: list[bytes], words: str
) -> None:
    data = png(smooth(6, 6), *chunks)
    for container in ("JPEG", "WEBP", "TIFF"):
        assert lost(data, container) == ([f"{container} is written without the PNG's {words}"] if words else [])
    assert lost(data, "PNG") == []


def test_a_profile_overrules_gamma_which_is_no_loss_then() -> None:
    photo = photos.read(io.BytesIO(png(smooth(6, 6), chunk(b"gAMA", struct.pack(">I", 100000)))))
    photo.icc = srgb()
    assert converted(photo, "JPEG")[1] == []


def test_tags_of_a_tiff_that_no_exif_has_are_said_to_be_lost() -> None:
    stream = io.BytesIO()
    tags = [
        (33550, "d", 3, (1.0, 1.0, 0.0), True),
        (33922, "d", 6, (0.0,) * 6, True),
        (33723, "B", 9, b"IPTC data", True),
        (65000, "s", 0, "own", True),
        (315, "s", 0, "Zoe", True),
    ]
    tifffile.imwrite(stream, smooth(8, 8), photometric="rgb", extratags=tags, software="scanner")
    assert lost(stream.getvalue(), "PNG") == ["PNG is written without the TIFF's GeoTIFF, IPTC, other tags"]
    assert lost(stream.getvalue(), "JPEG") == ["JPEG is written without the TIFF's GeoTIFF, other tags"]
    assert lost(stream.getvalue(), "TIFF") == []


CODED = {
    "AVIF": AvifFacts("4:4:4", (12, 13)),
    "HEIF": HeifFacts(8, 444, {"color_primaries": 12, "transfer_characteristics": 13}),
}


@pytest.mark.parametrize("own", list(CODED))
def test_coded_colour_is_coded_in_a_png_too_and_elsewhere_said_to_be_lost(own: str) -> None:
    photo = Photo(smooth(8, 8), own, facts=CODED[own])
    data, notes = converted(photo, "PNG")
    assert notes == [] and coded_in(data) == bytes((12, 13, 0, 1))
    again = photos.read(io.BytesIO(data))
    assert (again.pixels == photo.pixels).all() and coded_in(converted(again, "PNG")[0]) == bytes((12, 13, 0, 1))
    for container in ("JPEG", "WEBP", "TIFF", "BMP", "PPM"):
        said = f"{container} is written without the {own}'s coded colour (primaries 12, transfer 13)"
        assert converted(photo, container)[1] == [said]
    # A profile beside it says the same, and goes along.
    photo.icc = srgb()
    for container in ("JPEG", "WEBP", "TIFF"):
        assert converted(photo, container)[1] == []
    assert coded_in(converted(photo, "PNG")[0]) is None


@pytest.mark.parametrize(("own", "other"), [("AVIF", "HEIF"), ("HEIF", "AVIF")])
@pytest.mark.parametrize("channels", [1, 3])
def test_coded_colour_goes_from_heif_to_avif_and_back(own: str, other: str, channels: int) -> None:
    photo = Photo(smooth(16, 24, channels), own, facts=CODED[own])
    data, notes = converted(photo, other)
    after = photos.read(io.BytesIO(data))
    assert notes == [] and keeping.coded_colour(after) == (12, 13)
    assert np.abs(after.pixels.astype(int) - photo.pixels).max() < 12
    assert converted(photo, own)[1] == []


@pytest.mark.parametrize("coded", [(1, 13), (1, 1), (1, 6), (2, 2), (1, 2), (65535, 13), None])
def test_srgb_by_code_is_what_colours_are_taken_for_anyway(coded: tuple[int, int] | None) -> None:
    photo = Photo(smooth(8, 8), "AVIF", facts=AvifFacts("4:2:0", coded))
    data, notes = converted(photo, "PNG")
    assert notes == [] and coded_in(data) is None
    assert converted(photo, "JPEG")[1] == []


def test_a_deep_heic_in_pq_becomes_a_png_in_pq() -> None:
    import pillow_heif

    if not pillow_heif.libheif_info()["HEIF"]:
        pytest.skip("no HEVC encoder")
    stream, coded = io.BytesIO(), {"color_primaries": 9, "transfer_characteristics": 16, "matrix_coefficients": 9}
    picture = pillow_heif.from_bytes("RGB;16", (48, 32), smooth(32, 48, 3, np.uint16).tobytes())
    picture.save(stream, quality=95, chroma=444, bit_depth=10, full_range_flag=1, **coded)
    photo = photos.read(io.BytesIO(stream.getvalue()))
    data, notes = converted(photo, "PNG")
    assert notes == [] and coded_in(data) == bytes((9, 16, 0, 1))
    assert (photos.read(io.BytesIO(data)).pixels == photo.pixels).all()
    assert any("primaries 9, transfer 16" in note for note in converted(photo, "JPEG")[1])


@pytest.mark.parametrize("container", ["WEBP", "AVIF", "PPM"])
def test_a_resolution_is_said_to_be_lost_unless_the_exif_carries_it(container: str) -> None:
    image = Image.fromarray(smooth(8, 8))
    said = [f"{container} is written without the resolution of 300 × 150 dots an inch"]
    assert lost(encoded(image, "PNG", dpi=(300, 150)), container) == said
    with_exif = encoded(image, "JPEG", dpi=(300, 150), exif=exif.PREFIX + exif_block())
    assert lost(with_exif, container) == (["PPM holds no EXIF: not kept", *said] if container == "PPM" else [])
    assert lost(encoded(image, "PNG"), container) == []


def test_a_resolution_that_no_jpeg_states_is_not_made_up() -> None:
    order, directory = exif.parse(exif_block())
    stated = encoded(Image.fromarray(smooth(8, 8)), "JPEG", exif=exif.PREFIX + exif_block())
    assert photos.read(io.BytesIO(stated)).dpi == (300, 150)
    for tag in (exif.RESOLUTION_X, exif.RESOLUTION_Y, exif.RESOLUTION_UNIT):
        del directory[tag]
    block = exif.PREFIX + exif.block_of(order, directory)
    silent = encoded(Image.fromarray(smooth(8, 8)), "JPEG", exif=block)
    assert photos.read(io.BytesIO(silent)).dpi is None and lost(silent, "WEBP") == []


def test_a_resolution_that_the_exif_contradicts_is_kept_or_said_to_be_lost() -> None:
    image, block = Image.fromarray(smooth(8, 8)), exif.PREFIX + exif_block()
    data = encoded(image, "JPEG", dpi=(600, 600), exif=block)
    assert lost(data, "WEBP") == ["WEBP is written without the resolution of 600 × 600 dots an inch"]
    written, notes = converted(photos.read(io.BytesIO(data)), "TIFF")
    assert photos.read(io.BytesIO(written)).dpi == (600, 600) and notes == []
    # What programs write that know of none contradicts nothing.
    unknown = encoded(image, "JPEG", dpi=(72, 72), exif=block)
    written, notes = converted(photos.read(io.BytesIO(unknown)), "TIFF")
    assert photos.read(io.BytesIO(written)).dpi == (300, 150) and notes == lost(unknown, "WEBP") == []
