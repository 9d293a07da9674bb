"""What filters frames go through on their way into the encoder, those of a user among them, leave as it is."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from deblur_cli.media.encoders import choose
from deblur_cli.media.pixel_formats import planar
from deblur_cli.media.video import Colour, Frame, PixelFormat, VideoFormat
from deblur_cli.media.video_reader import VideoReader
from deblur_cli.media.video_writer import VideoWriter
from tests.media.video_samples import PICTURE, differences, make

TAGS = (
    "setparams=range=pc:colorspace=bt2020nc:color_primaries=bt2020:color_trc=smpte2084:chroma_location=topleft,"
    "setsar=4/3"
)


def planes(path: Path) -> tuple[np.ndarray, ...]:
    """Of the first frame."""
    with VideoReader(path) as reader:
        return next(iter(reader)).planes


@pytest.mark.parametrize(
    "filters",
    [
        ("-vf", "hflip"),
        ("-filter:v", "hflip"),
        ("-vf", "[in]split[a][b];[b]crop=8:8[c];[a][c]overlay=0:0[d];[d]hflip[out]"),
        ("-vf", "format=gbrp,hflip"),
    ],
)
def test_a_users_filters_leave_the_tags_and_the_shape_of_the_pixels(filters: tuple[str, str], tmp_path: Path) -> None:
    tagged = ("-vf", f"format=yuv420p10le,{TAGS}", "-c:v", "ffv1")
    source, target = make(tmp_path / "source.mkv", *PICTURE, *tagged), tmp_path / "target.mkv"
    with VideoReader(source) as reader, VideoWriter(target, reader.info, reader.video, extra=filters) as writer:
        for frame in reader:
            writer.write(frame)
    with VideoReader(target) as written:
        assert differences(reader.info, written.info) == []
        assert written.info.sample_aspect == Fraction(4, 3)
    before, after = planes(source)[0].astype(int), planes(target)[0].astype(int)
    assert np.median(abs(before[:, ::-1] - after)) < 3, "turned, and of the same range"


def test_of_two_the_last_counts_and_may_change_the_shape_of_the_pixels(tmp_path: Path) -> None:
    tagged = ("-vf", f"format=yuv420p10le,{TAGS}", "-c:v", "ffv1")
    source, target = make(tmp_path / "source.mkv", *PICTURE, *tagged), tmp_path / "target.mkv"
    words = ("-vf", "crop=32:32", "-filter:v:0", "setsar=2")
    with VideoReader(source) as reader, VideoWriter(target, reader.info, reader.video, extra=words) as writer:
        for frame in reader:
            writer.write(frame)
    with VideoReader(target) as written:
        assert (written.info.sample_aspect, written.info.tags) == (2, reader.info.tags)
        assert (written.video.width, written.video.height) == (96, 64)


def test_of_rgb_a_users_filters_leave_the_colours(tmp_path: Path) -> None:
    video = VideoFormat(64, 48, PixelFormat("gbrp", "rgb", 8), Colour("gbr", True, "bt709", "bt709"), Fraction(1, 25))
    red = tuple(np.full((48, 64), value, np.uint8) for value in (0, 0, 255))
    target = tmp_path / "out.mp4"
    with VideoWriter(target, None, video, extra=["-vf", "colorbalance"]) as writer:
        writer.write(Frame(red, 0))
    with VideoReader(target) as written:
        assert (written.info.tags.matrix, written.info.tags.primaries) == ("bt709", "bt709")
    means = [plane.mean() for plane in planes(target)]
    assert means == pytest.approx([16 + 219 * 0.2126, 128 - 224 * 0.2126 / 1.8556, 240], abs=1.5)


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize(
    ("name", "codec", "suffix"), [("gray", "vp9", ".webm"), ("gray12le", "vp9", ".webm"), ("gray10le", "av1", ".mp4")]
)
@pytest.mark.parametrize("extra", [(), ("-vf", "hqdn3d=0:0:0:0")])
def test_grey_keeps_its_levels_where_the_encoder_has_none(
    name: str, codec: str, suffix: str, full_range: bool, extra: tuple[str, ...], tmp_path: Path
) -> None:
    pixels = planar(name)
    assert pixels is not None
    video = VideoFormat(64, 48, pixels, Colour("bt709", full_range), Fraction(1, 25))
    levels = np.repeat(np.array([16, 60, 128, 235]), 16).astype(pixels.dtype) << (pixels.depth - 8)
    frame = Frame((np.tile(levels, (48, 1)),), 0)
    target = tmp_path / f"out{suffix}"
    with VideoWriter(target, None, video, codec=codec, crf=1, preset="8", extra=extra) as writer:
        writer.write(frame)
    assert writer.encoding.pixels == choose(target, video, codec=codec).pixels == name.replace("gray", "yuv420p")
    with VideoReader(target) as written:
        assert written.video.colour.full_range == full_range
        luma, *chroma = next(iter(written)).planes
    unit = 1 << (pixels.depth - 8)
    assert luma[24, 8::16] / unit == pytest.approx([16, 60, 128, 235], abs=0.3 if unit > 1 else 0)
    assert all(abs(plane / unit - 128).max() < 1 for plane in chroma)
