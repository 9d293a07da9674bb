"""What stands beside the pixels survives: EXIF piece by piece, ICC, XMP, resolution, orientation, encoding."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageOps

from deblur_cli.media import exif, photos, xmp
from deblur_cli.media.photo import Photo
from tests.media.photo_samples import (
    MAKER_NOTE,
    THUMBNAIL,
    XMP,
    chunk,
    encoded,
    exif_block,
    jpeg_with,
    opened,
    png,
    smooth,
    srgb,
    written,
)

WITH_METADATA = ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"]


def source(container: str, orientation: int, pixels: np.ndarray) -> bytes:
    """A file of `format` whose pixels are stored turned, with everything that can stand beside them."""
    block = exif_block(orientation, (pixels.shape[1], pixels.shape[0]))
    xmp = XMP % orientation
    image = Image.fromarray(pixels)
    if container == "JPEG":
        return encoded(
            image, container, quality=95, subsampling=0, exif=exif.PREFIX + block, icc_profile=srgb(), xmp=xmp
        )
    if container == "PNG":
        import zlib

        text = b"XML:com.adobe.xmp" + bytes(5) + xmp
        profile = b"p\x00\x00" + zlib.compress(srgb())
        return png(pixels, chunk(b"iCCP", profile), chunk(b"eXIf", block), chunk(b"iTXt", text))
    if container == "TIFF":
        kept = exif.parse(block)[1]
        stream = io.BytesIO()
        tifffile.imwrite(stream, pixels, photometric="rgb", metadata=None)
        data = stream.getvalue()
        order, directory = exif.parse(data)
        directory.pop(305, None)
        directory |= kept
        directory[700] = exif.Entry(1, len(xmp), xmp)
        directory[34675] = exif.Entry(7, len(srgb()), srgb())
        start = len(data) + len(data) % 2
        return (
            data[:4]
            + struct.pack("<I", start)
            + data[8:].ljust(start - 8, b"\x00")
            + exif.assemble(order, directory, start)
        )
    return encoded(image, container, quality=95, lossless=True, exif=block, icc_profile=srgb(), xmp=xmp)


def check_exif(found: Image.Exif) -> None:
    assert found[ExifTags.Base.Make] == "Maker" and found[ExifTags.Base.Model] == "Model X"
    assert found[ExifTags.Base.DateTime] == "2024:05:06 07:08:09"
    details = found.get_ifd(ExifTags.IFD.Exif)
    assert details[ExifTags.Base.ExposureTime] == 1 / 125
    # Read from the EXIF directory itself and not through Pillow, which takes maker notes apart.
    place = found.get_ifd(ExifTags.IFD.GPSInfo)
    assert place[1] == "N" and [float(part) for part in place[2]] == [48.0, 8.0, 14.0]
    assert found.get(ExifTags.Base.Orientation, 1) == 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("container", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_every_orientation_is_applied_once_and_all_metadata_stays(container: str, orientation: int) -> None:
    data = source(container, orientation, smooth(24, 40))
    expected = ImageOps.exif_transpose(opened(data)).convert("RGB")
    photo = photos.read(io.BytesIO(data))
    assert photo.format == container and photo.pixels.shape == ((24, 40, 3) if orientation < 5 else (40, 24, 3))
    assert np.abs(photo.pixels.astype(int) - np.asarray(expected)).max() <= 1
    for target in WITH_METADATA:
        image = opened(written(photo, target))
        assert ImageOps.exif_transpose(image).size == image.size == expected.size
        difference = np.abs(np.asarray(image.convert("RGB")).astype(int) - np.asarray(expected))
        assert difference.mean() <= 4
        check_exif(image.getexif())
        assert image.info["icc_profile"] == srgb()
        packet = image.info.get("xmp", b"")
        assert b"Harbour" in (packet if isinstance(packet, bytes) else packet.encode())
        again = photos.read(io.BytesIO(written(photo, target)))
        assert MAKER_NOTE in again.exif and THUMBNAIL not in again.exif
        assert xmp.orientation(again.xmp) in (None, 1)


def test_heic_is_upright_once() -> None:
    import pillow_heif

    if not pillow_heif.libheif_info()["HEIF"]:
        pytest.skip("no HEVC encoder")
    stored = smooth(24, 40)
    stream = io.BytesIO()
    picture = pillow_heif.from_bytes("RGB", (40, 24), stored.tobytes())
    picture.save(stream, quality=95, chroma=444, exif=exif_block(6))
    photo = photos.read(io.BytesIO(stream.getvalue()))
    assert photo.pixels.shape == (40, 24, 3)
    assert np.abs(photo.pixels.astype(int) - np.rot90(stored, -1)).max() <= 12
    assert exif.orientation(photo.exif) == 1
    details = exif.parse(photo.exif)[1][exif.EXIF_DIRECTORY]
    assert [struct.unpack("<I", details[tag].value)[0] for tag in (40962, 40963)] == [24, 40]  # type: ignore[index,union-attr]
    assert opened(written(photo, "HEIF")).size == (24, 40)


def test_premultiplied_alpha_of_a_heic_is_divided_out() -> None:
    import pillow_heif

    if not pillow_heif.libheif_info()["HEIF"]:
        pytest.skip("no HEVC encoder")
    premultiplied = np.full((24, 40, 4), 100, np.uint8)
    premultiplied[:, :, 3] = 128
    stream = io.BytesIO()
    pillow_heif.from_bytes("RGBa", (40, 24), premultiplied.tobytes()).save(stream, quality=-1, chroma=444)
    photo = photos.read(io.BytesIO(stream.getvalue()))
    assert photo.alpha is not None
    assert np.abs(photo.alpha.astype(int) - 128).max() <= 1
    assert np.abs(photo.pixels.astype(int) - 199).max() <= 4


def test_an_orientation_in_the_xmp_alone_counts() -> None:
    image = Image.fromarray(smooth(8, 16))
    photo = photos.read(io.BytesIO(encoded(image, "JPEG", xmp=XMP % 6)))
    assert photo.pixels.shape == (16, 8, 3)
    assert photo.xmp == XMP % 1


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("container", ["TIFF", "JPEG", "AVIF", "HEIF"])
def test_xmp_in_utf_16_is_read_like_any_other(container: str, encoding: str) -> None:
    declared = b'<?xml version="1.0" encoding="%b"?>' + (XMP % 6).replace(b"Harbour", "Höfn".encode())
    packet = (declared % b"UTF-16").decode().encode(encoding)
    room = b"x" * len(packet)  # some libraries would write something else for it
    data = written(Photo(smooth(8, 16), container, xmp=room), container).replace(room, packet)
    photo = photos.read(io.BytesIO(data))
    assert photo.pixels.shape == ((8, 16, 3) if container in ("AVIF", "HEIF") else (16, 8, 3))
    assert photo.xmp == (declared % b"UTF-8").replace(b'Orientation="6"', b'Orientation="1"')


def test_only_xmp_in_utf_16_is_written_anew() -> None:
    for packet in (b"", b"<", XMP % 6, b"no XML", (XMP % 6).decode().encode("utf-32-le"), b"<\0?"):
        assert xmp.normalised(packet) == packet
    assert xmp.normalised((XMP % 6 + b"\0").decode().encode("utf-16-le")) == XMP % 6


@given(
    orientation=st.integers(1, 8), kind=st.sampled_from([1, 3, 4]), order=st.sampled_from("<>"), was=st.integers(1, 8)
)
@settings(max_examples=30, deadline=None)
def test_upright_changes_nothing_but_what_it_says(orientation: int, kind: int, order: str, was: int) -> None:
    block = exif_block(orientation, (40, 24), order, orientation_type=kind)
    assert exif.orientation(block) == orientation
    after = exif.upright(block, was, (40, 24))
    assert exif.orientation(after) == 1
    assert THUMBNAIL in block and THUMBNAIL not in after
    assert after.index(MAKER_NOTE) == block.index(MAKER_NOTE)
    _, before_tags = exif.parse(block)
    _, tags = exif.parse(after)
    assert before_tags.keys() == tags.keys()
    details, before_details = tags[exif.EXIF_DIRECTORY], before_tags[exif.EXIF_DIRECTORY]
    assert isinstance(details, dict) and isinstance(before_details, dict)
    width, height = (40962, 40963) if was < 5 else (40963, 40962)
    assert details[width] == before_details[40962] and details[height] == before_details[40963]
    assert exif.resolution(after) == ((150.0, 300.0) if was > 4 else (300.0, 150.0))
    assert tags[exif.GPS_DIRECTORY] == before_tags[exif.GPS_DIRECTORY]
    assert exif.upright(after, 1, (40, 24)) == after


@given(order=st.sampled_from("<>"), base=st.integers(4, 500))
@settings(max_examples=20, deadline=None)
def test_directories_taken_apart_and_put_together_are_the_same(order: str, base: int) -> None:
    _, directory = exif.parse(exif_block(3, order=order))
    block = exif.block_of(order, directory)
    assert exif.parse(block) == (order, directory)
    header = block[:4] + struct.pack(order + "I", 2 * base)
    moved = header.ljust(2 * base, b"\x00") + exif.assemble(order, directory, 2 * base)
    assert exif.parse(moved) == (order, directory)


def test_texts_in_utf_8_as_of_exif_3_go_into_a_tiff_and_out_of_it() -> None:
    text = exif.Entry(129, 8, "Kämera\0".encode())
    block = exif.block_of("<", {271: text, exif.EXIF_DIRECTORY: {42034: text}})
    photo = photos.read(io.BytesIO(written(Photo(smooth(8, 8), "JPEG", exif=block), "TIFF")))
    assert photo.exif == block


def test_without_orientation_leaves_everything_else_at_its_place() -> None:
    block = exif_block(6)
    after = exif.without_orientation(block)
    assert exif.orientation(after) is None and len(after) == len(block)
    _, expected = exif.parse(block)
    del expected[exif.ORIENTATION]
    assert exif.parse(after)[1] == expected


@given(data=st.binary(max_size=200), order=st.sampled_from([b"II*\x00", b"MM\x00*", b""]), cut=st.integers(0, 400))
@settings(max_examples=150, deadline=None)
def test_damaged_exif_never_raises(data: bytes, order: bytes, cut: int) -> None:
    for block in (order + data, exif_block(6)[:cut], exif_block(6)[:cut] + data + exif_block(6)[cut + len(data) :]):
        after = exif.upright(block, 6, (40, 24))
        assert exif.orientation(after) in (None, 1)
        exif.without_orientation(block)
        exif.resolution(block)


@pytest.mark.parametrize("container", WITH_METADATA)
def test_broken_exif_tags_do_not_stop_a_photo(container: str) -> None:
    block = bytearray(exif_block(1))
    block[8 + 2 + 12 * 3 + 8 : 8 + 2 + 12 * 3 + 12] = b"\xff\xff\xff\x7f"  # the resolution points far outside
    data = encoded(Image.fromarray(smooth(8, 8)), "JPEG", exif=exif.PREFIX + bytes(block))
    photo = photos.read(io.BytesIO(data))
    assert MAKER_NOTE in photos.read(io.BytesIO(written(photo, container))).exif


@pytest.mark.parametrize("container", ["JPEG", "PNG", "TIFF", "BMP"])
@pytest.mark.parametrize("dpi", [(300, 300), (72, 144)])
def test_resolution_survives_into_every_format_that_has_one(container: str, dpi: tuple[int, int]) -> None:
    for origin in ("JPEG", "PNG", "TIFF", "BMP"):
        photo = photos.read(io.BytesIO(encoded(Image.fromarray(smooth(8, 8)), origin, dpi=dpi)))
        seen = opened(written(photo, container)).info["dpi"]
        assert [round(float(dots)) for dots in seen] == list(dpi)


@pytest.mark.parametrize("quality", [30, 75, 92, 100])
@pytest.mark.parametrize(("subsampling", "progressive"), [(0, False), (1, True), (2, False), (2, True)])
def test_a_jpeg_is_encoded_as_its_source_was(quality: int, subsampling: int, progressive: bool) -> None:
    image = Image.fromarray(smooth(40, 56))
    data = encoded(image, "JPEG", quality=quality, subsampling=subsampling, progressive=progressive)
    before, after = opened(data), opened(written(photos.read(io.BytesIO(data)), "JPEG"))
    assert after.quantization == before.quantization  # type: ignore[attr-defined]
    assert [layer[1:] for layer in after.layer] == [layer[1:] for layer in before.layer]  # type: ignore[attr-defined]
    assert bool(after.info.get("progressive")) == progressive
    asked = opened(written(photos.read(io.BytesIO(data)), "JPEG", quality=50))
    assert asked.quantization == opened(encoded(image, "JPEG", quality=50)).quantization  # type: ignore[attr-defined]


def test_grey_and_rgb_coded_jpegs_stay_so() -> None:
    grey = opened(written(photos.read(io.BytesIO(encoded(Image.fromarray(smooth(16, 16, 1)), "JPEG"))), "JPEG"))
    assert grey.mode == "L"
    data = encoded(Image.fromarray(smooth(16, 16)), "JPEG", keep_rgb=True, subsampling=0)
    again = opened(written(photos.read(io.BytesIO(data)), "JPEG"))
    assert bytes(layer[0] for layer in again.layer) == b"RGB"  # type: ignore[attr-defined]


def test_iptc_comments_and_extended_xmp_of_a_jpeg_stay() -> None:
    segments = [
        b"\xff\xed" + struct.pack(">H", 2 + 14 + 6) + b"Photoshop 3.0\x00" + b"8BIM\x04\x04",
        b"\xff\xfe" + struct.pack(">H", 2 + 5) + b"hello",
        b"\xff\xe1" + struct.pack(">H", 2 + 35 + 4) + b"http://ns.adobe.com/xmp/extension/\x00" + b"more",
    ]
    data = encoded(Image.fromarray(smooth(16, 16)), "JPEG")
    for segment in segments:
        data = jpeg_with(segment, data)
    after = written(photos.read(io.BytesIO(data)), "JPEG")
    assert all(segment in after for segment in segments)


def test_a_profile_of_many_segments_and_too_long_metadata() -> None:
    long = srgb()[:128] + bytes(200_000)
    photo = Photo(smooth(8, 8), "PNG", exif=exif_block(), icc=long, xmp=b"x" * 70_000)
    stream = io.BytesIO()
    notes = photos.write(photo, stream, format="JPEG")
    assert [note for note in notes if "XMP" in note] == notes and len(notes) == 1
    assert opened(stream.getvalue()).info["icc_profile"] == long


def test_png_says_of_its_colours_and_texts_what_it_said() -> None:
    chunks = [
        chunk(b"gAMA", struct.pack(">I", 100000)),
        chunk(b"cHRM", struct.pack(">8I", *range(31270, 31278))),
        chunk(b"tEXt", b"Title\x00Harbour"),
        chunk(b"iTXt", b"Author\x00\x00\x00\x00\x00Zo\xc3\xab"),
        chunk(b"pHYs", struct.pack(">IIB", 2, 1, 0)),
    ]
    for dtype in (np.uint8, np.uint16):
        after = written(photos.read(io.BytesIO(png(smooth(6, 6, 3, dtype), *chunks))), "PNG")
        assert all(part in after for part in chunks)
        assert opened(after).size == (6, 6)


def test_exif_that_imagemagick_put_into_text_moves_into_its_chunk() -> None:
    block = exif_block(6)
    text = f"\nexif\n{len(block) + 6:8d}\n" + (exif.PREFIX + block).hex() + "\n"
    data = png(smooth(8, 16), chunk(b"tEXt", b"Raw profile type exif\x00" + text.encode()))
    photo = photos.read(io.BytesIO(data))
    assert photo.pixels.shape == (16, 8, 3)
    after = written(photo, "PNG")
    assert b"Raw profile" not in after
    check_exif(opened(after).getexif())


@pytest.mark.parametrize("container", ["JPEG", "TIFF"])
def test_cmyk_comes_back_as_cmyk(container: str) -> None:
    inks = np.zeros((16, 24, 4), np.uint8)
    inks[:, :, 0] = np.linspace(0, 200, 24).astype(np.uint8)
    inks[:, :, 3] = np.linspace(0, 50, 16).astype(np.uint8)[:, None]
    image = Image.fromarray(inks, mode="CMYK")
    photo = photos.read(io.BytesIO(encoded(image, container, **({"quality": 95} if container == "JPEG" else {}))))
    assert photo.cmyk and photo.pixels.shape == (16, 24, 3)
    assert np.abs(photo.pixels.astype(int) - np.asarray(image.convert("RGB"))).max() <= 8
    after = opened(written(photo, container))
    assert after.mode == "CMYK"
    difference = np.abs(np.asarray(after.convert("RGB")).astype(int) - photo.pixels)
    assert difference.max() <= (8 if container == "JPEG" else 0)
    stream = io.BytesIO()
    notes = photos.write(photo, stream, format="PNG")
    assert any("CMYK" in note for note in notes) and opened(stream.getvalue()).mode == "RGB"


def test_a_cmyk_profile_never_goes_onto_rgb_pixels() -> None:
    header = bytearray(srgb())
    header[16:20] = b"CMYK"
    image = Image.new("CMYK", (8, 8), (10, 20, 30, 40))
    photo = photos.read(io.BytesIO(encoded(image, "JPEG", icc_profile=bytes(header))))
    assert photo.icc == bytes(header)
    assert opened(written(photo, "JPEG")).info["icc_profile"] == bytes(header)
    assert "icc_profile" not in opened(written(photo, "PNG")).info


def test_a_grey_profile_stays_with_grey_and_leaves_colour() -> None:
    header = bytearray(srgb())
    header[16:20] = b"GRAY"
    photo = Photo(smooth(8, 8, 1), "PNG", icc=bytes(header))
    assert opened(written(photo, "PNG")).info["icc_profile"] == bytes(header)
    stream = io.BytesIO()
    notes = photos.write(photo.with_pixels(smooth(8, 8)), stream, format="PNG")
    assert "icc_profile" not in opened(stream.getvalue()).info and "grey ICC" in notes[0]


@pytest.mark.parametrize("container", ["AVIF", "HEIF", "PNG", "TIFF"])
def test_a_grey_profile_stays_beside_transparency_where_that_stays_grey(container: str) -> None:
    header = bytearray(srgb())
    header[16:20] = b"GRAY"
    photo = Photo(smooth(8, 8, 1), "PNG", smooth(8, 8, 1), icc=bytes(header))
    stream = io.BytesIO()
    notes = photos.write(photo, stream, format=container)
    image = opened(stream.getvalue())
    assert ("icc_profile" in image.info) == (image.mode == "LA") == (not notes)


def test_what_a_format_without_metadata_loses_is_said() -> None:
    photo = Photo(smooth(8, 8), "PNG", exif=exif_block(), icc=srgb(), xmp=XMP % 1)
    for container in ("BMP", "PPM"):
        notes = photos.write(photo, io.BytesIO(), format=container)
        assert notes == [f"{container} holds no EXIF, ICC profile, XMP: not kept"]


def test_tags_of_a_tiff_that_no_exif_has_stay_in_a_tiff() -> None:
    stream = io.BytesIO()
    tags = [(33550, "d", 3, (1.0, 1.0, 0.0), True), (315, "s", 0, "Zoe", True), (33723, "B", 9, b"IPTC data", True)]
    tifffile.imwrite(stream, smooth(8, 8), photometric="rgb", extratags=tags, software="scanner", compression="zlib")
    after = written(photos.read(io.BytesIO(stream.getvalue())), "TIFF")
    with tifffile.TiffFile(io.BytesIO(after)) as file:
        page = file.pages[0]
        assert page.tags[33550].value == (1.0, 1.0, 0.0) and page.tags[315].value == "Zoe"
        assert bytes(page.tags[33723].value) == b"IPTC data" and page.tags[305].value == "scanner"
        assert page.compression == 8 and len(file.pages) == 1


def test_coded_colour_of_an_avif_without_a_profile_stays() -> None:
    data = encoded(Image.fromarray(smooth(16, 16)), "AVIF", quality=95)
    at = data.index(b"colrnclx") + 8
    display_p3 = data[:at] + struct.pack(">HH", 12, 13) + data[at + 4 :]
    after = written(photos.read(io.BytesIO(display_p3)), "AVIF")
    at = after.index(b"colrnclx") + 8
    assert after[at : at + 4] == struct.pack(">HH", 12, 13)
    assert opened(after).size == (16, 16)
