"""Segments are looked at once before they are joined, must hold what was written to them, and get sound beside them."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from deblur_cli.errors import VideoError
from deblur_cli.media import ffmpeg, video_join
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


def file_order(path: Path) -> list[tuple[int, float]]:
    """Stream, and seconds of decoding, of each packet of an MP4 file in the order in which they lie in it."""
    told = ffmpeg.run(["-loglevel", "trace", "-i", str(path)]).stderr.decode("utf-8", "replace")
    bases = {int(found[1]): int(found[2]) for found in re.finditer(r"Stream #0:(\d+)\[.*?, \d+, 1/(\d+):", told)}
    packets = re.finditer(r"AVIndex stream (\d+), sample \d+, offset ([0-9a-f]+), dts (-?\d+)", told)
    placed = sorted((int(found[2], 16), int(found[1]), int(found[3])) for found in packets)
    return [(stream, ticks / bases[stream]) for _, stream, ticks in placed]


COVER = ("-c:v:1", "png", "-disposition:v:1", "attached_pic")


@pytest.mark.parametrize(
    ("name", "beside", "options"),
    [
        ("cover.mp4", ("-f", "lavfi", "-i", "color=s=16x16:r=25:d=0.04"), COVER),
        ("late text.mkv", ("-i", "late.srt"), ()),
        ("sound that ends.mkv", ("-f", "lavfi", "-i", "sine=d=1"), ()),
    ],
)
def test_no_sound_lies_far_ahead_of_its_pictures_in_the_file(
    name: str, beside: tuple[str, ...], options: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("late.srt").write_text("1\n00:00:18,000 --> 00:00:19,000\nlate\n")
    inputs = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=10:d=20", "-f", "lavfi", "-i", "sine=d=20", *beside)
    coded = ("-map", "0", "-map", "1", "-map", "2", "-c:v:0", "mpeg4", "-c:a", "aac", *options)
    source = make(tmp_path / name, *inputs, *coded)
    segment = make(tmp_path / "0.mp4", "-i", source, "-map", "0:v:0", "-c", "copy")
    target = tmp_path / "out.mp4"
    # What ffmpeg does by itself after ten seconds.
    join_segments([segment], target, probe(source), extra=["-max_interleave_delta", "1000000"])
    shown, ahead = 0.0, 0.0
    for stream, time in file_order(target):
        if stream == 0:
            shown = time
        elif stream == 1:
            ahead = max(ahead, time - shown)
    assert shown > 19 and ahead < 1


@pytest.mark.parametrize("filters", [(), ("-af", "volume=0.5")])
def test_sound_that_is_encoded_anew_begins_at_the_cut(filters: tuple[str, ...], tmp_path: Path) -> None:
    beep = "aevalsrc=sin(3000*t)*gt(mod(t\\,1)\\,0.5):s=8000:d=4"
    picture = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=10:d=4")
    source = make(tmp_path / "in.mkv", *picture, "-f", "lavfi", "-i", beep, *H264, "-c:a", "aac")
    info = probe(source)
    segment = make(tmp_path / "0.mkv", "-copyts", "-ss", "2", "-i", source, "-map", "0:v:0", *H264)
    target = tmp_path / "out.mkv"
    join_segments([segment], target, info, extra=["-c:a", "pcm_s16le", *filters], start=2.0)
    heard = np.frombuffer(ffmpeg.run(["-i", str(target), "-map", "0:a", "-f", "s16le", "-"]).stdout, np.int16) / 32768
    halves = [float(np.abs(half).max()) for half in np.array_split(heard[: 2 * 8000], 4)]
    loud = 0.5 if filters else 1.0
    assert halves == pytest.approx([0.0, loud, 0.0, loud], abs=0.15)


def test_a_picture_that_milliseconds_round_up_to_the_end_is_kept(tmp_path: Path) -> None:
    picture = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=30018/1000:d=0.6")  # the sixteenth at 0.4997 s
    source = make(tmp_path / "in.mp4", *picture, *H264)
    vp9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8")
    segment = make(tmp_path / "0.webm", "-i", source, "-frames:v", "16", *vp9)
    join_segments([segment], tmp_path / "out.webm", probe(source), frames=[16], end=0.5)
    assert len(video_join.timestamps(tmp_path / "out.webm")) == 16
