"""A full disk: what is said, what is kept, and that it goes on when there is room; on a small disk of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deblur_cli.errors import DiskFullError
from deblur_cli.media.video_join import timestamps
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

NOISE = ("-f", "lavfi", "-i", "color=gray:s=128x96:r=25:d=1.2,noise=alls=60:allf=t")
FRAMES = 30


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty frames that hardly compress: 20 kB each in FFV1."""
    return make(tmp_path_factory.mktemp("clips") / "clip.mp4", *NOISE, *H264[:2], "-crf", "5")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 kB, which `resize` makes larger."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(mounted)]
    made = subprocess.run(command, capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"nothing can be mounted here: {made.stderr.decode().strip()}")
    yield mounted
    subprocess.run(["umount", mounted], check=True)


def resize(disk: Path, kilobytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", disk], check=True)


@pytest.mark.parametrize("pictures", [False, True])
def test_what_fits_is_kept_what_is_needed_is_said_and_with_room_it_goes_on(
    clip: Path, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pictures: bool
) -> None:
    monkeypatch.setattr(video_job, "segment_length", lambda *_: 5)
    settings = VideoSettings(pictures=True) if pictures else VideoSettings(codec="ffv1")
    name = "frames" if pictures else "a.mkv"
    target, restorer = disk / name, Restorer("test-tiny", device="cpu", precision="fp32")
    done = -1
    for kilobytes in (64, 250, 500, 800):
        resize(disk, kilobytes)
        with pytest.raises(DiskFullError, match=r"the disk is full.* the same command") as raised:
            restore_video(clip, target, restorer, settings)
        assert str(disk / f".{name}.deblur") not in str(raised.value), "the user knows of no segments"
        assert not target.exists() and not list(disk.rglob("*.part"))
        found = re.search(r"full after (\d+) frames.* is kept: make room for about \d+ MB", str(raised.value))
        assert int(found[1] if found else 0) > done
        done = int(found[1]) if found else 0
        assert (working_folder(target) / "journal.json").exists() == (done > 0)
    assert done >= 10
    resize(disk, 4000)
    result = restore_video(clip, target, restorer, settings)
    assert (result.before, result.frames) == (done, FRAMES)
    assert [path.name for path in disk.iterdir()] == [name]
    restore_video(clip, tmp_path / name, restorer, settings)
    if pictures:
        assert all((tmp_path / name / path.name).read_bytes() == path.read_bytes() for path in target.iterdir())
    else:
        assert timestamps(target) == timestamps(clip)


def test_room_is_reckoned_from_what_is_whole_alone(disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    longer = [part.replace("d=1.2", "d=2.4") for part in NOISE]
    clip, target = make(tmp_path / "clip.mp4", *longer, *H264[:2], "-crf", "5"), disk / "out.mp4"
    restorer = Restorer("test-tiny", device="cpu", precision="fp32", strength=0)
    # Frames are sent long before the encoder, which looks ahead, gives anything out.
    settings = VideoSettings(crf=5, preset="veryfast")
    resize(disk, 200)
    with pytest.raises(DiskFullError) as raised:
        restore_video(clip, target, restorer, settings)
    assert str(raised.value) == f"{target}: the disk is full after 0 frames; make room, and the same command goes on"
    monkeypatch.setattr(video_job, "segment_length", lambda *_: 20)
    resize(disk, 500)
    with pytest.raises(DiskFullError) as raised:
        restore_video(clip, target, restorer, settings)
    found = re.search(r"full after (\d+) frames; what is done is kept: make room for about (\d+) MB", str(raised.value))
    assert found is not None and int(found[1]) >= 20
    done = sum(path.stat().st_size for path in working_folder(target).glob("*.mp4"))
    restore_video(clip, tmp_path / "whole.mp4", restorer, settings)
    needed = 2 * (tmp_path / "whole.mp4").stat().st_size - done
    assert int(found[2]) == pytest.approx(needed / 1e6, abs=1)
