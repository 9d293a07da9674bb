"""Colours that a grey or RGB profile describes into sRGB, for a file that cannot hold the profile.

Profiles after ICC.1:2022. LittleCMS, in Pillow, hands out 8 bits of a colour and no more; deeper ones are computed
here, from the curves and the matrix, which all but the profiles of some printers and scanners have.
"""

from __future__ import annotations

import io
import struct

import numpy as np

from deblur_cli.media.colour import profile_space
from deblur_cli.media.pixels import to_depth

# The most levels of 8 bits by which the profiles that go by the name of sRGB differ from each other.
_SAME = 2
_GREYS = np.arange(256, dtype=np.uint8)[None]
_STEPS = np.linspace(0, 255, 9).astype(np.uint8)
_COLOURS = np.stack(np.meshgrid(_STEPS, _STEPS, _STEPS), axis=-1).reshape(1, -1, 3)
# A profile's tables, which go before its curves; the primaries of sRGB as its own profile has them, in columns.
_TABLES = (b"A2B0", b"A2B1", b"D2B0", b"D2B1")
_PRIMARIES = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
# How many numbers a parametric curve of each type has.
_PARAMETERS = (1, 3, 4, 5, 7)
# Pixels that are computed at a time, for what they need in between.
_BAND = 1 << 20


def differs_from_srgb(icc: bytes) -> bool:
    """Whether the colours of a grey or RGB profile are others than those of sRGB, by more than rounding.

    No for a profile that is damaged, or of another colour space: there are none to tell.
    """
    samples = {"GRAY": _GREYS, "RGB": _COLOURS}.get(profile_space(icc))
    turned = None if samples is None else _turned(samples, icc)
    return turned is not None and samples is not None and int(np.abs(turned.astype(int) - samples).max()) > _SAME


def in_srgb(pixels: np.ndarray, icc: bytes) -> np.ndarray | None:
    """Pixels in sRGB, relative colorimetric; colours that sRGB does not have become those at its edge.

    Args:
        pixels: H×W×3 RGB or H×W grey; uint8, uint16, or float32 in [0, 1].
        icc: the profile that they are by.

    Returns:
        Pixels of the same shape, uint8 for uint8, else uint16; of a profile with tables always uint8. None where they
        had best stay as they are: the profile is sRGB, or damaged, or not for such pixels.
    """
    return _turned(pixels, icc) if differs_from_srgb(icc) else None


def _turned(pixels: np.ndarray, icc: bytes) -> np.ndarray | None:
    """What `in_srgb` gives, also where it is hardly another."""
    grey = pixels.ndim == 2
    if not grey and profile_space(icc) == "GRAY":
        return None
    try:
        light = _light(icc)
    except ValueError:
        return None
    # LittleCMS is fast with colours, but it may make dark grey up to ten levels too dark.
    if light is None or (not grey and pixels.dtype == np.uint8):
        return _by_library(to_depth(pixels, "uint8"), icc)
    curves, primaries = light
    deep = to_depth(pixels, "uint16")
    if grey:  # as bright as the three together, which is the second of X, Y and Z
        return to_depth(_encoded(primaries[1] @ curves)[deep], "uint8" if pixels.dtype == np.uint8 else "uint16")
    matrix = (np.linalg.inv(_PRIMARIES) @ primaries).T.astype(np.float32)
    turned = np.empty_like(deep)
    rows = max(1, _BAND // deep.shape[1])
    for top in range(0, deep.shape[0], rows):
        band = deep[top : top + rows]
        linear = np.stack([curve[band[:, :, channel]] for channel, curve in enumerate(curves)], axis=-1)
        turned[top : top + rows] = _encoded(linear @ matrix)
    return turned


def _by_library(pixels: np.ndarray, icc: bytes) -> np.ndarray | None:
    """H×W×3 or H×W uint8 pixels in sRGB by LittleCMS; None where it cannot convert them."""
    from PIL import Image, ImageCms

    grey = pixels.ndim == 2
    image = Image.fromarray(_GREYS if grey else np.ascontiguousarray(pixels))
    try:
        turned = ImageCms.profileToProfile(
            image.convert("RGB") if profile_space(icc) == "RGB" else image,
            ImageCms.ImageCmsProfile(io.BytesIO(icc)),
            ImageCms.createProfile("sRGB"),
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
        )
    except (ImageCms.PyCMSError, OSError):
        return None
    if turned is None:
        return None
    return np.asarray(turned.convert("L"))[0][pixels] if grey else np.asarray(turned)


def _encoded(linear: np.ndarray) -> np.ndarray:
    """Linear light as uint16 by the curve of sRGB (IEC 61966-2-1)."""
    linear = linear.clip(0, 1)
    curved = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** np.float32(1 / 2.4) - 0.055)
    return np.rint(curved * 65535).astype(np.uint16)


def _light(icc: bytes) -> tuple[np.ndarray, np.ndarray] | None:
    """The linear light of each of 65,536 levels, a row for a channel, and the X, Y, Z of the channels, in columns: of
    grey, white's. None where the profile has tables instead.

    Raises:
        ValueError: the profile is damaged; LittleCMS makes some of them a black picture.
    """
    try:
        number = struct.unpack_from(">I", icc, 128)[0]
        entries = (struct.unpack_from(">4sII", icc, 132 + 12 * index) for index in range(number))
        tags = {name: slice(start, start + length) for name, start, length in entries}
        if icc[20:24] != b"XYZ " or not tags.keys().isdisjoint(_TABLES):
            return None
        if profile_space(icc) == "GRAY":
            return _curve(icc[tags[b"kTRC"]])[None], np.ones((3, 1))
        primaries = [struct.unpack_from(">3i", icc[tags[name]], 8) for name in (b"rXYZ", b"gXYZ", b"bXYZ")]
        curves = [_curve(icc[tags[name]]) for name in (b"rTRC", b"gTRC", b"bTRC")]
        return np.stack(curves), np.array(primaries).T / 65536
    except (struct.error, LookupError, ArithmeticError) as error:
        raise ValueError("a damaged profile") from error


def _curve(tag: bytes) -> np.ndarray:
    """A curve's tag as 65,536 float32 values in [0, 1] (10.6, 10.18).

    Raises:
        Exception: struct's, ValueError, IndexError or ZeroDivisionError, for a damaged one.
    """
    steps = np.linspace(0, 1, 65536)
    if tag[:4] == b"curv":
        number = struct.unpack_from(">I", tag, 8)[0]
        values = np.frombuffer(tag, ">u2", number, 12)
        if number > 1:
            curve = np.interp(steps, np.linspace(0, 1, number), values / 65535)
        else:
            curve = steps ** (values[0] / 256) if number else steps
    elif tag[:4] == b"para":
        kind = struct.unpack_from(">H", tag, 8)[0]
        gamma, *others = (value / 65536 for value in struct.unpack_from(f">{_PARAMETERS[kind]}i", tag, 12))
        if gamma <= 0:
            raise ValueError("a curve that does not rise")
        scale, shift = others[:2] or (1.0, 0.0)
        if kind < 3:
            start, slope, above = -shift / scale, 0.0, sum(others[2:])
            below = above
        else:
            slope, start, above, below = (*others[2:], 0.0, 0.0)[:4]
        power = np.maximum(scale * steps + shift, 0) ** gamma + above
        curve = np.where(steps >= start, power, slope * steps + below)
    else:
        raise ValueError("a curve of an unknown type")
    return curve.clip(0, 1).astype(np.float32)
