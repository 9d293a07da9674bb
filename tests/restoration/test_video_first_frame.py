"""What is on the screen where a part begins: the frame before, where the next one is not shown for long."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from deblur_cli.errors import VideoError
from deblur_cli.media.frame_folders import TIMESTAMPS, FrameFolderWriter
from deblur_cli.media.probe import probe
from deblur_cli.media.video_join import timestamps
from deblur_cli.media.video_reader import VideoReader
from deblur_cli.restoration import video_job
from deblur_cli.restoration.restorer import Restorer
from deblur_cli.restoration.video_job import VideoResult, restore_video
from deblur_cli.restoration.video_outputs import VideoSettings
from tests.media.video_samples import make, sound_times

pytestmark = pytest.mark.usefixtures("one_thread")

SHOWN = (0, 4, 9, 20, 21, 23, 40, 90, 91, 200)
"""When each picture of the recording is shown, in seconds; the last one for one."""
TICK = Fraction(1, 900)
"""No clock of these files is coarser."""


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture every few seconds, some decoded long before they are shown, and a tone of 30 seconds."""
    times = "+".join(f"eq(N,{number})*{second}" for number, second in enumerate(SHOWN))
    picture = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=1", "-f", "lavfi", "-i", "sine=d=30")
    shown = ("-frames:v", str(len(SHOWN)), "-vf", f"setpts='({times})/TB'", "-fps_mode", "passthrough")
    coded = ("-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-g", "3", "-c:a", "aac")
    return make(tmp_path_factory.mktemp("recording") / "recording.mp4", *picture, *shown, *coded)


def read(path: Path, **part: float | None) -> list[tuple[Fraction, bytes]]:
    """When each frame is shown, in seconds after the beginning of the file, and its brightness."""
    with VideoReader(path, **part) as reader:
        tick, zero = reader.video.time_base, reader.info.file_start
        return [(frame.pts * tick - zero, np.ascontiguousarray(frame.planes[0]).tobytes()) for frame in reader]


@pytest.mark.parametrize("kind", ["mp4", "mkv", "ts"])
def test_a_part_begins_with_the_frame_that_is_on_the_screen(recording: Path, kind: str, tmp_path: Path) -> None:
    source = make(tmp_path / f"source.{kind}", "-i", recording, "-map", "0:v", "-c", "copy")
    pictures = dict(read(source))
    assert list(pictures) == list(SHOWN)
    for start, end, first, others in (
        (5, 8, 4, []),
        (5, 15, 4, [9]),
        (10.5, 21, 9, [20]),
        (19.9, None, 9, [20, 21, 23, 40, 90, 91, 200]),
        (19.96, 21, 20, []),
        (20, 21, 20, []),
        (30, 90.5, 23, [40, 90]),
        (150, None, 91, [200]),  # the key frame shown at 200 is decoded before this, and the one before far ahead
        (200.5, None, 200, []),
    ):
        (time, picture), *later = read(source, start=start, end=end)
        assert picture == pictures[Fraction(first)], (start, end)
        assert 0 <= max(first, Fraction(str(start))) - time < TICK
        assert later == [(other, pictures[Fraction(other)]) for other in others]
    assert read(source, start=300) == [], "it is over by then"


def test_of_frames_at_a_usual_rate_none_is_moved(tmp_path: Path) -> None:
    source = make(tmp_path / "usual.mp4", "-f", "lavfi", "-i", "testsrc2=s=64x48:r=24:d=1", "-c:v", "libx264")
    assert [time for time, _ in read(source, start=0.51, end=0.6)] == [Fraction(13, 24), Fraction(14, 24)]
    for start, end in ((0.51, 0.53), (0.97, None)):  # rather than none at all
        ((time, _),) = read(source, start=start, end=end)
        assert 0 <= Fraction(str(start)) - time < TICK


@pytest.mark.parametrize("kind", ["mp4", "mov", "mkv"])
def test_the_film_begins_with_a_picture_and_its_sound_in_step(recording: Path, kind: str, tmp_path: Path) -> None:
    target = tmp_path / f"part.{kind}"
    restorer = Restorer("test-tiny", device="cpu", precision="fp32")
    restore_video(recording, target, restorer, VideoSettings(preset="ultrafast", start=5, end=15))
    assert timestamps(target) == [0, 4]
    info = probe(target)
    assert info.start == 0 and info.duration == pytest.approx(10, abs=0.15)
    heard = [time for time in sound_times(target) if time >= 0]
    assert heard[0] < 0.13 and 9.7 < heard[-1] < 10
    restore_video(recording, target, restorer, VideoSettings(preset="ultrafast", start=5, end=8))
    assert timestamps(target) == [0]
    assert probe(target).duration == pytest.approx(3, abs=0.15)
    with pytest.raises(VideoError, match="no frame in what was asked for; it is 100"):
        restore_video(recording, tmp_path / f"none.{kind}", restorer, VideoSettings(start=250))


def test_pictures_begin_with_the_one_that_is_on_the_screen(recording: Path, tmp_path: Path) -> None:
    restorer = Restorer("test-tiny", device="cpu", precision="fp32")
    restore_video(recording, tmp_path / "pictures", restorer, VideoSettings(pictures=True, start=5, end=21))
    assert [path.name for path in sorted(tmp_path.glob("pictures/*.png"))] == ["000001.png", "000002.png", "000003.png"]
    times = (tmp_path / "pictures" / "timestamps.txt").read_text().splitlines()[1:]
    assert [float(time) for time in times] == [0, 4000, 15000]


@pytest.mark.parametrize(("end", "count"), [(8, 1), (21, 3)])
def test_a_part_that_was_stopped_behind_a_frame_that_was_moved_goes_on_from_it(
    recording: Path, end: float, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_job, "segment_length", lambda *_: 1)
    restorer = Restorer("test-tiny-recurrent", device="cpu", precision="fp32")

    def restored(name: str, asked: int = 99) -> VideoResult:
        answers = iter([False] * asked)
        settings = VideoSettings(codec="ffv1", start=5, end=end)
        return restore_video(recording, tmp_path / name, restorer, settings, should_stop=lambda: next(answers, True))

    restored("whole.mkv")
    stopped = restored("part.mkv", 1)
    assert stopped.stopped and stopped.frames == 1
    result = restored("part.mkv")
    assert (result.before, result.frames) == (1, count)
    assert read(tmp_path / "part.mkv") == read(tmp_path / "whole.mkv")
    assert len(timestamps(tmp_path / "part.mkv")) == count


def test_a_part_of_a_folder_of_pictures_begins_at_once(tmp_path: Path) -> None:
    writer = FrameFolderWriter(tmp_path / "pictures")
    for _ in range(3):
        writer.write(np.full((48, 64, 3), 90, np.uint8))
    (tmp_path / "pictures" / TIMESTAMPS).write_text("# timestamp format v2\n0\n4000\n9000\n")
    settings = VideoSettings(preset="ultrafast", start=5, end=12)
    restorer = Restorer("test-tiny", device="cpu", precision="fp32")
    restore_video(tmp_path / "pictures", tmp_path / "part.mp4", restorer, settings)
    assert timestamps(tmp_path / "part.mp4") == [0, 4]
    assert probe(tmp_path / "part.mp4").duration == 7
    restore_video(tmp_path / "pictures", tmp_path / "part", restorer, replace(settings, pictures=True))
    assert (tmp_path / "part" / TIMESTAMPS).read_text().split("\n")[1:3] == ["0.000000", "4000.000000"]
