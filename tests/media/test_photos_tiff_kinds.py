"""Kinds of TIFF that Pillow knows nothing of are read by others; what nothing reads is named, not called damaged."""

from __future__ import annotations

import io
import logging
import struct
from typing import Any

import numpy as np
import pytest
import tifffile

from deblur_cli.errors import PhotoError
from deblur_cli.media import photos
from tests.media.photo_samples import smooth, written


def tiff(array: np.ndarray, **settings: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, metadata=None, **settings)
    return stream.getvalue()


def with_tag(data: bytes, tag: int, value: int) -> bytes:
    """The file with another value of a tag that is one 16-bit number."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        at = file.pages[0].tags[tag].valueoffset
    return data[:at] + struct.pack("<H", value) + data[at + 2 :]


def read(data: bytes) -> photos.Photo:
    return photos.read(io.BytesIO(data))


def tags(data: bytes) -> set[int]:
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        return {tag.code for tag in file.pages[0].tags}


@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize(
    ("channels", "photometric", "extra", "alpha", "told"),
    [
        (4, "minisblack", ["unspecified"] * 3, False, ["3 further channels are not kept"]),
        (2, "minisblack", ["unassalpha"], True, []),
        (2, "miniswhite", ["unassalpha"], True, []),
        (4, "rgb", ["unassalpha"], True, []),
        (5, "rgb", ["unassalpha", "unspecified"], True, ["a further channel (such as a saved selection) is not kept"]),
        (9, "rgb", ["unspecified"] * 6, False, ["6 further channels are not kept"]),
    ],
)
def test_eight_bits_of_any_channels(
    planes: str,
    channels: int,
    photometric: str,
    extra: list[str],
    alpha: bool,
    told: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = np.random.default_rng(0).integers(0, 256, (20, 24, channels), np.uint8)
    lying = whole if planes == "contig" else np.moveaxis(whole, 2, 0)
    data = tiff(lying, photometric=photometric, planarconfig=planes, extrasamples=extra, compression="zlib")
    with caplog.at_level(logging.WARNING):
        photo = read(data)
    colours = whole[:, :, :3] if photometric == "rgb" else whole[:, :, 0]
    assert np.array_equal(photo.pixels, 255 - colours if photometric == "miniswhite" else colours)
    assert (photo.alpha is not None) == alpha
    if photo.alpha is not None:
        assert np.array_equal(photo.alpha, whole[:, :, channels - 1 - (channels == 5)])
    assert photo.warnings == told
    assert not caplog.records


def test_inks_on_planes_with_a_spot_colour() -> None:
    inks = np.random.default_rng(0).integers(0, 256, (20, 24, 5), np.uint8)
    settings = {"photometric": "separated", "planarconfig": "separate", "extrasamples": ["unspecified"]}
    photo = read(tiff(np.moveaxis(inks, 2, 0), compression="zlib", **settings))
    assert photo.inks is not None and np.array_equal(photo.inks, inks[:, :, :4])
    assert photo.warnings == ["a further channel (such as a saved selection) is not kept"]


def test_the_first_of_several_channels_is_no_alpha_unless_it_is_said() -> None:
    data = tiff(np.ascontiguousarray(smooth(20, 24, 4)), photometric="minisblack", planarconfig="contig")
    photo = read(data.replace(struct.pack("<HH", 338, 3), struct.pack("<HH", 65000, 3)))
    assert photo.alpha is None and photo.warnings == ["3 further channels are not kept"]


@pytest.mark.parametrize(
    ("dtype", "tag", "value", "words"),
    [
        (np.uint8, 259, 34712, "in the compression JPEG2000, which cannot be read"),
        (np.uint16, 259, 50000, "in the compression ZSTD, which cannot be read"),
        (np.uint8, 262, 9, "8-bit ICCLAB colours; convert it to RGB$"),
        (np.uint16, 262, 8, "16-bit CIELAB colours; convert it to RGB or to 8 bits"),
        (np.float16, 259, 5, "of a kind not read here; save it uncompressed"),
    ],
)
def test_what_nothing_reads_is_named(dtype: Any, tag: int, value: int, words: str) -> None:
    data = tiff(smooth(20, 24, dtype=dtype), photometric="rgb")
    with pytest.raises(PhotoError, match=words):
        read(with_tag(data, tag, value))


def test_palettes_of_old_programs_are_not_black() -> None:
    table = np.random.default_rng(0).integers(0, 256, (3, 256)).astype(np.uint16)
    table[:, 0] = 255
    entries = smooth(20, 24, 1)
    photo = read(tiff(entries, photometric="palette", colormap=table))
    assert np.array_equal(photo.pixels, table.T.astype(np.uint8)[entries])


def test_slices_of_a_volume_are_refused() -> None:
    data = tiff(np.zeros((4, 16, 16), np.uint8), photometric="minisblack", volumetric=True, tile=(4, 16, 16))
    with pytest.raises(PhotoError, match="4 slices"):
        read(data)


def test_smaller_copies_in_directories_below_are_said() -> None:
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as file:
        file.write(smooth(20, 24), photometric="rgb", subifds=1, metadata=None)
        file.write(smooth(10, 12), photometric="rgb", subfiletype=1, metadata=None)
    assert read(stream.getvalue()).warnings == ["the smaller copies or masks in the file are not kept"]


def test_content_credentials_do_not_sign_other_pixels() -> None:
    data = tiff(smooth(20, 24), photometric="rgb", extratags=[(52545, 7, 16, b"jumb" * 4, True)])
    photo = read(data)
    assert photo.warnings == ["the content credentials (C2PA) sign the old pixels and are not kept"]
    assert 52545 not in tags(written(photo, "TIFF"))


def test_pixels_that_are_no_numbers_are_called_so() -> None:
    pixels = smooth(20, 24, dtype=np.float32)
    pixels[3, 4, 1] = np.nan
    with pytest.raises(PhotoError, match="no numbers"):
        read(tiff(pixels, photometric="rgb"))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    ("tag", "settings"),
    [
        (279, {}),
        (279, {"rowsperstrip": 7}),
        (279, {"rowsperstrip": 7, "planarconfig": "separate"}),
        (325, {"tile": (16, 16)}),
    ],
)
def test_uncompressed_pixels_are_read_whatever_length_their_strips_claim(
    dtype: type, tag: int, settings: dict[str, Any]
) -> None:
    pixels = smooth(20, 24, dtype=dtype)
    lying = np.moveaxis(pixels, 2, 0) if "planarconfig" in settings else pixels
    data = bytearray(tiff(np.ascontiguousarray(lying), photometric="rgb", **settings))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        counts = file.pages[0].tags[tag]
    data[counts.valueoffset : counts.valueoffset + counts.valuebytecount] = b"\xf0" * counts.valuebytecount
    assert np.array_equal(read(bytes(data)).pixels, pixels)
    with pytest.raises(PhotoError, match="behind the end"):
        read(bytes(data[: len(data) - pixels.nbytes // 2]))


def test_an_absurd_resolution_is_written_as_far_as_there_is_room_for_it() -> None:
    photo = photos.Photo(smooth(20, 24), "PNG", dpi=(1e8, 1e-9))
    assert read(written(photo, "TIFF")).dpi == (429496.7295, 0.0001)


CURVE = (301, 3, 3 * 256, tuple(range(256)) * 3, True)
INKS = (333, 2, 27, "Cyan\0Magenta\0Yellow\0Black\0", True)
PRINTER = (337, 2, 9, "Offset 1\0", True)


@pytest.mark.parametrize(
    ("photometric", "entries", "dtype", "kept"),
    [
        ("rgb", [CURVE], np.uint8, {301}),
        ("rgb", [CURVE], np.uint16, set()),
        ("rgb", [INKS, PRINTER], np.uint8, set()),
        ("separated", [INKS, PRINTER], np.uint8, {333, 337}),
        ("separated", [(333, 2, 5, "Cyan\0", True), PRINTER], np.uint8, {337}),
    ],
)
def test_tags_of_the_pixels_are_kept_where_those_are_still_such_ones(
    photometric: str, entries: list[Any], dtype: type, kept: set[int]
) -> None:
    channels = 4 if photometric == "separated" else 3
    photo = read(tiff(smooth(20, 24, channels), photometric=photometric, extratags=entries))
    if dtype is np.uint16:
        photo = photo.with_pixels(photo.pixels.astype(np.uint16) * 257)
    stream = io.BytesIO()
    notes = photos.write(photo, stream, format="TIFF")
    assert tags(stream.getvalue()) & {301, 333, 337} == kept
    assert len(notes) == len(entries) - len(kept) and all("does not fit the pixels" in note for note in notes)
