"""One video restored: resumed after kills, stops and full disks, cut, compared, as pictures; and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deblur_cli.errors import DiskFullError, UsageError, VideoError
from deblur_cli.media import ffmpeg_arguments
from deblur_cli.media.probe import probe
from deblur_cli.media.video_join import timestamps
from deblur_cli.media.video_reader import VideoReader
from deblur_cli.media.video_writer import VideoWriter
from deblur_cli.restoration import video_job, video_outputs
from deblur_cli.restoration.journal import working_folder
from deblur_cli.restoration.restorer import Restorer
from deblur_cli.restoration.video_job import (
    FEWEST_FRAMES,
    LEAST_FRAMES,
    MOST_FRAMES,
    VideoResult,
    restore_video,
    segment_length,
)
from deblur_cli.restoration.video_outputs import VideoSettings
from tests.media.video_samples import H264, PICTURE, QUICK, TONE, VARIABLE, make, packet_hashes, spoil

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 5
"""Frames of a segment in these tests."""
QUICKLY = VideoSettings(preset="ultrafast")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifteen frames at a variable rate, with B-frames and a tone."""
    target = tmp_path_factory.mktemp("clips") / "clip.mp4"
    return make(target, *PICTURE, *TONE, *VARIABLE, "-c:v", "libx264", "-crf", "20", "-g", "6", "-c:a", "aac")


@pytest.fixture
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_job, "segment_length", lambda *_: SIZE)


def restorer(network: str = "test-tiny") -> Restorer:
    return Restorer(network, device="cpu", precision="fp32")


def content(path: Path) -> tuple[str, list[Fraction]]:
    """A hash of the decoded frames, and the timestamps."""
    hashed = hashlib.sha256()
    for frame in VideoReader(path):
        for plane in frame.planes:
            hashed.update(np.ascontiguousarray(plane).data)
    return hashed.hexdigest(), timestamps(path)


def stop_at(frame: int, clip: Path, target: Path, network: str, **options: object) -> VideoResult:
    """Restore, and wish to stop when so many frames are written."""
    written = [0]

    def progress(done: int, expected: int | None) -> None:
        written[0] = done

    return restore_video(
        clip,
        target,
        restorer(network),
        QUICKLY,
        progress=progress,
        should_stop=lambda: written[0] >= frame,
        **options,  # type: ignore[arg-type]
    )


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")
@pytest.mark.usefixtures("short_segments")
def test_killed_at_three_random_moments_it_ends_as_if_it_had_never_been(clip: Path, tmp_path: Path) -> None:
    networks = ["test-tiny", "test-tiny-recurrent"]
    moments = {network: sorted(random.Random(network).sample(range(1, 15), 3)) for network in networks}
    jobs = [[network, str(tmp_path / f"{network}.mp4"), [*moments[network], None]] for network in networks]
    root = Path(__file__).parents[2]
    told = subprocess.run(
        [sys.executable, Path(__file__).with_name("kills.py"), clip, str(SIZE), json.dumps(jobs)],
        capture_output=True,
        env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert told.returncode == 0, told.stderr.decode()
    for network, before in zip(networks, json.loads(told.stdout), strict=True):
        assert before % SIZE == 0 and before >= moments[network][-1] - 2 * SIZE, "it went on, and not from the start"
        restore_video(clip, tmp_path / "unbroken.mp4", restorer(network), QUICKLY)
        killed = tmp_path / f"{network}.mp4"
        assert content(killed) == content(tmp_path / "unbroken.mp4")
        assert timestamps(killed) == timestamps(clip)
        assert packet_hashes(killed) == packet_hashes(clip)
    assert {path.name for path in tmp_path.iterdir()} == {"unbroken.mp4", *(f"{network}.mp4" for network in networks)}


@pytest.mark.usefixtures("short_segments")
@pytest.mark.parametrize("network", ["test-tiny", "test-tiny-recurrent"])
def test_stopped_at_any_frame_the_same_call_goes_on_behind_the_last_whole_segment(
    clip: Path, tmp_path: Path, network: str
) -> None:
    restore_video(clip, tmp_path / "unbroken.mp4", restorer(network), QUICKLY)
    target = tmp_path / "stopped.mp4"
    for frame in (2, 5, 8, 12):
        result = stop_at(frame, clip, target, network)
        assert result.stopped and result.frames == frame // SIZE * SIZE
        assert not target.exists()
    result = restore_video(clip, target, restorer(network), QUICKLY)
    assert (result.frames, result.before, result.stopped) == (15, 10, False)
    assert content(target) == content(tmp_path / "unbroken.mp4")
    assert not working_folder(target).exists()


@pytest.mark.usefixtures("short_segments")
@pytest.mark.parametrize("suffix", [".ts", ".avi", ".mkv"])
def test_sources_without_an_index_or_with_frames_far_from_key_frames_go_on_at_the_right_frame(
    tmp_path: Path, suffix: str
) -> None:
    codec = ["-c:v", "mpeg4"] if suffix == ".avi" else [*H264, "-bf", "3", "-x264-params", "open-gop=1:keyint=7"]
    source = make(tmp_path / f"source{suffix}", "-ss", "0", *PICTURE, "-filter_complex", "loop=3:15,fps=10", *codec)
    target, count = tmp_path / "a.mkv", len(list(VideoReader(source)))
    assert count > 20
    restore_video(source, tmp_path / "unbroken.mkv", restorer(), QUICKLY)
    assert stop_at(count - 2, source, target, "test-tiny").stopped
    assert restore_video(source, target, restorer(), QUICKLY).before == (count - 2) // SIZE * SIZE
    assert content(target) == content(tmp_path / "unbroken.mkv")


@pytest.mark.usefixtures("short_segments")
def test_a_network_that_changes_nothing_gives_every_frame_back_and_every_stream(clip: Path, tmp_path: Path) -> None:
    result = restore_video(clip, tmp_path / "a.mkv", restorer(), VideoSettings(codec="ffv1"))
    assert result.frames == 15 and result.warnings == () and result.damaged is None
    assert content(tmp_path / "a.mkv")[0] == content(clip)[0]
    assert packet_hashes(tmp_path / "a.mkv") == packet_hashes(clip)


@pytest.mark.usefixtures("short_segments")
def test_a_changed_source_or_other_options_are_refused_and_overwrite_starts_afresh(clip: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "source.mp4", tmp_path / "a.mp4"
    source.write_bytes(clip.read_bytes())
    assert stop_at(5, source, target, "test-tiny").frames == SIZE
    with pytest.raises(UsageError, match=r"other options \(crf\)"):
        restore_video(source, target, restorer(), VideoSettings(preset="ultrafast", crf=30))
    with pytest.raises(UsageError, match=r"other options \(.*model"):
        restore_video(source, target, restorer("test-tiny-recurrent"), QUICKLY)
    for cut in ({"tile": 64}, {"overlap": 8}):
        with pytest.raises(UsageError, match=rf"other options \({next(iter(cut))}\)"):
            restore_video(source, target, Restorer("test-tiny", device="cpu", precision="fp32", **cut), QUICKLY)
    make(source, *PICTURE, *TONE, *H264, "-c:a", "aac")
    with pytest.raises(UsageError, match="another source"):
        restore_video(source, target, restorer(), QUICKLY)
    assert restore_video(source, target, restorer(), QUICKLY, overwrite=True).before == 0
    assert timestamps(target) == timestamps(source)


@pytest.mark.usefixtures("short_segments")
def test_start_and_end_cut_everything_alike_and_an_interruption_changes_nothing(clip: Path, tmp_path: Path) -> None:
    settings = VideoSettings(preset="ultrafast", start=0.15, end=0.45)
    wanted = [time for time in timestamps(clip) if 0.15 <= time < 0.45]
    restore_video(clip, tmp_path / "cut.mp4", restorer("test-tiny-recurrent"), settings)
    found = timestamps(tmp_path / "cut.mp4")
    assert [time - wanted[0] for time in wanted] == [time - found[0] for time in found]
    assert abs(found[0] - (wanted[0] - Fraction(15, 100))) < Fraction(1, 1000)
    assert len(packet_hashes(tmp_path / "cut.mp4")) == 1
    times = iter([False] * (SIZE + 1))
    again = tmp_path / "again.mp4"
    stopped = restore_video(
        clip, again, restorer("test-tiny-recurrent"), settings, should_stop=lambda: next(times, True)
    )
    assert stopped.stopped and stopped.frames == SIZE
    assert restore_video(clip, again, restorer("test-tiny-recurrent"), settings).before == SIZE
    assert content(again) == content(tmp_path / "cut.mp4")
    with pytest.raises(VideoError, match="no frame"):
        restore_video(clip, tmp_path / "none.mp4", restorer(), VideoSettings(start=50))
    assert not working_folder(tmp_path / "none.mp4").exists()


@pytest.mark.usefixtures("short_segments")
def test_frames_become_pictures_and_pictures_frames_at_the_same_times(clip: Path, tmp_path: Path) -> None:
    settings = VideoSettings(pictures=True)
    written = [0]

    def progress(done: int, expected: int | None) -> None:
        written[0] = done

    folder = tmp_path / "frames"
    options = {"progress": progress, "should_stop": lambda: written[0] >= 6}
    assert restore_video(clip, folder, restorer(), settings, **options).stopped  # type: ignore[arg-type]
    assert not folder.exists()
    assert restore_video(clip, folder, restorer(), settings).before == SIZE
    assert len(list(folder.glob("*.png"))) == 15
    result = restore_video(folder, tmp_path / "back.mkv", restorer(), VideoSettings(codec="ffv1"))
    assert result.frames == 15
    moved = [abs(one - other) for one, other in zip(timestamps(tmp_path / "back.mkv"), timestamps(clip), strict=True)]
    assert max(moved) <= Fraction(1, 1000), "Matroska counts in milliseconds"
    first = next(iter(VideoReader(tmp_path / "back.mkv")))
    shown = np.asarray(Image.open(folder / "000001.png"))
    assert np.array_equal(np.dstack([first.planes[2], first.planes[0], first.planes[1]]), shown)
    assert restore_video(folder, tmp_path / "copy", restorer(), settings).frames == 15
    assert (tmp_path / "copy" / "000015.png").read_bytes() == (folder / "000015.png").read_bytes()


def test_pictures_stand_upright(tmp_path: Path) -> None:
    plain = make(tmp_path / "plain.mp4", "-f", "lavfi", "-i", "gradients=s=32x16:c0=red:c1=blue:d=0.1", *H264)
    for turn in (90, 180, 270):
        turned = make(tmp_path / "turned.mp4", "-display_rotation", str(turn), "-i", plain, "-c", "copy")
        upright = make(tmp_path / f"upright{turn}.png", "-i", turned, "-frames:v", "1")
        folder = tmp_path / f"frames{turn}"
        restore_video(turned, folder, restorer(), VideoSettings(pictures=True))
        shown, expected = (np.asarray(Image.open(path)) for path in (folder / "000001.png", upright))
        assert shown.shape == expected.shape
        assert np.abs(shown.astype(int) - expected[:, :, :3]).mean() < 3, "but for the rounding of ffmpeg's colours"


@pytest.mark.usefixtures("short_segments")
def test_a_comparison_has_the_blurred_half_a_white_line_and_the_restored_half(clip: Path, tmp_path: Path) -> None:
    settings = VideoSettings(codec="ffv1", compare=True)
    restore_video(clip, tmp_path / "both.mkv", restorer("test-tiny-recurrent"), settings)
    restore_video(clip, tmp_path / "whole.mkv", restorer("test-tiny-recurrent"), VideoSettings(codec="ffv1"))
    blurred, restored, both = (
        [frame.planes[0] for frame in VideoReader(path)][7]
        for path in (clip, tmp_path / "whole.mkv", tmp_path / "both.mkv")
    )
    assert both.shape == blurred.shape and not np.array_equal(blurred, restored)
    middle = both.shape[1] // 2
    assert np.array_equal(both[:, : middle - 4], blurred[:, : middle - 4])
    assert (both[:, middle - 4 : middle] == 235).all()
    assert np.array_equal(both[:, middle:], restored[:, middle:])


@pytest.mark.usefixtures("short_segments")
def test_a_disk_that_is_full_when_joining_keeps_the_segments(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> list[str]:
        raise DiskFullError("a.mp4: the disk is full; joining the segments needs about 1 MB")

    with monkeypatch.context() as patched:
        patched.setattr(video_outputs, "join_segments", full)
        with pytest.raises(DiskFullError, match=r"full after 15 frames.*room for about \d+ MB, and the same command"):
            restore_video(clip, tmp_path / "a.mp4", restorer(), QUICKLY)
    assert not (tmp_path / "a.mp4").exists()
    assert restore_video(clip, tmp_path / "a.mp4", restorer(), QUICKLY).before == 15
    assert timestamps(tmp_path / "a.mp4") == timestamps(clip)


@pytest.mark.usefixtures("short_segments")
def test_a_disk_that_is_full_midway_keeps_what_is_done(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = VideoWriter.write

    def write(self: VideoWriter, frame: object) -> None:
        if self.target.name == "000002.mp4":
            raise DiskFullError(f"{self.target}: the disk is full after 0 frames and 0 MB")
        real(self, frame)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(VideoWriter, "write", write)
        with pytest.raises(DiskFullError, match=r"full after 10 frames.*the same command goes on"):
            restore_video(clip, tmp_path / "a.mp4", restorer(), QUICKLY)
    assert restore_video(clip, tmp_path / "a.mp4", restorer(), QUICKLY).before == 10


@pytest.mark.usefixtures("short_segments")
def test_of_a_truncated_source_all_that_decodes_is_restored_and_said(tmp_path: Path) -> None:
    whole = make(tmp_path / "whole.mkv", *PICTURE, *TONE, "-c:v", "libx264", *QUICK, "-g", "5", "-c:a", "aac")
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    decoded = len(timestamps(cut, decode=True))
    assert 0 < decoded < 15
    result = restore_video(cut, tmp_path / "a.mkv", restorer(), QUICKLY)
    assert result.damaged is not None and result.frames == decoded
    assert len(timestamps(tmp_path / "a.mkv")) == decoded


@pytest.mark.usefixtures("short_segments")
@pytest.mark.parametrize("number", [6, 8])
def test_lost_frames_are_repeated_and_counted_alike_whether_it_was_interrupted_or_not(
    tmp_path: Path, number: int
) -> None:
    # A key frame, and a frame between two; a segment ends among those that are lost with the former.
    sound = make(tmp_path / "sound.mp4", *PICTURE, "-c:v", "libx264", *QUICK, "-bf", "0", "-g", "6")
    source, target = tmp_path / "source.mp4", tmp_path / "a.mp4"
    spoil(sound, source, number)
    unbroken = restore_video(source, tmp_path / "unbroken.mp4", restorer("test-tiny-recurrent"), QUICKLY)
    assert unbroken.repeated > 0 and unbroken.undecodable >= unbroken.repeated and unbroken.damaged is None
    assert timestamps(tmp_path / "unbroken.mp4") == timestamps(sound)
    for frame in (5, 8, 10, 12):
        stop_at(frame, source, target, "test-tiny-recurrent")
    result = restore_video(source, target, restorer("test-tiny-recurrent"), QUICKLY)
    assert result.before == 10 and result.repeated == unbroken.repeated
    assert content(target) == content(tmp_path / "unbroken.mp4")


@pytest.mark.usefixtures("short_segments")
def test_arguments_for_ffmpeg_reach_the_encoder_and_the_file(clip: Path, tmp_path: Path) -> None:
    words = "-x264-params keyint=2 -movflags +faststart -metadata title=mine -metadata:s:a:0 language=fra -c:a ac3"
    settings = VideoSettings(preset="ultrafast", extra=tuple(words.split()))
    restore_video(clip, tmp_path / "a.mp4", restorer(), settings)
    made = (tmp_path / "a.mp4").read_bytes()
    assert b"keyint=2 " in made and made.index(b"moov") < made.index(b"mdat")
    info = probe(tmp_path / "a.mp4")
    assert info.file_metadata["title"] == "mine"
    assert [(stream.codec, stream.language) for stream in info.streams] == [("ac3", "fra")]
    assert timestamps(tmp_path / "a.mp4") == timestamps(clip)


@pytest.mark.usefixtures("short_segments")
@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (r"-vf select=mod(n\,2)", r"makes \d frames of 5"),
        ("-filter:v tinterlace", r"makes \d frames of 5"),
        ("-vf setpts=2*PTS", r"moves frames by up to 0\.\d+ seconds"),
    ],
)
def test_a_filter_that_changes_the_number_of_frames_or_their_times_is_said_behind_the_first_segment(
    words: str, fault: str, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ffmpeg_arguments, "_NO_FILTERS", frozenset())  # as if these were none of those known
    done: list[int] = []
    changing, turning = (VideoSettings(preset="ultrafast", extra=tuple(each.split())) for each in (words, "-vf hflip"))
    with pytest.raises(VideoError, match=f"a filter of --ffmpeg-args {fault}; it must not"):
        restore_video(clip, tmp_path / "a.mp4", restorer(), changing, progress=lambda count, _: done.append(count))
    assert max(done) == 5
    restore_video(clip, tmp_path / "a.mp4", restorer(), turning)
    assert timestamps(tmp_path / "a.mp4") == timestamps(clip)


@pytest.mark.usefixtures("short_segments")
def test_a_codec_of_the_source_that_the_target_does_not_hold_is_replaced(tmp_path: Path) -> None:
    source = make(tmp_path / "a.webm", *PICTURE, "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8")
    restore_video(source, tmp_path / "a.ts", restorer(), QUICKLY)
    assert probe(tmp_path / "a.ts").codec == "h264"
    with pytest.raises(VideoError, match="does not hold"):
        restore_video(source, tmp_path / "b.mp4", restorer(), VideoSettings(codec="prores"))
    assert not working_folder(tmp_path / "b.mp4").exists()


@pytest.mark.parametrize(
    ("network", "device", "size", "expected"),
    [
        ("lite", "cpu", (1280, 720), 28),
        ("base", "cpu", (1920, 1080), LEAST_FRAMES),
        ("srn", "cpu", (960, 540), 8),
        ("srn", "cpu", (1920, 1080), FEWEST_FRAMES),
        ("lite", "cuda", (1920, 1080), MOST_FRAMES),
        ("test-tiny", "cpu", (1280, 720), MOST_FRAMES),
    ],
)
def test_a_segment_takes_about_ten_seconds_or_a_minute(
    network: str, device: str, size: tuple[int, int], expected: int
) -> None:
    from types import SimpleNamespace

    from models.weights import untrained_model

    fake = SimpleNamespace(model=untrained_model(network), device=SimpleNamespace(type=device))
    assert segment_length(fake, SimpleNamespace(width=size[0], height=size[1])) == expected  # type: ignore[arg-type]
