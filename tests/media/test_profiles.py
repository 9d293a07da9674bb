"""Colours by a profile that has no place in the file are converted to sRGB, at any depth, and that is said."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deblur_cli.media import photos, profiles
from deblur_cli.media.photo import Photo
from tests.media.photo_samples import chunk, encoded, opened, png, smooth, srgb, written

D50 = (0.9642, 1.0, 0.8249)
SRGB = [(0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)]
PROPHOTO = [(0.7977, 0.2880, 0.0), (0.1352, 0.7119, 0.0), (0.0313, 0.0001, 0.8249)]


def fixed(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def curv(*values: int) -> bytes:
    return b"curv" + bytes(4) + struct.pack(f">I{len(values)}H", len(values), *values)


def para(kind: int, *values: float) -> bytes:
    return b"para" + bytes(4) + struct.pack(">HH", kind, 0) + fixed(*values)


def profile(space: bytes, connection: bytes = b"XYZ ", **tags: bytes) -> bytes:
    """An ICC profile of these tags and a white point, for a screen."""
    every = {b"wtpt": b"XYZ " + bytes(4) + fixed(*D50)} | {name.encode(): tag for name, tag in tags.items()}
    at, table, body = 132 + 12 * len(every), b"", b""
    for name, tag in every.items():
        table += name + struct.pack(">II", at + len(body), len(tag))
        body += tag.ljust(-(-len(tag) // 4) * 4, b"\x00")
    head = struct.pack(">I4sI4s4s4s", at + len(body), b"", 0x02400000, b"mntr", space, connection)
    head = (head + struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp").ljust(68, b"\x00") + fixed(*D50)
    return head.ljust(128, b"\x00") + struct.pack(">I", len(every)) + table + body


def grey(curve: bytes) -> bytes:
    return profile(b"GRAY", kTRC=curve)


def rgb(curve: bytes, primaries: list[tuple[float, float, float]]) -> bytes:
    colorants = {f"{name}XYZ": b"XYZ " + bytes(4) + fixed(*each) for name, each in zip("rgb", primaries, strict=True)}
    return profile(b"RGB ", **colorants, rTRC=curve, gTRC=curve, bTRC=curve)


def tables() -> bytes:
    """An RGB profile with tables in place of curves: lightness is the mean of the channels, and there is no colour."""
    corners = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), axis=-1).mean(axis=-1).ravel()
    lab = b"".join(bytes((round(255 * each), 128, 128)) for each in corners)
    same = bytes(range(256)) * 3
    table = b"mft1" + bytes(4) + bytes((3, 3, 2, 0)) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1) + same + lab + same
    return profile(b"RGB ", b"Lab ", A2B0=table)


def tone(light: np.ndarray) -> np.ndarray:
    """Linear light by the curve of sRGB, both in [0, 1]."""
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def wrote(photo: Photo, format: str) -> tuple[Any, list[str]]:  # noqa: A002
    """What a file of the photo is read as again, and what was said when it was written."""
    stream = io.BytesIO()
    notes = photos.write(photo, stream, format=format, quality=100)
    return photos.read(io.BytesIO(stream.getvalue())), notes


@pytest.mark.parametrize(
    ("curve", "light"),
    [
        (curv(), lambda x: x),
        (curv(0x01CC), lambda x: x ** (0x01CC / 256)),
        (curv(0, 16384, 65535), lambda x: np.interp(x, [0, 0.5, 1], [0, 16384 / 65535, 1])),
        (para(0, 1.5), lambda x: x**1.5),
        (para(1, 2, 1.25, -0.25), lambda x: np.maximum(1.25 * x - 0.25, 0) ** 2),
        (para(2, 2, 0.5, 0.25, 0.25), lambda x: (0.5 * x + 0.25) ** 2 + 0.25),
        (para(3, 3, 0.75, 0.25, 0.125, 0.25), lambda x: np.where(x >= 0.25, (0.75 * x + 0.25) ** 3, x / 8)),
        (
            para(4, 2, 0.5, 0.25, 0.125, 0.5, 0.25, 0.0625),
            lambda x: np.where(x >= 0.5, (0.5 * x + 0.25) ** 2 + 0.25, x / 8 + 0.0625),
        ),
    ],
)
def test_grey_of_every_kind_of_curve(curve: bytes, light: Any) -> None:
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    wanted = tone(light(levels / 65535))
    deep = profiles.in_srgb(levels, grey(curve))
    assert deep is not None and deep.dtype == np.uint16 and np.abs(deep - 65535 * wanted).max() <= 1
    shallow = profiles.in_srgb((levels[::257, ::257] // 257).astype(np.uint8), grey(curve))
    assert shallow is not None and shallow.dtype == np.uint8
    assert np.abs(shallow - 255 * wanted[::257, ::257]).max() <= 0.6


def test_deep_colours_by_curves_and_matrix() -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (30, 40, 3), np.uint16)
    linear = profiles.in_srgb(pixels, rgb(curv(), SRGB))
    assert linear is not None and np.abs(linear - 65535 * tone(pixels / 65535)).max() <= 16
    # As LittleCMS has it in 8 bits, where all that sRGB does not have is cut alike.
    shallow, wide = (pixels >> 8).astype(np.uint8), rgb(para(0, 1.8), PROPHOTO)
    by_library, own = profiles.in_srgb(shallow, wide), profiles.in_srgb(shallow.astype(np.uint16) * 257, wide)
    assert by_library is not None and own is not None
    assert np.abs(by_library.astype(int) - shallow).mean() > 20 and np.abs(own / 257 - by_library).max() <= 1


@pytest.mark.parametrize("height", [1, 7])
def test_bands_make_no_difference(monkeypatch: pytest.MonkeyPatch, height: int) -> None:
    pixels, icc = smooth(7, 5, 3, np.uint16), rgb(curv(), SRGB)
    whole = profiles.in_srgb(pixels, icc)
    monkeypatch.setattr(profiles, "_BAND", 10 * height)
    banded = profiles.in_srgb(pixels, icc)
    assert whole is not None and banded is not None and np.array_equal(whole, banded)


@pytest.mark.parametrize(
    "icc",
    [
        b"",
        srgb(),
        srgb()[:200],
        rgb(para(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045), SRGB),
        grey(b"none"),
        grey(para(0, -1)),
        grey(para(1, 2, 0, 0)),
        grey(para(9)),
        profile(b"CMYK"),
    ],
)
def test_srgb_itself_and_what_is_of_no_use_change_nothing(icc: bytes) -> None:
    for pixels in (smooth(4, 5), smooth(4, 5, 3, np.uint16), smooth(4, 5, 1), smooth(4, 5, 1, np.uint16)):
        assert profiles.in_srgb(pixels, icc) is None
        (said,) = photos.write(Photo(pixels, "PNG", icc=icc), io.BytesIO(), format="PPM") or [""]
        assert "became sRGB" not in said


@pytest.mark.parametrize("container", ["BMP", "PPM"])
def test_colours_are_srgb_where_no_profile_is_written(container: str) -> None:
    photo = Photo(smooth(8, 12), "JPEG", icc=rgb(para(0, 1.8), PROPHOTO))
    after, notes = wrote(photo, container)
    wanted = profiles.in_srgb(photo.pixels, photo.icc)
    assert wanted is not None and np.array_equal(after.pixels, wanted)
    assert notes == [f"its colours became sRGB: {container} is written without an ICC profile"]
    after, notes = wrote(Photo(smooth(8, 12, 1), "JPEG", icc=grey(curv())), container)
    assert after.pixels.ndim == 2 and np.abs(after.pixels - 255 * tone(smooth(8, 12, 1) / 255)).max() <= 0.6
    assert notes == [f"its grey became sRGB: {container} is written without an ICC profile"]


def test_grey_by_a_profile_for_colours_is_converted_too() -> None:
    after, _ = wrote(Photo(smooth(8, 12, 1, np.uint16), "TIFF", icc=rgb(curv(), PROPHOTO)), "PPM")
    assert np.abs(after.pixels - 65535 * tone(smooth(8, 12, 1, np.uint16) / 65535)).max() <= 8


def test_float_of_linear_light_keeps_its_shadows_in_8_bits() -> None:
    dark = np.linspace(0, 1 / 255, 64, dtype=np.float32).reshape(8, 8)
    after, notes = wrote(Photo(dark, "TIFF", icc=grey(curv())), "BMP")
    assert np.abs(after.pixels - 255 * tone(dark)).max() <= 0.6 and len(notes) == 2
    assert "8 bits a channel, the most" in notes[0] and "through" not in notes[1]


def test_a_profile_with_tables_is_applied_in_8_bits_which_is_said_where_16_are_written() -> None:
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)[:, :, None].repeat(3, axis=2)
    lightness = (levels / 65535 * 100 + 16) / 116
    wanted = 255 * tone(np.where(lightness > 6 / 29, lightness**3, (lightness - 4 / 29) * 108 / 841))
    photo = Photo(levels, "TIFF", icc=tables())
    after, notes = wrote(photo, "PPM")
    assert after.pixels.dtype == np.uint16 and np.abs(after.pixels / 257 - wanted).max() <= 3
    assert notes == ["its colours became sRGB, through 8 bits a channel: PPM is written without an ICC profile"]
    assert not any("through" in note for note in wrote(photo, "BMP")[1])


@pytest.mark.parametrize("container", ["WEBP", "AVIF", "HEIF"])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_grey_of_a_grey_profile_is_srgb_where_it_becomes_colour(container: str, depth: Any) -> None:
    pixels = smooth(16, 24, 1, depth)
    alpha = np.full(pixels.shape, np.iinfo(depth).max, depth)
    after, notes = wrote(Photo(pixels, "PNG", alpha, icc=grey(curv())), container)
    seen = (after.pixels if after.pixels.ndim == 2 else after.pixels[:, :, 1]) / np.iinfo(after.pixels.dtype).max
    assert np.abs(seen - tone(pixels / np.iinfo(depth).max)).mean() <= 0.01 and after.icc == b""
    assert f"its grey became sRGB: {container} is written without a grey ICC profile with colour pixels" in notes


def test_grey_by_a_profile_for_colours_becomes_three_channels_of_a_png() -> None:
    photo = Photo(smooth(8, 12, 1), "JPEG", smooth(8, 12, 1), icc=rgb(curv(), PROPHOTO))
    after, notes = wrote(photo, "PNG")
    assert after.icc == photo.icc and np.array_equal(after.pixels, np.dstack([photo.pixels] * 3))
    assert notes == ["its grey became three channels: PNG holds no RGB ICC profile with grey pixels"]
    # Of sRGB's profile there is nothing to keep, and grey stays grey.
    photo.icc = srgb()
    after, notes = wrote(photo, "PNG")
    assert after.icc == b"" and np.array_equal(after.pixels, photo.pixels)
    assert notes == ["PNG holds no RGB ICC profile with grey pixels: not kept"]


def test_inks_that_became_srgb_keep_no_profile_of_other_colours() -> None:
    wrong = rgb(curv(), PROPHOTO)
    data = encoded(Image.new("CMYK", (8, 8), (10, 20, 30, 40)), "JPEG", icc_profile=wrong)
    photo = photos.read(io.BytesIO(data))
    for container in ("PNG", "BMP"):
        after, notes = wrote(photo, container)
        assert after.icc == b"" and np.array_equal(after.pixels, photo.pixels)
        assert notes == [f"CMYK became sRGB: {container} is written without it"]
    assert opened(written(photo, "JPEG")).info["icc_profile"] == wrong


def test_what_a_profile_overruled_is_no_loss_when_it_was_applied() -> None:
    beside = (
        chunk(b"gAMA", struct.pack(">I", 100000)),
        chunk(b"iCCP", b"p\x00\x00" + zlib.compress(rgb(curv(), SRGB))),
    )
    photo = photos.read(io.BytesIO(png(smooth(8, 12), *beside)))
    assert wrote(photo, "BMP")[1] == ["its colours became sRGB: BMP is written without an ICC profile"]
