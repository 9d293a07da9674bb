"""Frames that cannot be decoded: the one before comes again at their time; and what is said of damaged files."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from deblur_cli.media import video_reader
from deblur_cli.media.video import Frame
from deblur_cli.media.video_reader import VideoReader
from tests.media.video_samples import make, spoil

MOVING = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=2")
H264 = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "30", "-g", "20")
B_FRAMES = ("-bf", "2", "-x264-params", "scenecut=0:b-adapt=0")
HEVC = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:keyint=20")
COUNT = 50


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("clips")
    return {
        "P": make(folder / "p.mp4", *MOVING, *H264, "-bf", "0"),
        "B": make(folder / "b.mp4", *MOVING, *H264, *B_FRAMES),
        "HEVC": make(folder / "h.mp4", *MOVING, *HEVC),
    }


def read(path: Path) -> tuple[VideoReader, list[Frame]]:
    with VideoReader(path) as reader:
        return reader, list(reader)


def same(one: Frame, other: Frame) -> bool:
    return all(map(np.array_equal, one.planes, other.planes))


@pytest.mark.parametrize("container", [".mp4", ".mkv"])
@pytest.mark.parametrize(
    ("clip", "number"), [("P", 25), ("P", 20), ("P", 49), ("B", 22), ("B", 23), ("B", 20), ("HEVC", 25), ("HEVC", 20)]
)
def test_a_frame_that_is_lost_is_the_one_before_at_its_own_time(
    clips: dict[str, Path], clip: str, number: int, container: str, tmp_path: Path
) -> None:
    spoilt = tmp_path / "spoilt.mp4"
    lost = spoil(clips[clip], spoilt, number)
    if container == ".mkv":
        lost = round(lost * read(spoilt)[0].video.time_base * 1000)
        spoilt = make(tmp_path / "spoilt.mkv", "-loglevel", "quiet", "-i", spoilt, "-c", "copy")
    whole = make(tmp_path / f"whole{container}", "-i", clips[clip], "-c", "copy")
    times = [frame.pts for frame in read(whole)[1]]
    reader, frames = read(spoilt)
    assert [frame.pts for frame in frames] == times and len(times) == COUNT
    repeats = [frame for frame in frames if frame.repeated]
    assert lost in [frame.pts for frame in repeats]
    assert reader.undecodable >= len(repeats), "some that need the lost one may have been patched"
    assert all(same(one, other) for one, other in pairwise(frames) if other.repeated)
    assert reader.damaged is None and reader.warnings == []


def test_a_picture_that_is_damaged_in_part_is_patched_and_counted_and_not_repeated(
    clips: dict[str, Path], tmp_path: Path
) -> None:
    spoil(clips["P"], tmp_path / "spoilt.mp4", 20, beginning=300)
    reader, frames = read(tmp_path / "spoilt.mp4")
    assert len(frames) == COUNT and not any(frame.repeated for frame in frames)
    assert reader.undecodable == 1


@pytest.mark.parametrize("beginning", range(4, 16))
def test_whatever_a_damaged_key_frame_says_times_are_the_same(
    clips: dict[str, Path], beginning: int, tmp_path: Path
) -> None:
    # Damaged numbers in its header may let frames come twice, late or in another order.
    spoil(clips["B"], tmp_path / "spoilt.mp4", 20, beginning=beginning)
    reader, frames = read(tmp_path / "spoilt.mp4")
    assert [frame.pts for frame in frames] == [frame.pts for frame in read(clips["B"])[1]]
    assert reader.undecodable > 0


def test_what_is_lost_ahead_of_the_first_frame_is_left_out(clips: dict[str, Path], tmp_path: Path) -> None:
    spoil(clips["P"], tmp_path / "spoilt.mp4", 0)
    reader, frames = read(tmp_path / "spoilt.mp4")
    assert 0 < len(frames) < COUNT and not frames[0].repeated
    assert reader.undecodable > 0


def test_parts_begin_and_end_in_the_middle_of_what_is_lost(clips: dict[str, Path], tmp_path: Path) -> None:
    lost = spoil(clips["P"], tmp_path / "spoilt.mp4", 45)
    with VideoReader(tmp_path / "spoilt.mp4", start=1.8, end=1.88) as reader:
        frames = list(reader)
    assert [frame.pts * reader.video.time_base * 25 for frame in frames] == [45, 46]
    assert frames[0].pts == lost and frames[0].repeated and not frames[1].repeated


def test_frames_that_an_edit_list_hides_are_not_shown_for_lost_ones(clips: dict[str, Path], tmp_path: Path) -> None:
    hiding = make(tmp_path / "hiding.mp4", "-ss", "0.5", "-i", clips["P"], "-c", "copy")
    times = [frame.pts for frame in read(hiding)[1]]
    for number in (5, 20, 30):
        spoil(hiding, tmp_path / "spoilt.mp4", number)
        found = [frame.pts for frame in read(tmp_path / "spoilt.mp4")[1]]
        assert found == times if number > 5 else set(found) <= set(times)
    assert times[0] >= 0 and len(times) < COUNT - 10


def test_packets_that_show_nothing_in_a_sound_video_are_no_losses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = ("-c:v", "libvpx", "-b:v", "100k", "-auto-alt-ref", "1", "-lag-in-frames", "16", "-g", "30")
    path = make(tmp_path / "hidden.webm", *MOVING, *hidden)
    monkeypatch.delattr(video_reader, "PacketTimes")
    reader, frames = read(path)
    assert len(frames) == COUNT and reader.undecodable == 0


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("part", [0.5, 0.7, 0.9])
def test_of_a_truncated_file_nothing_is_repeated_at_its_end(
    clips: dict[str, Path], suffix: str, part: float, tmp_path: Path
) -> None:
    path = make(tmp_path / f"cut{suffix}", "-i", clips["B"], "-c", "copy", "-movflags", "faststart")
    whole = [frame.pts for frame in read(path)[1]]
    data = path.read_bytes()
    begin = data.find(b"mdat") if suffix == ".mp4" else 0
    path.write_bytes(data[: begin + int((len(data) - begin) * part)])
    reader, frames = read(path)
    assert reader.damaged and 0 < len(frames) < COUNT
    assert {frame.pts for frame in frames} <= set(whole) and not any(frame.repeated for frame in frames)


def test_a_matroska_file_with_a_hole_is_said_to_be_damaged(clips: dict[str, Path], tmp_path: Path) -> None:
    path = make(tmp_path / "hole.mkv", "-i", clips["B"], "-c", "copy", "-cluster_time_limit", "400")
    data = bytearray(path.read_bytes())
    clusters = [at for at in range(len(data)) if data[at : at + 4] == b"\x1f\x43\xb6\x75"]
    data[clusters[2] : clusters[2] + 60] = bytes(60)
    path.write_bytes(data)
    reader, frames = read(path)
    assert reader.damaged
    assert frames[-1].pts == 1960 and 30 < len(frames) < COUNT, "it goes on behind the hole"
