"""Segments are looked at once before they are joined, and must hold what was written to them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from deblur_cli.errors import VideoError
from deblur_cli.media import video_join
from deblur_cli.media.probe import probe
from deblur_cli.media.video_join import join_segments
from tests.media.video_samples import H264, PICTURE, make


def test_each_segment_is_read_once_and_one_that_lost_frames_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make(tmp_path / "in.mp4", *PICTURE, *H264)
    segments = [make(tmp_path / f"{number}.mp4", *PICTURE, *H264, "-frames:v", "3") for number in range(2)]
    read: list[Path] = []
    real = video_join.timestamps

    def timestamps(path: Path) -> list[Fraction]:
        read.append(path)
        return real(path)

    monkeypatch.setattr(video_join, "timestamps", timestamps)
    with pytest.raises(VideoError, match=r"1\.mp4' holds 3 frames, where 4 were written; remove its folder"):
        join_segments(segments, tmp_path / "out.mp4", probe(source), frames=[3, 4])
    assert read == segments and not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize(
    ("gone", "do"), [("1.mp4", "begins afresh"), ("in.mp4", "is kept: put it back, and the same command goes on")]
)
def test_what_is_gone_when_segments_are_joined_is_named(tmp_path: Path, gone: str, do: str) -> None:
    source = make(tmp_path / "in.mp4", *PICTURE, *H264)
    segments = [make(tmp_path / f"{number}.mp4", *PICTURE, *H264, "-frames:v", "3") for number in range(2)]
    info = probe(source)
    (tmp_path / gone).unlink()
    with pytest.raises(VideoError, match=rf"^{tmp_path}/out\.mp4: '{tmp_path}/{gone}', .* is gone; .*{do}$"):
        join_segments(segments, tmp_path / "out.mp4", info)
    assert not (tmp_path / "out.mp4").exists()


def test_a_segment_that_cannot_be_read_is_named_and_not_taken_for_the_source(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4", *PICTURE, *H264)
    segment, target = tmp_path / "0.mp4", tmp_path / "out.mp4"
    segment.write_bytes(bytes(source.stat().st_size))
    with pytest.raises(VideoError, match=rf"^{target}: its segment '{segment}' cannot be read \(.+\); if that"):
        join_segments([segment], target, probe(source))
