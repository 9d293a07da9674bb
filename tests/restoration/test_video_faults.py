"""A video that a disk lets nobody go on with: what failed is named, and what is done is kept."""

import errno
import os
from pathlib import Path

import pytest

from deblur_cli.errors import VideoError
from deblur_cli.restoration import video_job
from deblur_cli.restoration.restorer import Restorer
from deblur_cli.restoration.video_job import restore_video
from deblur_cli.restoration.video_outputs import VideoSettings
from tests.media.video_samples import H264, make

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("of_source", [False, True])
def test_what_could_not_be_read_or_written_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of_source: bool
) -> None:
    source = make(tmp_path / "in.mp4", "-f", "lavfi", "-i", "testsrc2=s=32x32:r=10:d=0.3", *H264)
    target = tmp_path / "out.mp4"
    restorer, settings = Restorer("test-tiny", device="cpu", precision="fp32"), VideoSettings(preset="ultrafast")

    rename = os.replace

    def refused(first: object, *more: object) -> None:
        if not of_source and "journal" not in Path(str(first)).name:
            return rename(str(first), str(*more))
        raise OSError(errno.EIO, "Input/output error", *([str(source)] if of_source else []))

    with monkeypatch.context() as patched:
        if of_source:
            patched.setattr(video_job, "restore_frames", lambda *_, **__: refused(source))
        else:
            patched.setattr(os, "replace", refused)
        with pytest.raises(VideoError) as raised:
            restore_video(source, target, restorer, settings)
    what = f"{source}: cannot be read" if of_source else f"{target}: cannot be written"
    assert str(raised.value) == f"{what} (Input/output error)"
    assert restore_video(source, target, restorer, settings).frames == 3
