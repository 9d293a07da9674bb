"""A grey ramp and colour bars go into a file and come out as they were, for us and for any player."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from deblur_cli.media import ffmpeg
from deblur_cli.media.pixel_formats import planar
from deblur_cli.media.video import Colour, Frame, VideoFormat
from deblur_cli.media.video_reader import VideoReader
from deblur_cli.media.video_writer import VideoWriter
from deblur_cli.restoration import yuv

# Kr and Kb of ITU-R BT.709, BT.601 and BT.2020.
WEIGHTS = {"bt709": (0.2126, 0.0722), "smpte170m": (0.299, 0.114), "bt2020nc": (0.2627, 0.0593)}
BARS = [(191, 191, 191), (191, 191, 0), (0, 191, 191), (0, 191, 0), (191, 0, 191), (191, 0, 0), (0, 0, 191), (0, 0, 0)]


def chart() -> np.ndarray:
    """16×256×3 RGB, 0 to 255: the ramp above, the bars below."""
    ramp = np.repeat(np.arange(256)[None, :, None], 3, axis=2)
    bars = np.repeat(np.array(BARS), 32, axis=0)[None]
    return np.concatenate([np.repeat(ramp, 8, axis=0), np.repeat(bars, 8, axis=0)])


def as_planes(rgb: np.ndarray, matrix: str, full_range: bool) -> tuple[np.ndarray, ...]:
    """Y, Cb and Cr of 8 bits, as the recommendations define them."""
    red, green, blue = np.moveaxis(rgb / 255.0, 2, 0)
    of_red, of_blue = WEIGHTS[matrix]
    luma = of_red * red + (1 - of_red - of_blue) * green + of_blue * blue
    chroma = (blue - luma) / (2 - 2 * of_blue), (red - luma) / (2 - 2 * of_red)
    black, luma_range, chroma_range = (0, 255, 255) if full_range else (16, 219, 224)
    levels = [black + luma_range * luma, *(128 + chroma_range * part for part in chroma)]
    return tuple(np.clip(np.round(level), 0, 255).astype(np.uint8) for level in levels)


def shown_by_ffmpeg(path: Path) -> np.ndarray:
    exact = "scale=flags=accurate_rnd+full_chroma_int+full_chroma_inp"
    told = ffmpeg.run(["-v", "error", "-i", str(path), "-vf", exact, "-pix_fmt", "rgb24", "-f", "rawvideo", "-"])
    return np.frombuffer(told.stdout, np.uint8).reshape(16, 256, 3).astype(int)


@pytest.mark.parametrize("matrix", list(WEIGHTS))
@pytest.mark.parametrize("full_range", [False, True])
def test_ramp_and_bars_are_within_rounding(matrix: str, full_range: bool, tmp_path: Path) -> None:
    pixels = planar("yuv444p")
    assert pixels is not None
    video = VideoFormat(256, 16, pixels, Colour(matrix, full_range), Fraction(1, 25))
    path, rgb = tmp_path / "chart.mkv", chart()
    with VideoWriter(path, None, video, codec="ffv1") as writer:
        writer.write(Frame(as_planes(rgb, matrix, full_range), 0))
    with VideoReader(path) as reader:
        (frame,) = reader
    assert reader.video.colour == video.colour
    seen = yuv.to_rgb([torch.from_numpy(plane)[None] for plane in frame.planes], reader.video)
    found = (seen[0].permute(1, 2, 0) * 255).round().numpy().astype(int)
    assert np.abs(found - rgb).max() <= 1
    assert np.abs(shown_by_ffmpeg(path) - rgb).max() <= 1
