"""IPTC and Photoshop's resources, which JPEG and TIFF hold in ways of their own, go from the one to the other."""

from __future__ import annotations

import io
import struct

import pytest
import tifffile
from PIL import Image, IptcImagePlugin

from deblur_cli.media import exif, photos, photoshop
from deblur_cli.media.photo import JpegFacts, TiffFacts
from tests.media.photo_samples import encoded, jpeg_with, opened, smooth
from tests.media.test_photos_alone import resource

IPTC = b"\x1c\x02\x19\x00\x04boat" + b"\x1c\x02\x78\x00\x03sea"
SEEN = {(2, 25): b"boat", (2, 120): b"sea"}
CAPTION, PATH = resource(1028, IPTC), resource(2000, bytes(27), b"Path 1")


def jpeg(resources: bytes) -> bytes:
    """A JPEG with resources in as many segments as they need."""
    data = encoded(Image.fromarray(smooth(16, 16)), "JPEG")
    parts = [resources[at : at + 60_000] for at in range(0, len(resources), 60_000)]
    for part in reversed(parts):
        content = b"Photoshop 3.0\x00" + part
        data = jpeg_with(b"\xff\xed" + struct.pack(">H", 2 + len(content)) + content, data)
    return data


def tiff(*tags: tuple[int, str, int, object, bool]) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, smooth(16, 16), photometric="rgb", byteorder=">", extratags=tags)
    return stream.getvalue()


def converted(data: bytes, container: str) -> bytes:
    """The file in another format, in the writing of which nothing was lost."""
    stream = io.BytesIO()
    assert photos.write(photos.read(io.BytesIO(data)), stream, format=container) == []
    return stream.getvalue()


def resources(data: bytes) -> bytes:
    facts = photos.read(io.BytesIO(data)).facts
    assert isinstance(facts, JpegFacts)
    return photoshop.of_segments(facts.segments)


def test_those_of_a_jpeg_become_tags_of_a_tiff_and_segments_again() -> None:
    for whole in (CAPTION + PATH, CAPTION, PATH, CAPTION + resource(3000, b"long" * 40_000)):
        data = converted(jpeg(whole), "TIFF")
        assert (IptcImagePlugin.getiptcinfo(opened(data)) == SEEN) == (CAPTION in whole)  # type: ignore[arg-type]
        facts = photos.read(io.BytesIO(data)).facts
        assert isinstance(facts, TiffFacts) and facts.tags.keys() <= {33723, 34377}
        others = whole.removeprefix(CAPTION)
        assert facts.tags.get(34377) == (exif.Entry(1, len(others), others) if others else None)
        assert resources(converted(data, "JPEG")) == whole


@pytest.mark.parametrize("kind", ["B", "I"])
def test_iptc_of_a_tiff_is_a_resource_of_a_jpeg_and_that_of_its_own_tag_counts(kind: str) -> None:
    value = IPTC + bytes(-len(IPTC) % 4)
    number = len(value) if kind == "B" else len(value) // 4
    own = (33723, kind, number, value if kind == "B" else struct.unpack(f">{number}I", value), True)
    old = resource(1028, b"\x1c\x02\x19\x00\x03old") + PATH
    for tags, expected in (([own], b""), ([own, (34377, "B", len(old), old, True)], PATH)):
        data = converted(tiff(*tags), "JPEG")
        assert IptcImagePlugin.getiptcinfo(opened(data)) == SEEN  # type: ignore[arg-type]
        assert resources(data) == resource(1028, value) + expected
    data = converted(tiff((34377, "B", len(old), old, True)), "JPEG")
    assert resources(data) == old


def test_what_cannot_be_read_of_resources_stays_behind_the_others() -> None:
    damaged = CAPTION + PATH[:-9]
    assert photoshop.of_tags(photoshop.tags(damaged)) == damaged and photoshop.tags(b"") == {}
    assert resources(converted(converted(jpeg(damaged), "TIFF"), "JPEG")) == damaged
