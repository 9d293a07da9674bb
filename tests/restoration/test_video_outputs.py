"""Frames as pictures: on the disk before their segment counts as done, and looked at before they become the target."""

from __future__ import annotations

import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from deblur_cli.errors import VideoError
from deblur_cli.media import files
from deblur_cli.media.frame_folders import TIMESTAMPS
from deblur_cli.media.video import Frame
from deblur_cli.restoration.journal import Segment
from deblur_cli.restoration.video_outputs import PictureOutput, VideoSettings
from tests.restoration.videos import random_frame, video_format

VIDEO = video_format("gbrp", 6, 8)
FRAMES = 3
"""Of a segment in these tests."""


def output(folder: Path) -> PictureOutput:
    class Reader:
        info = None
        video = VIDEO

    working: Any = Reader()
    (folder / "working").mkdir(exist_ok=True)
    return PictureOutput(folder / "frames", folder / "working", working, VideoSettings(pictures=True))


def written(made: PictureOutput, count: int = 2) -> list[Segment]:
    segments = []
    for number in range(count):
        with made.segment(number, number * FRAMES) as sink:
            for frame in range(number * FRAMES, (number + 1) * FRAMES):
                sink.write(Frame(random_frame(VIDEO, frame).planes, frame * 3600))
        segments.append(Segment(made.name(number), FRAMES, 0, "", made.size(number)))
    return segments


def test_pictures_and_times_are_on_the_disk_before_the_segment_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synchronised: list[int] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synchronised.append(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(files.os, "fsync", fsync)
    made = output(tmp_path)
    (segment, _) = written(made)
    pictures = sorted((tmp_path / "working" / "pictures").iterdir())
    times = tmp_path / "working" / segment.name
    inodes = [path.stat().st_ino for path in (*pictures[:FRAMES], times)]
    assert synchronised[: FRAMES + 1] == inodes, "the times come last: they say that the pictures are there"
    assert len(synchronised) == 2 * (FRAMES + 1)
    synchronised.clear()
    with made.segment(2, 2 * FRAMES) as sink:
        sink.write(random_frame(VIDEO))
        sink.abort()
    assert not synchronised and not (tmp_path / "working" / made.name(2)).exists()


def test_whole_segments_become_the_target_without_what_a_kill_left_among_them(tmp_path: Path) -> None:
    made = output(tmp_path)
    segments = written(made)
    leftover = files.temporary_name(tmp_path / "working" / "pictures" / TIMESTAMPS)
    leftover.write_bytes(b"x")
    assert made.finish(segments) == []
    names = [f"{number:06d}.png" for number in range(1, 2 * FRAMES + 1)]
    assert sorted(path.name for path in (tmp_path / "frames").iterdir()) == [*names, TIMESTAMPS]
    stamps = (tmp_path / "frames" / TIMESTAMPS).read_text().splitlines()[1:]
    assert [Fraction(stamp) for stamp in stamps] == [40 * number for number in range(2 * FRAMES)]


@pytest.mark.parametrize(
    ("name", "harm", "message"),
    [
        ("pictures/000002.png", Path.unlink, "000002.png is missing or empty"),
        ("pictures/000006.png", lambda path: path.write_bytes(b""), "000006.png is missing or empty"),
        ("000001.times", lambda path: path.write_bytes(b"0\n1/25"), "times of 2 frames, where 3 were written"),
        ("000000.times", lambda path: path.write_bytes(b""), "times of 0 frames, where 3 were written"),
    ],
)
def test_what_a_power_cut_took_is_said_and_nothing_becomes_the_target(
    tmp_path: Path, name: str, harm: Callable[[Path], object], message: str
) -> None:
    made = output(tmp_path)
    segments = written(made)
    harm(tmp_path / "working" / name)
    with pytest.raises(VideoError, match=f"{message}; remove '.*' to start afresh"):
        made.finish(segments)
    assert not (tmp_path / "frames").exists()
