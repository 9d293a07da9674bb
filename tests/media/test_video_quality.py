"""A bit rate or a quantiser that a user asks for is heeded: the default quality gives way to it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from deblur_cli.media.encoders import choose
from deblur_cli.media.video import Colour, Frame, PixelFormat, VideoFormat
from deblur_cli.media.video_reader import VideoReader
from deblur_cli.media.video_writer import VideoWriter
from tests.media.video_samples import noise

VIDEO = VideoFormat(96, 64, PixelFormat("yuv420p", "yuv", 8, 1, 1), Colour(), Fraction(1, 25))


def written(target: Path, codec: str, *extra: str) -> list[Frame]:
    """Write some frames of noise to `target`, and read them."""
    preset = "12" if codec == "av1" else "ultrafast"
    with VideoWriter(target, None, VIDEO, codec=codec, preset=preset, extra=extra) as writer:
        for k in range(12):
            writer.write(noise(VIDEO.pixels, VIDEO.height, VIDEO.width, k, k))
    with VideoReader(target) as reader:
        return list(reader)


def test_a_quantiser_of_zero_is_lossless(tmp_path: Path) -> None:
    kept = written(tmp_path / "out.mp4", "h264", "-qp", "0")
    for k, frame in enumerate(kept):
        assert all(map(np.array_equal, frame.planes, noise(VIDEO.pixels, VIDEO.height, VIDEO.width, k, k).planes))
    assert len(kept) == 12


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_with_less_bits_a_file_is_smaller(codec: str, tmp_path: Path) -> None:
    sizes = []
    for rate in ("2M", "100k"):
        written(tmp_path / f"{rate}.mp4", codec, "-b:v", rate)
        sizes.append((tmp_path / f"{rate}.mp4").stat().st_size)
    assert sizes[1] < sizes[0] / 2


def test_a_quality_that_is_asked_for_stays() -> None:
    for crf, given in ((None, False), (20.0, True)):
        assert ("-crf" in choose(Path("out.mp4"), VIDEO, codec="h264", crf=crf, rated=True).arguments) == given
