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


def to_cmyk(pixels: np.ndarray, icc: bytes) -> Image.Image:
    """H×W×3 uint8 sRGB pixels as a CMYK image: by the profile that `to_srgb` used, else the inverse of its formula.

    The plain inverse takes as much black as there is (K is the least of C, M and Y), so that black stays black ink.
    """
    from PIL import Image, ImageCms

    if profile_space(icc) == "CMYK":
        try:
            turned = ImageCms.profileToProfile(
                Image.fromarray(np.ascontiguousarray(pixels)),
                ImageCms.createProfile("sRGB"),
                ImageCms.ImageCmsProfile(io.BytesIO(icc)),
                ImageCms.Intent.RELATIVE_COLORIMETRIC,
                outputMode="CMYK",
            )
        except (ImageCms.PyCMSError, OSError):
            turned = None
        if turned is not None:
            return turned
    # Pillow's formula is R = (255 - C)(255 - K) / 255, and so on.
    light = pixels.max(axis=2, keepdims=True)
    inks = 255 - np.rint(pixels * (255.0 / np.maximum(light, 1).astype(np.float32))).astype(np.uint8)
    inks[light[:, :, 0] == 0] = 0
    return Image.fromarray(np.concatenate([inks, 255 - light], axis=2), mode="CMYK")
