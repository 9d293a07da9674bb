"""Frames of a video: which come, when they are shown, and what happens where the file is not as it should be."""

from __future__ import annotations

import threading
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from deblur_cli.errors import UsageError, VideoError
from deblur_cli.media.pixel_formats import planar
from deblur_cli.media.video_join import timestamps
from deblur_cli.media.video_reader import VideoReader
from tests.media.video_samples import H264, PICTURE, TONE, VARIABLE, make

LONG = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=4")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of 15 frames."""
    return make(tmp_path_factory.mktemp("clip") / "clip.mp4", *PICTURE, *TONE, *H264, "-c:a", "aac")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize(("start", "end"), [(0.0, 0.5), (2.2, 2.6), (1.999, None), (None, 0.04), (3.96, 9.0)])
def test_a_part_has_exactly_the_frames_shown_in_it(
    suffix: str, start: float | None, end: float | None, tmp_path: Path
) -> None:
    # Two B-frames and a key frame every second: beginnings lie before, at and behind key frames.
    path = make(tmp_path / f"long{suffix}", *LONG, "-c:v", "libx264", "-preset", "veryfast", "-g", "25")
    with VideoReader(path) as whole:
        origin, tick = whole.info.file_start, whole.video.time_base
        every = {frame.pts: frame.planes[0] for frame in whole}
    assert len(every) == 100
    with VideoReader(path, start=start, end=end) as part:
        found = {frame.pts: frame.planes[0] for frame in part}
    wanted = [pts for pts in every if Fraction(str(start or 0)) <= pts * tick - origin < Fraction(str(end or 99))]
    assert list(found) == wanted != []
    assert all(np.array_equal(every[pts], found[pts]) for pts in wanted)


@pytest.mark.parametrize(("start", "end"), [(-1.0, None), (2.0, 2.0), (3.0, 1.0)])
def test_a_part_that_cannot_be_is_a_wrong_use(start: float, end: float | None, clip: Path) -> None:
    with pytest.raises(UsageError):
        VideoReader(clip, start=start, end=end)


def test_reading_can_stop_anywhere_and_leaves_nothing_running(clip: Path, tmp_path: Path) -> None:
    large = make(tmp_path / "large.mp4", "-f", "lavfi", "-i", "testsrc2=s=640x480:r=25:d=2", *H264)
    before = threading.active_count()
    with VideoReader(large) as reader:
        for _ in reader:
            break
        process = reader._process
    assert process is None or process._child.poll() is not None
    assert threading.active_count() == before
    unread = VideoReader(large)
    next(iter(unread))
    unread.close()
    unread.close()
    assert threading.active_count() == before


def test_iterating_again_reads_again(clip: Path) -> None:
    with VideoReader(clip) as reader:
        assert [frame.pts for frame in reader] == [frame.pts for frame in reader]


def test_another_pixel_format_can_be_asked_for(clip: Path) -> None:
    pixels = planar("yuv444p10le")
    with VideoReader(clip, pixels=pixels) as reader:
        frame = next(iter(reader))
    assert [plane.shape for plane in frame.planes] == [(64, 96)] * 3
    assert frame.planes[0].dtype == np.uint16 and frame.planes[0].max() > 255


@pytest.mark.parametrize(
    ("stored", "decoded"),
    [("nv12", "yuv420p"), ("yuyv422", "yuv422p"), ("rgb24", "gbrp"), ("bgra", "gbrap"), ("yuv420p16be", "yuv420p16le")],
)
@pytest.mark.parametrize("extent", ["tv", "pc"])
def test_packed_pixels_are_laid_out_in_planes_without_a_change(
    stored: str, decoded: str, extent: str, tmp_path: Path
) -> None:
    ranged = ("-vf", f"format={decoded},setparams=range={extent}")
    plain = make(tmp_path / "plain.nut", *PICTURE, *ranged, "-c:v", "rawvideo", "-pix_fmt", decoded)
    packed = make(tmp_path / "packed.nut", "-i", plain, "-c:v", "rawvideo", "-pix_fmt", stored)
    with VideoReader(plain) as one, VideoReader(packed) as other:
        assert other.info.source_pixels == stored
        assert other.video.pixels.name == decoded
        for left, right in zip(one, other, strict=True):
            assert all(map(np.array_equal, left.planes, right.planes))


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_interlaced_frames_are_deinterlaced_with_a_warning(codec: str, tmp_path: Path) -> None:
    moving = "color=gray:s=96x64:r=50:d=0.8,geq=lum=60+120*gt(mod(X+6*N\\,48)\\,24):cb=128:cr=128"
    bars = ("-f", "lavfi", "-i", moving, "-vf", "interlace=lowpass=0,setfield=tff")
    x264 = ("-x264-params", "interlaced=1") if codec == "libx264" else ()
    path = make(tmp_path / "clip.ts", *bars, "-c:v", codec, "-flags", "+ildct+ilme", "-qscale", "2", *x264)
    with VideoReader(path) as reader:
        frames = list(reader)
    assert reader.info.interlaced and reader.info.field_order == "top first"
    assert reader.warnings == ["interlaced (top first): deinterlaced, one frame for each frame"]
    assert [frame.pts * reader.video.time_base for frame in frames] == timestamps(path, decode=True)
    assert len(frames) == 20
    comb = [np.abs(np.diff(frame.planes[0].astype(float), axis=0)).mean() for frame in frames]
    with VideoReader(path) as raw:
        object.__setattr__(raw.info, "field_order", "progressive")
        woven = [np.abs(np.diff(frame.planes[0].astype(float), axis=0)).mean() for frame in raw]
    assert np.mean(comb) < 0.4 * np.mean(woven)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_truncated_file_gives_what_decodes_and_says_why_it_ends(suffix: str, tmp_path: Path) -> None:
    path = make(tmp_path / f"clip{suffix}", *LONG, *H264, "-movflags", "faststart")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 6 // 10])
    with VideoReader(path) as reader:
        frames = list(reader)
    assert 20 < len(frames) < 100
    assert reader.damaged and "\n" not in reader.damaged


def test_a_file_with_no_frame_that_decodes_is_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "clip.mp4", *PICTURE, *H264)
    data = bytearray(path.read_bytes())
    begin = data.find(b"mdat") + 4
    end = data.find(b"moov") - 4
    data[begin:end] = bytes(end - begin)
    path.write_bytes(data)
    with pytest.raises(VideoError, match="none of its frames can be decoded"):
        VideoReader(path)


def test_a_size_that_changes_midway_is_scaled_to_the_first(tmp_path: Path) -> None:
    small = make(tmp_path / "small.ts", *PICTURE, *H264)
    large = make(tmp_path / "large.ts", "-f", "lavfi", "-i", "testsrc2=s=128x96:r=25:d=0.6", *H264)
    both = tmp_path / "both.ts"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    with VideoReader(both) as reader:
        shapes = {frame.planes[0].shape for frame in reader}
    assert shapes == {(64, 96)}
    assert any("the size changes to 128x96 midway" in line for line in reader.warnings)


def test_variable_rate_timestamps_are_the_files_own(tmp_path: Path) -> None:
    path = make(tmp_path / "clip.mp4", *PICTURE, *VARIABLE, *H264)
    with VideoReader(path) as reader:
        shown = [frame.pts * reader.video.time_base for frame in reader]
    made = [Fraction(k, 25) + k * 7 % 5 * Fraction(41, 10_000) for k in range(15)]
    assert max(abs(one - other) for one, other in zip(shown, made, strict=True)) <= Fraction(1, 90_000)
