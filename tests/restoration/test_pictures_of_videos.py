"""A video as a folder of pictures and back: its colours and the shape of its pixels stay, or it is said that they do
not.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from deblur_cli.media.frame_folders import FrameFolderReader
from deblur_cli.media.probe import probe
from deblur_cli.media.video_reader import VideoReader
from deblur_cli.restoration.journal import Segment
from deblur_cli.restoration.video_outputs import EncodedOutput, Output, PictureOutput, Reader, VideoSettings
from tests.media.video_samples import H264, make

CLIP = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=0.12")
PQ = "setparams=colorspace=bt2020nc:color_primaries=bt2020:color_trc=smpte2084:range=tv"
MASTERING = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"


def through(reader: Reader, output: Output) -> list[str]:
    """Put all frames into `output`, as one segment, unrestored; what it says at the end."""
    frames = list(reader)
    with output.segment(0, 0) as sink:
        for frame in frames:
            sink.write(frame)
    return output.finish([Segment(output.name(0), len(frames), frames[-1].pts, "", output.size(0))])


def to_pictures(source: Path, folder: Path) -> list[str]:
    (folder.parent / "working").mkdir(exist_ok=True)
    with VideoReader(source) as reader:
        return through(reader, PictureOutput(folder, folder.parent / "working", reader, VideoSettings(pictures=True)))


def to_video(folder: Path, target: Path, extra: Sequence[str] = (), codec: str = "auto") -> list[str]:
    (folder.parent / "segments").mkdir(exist_ok=True)
    preset = None if codec == "ffv1" else "ultrafast"
    settings = VideoSettings(codec=codec, preset=preset, extra=tuple(extra))
    with FrameFolderReader(folder) as reader:
        return through(reader, EncodedOutput(target, folder.parent / "segments", reader, settings))


def test_hdr_colours_and_wide_pixels_go_out_and_come_back(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mkv", *CLIP, "-vf", f"{PQ},setsar=64/45,format=yuv420p10le", "-c:v", "ffv1")
    (line,) = to_pictures(source, tmp_path / "frames")
    assert line.startswith("the shape of a pixel, 64:45: ")
    reader = FrameFolderReader(tmp_path / "frames")
    colour = reader.video.colour
    assert (colour.primaries, colour.transfer, reader.sample_aspect) == ("bt2020", "smpte2084", Fraction(64, 45))
    for name, codec in (("back.mkv", "ffv1"), ("back.mp4", "h264")):
        to_video(tmp_path / "frames", tmp_path / name, codec=codec)
        found = probe(tmp_path / name)
        assert (found.tags.primaries, found.tags.transfer) == ("bt2020", "smpte2084")
        assert found.tags.matrix == ("gbr" if codec == "ffv1" else "bt2020nc")
        # ffmpeg takes the shape of the whole picture, in numbers up to 255.
        assert found.sample_aspect is not None and abs(found.sample_aspect / Fraction(64, 45) - 1) < 0.001
    with VideoReader(tmp_path / "back.mkv") as back:
        for one, other in zip(reader, back, strict=True):
            assert all(map(np.array_equal, one.planes, other.planes))


def test_the_shape_that_a_user_asks_for_counts(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mkv", *CLIP, "-vf", "setsar=4/3", *H264)
    to_pictures(source, tmp_path / "frames")
    to_video(tmp_path / "frames", tmp_path / "back.mp4")
    assert probe(tmp_path / "back.mp4").sample_aspect == Fraction(4, 3)
    to_video(tmp_path / "frames", tmp_path / "asked.mp4", ["-aspect", "2:1"])
    assert probe(tmp_path / "asked.mp4").sample_aspect == Fraction(3, 2)


@pytest.mark.parametrize(("turn", "aspect"), [("90", Fraction(45, 64)), ("180", Fraction(64, 45))])
def test_pixels_stand_as_the_pictures_do(turn: str, aspect: Fraction, tmp_path: Path) -> None:
    lying = make(tmp_path / "lying.mp4", *CLIP, "-vf", "setsar=64/45", *H264)
    source = make(tmp_path / "in.mp4", "-display_rotation", turn, "-i", lying, "-c", "copy")
    to_pictures(source, tmp_path / "frames")
    assert FrameFolderReader(tmp_path / "frames").sample_aspect == aspect


def test_pictures_of_pictures_say_what_those_say(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mkv", *CLIP, "-vf", f"{PQ},setsar=64/45", *H264)
    to_pictures(source, tmp_path / "frames")
    reader = FrameFolderReader(tmp_path / "frames")
    through(reader, PictureOutput(tmp_path / "again", tmp_path / "working", reader, VideoSettings(pictures=True)))
    again = FrameFolderReader(tmp_path / "again")
    assert (again.video.colour, again.sample_aspect) == (reader.video.colour, Fraction(64, 45))


def test_of_an_everyday_video_nothing_is_said(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4", *CLIP, "-vf", "setsar=1", *H264)
    assert to_pictures(source, tmp_path / "frames") == []
    data = (tmp_path / "frames" / "000001.png").read_bytes()
    assert not any(kind in data for kind in (b"cICP", b"pHYs", b"tEXt"))


def test_mastering_data_are_said_not_to_be_written_into_pictures(tmp_path: Path) -> None:
    parameters = f"log-level=error:master-display={MASTERING}:max-cll=1000,400"
    hevc = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", parameters, "-pix_fmt", "yuv420p10le")
    source = make(tmp_path / "in.mp4", *CLIP, "-vf", PQ, *hevc)
    assert to_pictures(source, tmp_path / "frames") == ["HDR10 mastering data: not written into pictures"]
