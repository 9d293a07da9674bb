"""MP4 files that are asked for in fragments: frames stay where they were, and all else that was asked for is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from deblur_cli.media.encoders import CONTAINERS
from deblur_cli.media.ffmpeg_arguments import split_arguments
from deblur_cli.media.probe import probe
from deblur_cli.media.video_join import timestamps
from deblur_cli.restoration.restorer import Restorer
from deblur_cli.restoration.video_job import restore_video
from deblur_cli.restoration.video_outputs import VideoSettings
from tests.media.video_samples import TONE, make, packet_hashes

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With B-frames, which are decoded in another order than they are shown in."""
    picture = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=0.6", *TONE)
    return make(
        tmp_path_factory.mktemp("clip") / "clip.mp4", *picture, "-c:v", "libx264", "-preset", "veryfast", "-c:a", "aac"
    )


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("-movflags +frag_keyframe", ".mp4"),
        ("-movflags empty_moov+default_base_moof -metadata title=mine", ".mov"),
        ("-frag_duration 200000", ".mp4"),
    ],
)
def test_frames_and_sound_of_a_file_in_fragments_are_where_they_were(
    clip: Path, words: str, kind: str, tmp_path: Path
) -> None:
    target = tmp_path / f"out{kind}"
    restorer = Restorer("test-tiny", device="cpu", precision="fp32")
    restore_video(clip, target, restorer, VideoSettings(preset="veryfast", extra=tuple(words.split())))
    assert timestamps(target) == timestamps(clip)
    assert packet_hashes(target) == packet_hashes(clip)
    assert b"moof" in target.read_bytes()
    assert probe(target).file_metadata.get("title") == ("mine" if "title" in words else None)


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        ("-movflags +frag_every_frame", True),
        ("-movflags +faststart+cmaf", True),
        ("-frag_size 9999", True),
        ("-movflags +faststart", False),
        ("-movflags +faststart-frag_keyframe", False),
        ("-movflags +frag_discont", False),
        ("-metadata title=empty_moov", False),
    ],
)
def test_only_a_file_in_fragments_waits_for_the_first_of_them(words: str, fragments: bool) -> None:
    _, file = split_arguments(words.split(), CONTAINERS[".mp4"])
    assert file == [*words.split(), *(["-movflags", "+delay_moov"] if fragments else [])]
