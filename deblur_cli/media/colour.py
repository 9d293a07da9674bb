"""Colours that a network does not know (CMYK, Lab) into sRGB, and CMYK back again, by the file's own profile."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image


def profile_space(icc: bytes) -> str:
    """The colour space that an ICC profile describes: `RGB`, `GRAY`, `CMYK`, `Lab`; empty without a profile.

    Bytes 16 to 19 of the header (ICC.1:2022, 7.2.6).
    """
    return icc[16:20].decode("latin-1").strip() if len(icc) >= 128 else ""


def to_srgb(image: Image.Image, icc: bytes) -> Image.Image:
    """A CMYK or Lab image in sRGB: by its profile, relative colorimetric; CMYK without one by Pillow's plain formula.

    Raises:
        ValueError: the conversion failed.
    """
    from PIL import ImageCms

    image.load()
    try:
        if image.mode == "LAB":
            source = ImageCms.createProfile("LAB")
        elif profile_space(icc) == "CMYK":
            source = ImageCms.ImageCmsProfile(io.BytesIO(icc)).profile
        else:
            return image.convert("RGB")
        turned = ImageCms.profileToProfile(
            image, source, ImageCms.createProfile("sRGB"), ImageCms.Intent.RELATIVE_COLORIMETRIC, outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError) as error:
        if image.mode == "CMYK":
            return image.convert("RGB")
        raise ValueError("its colours cannot be converted to sRGB") from error
    if turned is None:
        raise ValueError("its colours cannot be converted to sRGB")
    return turned


def to_cmyk(pixels: np.ndarray, icc: bytes, inks: np.ndarray | None = None) -> Image.Image:
    """H×W×3 uint8 sRGB pixels as a CMYK image: by the profile that `to_srgb` used, else the inverse of its formula.

    The plain inverse takes as much black as there is (K is the least of C, M and Y), so that black stays black ink.

    Args:
        pixels: what is to be seen.
        icc: the profile.
        inks: H×W×4 uint8, CMYK of which such pixels were made before they were changed. What was not changed keeps its
            inks, and the rest, by the formula, its share of black.
    """
    from PIL import Image

    by_profile = _by_profile(pixels, icc)
    if inks is None:
        all_black = np.full(pixels.shape[:2], 255, np.uint8)
        return by_profile or Image.fromarray(_by_formula(pixels, all_black), mode="CMYK")
    # Differences of inks, added to those there were, would leave a pixel grey that went from black ink alone to white.
    changed = _by_formula(pixels, inks[:, :, 3]) if by_profile is None else np.asarray(by_profile)
    before = np.asarray(to_srgb(Image.fromarray(inks, mode="CMYK"), icc))
    same = (pixels == before).all(axis=2, keepdims=True)
    return Image.fromarray(np.where(same, inks, changed), mode="CMYK")


def _by_profile(pixels: np.ndarray, icc: bytes) -> Image.Image | None:
    """Pixels as CMYK by the profile; None where it is none, or of no use."""
    from PIL import Image, ImageCms

    if profile_space(icc) != "CMYK":
        return None
    try:
        return ImageCms.profileToProfile(
            Image.fromarray(np.ascontiguousarray(pixels)),
            ImageCms.createProfile("sRGB"),
            ImageCms.ImageCmsProfile(io.BytesIO(icc)),
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="CMYK",
        )
    except (ImageCms.PyCMSError, OSError):
        return None


def _by_formula(pixels: np.ndarray, black: np.ndarray) -> np.ndarray:
    """Pixels as H×W×4 CMYK by the inverse of Pillow's formula, R = (255 - C)(255 - K) / 255 and so on.

    Args:
        pixels: H×W×3 uint8 RGB.
        black: H×W uint8, the most of K that is taken.
    """
    black = np.minimum(black, 255 - pixels.max(axis=2))[:, :, None]
    room = 255 - black
    inks = 255 - np.rint(pixels * (255.0 / np.maximum(room, 1).astype(np.float32))).astype(np.uint8)
    inks[room[:, :, 0] == 0] = 0
    return np.concatenate([inks, black], axis=2)
