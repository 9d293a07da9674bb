"""What a file has beside its picture: kept where it can be, or else said."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from deblur_cli.media import photos
from deblur_cli.media.photo import Photo
from tests.media.photo_samples import XMP, encoded, opened, png, smooth, srgb, written

CREDENTIALS = "the content credentials (C2PA) sign the old pixels and are not kept"
CLIP = b"\x00\x00\x00\x10ftypmp42" + bytes(4)


def read(data: bytes) -> Photo:
    return photos.read(io.BytesIO(data))


def picture(container: str) -> bytes:
    if container == "PNG":
        return png(smooth(16, 16))
    return written(Photo(smooth(16, 16), container), container)


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


@pytest.mark.parametrize("container", ["HEIF", "AVIF", "WEBP", "PNG", "JPEG"])
def test_what_stands_behind_a_picture_is_said(container: str) -> None:
    data = picture(container)
    assert not read(data).warnings and not read(data + bytes(12)).warnings
    assert read(data + b"\x00\x00\x00\x99" * 5).warnings == ["20 bytes behind the picture are not kept"]
    clip = "the motion photo's clip behind the picture is not kept"
    assert read(data + box(b"mpvd", CLIP)).warnings == [clip]


@pytest.mark.parametrize("container", ["HEIF", "AVIF"])
def test_content_credentials_of_a_heif_or_avif_are_said_not_to_be_kept(container: str) -> None:
    data = picture(container) + box(b"uuid", bytes.fromhex("d8fec3d61b0e483c92975828877ec481") + bytes(9))
    assert read(data).warnings == [CREDENTIALS]
    assert not read(data.replace(b"\xd8\xfe\xc3", b"\xd8\xfe\xc4")).warnings


@pytest.mark.parametrize("place", [b"self#jumbf=/c2pa/urn:uuid:1", b"https://example.org/manifests/1"])
@pytest.mark.parametrize("container", ["JPEG", "PNG", "TIFF"])
def test_the_place_of_content_credentials_is_said_no_more(container: str, place: bytes) -> None:
    attribute, element = b'dcterms:provenance="%b"' % place, b"<dcterms:provenance>%b</dcterms:provenance>" % place
    for stated, before in ((attribute, b"tiff:Or"), (element, b"<dc:title>")):
        packet = XMP.replace(before, stated + before) % 1
        photo = read(written(Photo(smooth(16, 16), container, xmp=packet), container))
        assert photo.warnings == [CREDENTIALS] and photo.xmp == packet.replace(stated, b" " * len(stated))
    gift = XMP.replace(b" tiff:Or", b' dcterms:provenance="a gift of 1912" tiff:Or') % 1
    assert read(written(Photo(smooth(16, 16), container, xmp=gift), container)).xmp == gift


@pytest.mark.parametrize("container", ["HEIF", "AVIF"])
def test_a_gain_map_or_depth_map_is_said_not_to_be_kept(container: str) -> None:
    alpha = smooth(16, 16, 1)
    data = written(Photo(smooth(16, 16), container, alpha, xmp=XMP % 1), container)
    assert not read(data).warnings
    (said,) = read(data.replace(b"mime", b"tmap")).warnings
    assert "gain map" in said
    if container == "AVIF":
        assert read(data.replace(b"auxiliary:alpha", b"auxiliary:depth")).warnings == [said]


def test_content_credentials_of_a_webp_are_said_not_to_be_kept() -> None:
    body = picture("WEBP")[8:] + b"C2PA" + struct.pack("<I", 4) + b"jumb"
    assert read(b"RIFF" + struct.pack("<I", len(body)) + body).warnings == [CREDENTIALS]


def test_the_profile_of_a_bmp_goes_into_what_has_room_for_one() -> None:
    pixels, profile = smooth(4, 3), srgb()
    rows = np.pad(pixels[::-1, :, ::-1].reshape(4, 9), ((0, 0), (0, 3))).tobytes()
    header = struct.pack("<IiiHHIIiiII", 124, 3, 4, 1, 24, 0, len(rows), 0, 0, 0, 0).ljust(56, b"\x00") + b"DEBM"
    header = header.ljust(112, b"\x00") + struct.pack("<III", 124 + len(rows), len(profile), 0)
    size = 14 + 124 + len(rows) + len(profile)
    photo = read(b"BM" + struct.pack("<IHHI", size, 0, 0, 14 + 124) + header + rows + profile)
    assert np.array_equal(photo.pixels, pixels)
    assert opened(written(photo, "PNG")).info["icc_profile"] == profile
    assert photos.write(photo, io.BytesIO(), format="BMP") == ["BMP holds no ICC profile: not kept"]


def test_the_comment_of_a_gif_becomes_the_text_of_a_png() -> None:
    photo = read(encoded(Image.fromarray(smooth(16, 16)).convert("P"), "GIF", comment=b"by hand"))
    stream = io.BytesIO()
    assert photos.write(photo, stream, format="PNG") == []
    assert opened(stream.getvalue()).info["Comment"] == "by hand"
    assert photos.write(photo, io.BytesIO(), format="JPEG") == ["JPEG is written without the GIF's texts"]


def gif(*extensions: bytes, behind: bytes = b"") -> bytes:
    """A GIF with extensions ahead of its picture, and one behind it."""
    data = encoded(Image.fromarray(smooth(16, 16)).quantize(16), "GIF")
    start = 13 + (3 << (data[10] & 7) + 1)
    return b"GIF89a" + data[6:start] + b"".join(extensions) + data[start:-1] + behind + data[-1:]


def chain(content: bytes) -> bytes:
    """Blocks with their lengths before them, and an empty one."""
    parts = [content[at : at + 255] for at in range(0, len(content), 255)]
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


@pytest.mark.parametrize("as_text", [True, False])
def test_profile_and_xmp_of_a_gif_go_into_a_png(as_text: bool) -> None:
    profile = b"!\xff\x0bICCRGBG1012" + chain(srgb())
    text = (XMP % 1) + bytes((1, *range(255, -1, -1), 0)) if as_text else chain(XMP % 1)
    photo = read(gif(b"!\xf9\x04\0\0\0\0\0", profile, b"!\xff\x0bXMP DataXMP" + text, behind=b"!\xfe" + chain(b"late")))
    after = opened(written(photo, "PNG"))
    assert after.info["icc_profile"] == srgb() and read(written(photo, "PNG")).xmp == photo.xmp == XMP % 1
    assert after.info["Comment"] == "late"
    assert photos.write(photo, io.BytesIO(), format="BMP")[0] == "BMP holds no ICC profile, XMP: not kept"


@pytest.mark.parametrize(
    ("header", "samples"),
    [(b"P6 #one\n%b2 #two\n 3\n255\n", 18), (b"P5 #one\n%b2 3 #two\n65535\n", 12), (b"P4\n# one\n%b#two\n2 3\n", 3)],
)
def test_comments_of_a_ppm_stay_or_become_the_text_of_a_png(header: bytes, samples: int) -> None:
    photo = read(header % b"# \n" + b"#no\n".ljust(samples, b"#"))
    assert opened(written(photo, "PNG")).info["Comment"] == "one\n\ntwo"
    after = written(photo, "PPM")
    assert b"\n# one\n# \n# two\n2 3\n" in after and np.array_equal(read(after).pixels, photo.pixels)
    assert photos.write(photo, io.BytesIO(), format="JPEG")[-1:] == ["JPEG is written without the PPM's texts"]
    assert photos.write(read(png(smooth(4, 4))), io.BytesIO(), format="PPM") == []


@pytest.mark.parametrize(
    ("header", "samples"),
    [(b"P6 2 3 255\n", 18), (b"P5 2 3 255\n", 6), (b"P5 2 3 65535\n", 12), (b"P4 9 3\n", 6), (b"P6 2 3 4095\n", 36)],
)
def test_further_pictures_of_a_ppm_are_said(header: bytes, samples: int) -> None:
    picture = header + b"\x01" * samples
    assert read(picture).warnings == read(picture + b"\n").warnings == []
    assert read(2 * picture).warnings == [f"{len(picture)} bytes behind the picture are not kept"]
    assert read(b"P2 2 3 255\n" + b"12 34 56\n" * 2).warnings == [], "numbers as text are no further picture"
