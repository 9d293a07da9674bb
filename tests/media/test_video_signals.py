"""An ffmpeg that a signal ends: its file is not taken for damaged, and what is said names the signal."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import pytest

from deblur_cli.errors import VideoError
from deblur_cli.media import ffmpeg
from deblur_cli.media.packet_times import PacketTimes
from deblur_cli.media.video import Colour, PixelFormat, VideoFormat
from deblur_cli.media.video_reader import VideoReader
from deblur_cli.media.video_writer import VideoWriter
from tests.media.video_samples import H264, make, noise

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")

VIDEO = VideoFormat(320, 240, PixelFormat("gray", "grey", 8), Colour(), Fraction(1, 25))
LONG = ("-f", "lavfi", "-i", "testsrc2=s=480x270:r=25:d=2")
"""More than pipes and queues hold."""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("clip") / "clip.mp4", *LONG, *H264)


@pytest.mark.parametrize(("number", "name"), [(9, "SIGKILL: as where memory runs out"), (15, "SIGTERM")])
def test_a_decoder_that_a_signal_ends_is_no_end_of_the_file(clip: Path, number: int, name: str) -> None:
    with VideoReader(clip) as reader:
        frames = iter(reader)
        next(frames)
        assert reader._process is not None
        reader._process._child.send_signal(number)
        message = f"^{clip}: ffmpeg was ended by signal {number}, {name}; the same command goes on$"
        with pytest.raises(VideoError, match=message):
            list(frames)
        assert reader.damaged is None
        assert len(list(reader)) == 50, "it can be read again"


def test_no_frame_is_repeated_to_the_end_of_what_a_killed_decoder_did_not_give(clip: Path) -> None:
    with VideoReader(clip) as reader:
        came = 0
        with pytest.raises(VideoError, match="signal 9"):
            for _ in reader:
                reader._complained = True  # as after a frame that could not be decoded
                assert reader._process is not None
                reader._process._child.kill()
                came += 1
        assert came < 50


def stand_in(path: Path, script: str) -> str:
    """A program in the place of ffmpeg."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_what_is_read_of_packets_is_all_of_them_or_an_error(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = stand_in(tmp_path / "short-lived", "kill -9 $$")
    monkeypatch.setattr(ffmpeg, "executable", lambda: program)
    packets = PacketTimes(clip, 0, Fraction(1, 12800), [], quicktime=False)
    with pytest.raises(VideoError, match=r"clip\.mp4: ffmpeg was ended by signal 9"):
        packets.between(0)
    packets.close()


def test_an_encoder_that_a_signal_ends_is_said_to_have_been(tmp_path: Path) -> None:
    frames = [noise(VIDEO.pixels, VIDEO.height, VIDEO.width, number, number) for number in range(40)]
    with pytest.raises(VideoError, match=r"cannot be encoded \(ffmpeg was ended by signal 9, SIGKILL"):  # noqa: SIM117
        with VideoWriter(tmp_path / "out.mp4", None, VIDEO) as writer:
            assert writer._process is not None
            writer._process._child.kill()
            for frame in frames:
                writer.write(frame)
    assert list(tmp_path.iterdir()) == []


def test_a_limit_on_the_size_of_files_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limited = stand_in(tmp_path / "limited", f'ulimit -f 8\nexec {ffmpeg.executable()} "$@"')
    folder = tmp_path / "out"
    folder.mkdir()
    frames = [noise(VIDEO.pixels, VIDEO.height, VIDEO.width, number, number) for number in range(20)]
    with monkeypatch.context() as patched:
        patched.setattr(ffmpeg, "executable", lambda: limited)
        with pytest.raises(VideoError, match="SIGXFSZ: the limit on the size of files"):  # noqa: SIM117
            with VideoWriter(folder / "out.mkv", None, VIDEO, codec="ffv1") as writer:
                for frame in frames:
                    writer.write(frame)
    assert list(folder.iterdir()) == []


def test_what_is_told_where_nothing_is_wrong_is_no_reason() -> None:
    told = ["[info] Input #0, ivf, from 'pipe:0':", "[info]   Duration: N/A", "Svt[info]: SVT [config]: preset 6"]
    assert ffmpeg.reason(told) == "ffmpeg gave no reason"
    assert ffmpeg.reason([*told, "x.mp4: Invalid data"]) == "x.mp4: Invalid data"
    assert ffmpeg.failure(1, [*told, "[error] no such filter."]) == "no such filter"
    assert ffmpeg.failure(-25, told) == "ffmpeg was ended by signal 25, SIGXFSZ: the limit on the size of files"
    assert ffmpeg.failure(-40, []) == "ffmpeg was ended by signal 40", "which has no name"
