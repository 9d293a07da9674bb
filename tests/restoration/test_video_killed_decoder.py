"""A decoder that is killed while a video is restored: the beginning is kept, and the same call makes all of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from deblur_cli.errors import VideoError
from deblur_cli.media.video_join import timestamps
from deblur_cli.media.video_reader import VideoReader
from deblur_cli.restoration import video_job
from deblur_cli.restoration.restorer import Restorer
from deblur_cli.restoration.video_job import restore_video
from deblur_cli.restoration.video_outputs import VideoSettings
from tests.media.video_samples import H264, make

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals"),
]

FRAMES = 50


def test_what_is_whole_is_kept_and_the_same_call_makes_the_whole_film(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = make(tmp_path / "clip.mp4", "-f", "lavfi", "-i", "testsrc2=s=480x270:r=25:d=2", *H264)
    target, restorer = tmp_path / "out.mp4", Restorer("test-tiny", device="cpu", precision="fp32", strength=0)
    monkeypatch.setattr(video_job, "segment_length", lambda *_: 10)
    readers: list[VideoReader] = []

    def opened(*arguments: Any) -> Any:
        readers.append(open_source(*arguments))
        return readers[-1]

    def progress(done: int, expected: int | None) -> None:
        if done == 12 and (process := readers[-1]._process) is not None:
            process._child.kill()

    open_source = video_job.open_source
    settings = VideoSettings(preset="ultrafast")
    with monkeypatch.context() as patched:
        patched.setattr(video_job, "open_source", opened)
        with pytest.raises(VideoError, match=r"clip\.mp4: ffmpeg was ended by signal 9.*; the same command goes on"):
            restore_video(clip, target, restorer, settings, progress=progress)
    assert not target.exists()
    result = restore_video(clip, target, restorer, settings)
    assert 10 <= result.before < FRAMES == result.frames
    assert result.damaged is None and not result.undecodable
    assert timestamps(target) == timestamps(clip)
