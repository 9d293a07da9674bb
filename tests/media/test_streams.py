"""Which of a source's other streams go along, where no small file can be made that has them."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from deblur_cli.media import ffmpeg
from deblur_cli.media.encoders import container_of
from deblur_cli.media.ffmpeg_report import Chapter, Stream
from deblur_cli.media.probe import probe
from deblur_cli.media.streams import copied
from tests.media.video_samples import H264, PICTURE, make


def test_telemetry_is_no_track_of_chapter_titles(tmp_path: Path) -> None:
    source = replace(
        probe(make(tmp_path / "clip.mp4", *PICTURE, *H264)),
        chapters=(Chapter(0.0, 0.3, "One"),),
        streams=(
            Stream(1, "data", "bin_data", detail="bin_data (text / 0x74786574)"),
            Stream(2, "data", "bin_data", detail="bin_data (gpmd / 0x6D706467), 41 kb/s"),
        ),
    )
    dropped = copied(source, container_of(Path("out.mp4"))).dropped
    assert dropped == ["data stream 2 (bin_data): a mp4 file does not hold it"]


@pytest.mark.parametrize(("speaker", "held"), [("mov,mp4,m4a,3gp,3g2,mj2", True), ("matroska", False)])
def test_a_word_on_the_source_is_none_on_the_file(
    speaker: str, held: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = replace(probe(make(tmp_path / "clip.mp4", *PICTURE, *H264)), streams=(Stream(1, "audio", "aac"),))

    def told(*_: object) -> subprocess.CompletedProcess[bytes]:
        said = f"[{speaker} @ 0x5581] [warning] multiple fourcc not supported\n"
        return subprocess.CompletedProcess([], 0, b"", said.encode())

    monkeypatch.setattr(ffmpeg, "run", told)
    found = copied(source, container_of(Path("out.mkv")))
    assert ("1:1" in found.maps) == held == (not found.dropped)
