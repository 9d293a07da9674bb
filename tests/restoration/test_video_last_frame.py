"""Until when the last frame is shown: as long as in the source, or until the part that was asked for ends."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from deblur_cli.media import ffmpeg
from deblur_cli.media.frame_folders import FrameFolderReader
from deblur_cli.media.probe import probe
from deblur_cli.media.video_join import timestamps
from deblur_cli.media.video_reader import VideoReader
from deblur_cli.restoration.restorer import Restorer
from deblur_cli.restoration.video_job import restore_video
from deblur_cli.restoration.video_outputs import VideoSettings
from tests.media.video_samples import H264, make

pytestmark = pytest.mark.usefixtures("one_thread")

SHOWN = (0, 2, 3, 5, 6, 7)
"""When each picture of the slides is shown, in seconds; the last one for five."""
LASTING = "setts=pts=PTS:dts=DTS:duration=if(gt(PTS*TB\\,6.5)+eq(NEXT_DTS\\,NOPTS)\\,12/TB-PTS\\,DURATION)"


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    times = "+".join(f"eq(N,{number})*{second}" for number, second in enumerate(SHOWN))
    picture = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=1", "-frames:v", str(len(SHOWN)))
    plain = make(
        folder / "plain.mp4", *picture, "-vf", f"setpts='({times})/TB'", "-fps_mode", "passthrough", *H264, "-bf", "2"
    )
    return make(folder / "slides.mp4", "-i", plain, "-c", "copy", "-bsf:v", LASTING)


def restored(source: Path, target: Path, **settings: float | Fraction | None) -> Fraction:
    """When the target ends, in seconds of its clock."""
    restorer = Restorer("test-tiny", device="cpu", precision="fp32")
    restore_video(source, target, restorer, VideoSettings(preset="ultrafast", **settings))  # type: ignore[arg-type]
    info = probe(target)
    assert info.duration is not None
    return info.file_start + info.duration


def lasting(source: Path) -> Fraction:
    """For how many seconds a reader has the last frame shown."""
    with VideoReader(source) as reader:
        last = [frame.pts for frame in reader][-1]
        end = reader.until(last)
    assert end is not None
    return (end - last) * reader.video.time_base


@pytest.mark.parametrize("kind", ["mp4", "mov", "mkv"])
def test_the_last_slide_stays_as_long_as_in_the_source(slides: Path, kind: str, tmp_path: Path) -> None:
    source = make(tmp_path / f"source.{kind}", "-i", slides, "-c", "copy", "-bsf:v", LASTING)
    assert probe(source).duration == 12
    assert restored(source, tmp_path / f"target.{kind}") == 12
    assert timestamps(tmp_path / f"target.{kind}") == list(SHOWN)
    if kind == "mkv":  # whose frames have a length each, in whatever order they are decoded
        listing = ("-i", str(tmp_path / "target.mkv"), "-map", "0:V", "-c", "copy", "-f", "framecrc", "-")
        packets = [line.split(",") for line in ffmpeg.run(listing).stdout.decode().splitlines() if line[0] != "#"]
        assert [int(packet[2]) for packet in packets if int(packet[3]) > 2000] == [7000]


def test_that_a_broadcast_cannot_say_it_is_said(slides: Path, tmp_path: Path) -> None:
    restorer = Restorer("test-tiny", device="cpu", precision="fp32")

    def dropped(**settings: float) -> list[str]:
        told = restore_video(slides, tmp_path / "out.ts", restorer, VideoSettings(preset="ultrafast", **settings))
        return [line for line in told.warnings if "last frame" in line]

    assert dropped() == ["that the last frame stays for 5.00 seconds: a mpegts file does not hold it"]
    assert dropped(end=7.0) == []


@pytest.mark.parametrize(
    ("start", "end", "last", "duration"),
    [
        (None, 8.5, 7, 8.5),
        (None, 30, 7, 12),
        (0.5, 5.25, 5, 4.75),
        (4, 5.5, 5, 1.5),
        (None, 2.5, 2, 2.5),
        (None, 7, 6, 7),
    ],
)
def test_of_a_part_it_is_shown_until_the_end_that_was_asked_for(
    slides: Path, start: float | None, end: float, last: int, duration: float, tmp_path: Path
) -> None:
    assert restored(slides, tmp_path / "part.mp4", start=start, end=end) == duration
    assert timestamps(tmp_path / "part.mp4")[-1] == last - (start or 0)


def test_a_video_of_one_frame_lasts_as_long_as_it_did(tmp_path: Path) -> None:
    picture = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=1", "-frames:v", "1")
    source = make(tmp_path / "one.mp4", *picture, *H264, "-bsf:v", "setts=duration=4/TB")
    assert restored(source, tmp_path / "again.mp4") == 4
    assert restored(source, tmp_path / "again.mkv") == 4


def test_a_picture_of_a_folder_is_shown_for_its_share_of_a_second_or_until_the_next(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    make(folder / "%03d.png", "-f", "lavfi", "-i", "testsrc2=s=64x48:r=5:d=0.6")
    assert restored(folder, tmp_path / "slow.mp4", rate=Fraction(2)) == Fraction(3, 2)
    assert restored(folder, tmp_path / "first.mp4", rate=Fraction(2), end=0.5) == Fraction(1, 2)
    (folder / "timestamps.txt").write_text("# timestamp format v2\n0\n1000\n3000\n")
    with FrameFolderReader(folder) as reader:
        assert [reader.until(time) for time in (0, 1_000_000, 3_000_000)] == [1_000_000, 3_000_000, 5_000_000]
    with FrameFolderReader(folder, end=3.5) as reader:
        assert reader.until(3_000_000) == 3_500_000
    assert restored(folder, tmp_path / "long.mp4", end=60) == 5, "no longer than there is something to show"


@pytest.mark.parametrize("pauses", ["gte(N\\,11)*5", "floor(N/5)*2"])
def test_a_pause_that_the_table_counts_for_another_frame_does_not_make_the_last_one_longer(
    pauses: str, tmp_path: Path
) -> None:
    picture = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25", "-frames:v", "14")
    gaps = ("-vf", f"setpts=N/25/TB+({pauses})/TB", "-fps_mode", "passthrough")
    source = make(tmp_path / "source.mp4", *picture, *gaps, *H264, "-bf", "2", "-b_strategy", "0")
    assert lasting(source) == Fraction(1, 25)


def test_the_last_frame_of_a_file_that_is_cut_off_does_not_stay_till_the_end_of_the_whole(tmp_path: Path) -> None:
    picture = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=2", "-c:v", "rawvideo", "-pix_fmt", "uyvy422")
    data = make(tmp_path / "whole.mov", *picture, "-movflags", "faststart").read_bytes()
    cut = tmp_path / "cut.mov"
    cut.write_bytes(data[: data.find(b"mdat") + 4 + 10 * 64 * 48 * 2])
    assert lasting(cut) == Fraction(1, 25)


def test_in_matroska_the_last_frame_has_a_length_of_its_own(slides: Path, tmp_path: Path) -> None:
    assert lasting(make(tmp_path / "source.mkv", "-i", slides, "-c", "copy")) == 2, "not the six of another frame"


def test_what_a_container_does_not_say_is_not_known(slides: Path, tmp_path: Path) -> None:
    raw = make(tmp_path / "clip.avi", "-f", "lavfi", "-i", "testsrc2=s=64x48:r=5:d=1", "-c:v", "mpeg4", "-bf", "2")
    with VideoReader(raw) as reader:
        last = [frame.pts for frame in reader][-1]
        assert reader.until(last) is None
    assert restored(raw, tmp_path / "clip.mp4") == (last + 1) * reader.video.time_base == Fraction(6, 5)
