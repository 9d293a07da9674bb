"""Every format there and back: pixels, depth, alpha; whole files only."""

from __future__ import annotations

import errno
import io
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from deblur_cli.errors import PhotoError
from deblur_cli.media import exif, photos
from deblur_cli.media.photo import Photo
from deblur_cli.media.pixels import turn
from tests.media.photo_samples import chunk, encoded, png, smooth

LOSSY = {"JPEG": 12, "WEBP": 35, "AVIF": 12, "HEIF": 12}
"""How far a lossy format may be off at its default quality, in levels of 255, on the pictures here.

The least of them are no smooth pictures, and WebP halves the chroma of two pixels: of 2×2 it is off by 34.
"""


def again(photo: Photo, container: str) -> tuple[Photo, list[str]]:
    stream = io.BytesIO()
    notes = photos.write(photo, stream, format=container)
    return photos.read(io.BytesIO(stream.getvalue())), notes


@pytest.mark.parametrize("container", list(photos.WRITABLE))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    dtype=st.sampled_from(["uint8", "uint16", "float32"]),
    grey=st.booleans(),
    transparent=st.booleans(),
)
def test_any_size_depth_and_channels_come_back(
    container: str, height: int, width: int, dtype: str, grey: bool, transparent: bool
) -> None:
    pixels = smooth(height, width, 1 if grey else 3, dtype)
    alpha = smooth(height, width, 4, dtype)[:, :, 3] if transparent else None
    photo = Photo(pixels, "PNG", alpha, depth=8 * pixels.dtype.itemsize)
    back, notes = again(photo, container)
    holds = photos.WRITABLE[container]
    assert back.format == container
    assert back.pixels.shape[:2] == (height, width)
    assert back.pixels.dtype.name == (dtype if dtype in holds.depths else holds.depths[-1])
    assert bool(notes) == (
        dtype not in holds.depths
        or (transparent and not holds.alpha)
        or (container == "HEIF" and dtype == "uint16")  # 10 bits of the 16
    )
    assert (back.alpha is not None) == (transparent and holds.alpha)
    if transparent and not holds.alpha:
        return
    top = 1.0 if back.pixels.dtype.kind == "f" else np.iinfo(back.pixels.dtype).max
    seen = back.pixels.astype(np.float64) / top
    expected = pixels.astype(np.float64) / (1.0 if dtype == "float32" else np.iinfo(dtype).max)
    if seen.ndim > expected.ndim:
        expected = np.repeat(expected[:, :, None], 3, axis=2)
    assert seen.shape == expected.shape
    rounding = 0 if dtype == back.pixels.dtype.name else 0.51 / top
    assert np.abs(seen - expected).max() <= (LOSSY[container] / 255 if container in LOSSY else rounding)
    if rounding == 0 and back.alpha is not None and container != "AVIF":
        assert alpha is not None and np.abs(back.alpha.astype(float) - alpha).max() <= (
            3 * top / 255 if container in LOSSY else 0
        )


@pytest.mark.parametrize(
    ("dtype", "channels"), [("uint8", 1), ("uint8", 2), ("uint8", 4), ("uint16", 1), ("uint16", 2), ("uint16", 4)]
)
def test_a_png_written_is_what_other_programs_read(tmp_path: Path, dtype: str, channels: int) -> None:
    array = np.random.default_rng(1).integers(0, np.iinfo(dtype).max, (9, 7, channels)).astype(dtype)
    colours = 1 if channels < 3 else 3
    pixels = array[:, :, 0] if colours == 1 else array[:, :, :3]
    photo = Photo(pixels, "PNG", array[:, :, -1] if channels in (2, 4) else None)
    photos.write(photo, tmp_path / "a.png")
    seen = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED).reshape(9, 7, -1)
    assert seen.dtype.name == dtype
    assert (seen[:, :, 0 if colours == 1 else slice(2, None, -1)].reshape(pixels.shape) == pixels).all()
    with Image.open(tmp_path / "a.png") as image:
        image.load()
        assert image.size == (7, 9)
        assert (channels, dtype) != (2, "uint8") or image.mode == "LA"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB"])
def test_every_mode_of_an_8_bit_tiff_or_png_becomes_true_colour_or_grey(mode: str) -> None:
    image = Image.fromarray(smooth(12, 10, 4), "RGBA").convert("RGB" if mode in ("YCbCr", "LAB", "CMYK") else "RGBA")
    if mode == "LAB":
        image = Image.fromarray(np.full((12, 10, 3), (128, 0, 0), np.uint8)).convert("RGB")
        data = io.BytesIO()
        Image.frombytes("LAB", (10, 12), bytes([128, 0, 0]) * 120).save(data, "TIFF")
        photo = photos.read(io.BytesIO(data.getvalue()))
        assert photo.pixels.shape == (12, 10, 3) and np.ptp(photo.pixels.mean(axis=(0, 1))) < 3
        assert any("Lab" in warning for warning in photo.warnings)
        return
    image = image.convert("RGB").convert(mode) if mode in ("1", "P") else image.convert(mode)
    photo = photos.read(io.BytesIO(encoded(image, "TIFF")))
    expected = np.asarray(image.convert("L" if mode in ("1", "L", "LA") else "RGB"))
    assert photo.pixels.dtype == np.uint8 and photo.pixels.shape == expected.shape
    assert np.abs(photo.pixels.astype(int) - expected).max() <= (2 if mode == "YCbCr" else 0)
    assert (photo.alpha is not None) == (mode in ("LA", "RGBA"))


def test_palette_transparency_becomes_alpha() -> None:
    image = Image.new("P", (4, 2), 1)
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putpixel((0, 0), 0)
    photo = photos.read(io.BytesIO(encoded(image, "PNG", transparency=0)))
    assert photo.alpha is not None and photo.alpha[0].tolist() == [0, 255, 255, 255]
    assert photo.pixels[1, 1].tolist() == [0, 255, 0]
    back, _ = again(photo, "PNG")
    assert (back.pixels == photo.pixels).all() and back.alpha is not None and (back.alpha == photo.alpha).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_transparent_colour_of_a_16_bit_png_becomes_alpha(channels: int) -> None:
    array = np.random.default_rng(2).integers(0, 65536, (5, 6, channels)).astype(np.uint16)
    clear = b"".join(int(value).to_bytes(2, "big") for value in array[2, 3])
    photo = photos.read(io.BytesIO(png(array, chunk(b"tRNS", clear))))
    assert photo.alpha is not None and photo.alpha.dtype == np.uint16
    assert photo.alpha[2, 3] == 0 and (photo.alpha > 0).sum() == 29
    assert (photo.pixels.reshape(array.shape) == array).all()


TIFFS = {
    "deflate": {"compression": "zlib", "predictor": True},
    "big-endian": {"byteorder": ">"},
    "tiled": {"tile": (16, 16)},
    "bigtiff": {"bigtiff": True},
    "lzma": {"compression": "lzma"},
}


@pytest.mark.parametrize("kind", list(TIFFS))
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_kinds_of_tiff(kind: str, dtype: str, channels: int) -> None:
    if kind == "lzma" and dtype == "uint8":
        pytest.skip("8 bits are Pillow's, whose libtiff may come without LZMA")
    array = smooth(20, 30, 4, dtype)[:, :, :channels].squeeze()
    stream = io.BytesIO()
    settings = dict(TIFFS[kind])
    if dtype == "float32":
        settings.pop("predictor", None)
    extra = {"extrasamples": ["unassalpha"], "planarconfig": "contig"} if channels in (2, 4) else {}
    tifffile.imwrite(stream, array, photometric="rgb" if channels > 2 else "minisblack", **extra, **settings)
    photo = photos.read(io.BytesIO(stream.getvalue()))
    back, _ = again(photo, "TIFF")
    for one in (photo, back):
        joined = one.pixels if one.alpha is None else np.dstack([one.pixels, one.alpha])
        assert joined.dtype.name == dtype and joined.shape == array.shape and (joined == array).all()


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_planes_and_white_is_zero(dtype: str) -> None:
    array = smooth(20, 30, 3, dtype)
    stream = io.BytesIO()
    tifffile.imwrite(stream, np.moveaxis(array, -1, 0), photometric="rgb", planarconfig="separate")
    assert (photos.read(io.BytesIO(stream.getvalue())).pixels == array).all()
    stream = io.BytesIO()
    tifffile.imwrite(stream, array[:, :, 0], photometric="miniswhite")
    assert (photos.read(io.BytesIO(stream.getvalue())).pixels == np.iinfo(dtype).max - array[:, :, 0]).all()


@pytest.mark.parametrize("compression", ["raw", "group4", "tiff_lzw", "jpeg"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
def test_pillow_and_we_turn_a_tiff_once_between_us(compression: str, orientation: int) -> None:
    array = smooth(16, 32, 1)
    array[:8, :8] = 255
    image = Image.fromarray(array).convert("1" if compression == "group4" else "L")
    settings = {} if compression == "raw" else {"compression": compression}
    photo = photos.read(io.BytesIO(encoded(image, "TIFF", tiffinfo={274: orientation}, **settings)))
    expected = turn(np.asarray(image.convert("L")), orientation)
    assert photo.pixels.shape == expected.shape
    assert np.abs(photo.pixels.astype(int) - expected).mean() <= (6 if compression == "jpeg" else 0)
    back, _ = again(photo, "TIFF")
    assert (back.pixels == photo.pixels).all()


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_lzw_of_deep_samples(dtype: str) -> None:
    array = smooth(20, 30, 3, dtype)
    done, data = cv2.imencode(".tif", array[:, :, ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, 5])
    assert done
    assert (photos.read(io.BytesIO(data.tobytes())).pixels == array).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_opencv_and_we_turn_a_deep_tiff_once_between_us(orientation: int) -> None:
    array = smooth(20, 30, 1, "uint16")
    image = Image.fromarray(array)
    photo = photos.read(io.BytesIO(encoded(image, "TIFF", tiffinfo={274: orientation}, compression="tiff_lzw")))
    assert photo.pixels.dtype == np.uint16 and np.array_equal(photo.pixels, turn(array, orientation))
    assert exif.orientation(photo.exif) == 1


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_bigtiff_is_upright(orientation: int) -> None:
    array, stream = smooth(20, 30, 3, "uint16"), io.BytesIO()
    tifffile.imwrite(stream, array, bigtiff=True, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    assert np.array_equal(photos.read(io.BytesIO(stream.getvalue())).pixels, turn(array, orientation))


def test_premultiplied_deep_tiff_is_divided_by_its_alpha() -> None:
    array = smooth(20, 30, 4, "float32")
    stream = io.BytesIO()
    multiplied = np.dstack([array[:, :, :3] * array[:, :, 3:], array[:, :, 3]])
    tifffile.imwrite(stream, multiplied, photometric="rgb", extrasamples=["assocalpha"])
    assert np.abs(photos.read(io.BytesIO(stream.getvalue())).pixels - array[:, :, :3]).max() < 1e-5


@pytest.mark.parametrize(("top", "magic"), [(65535, b"P6"), (1023, b"P6"), (4095, b"P5")])
def test_deep_ppm_is_scaled_to_the_full_range(top: int, magic: bytes) -> None:
    values = np.array([0, 1, top // 2, top, top, 0], ">u2")
    data = magic + b"\n# a comment\n2 1\n%d\n" % top if magic == b"P6" else magic + b" 6 1 %d " % top
    photo = photos.read(io.BytesIO(data + values.tobytes()))
    assert photo.pixels.dtype == np.uint16
    assert photo.pixels.ravel().tolist() == [round(int(value) * 65535 / top) for value in values]


@pytest.mark.parametrize("depth", [10, 12])
def test_10_and_12_bit_heic_keeps_its_depth(depth: int) -> None:
    import pillow_heif

    if not pillow_heif.libheif_info()["HEIF"]:
        pytest.skip("no HEVC encoder")
    array = smooth(32, 48, 3, np.uint16) >> (16 - depth) << (16 - depth)
    stream = io.BytesIO()
    picture = pillow_heif.from_bytes("RGB;16", (48, 32), array.tobytes())
    picture.save(stream, quality=95, chroma=444, bit_depth=depth)
    photo = photos.read(io.BytesIO(stream.getvalue()))
    assert photo.pixels.dtype == np.uint16 and photo.depth == depth
    assert np.abs(photo.pixels.astype(int) - array).max() < 1500
    white = photo.with_pixels(np.full_like(photo.pixels, 65535))
    back, notes = again(white, "HEIF")
    assert notes == [] and back.depth == depth and back.pixels.min() > 65535 - 200


def test_a_lossless_webp_stays_lossless_and_a_lossy_one_does_not() -> None:
    image = Image.fromarray(np.random.default_rng(3).integers(0, 256, (20, 20, 3), np.uint8))
    for lossless in (True, False):
        photo = photos.read(io.BytesIO(encoded(image, "WEBP", lossless=lossless)))
        back, _ = again(photo, "WEBP")
        assert (back.pixels == photo.pixels).all() == lossless


def test_depth_is_rounded_with_a_warning() -> None:
    photo = Photo(np.array([[0, 128, 129, 65535]], np.uint16), "PNG", depth=16)
    back, notes = again(photo, "BMP")
    assert back.pixels.tolist() == [[0, 0, 1, 255]]
    assert len(notes) == 1 and "16 bits" in notes[0] and "8 bits" in notes[0]
    _, notes = again(replace(photo, depth=10), "BMP")
    assert "10 bits a channel rounded to 8" in notes[0], "as of a HEIC, whatever holds its pixels here"
    _, notes = again(Photo(smooth(16, 16, 3, np.float32), "TIFF", depth=32), "HEIF")
    assert notes == ["32 bits a channel are rounded to 10, what HEIC holds"]


def test_transparency_is_laid_over_white_where_there_is_none() -> None:
    photo = Photo(np.zeros((8, 8, 3), np.uint8), "PNG", np.full((8, 8), 0, np.uint8))
    back, notes = again(photo, "PPM")
    assert (back.pixels == 255).all() and "white" in notes[0]
    opaque = Photo(np.zeros((8, 8, 3), np.uint8), "PNG", np.full((8, 8), 255, np.uint8))
    back, notes = again(opaque, "PPM")
    assert (back.pixels == 0).all() and notes == []


def test_the_content_tells_the_format_and_not_the_name(tmp_path: Path) -> None:
    path = tmp_path / "really_a_png.jpg"
    path.write_bytes(png(smooth(4, 5)))
    photo = photos.read(path)
    assert photo.format == "PNG" and photo.pixels.shape == (4, 5, 3)


def test_a_single_frame_gif_is_a_photo_that_is_written_as_png(tmp_path: Path) -> None:
    image = Image.fromarray(smooth(6, 5)).quantize(8)
    photo = photos.read(io.BytesIO(encoded(image, "GIF")))
    assert photo.format == "GIF" and "GIF" not in photos.WRITABLE
    assert (photo.pixels == np.asarray(image.convert("RGB"))).all()
    with pytest.raises(PhotoError, match="not a format that can be written"):
        photos.write(photo, tmp_path / "a.gif")
    photos.write(photo, tmp_path / "a.png")
    assert (photos.read(tmp_path / "a.png").pixels == photo.pixels).all()


def test_pixels_that_do_not_fit_are_refused() -> None:
    photo = Photo(smooth(4, 4), "PNG", smooth(4, 4, 1))
    for wrong in (smooth(4, 5), smooth(4, 4, 4), smooth(4, 4).astype(np.int32)):
        with pytest.raises(ValueError, match="pixels of"):
            photo.with_pixels(wrong)
    assert photo.with_pixels(smooth(4, 4, 1)[:, :, None]).pixels.shape == (4, 4)


def test_a_full_disk_leaves_the_target_and_no_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.png"
    target.write_bytes(b"before")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PhotoError, match=r"a\.png.*No space") as caught:
        photos.write(Photo(smooth(4, 4), "PNG"), target)
    assert isinstance(caught.value.__cause__, OSError)
    assert target.read_bytes() == b"before" and list(tmp_path.iterdir()) == [target]


def test_an_encoder_that_refuses_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "imencode", lambda *arguments: (False, None))
    with pytest.raises(PhotoError, match="cannot be written as PNG"):
        photos.write(Photo(smooth(4, 4), "PNG"), tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("container", ["WEBP", "JPEG", "AVIF"])
def test_a_side_too_long_for_the_format_is_said(container: str) -> None:
    photo = Photo(np.zeros((1, 70000), np.uint8), "PNG")
    with pytest.raises(PhotoError, match="at most"):
        photos.write(photo, io.BytesIO(), format=container)


def test_a_picture_too_narrow_for_its_length_as_heic_is_said() -> None:
    photo = Photo(np.zeros((1, 5000), np.uint8), "PNG")
    with pytest.raises(PhotoError, match=r"5000×1 pixels: too long, or too narrow .*; write PNG or TIFF"):
        photos.write(photo, io.BytesIO(), format="HEIF")


def test_noise_at_the_finest_quality_fits_the_encoder() -> None:
    noise = np.random.default_rng(4).integers(0, 256, (300, 400, 3), np.uint8)
    ones = [[1] * 64, [1] * 64]
    source = encoded(Image.fromarray(noise), "JPEG", qtables=ones, subsampling=0)
    back, notes = again(photos.read(io.BytesIO(source)), "JPEG")
    assert notes == [] and np.abs(back.pixels.astype(int) - noise).max() <= 8
