"""`deblur video` as a user meets it: what it writes, says and returns."""

from __future__ import annotations

import hashlib
import itertools
import json
import signal
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from deblur_cli.commands.options import parse_rate, parse_time
from deblur_cli.errors import UsageError
from deblur_cli.media.probe import probe
from deblur_cli.media.video_join import timestamps
from tests.conftest import Result
from tests.forked import forked
from tests.media.video_samples import H264, PICTURE, QUICK, TONE, make, spoil

ROOT = Path(__file__).parents[2]
ENGINE = ["--device", "cpu", "--precision", "fp32"]
TINY = ["-m", "test-tiny", *ENGINE]
Run = Callable[[list[str]], Result]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("clips") / "clip.mp4", *PICTURE, *TONE, *H264, "-c:a", "aac")


@pytest.fixture
def folder(clip: Path, tmp_path: Path) -> Path:
    """A folder with two videos, one below the other, one that is none, and a text."""
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for name in ("a.mp4", "sub/b.mp4"):
        (tmp_path / "in" / name).write_bytes(clip.read_bytes())
    (tmp_path / "in" / "broken.mp4").write_bytes(clip.read_bytes()[:2000])
    (tmp_path / "in" / "notes.txt").write_text("x")
    return tmp_path / "in"


def hashes(folder: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def test_a_bad_file_is_a_line_the_others_are_restored_and_a_second_run_skips_them(folder: Path, run: Run) -> None:
    before = hashes(folder)
    out, report = folder.parent / "out", folder.parent / "report.json"
    result = run(["video", str(folder), "-o", str(out), "--report", str(report), "--preset", "ultrafast", *TINY])
    assert result.code == 1
    assert hashes(folder) == before
    assert {path for path in out.rglob("*") if path.is_file()} == {out / "a.mp4", out / "sub" / "b.mp4"}
    assert timestamps(out / "a.mp4") == timestamps(folder / "a.mp4")
    failures = [line for line in result.stdout.splitlines() if line.startswith("failed: ")]
    assert len(failures) == 1 and failures[0].startswith(f"failed: {folder / 'broken.mp4'}: ")
    assert "[1/3]" in result.stderr and "15 frames" in result.stderr
    facts = json.loads(report.read_text())
    assert facts["counts"] == {"restored": 2, "failed": 1} and facts["ignored"] == {"not a video": 1}
    assert facts["files"][0]["frames"] == 15 and facts["model"]["name"] == "test-tiny"
    made = hashes(out)
    again = run(["video", str(folder / "a.mp4"), str(folder / "sub"), "-o", str(out), *TINY])
    assert again.code == 0 and hashes(out).items() >= made.items()
    assert ["skipped", "1"] in [line.split()[:2] for line in again.stdout.splitlines()]


def test_dry_run_prints_the_plan_and_touches_nothing(folder: Path, run: Run) -> None:
    (folder / "a_deblurred.mp4").write_bytes(b"x")
    before = hashes(folder.parent)
    result = run(["video", str(folder), "--dry-run", *TINY])
    assert result.code == 0 and hashes(folder.parent) == before
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"skip    {folder / 'a.mp4'}")
    assert f"restore {folder / 'sub/b.mp4'} -> {folder / 'sub/b_deblurred.mp4'}" in lines
    assert lines[-1].startswith("2 to restore, 1 to skip, 0 to refuse; passed over: 1 not a video")


def test_a_comparison_of_a_part_in_another_codec_without_a_word_about_the_network(folder: Path, run: Run) -> None:
    options = ["--compare", "--codec", "ffv1", "--start", "0:00.2", "--end", "0.4", "--strength", "0.5"]
    assert run(["video", str(folder / "a.mp4"), *options, *TINY]).code == 0
    made = folder / "a_compared.mkv"
    assert probe(made).codec == "ffv1"
    assert timestamps(made) == [Fraction(n, 25) for n in range(5)], "from 0.2 s on, and before 0.4 s"


def test_pictures_go_out_and_come_in(folder: Path, run: Run) -> None:
    shots = folder.parent / "shots"
    assert run(["video", str(folder / "a.mp4"), "--frames", str(shots), *TINY]).code == 0
    assert len(list(shots.glob("*.png"))) == 15
    assert run(["video", str(folder / "a.mp4"), "--frames", str(shots), *TINY]).stdout.split()[3] == "1", "skipped"
    assert run(["video", str(shots), "--codec", "ffv1", *TINY]).code == 0
    assert len(timestamps(folder.parent / "shots_deblurred.mkv")) == 15


@pytest.mark.parametrize(
    ("everyday", "codec"), [("h265", "hevc"), ("H.265", "hevc"), ("x265", "hevc"), ("x264", "h264"), ("avc", "h264")]
)
def test_codecs_have_everyday_names(everyday: str, codec: str, folder: Path, run: Run) -> None:
    options = ["--codec", everyday, "--preset", "ultrafast", "--end", "0.1"]
    assert run(["video", str(folder / "a.mp4"), *options, *TINY]).code == 0
    assert probe(folder / "a_deblurred.mp4").codec == codec


def test_a_truncated_video_is_restored_as_far_as_it_goes_with_exit_code_1(tmp_path: Path, run: Run) -> None:
    whole = make(tmp_path / "whole.mkv", *PICTURE, "-c:v", "libx264", *QUICK, "-g", "5")
    (tmp_path / "cut.mkv").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    result = run(["video", str(tmp_path / "cut.mkv"), *TINY])
    assert result.code == 1
    assert (tmp_path / "cut_deblurred.mkv").exists()
    assert any(line.startswith("incomplete: ") for line in result.stdout.splitlines())


def test_frames_that_cannot_be_decoded_are_said_with_exit_code_0(tmp_path: Path, run: Run) -> None:
    whole = make(tmp_path / "whole.mp4", *PICTURE, "-c:v", "libx264", *QUICK, "-bf", "0")
    spoil(whole, tmp_path / "spoilt.mp4", 7)
    report = tmp_path / "report.json"
    result = run(["video", str(tmp_path / "spoilt.mp4"), "--report", str(report), *TINY])
    assert result.code == 0
    (said,) = [line for line in result.stdout.splitlines() if line.startswith("damaged: ")]
    assert said.endswith("1 frame could not be decoded whole; in its place the one before comes again")
    assert json.loads(report.read_text())["files"][0]["repeated"] == 1
    assert timestamps(tmp_path / "spoilt_deblurred.mp4") == timestamps(whole)


def test_an_output_that_is_the_input_is_refused_and_nothing_is_lost(folder: Path, run: Run) -> None:
    before = hashes(folder)
    (folder.parent / "link.mp4").symlink_to(folder / "a.mp4")
    for output in (folder / "a.mp4", folder.parent / "link.mp4"):
        assert run(["video", str(folder / "a.mp4"), "-o", str(output), "--overwrite", *TINY]).code == 1
    assert hashes(folder) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.mp4"], "no file or folder 'nowhere.mp4'"),
        (["in/empty"], "no videos in in/empty (1 not a video)"),
        (["in", "-o", "out.mp4"], "not a single video"),
        (["in/a.mp4", "-o", "out.avi"], "no video can be written as '.avi'"),
        (["in/a.mp4", "-o", "out.PNG"], "no video can be written as '.PNG'; pictures of its frames go to --frames DIR"),
        (["in", "-o", "out.gif"], "--frames DIR"),
        (["in/a.mp4", "-o", "-"], "standard output, which is for single photos"),
        (["in/a.mp4", "--frames", "-"], "standard output, which is for single photos"),
        (["in/a.mp4", "-o", "out.mp4", "--codec", "prores"], "take one of .mov, .mkv"),
        (["in", "--codec", "prores", "--crf", "3"], "prores has no such scale as --crf"),
        (["in/a.mp4", "-o", "out.webm", "--codec", "X264"], "no video with h264 in it can be written as '.webm'"),
        (["in", "--codec", "hvec"], "did you mean 'hevc'?"),
        (["in", "--codec", "cinepaque"], "did you mean 'cinepak'?"),
        (["in", "--start", "soon"], "'soon' is not a time"),
        (["in", "--start", "5", "--end", "0:03"], "nothing between"),
        (["in", "--rate", "0"], "no frame rate"),
        (["in", "--frames", "out"], "--frames takes one video"),
        (["in/a.mp4", "--frames", "out", "-o", "b"], "--output"),
        (["in/a.mp4", "--frames", "out", "--crf", "3"], "--crf"),
        (["in", "--ffmpeg-args", "-tune 'film"], "cannot be split"),
        (["in", "--ffmpeg-args", "-tune film out.mp4"], "'out.mp4' in the arguments for ffmpeg"),
        (["in", "--ffmpeg-args", "-t 3"], "'-t' cannot be among the arguments for ffmpeg: --end"),
        (["in", "--ffmpeg-args", "-y out2.mp4"], "'-y' cannot be among the arguments for ffmpeg: --overwrite"),
        (["in", "-m", "nafnte"], "did you mean nafnet?"),
        (["in", "-m", "nowhere.pth"], "no file of weights"),
        (["in", "--report", "none/report.json"], "report"),
        (["in", "--dry-run", "--report", "report.json"], "--dry-run"),
        (["in", "--suffix", ""], "letter"),
        (["in", "--tile", "big"], "big"),
        (["in", "--presett", "fast"], "--preset"),
        (["in", "--preset", "warp"], "no codec has a preset 'warp'; there are ultrafast"),
        (["in", "--codec", "av1", "--preset", "14"], "no av1 has a preset '14'"),
        (["in", "--codec", "libx265", "--preset", "6x"], "no libx265 has a preset '6x'"),
        (["in", "--ffmpeg-args", "-tune"], "'-tune' in the arguments for ffmpeg has no value"),
    ],
)
def test_wrong_usage_is_one_line_and_nothing_is_restored(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(folder.parent)
    (folder / "empty").mkdir()
    (folder / "empty" / "notes.txt").write_text("x")
    before = hashes(folder.parent)
    result = run(["video", *TINY, *arguments])
    assert result.code == 2
    assert result.stdout == "" and result.stderr.count("\n") == 1, result.stderr
    assert message in result.stderr
    assert hashes(folder.parent) == before


# Small segments, and the seventh frame waits until it is told to go on: a middle to be interrupted in, however seldom
# the one who interrupts gets to run. It says so in one write, or another thread's line could come between.
HELD = """
import os, sys, time
from deblur_cli.restoration import video_job
from deblur_cli.media.video_writer import VideoWriter
video_job.segment_length = lambda *_: 3
go = sys.argv.pop(1)
real = VideoWriter.write
count = 0
def write(self, frame):
    global count
    count += 1
    if count == 7:
        os.write(2, b"midway\\n")
        while not os.path.exists(go):
            time.sleep(0.02)
    real(self, frame)
VideoWriter.write = write
from deblur_cli.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_or_a_kill_keeps_what_is_done_and_the_same_command_goes_on(
    number: signal.Signals, folder: Path, run: Run
) -> None:
    out, report = folder.parent / "out.mp4", folder.parent / "report.json"
    arguments = ["video", str(folder / "a.mp4"), "-o", str(out), *TINY]
    go = folder.parent / "go"
    with forked(HELD, go, *arguments, "--report", report) as process:
        for line in process.stderr:
            if "midway" in line:
                break
        process.send_signal(number)
        for line in process.stderr:
            if line.startswith("stopping"):  # the signal has come
                break
        go.touch()
        told = process.stderr.read()
        assert process.wait() == 130
    assert "Traceback" not in told and "of a.mp4 6 frames are kept: the same command goes on" in told
    assert not out.exists()
    assert json.loads(report.read_text())["counts"] == {"not done": 1}
    refused = run([*arguments, "--crf", "30"])
    assert refused.code == 1 and "other options" in refused.stdout
    begun = json.loads((folder.parent / ".out.mp4.deblur" / "journal.json").read_text())
    assert [segment["frames"] for segment in begun["segments"]] == [3, 3]


def test_a_part_without_a_frame_fails_in_one_line(folder: Path, run: Run) -> None:
    result = run(["video", str(folder / "a.mp4"), "--start", "50", *TINY])
    assert result.code == 1
    (failure,) = [line for line in result.stdout.splitlines() if line.startswith("failed: ")]
    long = round(float(probe(folder / "a.mp4").duration or 0), 2)
    assert failure == f"failed: {folder / 'a.mp4'}: there is no frame in what was asked for; it is {long} s long"


def test_an_encoder_that_fails_is_said_of_the_output_and_leaves_nothing(folder: Path, run: Run) -> None:
    result = run(["video", str(folder / "a.mp4"), "--ffmpeg-args=-tune nonsense", *TINY])
    assert result.code == 1
    (failure,) = [line for line in result.stdout.splitlines() if line.startswith("failed: ")]
    assert failure.startswith(f"failed: {folder / 'a.mp4'}: cannot be encoded (") and ".deblur" not in failure
    assert {path.name for path in folder.iterdir()} == {"a.mp4", "broken.mp4", "notes.txt", "sub"}


def test_the_sample_clip_is_what_it_is_said_to_be(tmp_path: Path, run: Run) -> None:
    sample = ROOT / "sample_media" / "pan.mp4"
    info, times = probe(sample), timestamps(sample)
    assert sample.stat().st_size < 300_000
    assert info.rotation == 270 and [stream.kind for stream in info.streams] == ["audio"]
    assert len({later - time for time, later in itertools.pairwise(times)}) > 10, "a variable rate"
    assert run(["video", str(sample), "-o", str(tmp_path / "out.mp4"), "--end", "0.3", *TINY]).code == 0
    assert timestamps(tmp_path / "out.mp4") == [time for time in times if time < Fraction(3, 10)]
    assert probe(tmp_path / "out.mp4").rotation == 270


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("1:30", 90), ("0:01:30.5", 90.5), ("100:00:00", 360_000), (" 0.25 ", 0.25)]
)
def test_times(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "1:60", "1:2:3:4", "1:75:00", "x", "1e3"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UsageError):
        parse_time(text)


def test_rates() -> None:
    assert parse_rate("30000/1001") == Fraction(30000, 1001) and parse_rate("29.97") == Fraction(2997, 100)
    for text in ("", "0", "-25", "1/0", "fast", "100000"):
        with pytest.raises(UsageError):
            parse_rate(text)
