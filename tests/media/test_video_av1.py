"""AV1 of any number of frames at any times: SVT-AV1 is told a frame rate that it takes."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from deblur_cli.media.encoders import choose
from deblur_cli.media.probe import VideoInfo, probe
from deblur_cli.media.video import Colour, PixelFormat, VideoFormat
from deblur_cli.media.video_join import timestamps
from deblur_cli.media.video_writer import VideoWriter
from tests.media.video_samples import H264, PICTURE, make, noise

VIDEO = VideoFormat(64, 64, PixelFormat("yuv420p", "yuv", 8, 1, 1), Colour(), Fraction(1, 90_000))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> VideoInfo:
    """A video of 25 frames a second."""
    return probe(make(tmp_path_factory.mktemp("source") / "source.mp4", *PICTURE, *H264))


@pytest.mark.parametrize(
    ("base", "stamps"),
    [
        (Fraction(1, 90_000), [630_000]),
        (Fraction(1, 12_800), [3584, 4096]),
        (Fraction(1, 1000), [17, 33, 34, 51, 84, 124, 125, 127, 167, 207, 223, 224]),
        (Fraction(1, 1000), list(range(0, 20, 2))),
    ],
)
@pytest.mark.parametrize("parameters", [(), ("-svtav1-params", "aq-mode=0")])
def test_few_frames_irregular_ones_and_very_many_a_second_are_written_at_their_times(
    base: Fraction, stamps: list[int], parameters: tuple[str, ...], source: VideoInfo, tmp_path: Path
) -> None:
    video, target = replace(VIDEO, time_base=base), tmp_path / "out.mp4"
    with VideoWriter(target, source, video, codec="av1", preset="11", extra=parameters, with_streams=False) as writer:
        for stamp in stamps:
            writer.write(noise(video.pixels, video.height, video.width, stamp, stamp))
    assert timestamps(target) == [stamp * base for stamp in stamps]


@pytest.mark.parametrize(
    ("average", "base", "told"),
    [
        (Fraction(30_000, 1001), Fraction(1, 90_000), "fps-num=30000:fps-denom=1001"),
        (Fraction(1, 2), Fraction(1, 90_000), "fps-num=1:fps-denom=2"),
        (Fraction(960), Fraction(1, 90_000), "fps-num=240:fps-denom=1"),
        (None, Fraction(1, 90_000), "fps-num=25:fps-denom=1"),
        (None, Fraction(1001, 24_000), "fps-num=24000:fps-denom=1001"),
    ],
)
def test_the_rate_is_the_sources_as_far_as_it_is_known_and_taken(
    average: Fraction | None, base: Fraction, told: str, source: VideoInfo
) -> None:
    video = replace(VIDEO, time_base=base)
    light = replace(source, average_rate=average, content_light=(1000, 400))
    chosen = choose(Path("out.mp4"), video, light, codec="av1").arguments
    assert chosen[chosen.index("-svtav1-params") + 1] == f"content-light=1000,400:{told}"
    chosen = choose(Path("out.mp4"), video, light, codec="libsvtav1").arguments
    assert chosen[chosen.index("-svtav1-params") + 1] == told
    if average is None:
        assert choose(Path("out.mp4"), video, codec="av1").arguments[-1] == told
    assert "-svtav1-params" not in choose(Path("out.mp4"), video, source, codec="libaom-av1").arguments
