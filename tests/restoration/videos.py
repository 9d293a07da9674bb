"""Formats of videos, and frames in memory."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from deblur_cli.media.video import Colour, Frame, PixelFormat, VideoFormat

PIXEL_FORMATS = [
    PixelFormat("yuv420p", "yuv", 8, 1, 1),
    PixelFormat("yuv422p", "yuv", 8, 1, 0),
    PixelFormat("yuv440p", "yuv", 8, 0, 1),
    PixelFormat("yuv444p", "yuv", 8),
    PixelFormat("yuv411p", "yuv", 8, 2, 0),
    PixelFormat("yuv410p", "yuv", 8, 2, 2),
    PixelFormat("yuva420p", "yuv", 8, 1, 1, alpha=True),
    PixelFormat("yuv420p10le", "yuv", 10, 1, 1),
    PixelFormat("yuv422p12le", "yuv", 12, 1, 0),
    PixelFormat("yuva444p16le", "yuv", 16, alpha=True),
    PixelFormat("gbrp", "rgb", 8),
    PixelFormat("gbrap12le", "rgb", 12, alpha=True),
    PixelFormat("gray", "grey", 8),
    PixelFormat("gray16le", "grey", 16),
]
BY_NAME = {pixels.name: pixels for pixels in PIXEL_FORMATS}


def video_format(pixels: str, height: int, width: int, **colour: Any) -> VideoFormat:
    return VideoFormat(width, height, BY_NAME[pixels], Colour(**colour), Fraction(1, 90_000))


def random_frame(video: VideoFormat, number: int = 0) -> Frame:
    """Any samples the depth can hold, those that mean no colour among them."""
    generator = np.random.default_rng(number)
    most = 1 << video.pixels.depth
    shapes = video.pixels.plane_shapes(video.height, video.width)
    planes = (generator.integers(0, most, shape, dtype=video.pixels.dtype) for shape in shapes)
    return Frame(tuple(planes), pts=1000 + number * 3003 + number % 2)


def flat_frame(video: VideoFormat, luma: int, number: int = 0) -> Frame:
    """A grey frame."""
    shapes = video.pixels.plane_shapes(video.height, video.width)
    values = [luma] + [1 << (video.pixels.depth - 1)] * (len(shapes) - 1)
    planes = (np.full(shape, value, video.pixels.dtype) for shape, value in zip(shapes, values, strict=True))
    return Frame(tuple(planes), pts=number)
