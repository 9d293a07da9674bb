"""What else was in a photo's file (clips, gain maps, thumbnails, further pictures) goes, and nothing promises it."""

from __future__ import annotations

import array
import hashlib
import io
import struct
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
from PIL import Image

from deblur_cli.media import exif, extended_xmp, photos, photoshop, xmp
from deblur_cli.media.photo import JpegFacts
from tests.media.photo_samples import XMP, encoded, exif_block, jpeg_with, opened, smooth, written


@pytest.mark.parametrize("tail", [b"\x00\x00\x00\x18ftypmp42" + bytes(40), b"some maker's trailer"])
def test_what_stands_behind_a_jpeg_is_dropped_with_a_warning(tail: bytes) -> None:
    data = encoded(Image.fromarray(smooth(16, 16)), "JPEG", exif=exif.PREFIX + exif_block())
    assert photos.read(io.BytesIO(data)).warnings == []
    photo = photos.read(io.BytesIO(data + tail))
    assert len(photo.warnings) == 1 and ("motion" in photo.warnings[0]) == (b"ftyp" in tail)


def test_a_motion_photo_without_its_clip_does_not_claim_to_have_one() -> None:
    packet = XMP.replace(
        b"tiff:Orientation", b'GCamera:MotionPhoto="1" GCamera:MotionPhotoVersion="1" tiff:Orientation'
    )
    data = encoded(Image.fromarray(smooth(16, 16)), "JPEG", xmp=packet % 1) + b"\x00\x00\x00\x18ftypmp42" + bytes(40)
    photo = photos.read(io.BytesIO(data))
    assert photo.xmp == (packet % 1).replace(b'MotionPhoto="1"', b'MotionPhoto="0"')
    assert xmp.alone(b"<GCamera:MicroVideo>1</GCamera:MicroVideo>") == b"<GCamera:MicroVideo>0</GCamera:MicroVideo>"


ULTRA_HDR = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:Container="http://ns.google.com/photos/1.0/container/" xmlns:Item="http://ns.google.com/photos/1.0/container/item/"
 hdrgm:Version="1.0" xmp:Rating="4"><Container:Directory><rdf:Seq>
<rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="Primary" Item:Mime="image/jpeg"/></rdf:li>
<rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="GainMap" Item:Length="9"/></rdf:li>
</rdf:Seq></Container:Directory><xmp:Thumbnails><rdf:Alt><rdf:li xmlns:g="g">AAAA</rdf:li></rdf:Alt></xmp:Thumbnails>
</rdf:Description></rdf:RDF></x:xmpmeta>"""


@pytest.mark.parametrize("google", [False, True])
@pytest.mark.parametrize("element", [False, True])
def test_xmp_promises_no_gain_map_and_shows_no_thumbnail(element: bool, google: bool) -> None:
    packet = ULTRA_HDR.replace(b"Container:", b"GContainer:").replace(b":Cont", b":GCont") if google else ULTRA_HDR
    if element:
        packet = packet.replace(b' hdrgm:Version="1.0"', b"").replace(
            b"<Container:D", b"<hdrgm:Version>1.0</hdrgm:Version><Container:D"
        )
    photo = photos.read(io.BytesIO(encoded(Image.fromarray(smooth(16, 16)), "JPEG", xmp=packet)))
    assert len(photo.xmp) == len(packet)
    described = ElementTree.fromstring(photo.xmp)[0][0]
    assert len(described) == 0 and list(described.attrib.values()) == ["4"]


def extended(whole: bytes, size: int) -> list[bytes]:
    """The segments of extended XMP, in parts of `size` bytes."""
    digest = hashlib.md5(whole).hexdigest().upper().encode()
    parts = []
    for at in range(0, len(whole), size):
        content = extended_xmp.PREFIX + digest + struct.pack(">II", len(whole), at) + whole[at : at + size]
        parts.append(b"\xff\xe1" + struct.pack(">H", 2 + len(content)) + content)
    return parts


def test_a_thumbnail_in_extended_xmp_goes_and_the_packet_still_finds_the_rest() -> None:
    parts = extended(ULTRA_HDR, 300)
    digest = parts[0][4 + len(extended_xmp.PREFIX) :][:32]
    packet = (XMP % 1).replace(b"tiff:Orientation", b'xmpNote:HasExtendedXMP="' + digest + b'" tiff:Orientation')
    data = encoded(Image.fromarray(smooth(16, 16)), "JPEG", xmp=packet)
    for part in parts:  # each ahead of the one before
        data = jpeg_with(part, data)
    after = photos.read(io.BytesIO(written(photos.read(io.BytesIO(data)), "JPEG")))
    assert isinstance(after.facts, JpegFacts)
    found = sorted(after.facts.segments, key=lambda segment: segment[4 + len(extended_xmp.PREFIX) + 36 :][:4])
    whole = b"".join(segment[4 + len(extended_xmp.PREFIX) + 40 :] for segment in found)
    assert whole == xmp.alone(ULTRA_HDR) and b"AAAA" not in whole and len(found) == len(parts) > 2
    assert hashlib.md5(whole).hexdigest().upper().encode() in after.xmp and digest not in after.xmp
    other = photos.read(io.BytesIO(written(after, "PNG"))).xmp
    assert b"HasExtendedXMP" not in other and len(other) == len(packet), "other formats have no place for more"
    for incomplete in (parts[1:], [b"\xff\xe1\x00\x29" + extended_xmp.PREFIX + b"more"]):
        assert extended_xmp.alone(incomplete, packet) == (incomplete, packet)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_depth_map_that_does_not_turn_is_said(orientation: int) -> None:
    data = encoded(Image.fromarray(smooth(16, 16)), "JPEG", exif=exif.PREFIX + exif_block(orientation))
    (part,) = extended(b'<x GDepth:Data="AAAA"/>', 300)
    warnings = photos.read(io.BytesIO(jpeg_with(part, data))).warnings
    assert ["depth map" in said for said in warnings] == [True] * (orientation > 1)


def test_elements_that_do_not_end_cost_little_and_stay() -> None:
    for endless in (b"<xmp:Thumbnails>" * 200_000, b"<xmp:Thumbnails " * 200_000):
        assert xmp.alone(endless) == endless
    assert xmp.alone(b"<xmp:Thumbnails/>kept<xmp:Thumbnails>x</xmp:Thumbnails>") == b" " * 17 + b"kept" + b" " * 34


def test_provenance_and_faces_that_do_not_end_cost_little_and_stay() -> None:
    for endless in (b"dcterms:provenance>" * 30_000, b'dcterms:provenance="' * 30_000):
        assert xmp.unsigned(endless) == endless
    for endless in (b'<mwg-rs:Area stArea:x="' * 100_000, b"<mwg-rs:Area>" * 100_000):
        assert xmp.upright(endless, 3, (9, 9)) == endless


def resource(number: int, data: bytes, name: bytes = b"") -> bytes:
    named = bytes([len(name)]) + name + bytes((1 + len(name)) % 2)
    return b"8BIM" + struct.pack(">H", number) + named + struct.pack(">I", len(data)) + data + bytes(len(data) % 2)


def tiff_resources(resources: bytes, kind: str) -> bytes:
    """What comes out of a TIFF that has `resources` as bytes (B) or in larger units, without zeros at the end."""
    resources += bytes(-len(resources) % 4)
    values = tuple(memoryview(resources).cast(kind))
    stream, tag = io.BytesIO(), (34377, kind, len(values), resources if kind == "B" else values, True)
    tifffile.imwrite(stream, smooth(8, 8), photometric="rgb", extratags=[tag], compression="zlib", byteorder="<")
    with tifffile.TiffFile(io.BytesIO(written(photos.read(io.BytesIO(stream.getvalue())), "TIFF"))) as file:
        value = file.pages[0].tags[34377].value
    return (value if isinstance(value, bytes) else array.array(kind, value).tobytes()).rstrip(b"\0")


@pytest.mark.parametrize("number", [1033, 1036])
def test_photoshops_thumbnail_goes_and_its_other_resources_stay(number: int) -> None:
    iptc, path = resource(0x0404, b"caption"), resource(2000, bytes(26), b"Path 1")
    whole = iptc + resource(number, b"\xff\xd8old picture" * 9000) + path
    data = encoded(Image.fromarray(smooth(16, 16)), "JPEG")
    for part in (whole[60_000:], whole[:60_000]):  # the second is put ahead of the first
        data = jpeg_with(b"\xff\xed" + struct.pack(">H", 16 + len(part)) + b"Photoshop 3.0\x00" + part, data)
    after = written(photos.read(io.BytesIO(data)), "JPEG")
    assert b"Photoshop 3.0\x00" + iptc + path in after and b"old picture" not in after
    assert tiff_resources(whole, "H") == tiff_resources(whole, "B") == (iptc + path).rstrip(b"\0")
    assert tiff_resources(iptc + path, "I") == (iptc + path).rstrip(b"\0"), "there is nothing to take out"
    for damaged in (iptc + path[:20], iptc + b"8BIM\x04", b"", b"not resources", iptc + resource(number, b"x")[:-3]):
        assert photoshop.without_thumbnail(damaged) == damaged


def test_the_first_picture_of_an_mpo_is_the_photo() -> None:
    first, second = Image.fromarray(smooth(16, 24)), Image.new("RGB", (24, 16), "red")
    data = encoded(first, "MPO", save_all=True, append_images=[second], quality=95, subsampling=0)
    photo = photos.read(io.BytesIO(data))
    assert photo.format == "JPEG" and len(photo.warnings) == 1 and "only the first" in photo.warnings[0]
    moving = photos.read(io.BytesIO(data + b"\x00\x00\x00\x18ftypmp42" + bytes(40))).warnings
    assert moving == [*photo.warnings, "the motion photo's clip behind the picture is not kept"]
    assert np.abs(photo.pixels.astype(int) - smooth(16, 24)).max() <= 6
    assert getattr(opened(written(photo, "JPEG")), "n_frames", 1) == 1
