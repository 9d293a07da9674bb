"""Which of a source's other streams and metadata go along, how they are encoded, and from which input they come."""

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
from deblur_cli.media.video_join import join_segments
from deblur_cli.media.video_reader import VideoReader
from deblur_cli.media.video_writer import VideoWriter, source_inputs
from tests.media.video_samples import H264, PICTURE, SUBTITLES, TONE, make


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


def test_with_a_cut_texts_alone_come_from_well_before_it(tmp_path: Path) -> None:
    (tmp_path / "texts.srt").write_text(SUBTITLES)
    image = make(tmp_path / "cover.png", "-f", "lavfi", "-i", "color=s=16x16", "-frames:v", "1")
    maps = [word for number in range(4) for word in ("-map", str(number))]
    coded = (*H264, "-c:a", "aac", "-c:s", "mov_text", "-c:v:1", "png", "-disposition:v:1", "attached_pic")
    inputs = (*PICTURE, *TONE, "-i", tmp_path / "texts.srt", "-i", image)
    info = probe(make(tmp_path / "in.mp4", *inputs, *maps, *coded))
    kinds = {stream.index: stream.kind for stream in info.streams}
    for start, sound_text_cover in ((None, (1, 2, 2)), (0.3, (1, 2, 3))):
        others = copied(info, container_of(Path("out.mp4")), start)
        taken = {kinds[int(index)]: int(number) for number, index in (each.split(":") for each in others.maps[3::2])}
        assert tuple(taken[kind] for kind in ("audio", "subtitle", "video")) == sound_text_cover
        given = source_inputs(info, start, others)
        assert given.count("-i") == max(sound_text_cover)
        assert given.count("-ss") == (0 if start is None else 2), "the text is looked for from the beginning"


def test_sound_that_a_container_does_not_hold_goes_into_it_as_what_is_asked_for(tmp_path: Path) -> None:
    source, target = make(tmp_path / "in.mov", *PICTURE, *TONE, *H264, "-c:a", "aac"), tmp_path / "out.webm"
    words = ["-c:a", "libopus", "-b:a", "64k"]
    with (
        VideoReader(source) as reader,
        VideoWriter(target, reader.info, reader.video, codec="vp9", preset="8", extra=words) as writer,
    ):
        for frame in reader:
            writer.write(frame)
    assert writer.dropped == []
    assert [stream.codec for stream in probe(target).streams] == ["opus"]


def test_a_codec_that_cannot_be_is_said_with_the_stream_or_left_to_fail_where_it_need_not_be(tmp_path: Path) -> None:
    info, words = probe(make(tmp_path / "in.mov", *PICTURE, *TONE, *H264, "-c:a", "aac")), ["-c:a", "libopuss"]
    (line,) = copied(info, container_of(Path("out.webm")), extra=words).dropped
    assert line == "audio stream 1 (aac): a webm file does not hold it, nor with '-c:a libopuss'"
    plan = copied(info, container_of(Path("out.mkv")), extra=words)
    assert plan.maps[2:] == ["-map", "1:1"] and plan.dropped == []


@pytest.mark.parametrize("suffix", [".mov", ".mkv"])
def test_metadata_are_left_out_where_that_is_asked_for(suffix: str, tmp_path: Path) -> None:
    said = ("title=Home", "location=+48.8577+002.2950/", "com.apple.quicktime.make=Apple", "timecode=01:00:00:00")
    tags = [part for tag in said for part in ("-metadata", tag)]
    tags += ["-metadata:s:v", "title=Garden", "-movflags", "+use_metadata_tags"]
    source = make(tmp_path / "in.mov", *PICTURE, *TONE, *tags, *H264, "-c:a", "aac")
    segment = make(tmp_path / f"0{suffix}", *PICTURE, *H264)
    target = tmp_path / f"out{suffix}"
    assert join_segments([segment], target, probe(source), extra=["-map_metadata", "-1"]) == []
    written = probe(target)
    told = {**written.metadata, **written.file_metadata}
    assert not {"title", "location", "com.apple.quicktime.make", "timecode"} & {key.lower() for key in told}
    assert [stream.codec for stream in written.streams] == ["aac"], "and no track of time codes"
