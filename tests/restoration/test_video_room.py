"""Of a disk that is full before anything is whole, no figure is named: what the encoder holds cannot be seen."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deblur_cli.errors import DiskFullError
from deblur_cli.restoration import video_job
from deblur_cli.restoration.journal import working_folder
from deblur_cli.restoration.restorer import Restorer
from deblur_cli.restoration.video_job import restore_video
from deblur_cli.restoration.video_outputs import VideoSettings
from tests.media.video_samples import H264, make

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small disk, which takes root"),
]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 200 kB."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(mounted)]
    made = subprocess.run(command, capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"nothing can be mounted here: {made.stderr.decode().strip()}")
    yield mounted
    subprocess.run(["umount", mounted], check=True)


def test_room_is_reckoned_from_what_is_whole_alone(disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = ("-f", "lavfi", "-i", "color=gray:s=128x96:r=25:d=2.4,noise=alls=60:allf=t")
    clip, target = make(tmp_path / "clip.mp4", *noise, *H264[:2], "-crf", "5"), disk / "out.mp4"
    restorer = Restorer("test-tiny", device="cpu", precision="fp32", strength=0)
    # Frames are sent long before the encoder, which looks ahead, gives anything out.
    settings = VideoSettings(crf=5, preset="veryfast")
    with pytest.raises(DiskFullError) as raised:
        restore_video(clip, target, restorer, settings)
    assert str(raised.value) == f"{target}: the disk is full after 0 frames; make room, and the same command goes on"
    monkeypatch.setattr(video_job, "segment_length", lambda *_: 20)
    subprocess.run(["mount", "-o", "remount,size=500k", disk], check=True)
    with pytest.raises(DiskFullError) as raised:
        restore_video(clip, target, restorer, settings)
    found = re.search(r"full after (\d+) frames; what is done is kept: make room for about (\d+) MB", str(raised.value))
    assert found is not None and int(found[1]) >= 20
    done = sum(path.stat().st_size for path in working_folder(target).glob("*.mp4"))
    restore_video(clip, tmp_path / "whole.mp4", restorer, settings)
    needed = 2 * (tmp_path / "whole.mp4").stat().st_size - done
    assert int(found[2]) == pytest.approx(needed / 1e6, abs=1)
