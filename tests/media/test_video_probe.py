"""What is found out about a video, and what is said of files that are none."""

from __future__ import annotations

import os
import random
import re
from fractions import Fraction
from pathlib import Path

import pytest

from deblur_cli.errors import VideoError
from deblur_cli.media import ffmpeg
from deblur_cli.media.ffmpeg_report import ColourTags, Report
from deblur_cli.media.pixel_formats import planar
from deblur_cli.media.probe import probe, resolve_colour
from tests.media.video_samples import H264, PICTURE, TONE, make


def refusal(path: Path) -> str:
    with pytest.raises(VideoError) as caught:
        probe(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and "0x" not in message
    return message.removeprefix(f"{path}: ")


def test_times_rates_and_format_are_exact(tmp_path: Path) -> None:
    late = ("-vf", "setpts=PTS+0.7/TB", "-r", "30000/1001", "-video_track_timescale", "30000")
    path = make(tmp_path / "clip.mp4", *PICTURE, *TONE, *late, *H264, "-c:a", "aac", "-metadata:s:v", "language=deu")
    info = probe(path)
    assert (info.codec, info.video.width, info.video.height, info.video.pixels.name) == ("h264", 96, 64, "yuv420p")
    assert info.video.time_base == Fraction(1, 30000)
    assert info.nominal_rate == info.average_rate == Fraction(30000, 1001)
    assert 0.66 < info.start < 0.72 and abs(info.file_start) < 0.03
    assert info.frames == pytest.approx(18, abs=1)
    assert [str(stream) for stream in info.streams] == ["audio stream 1 (aac)"]
    assert info.dispositions == {"default"} and info.field_order == "progressive"


@pytest.mark.parametrize("rate", ["24", "25", "30", "60", "24000/1001", "30000/1001", "60000/1001"])
def test_usual_frame_rates_are_told_apart(rate: str, tmp_path: Path) -> None:
    source = ("-f", "lavfi", "-i", f"testsrc2=s=32x32:r={rate}")
    info = probe(make(tmp_path / "clip.mp4", *source, "-frames:v", "12", *H264))
    assert info.average_rate == info.nominal_rate == Fraction(rate)


@pytest.mark.parametrize("rate", ["25", "30000/1001"])
def test_the_rate_of_a_clock_is_not_that_of_the_frames(rate: str, tmp_path: Path) -> None:
    size = "720x576" if rate == "25" else "720x480"
    source = ("-f", "lavfi", "-i", f"testsrc2=s={size}:r={rate}", "-frames:v", "5")
    info = probe(
        make(tmp_path / "tape.dv", *source, "-c:v", "dvvideo", "-pix_fmt", "yuv420p" if rate == "25" else "yuv411p")
    )
    assert info.average_rate == info.nominal_rate == Fraction(rate)
    assert info.frames == pytest.approx(5, abs=1)


def test_a_name_that_looks_like_an_option_or_an_address_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = make(tmp_path / "clip.mp4", *PICTURE, *H264)
    monkeypatch.chdir(tmp_path)
    for name in ("-y.mp4", "http:clip.mp4", "a%03d.mp4", "with space 'quoted'.mp4", "späße.mp4"):
        os.link(plain, name)
        assert probe(Path(name)).codec == "h264"


def test_what_is_no_video_is_refused_in_one_line(tmp_path: Path) -> None:
    assert refusal(tmp_path / "missing.mp4") == "no such file"
    assert refusal(tmp_path) == "a folder, not a video"
    (tmp_path / "empty.mp4").touch()
    assert "the file is empty" in refusal(tmp_path / "empty.mp4")
    (tmp_path / "text.mp4").write_text("This is not a video.\n" * 100)
    assert "not a video" in refusal(tmp_path / "text.mp4")
    (tmp_path / "noise.mkv").write_bytes(random.Random(3).randbytes(5000))
    assert "not a video" in refusal(tmp_path / "noise.mkv")
    picture = make(tmp_path / "picture.png", *PICTURE, "-frames:v", "1")
    assert "not a video" in refusal(picture)
    sound = make(tmp_path / "sound.m4a", *TONE, "-c:a", "aac")
    assert refusal(sound) == "no video in it, only audio"


def test_a_stream_is_seen_whatever_its_language_is_called() -> None:
    told = [
        "Input #0, mpegts, from 'file:clip.ts':",
        "  Stream #0:0[0x100]: Video: h264 (High), yuv420p(tv), 96x64, 25 fps",
        "  Stream #0:1[0x101](deu,deu): Audio: mp2, 48000 Hz, stereo",
        "  Stream #0:2(pt-BR): Audio: aac (LC), 44100 Hz, mono, fltp (default)",
        "  Stream #0:3[0x103](888,dut): Subtitle: dvb_teletext (libzvbi_teletextdec)",
        "  Stream #0:4(und): Audio: ac3, 48000 Hz, stereo",
        "  Stream #0:5(): Data: bin_data",
    ]
    streams = [(each.index, each.kind, each.codec, each.language) for each in Report(told).streams]
    assert streams == [
        (0, "video", "h264", None),
        (1, "audio", "mp2", "deu,deu"),
        (2, "audio", "aac", "pt-BR"),
        (3, "subtitle", "dvb_teletext", "888,dut"),
        (4, "audio", "ac3", None),
        (5, "data", "bin_data", None),
    ]


def test_cover_art_alone_is_no_video(tmp_path: Path) -> None:
    cover = (
        "-map",
        "0",
        "-map",
        "1",
        "-c:a",
        "aac",
        "-c:v",
        "mjpeg",
        "-frames:v",
        "1",
        "-disposition:v",
        "attached_pic",
    )
    song = make(tmp_path / "song.m4a", *TONE, *PICTURE, *cover)
    assert refusal(song) == "no video in it, only a still picture and audio"


EMPTIED = ("-map", "0:v", "-map", "0:v", "-map", "0:v", "-map", "0:a", "-c", "copy", "-bsf:v:0", "noise=drop=1")
"""A video stream three times, and sound; the first stream has no packets."""


@pytest.mark.parametrize("suffix", [".mkv", ".asf"])
def test_streams_without_packets_are_passed_over_and_are_none(suffix: str, tmp_path: Path) -> None:
    plain = make(tmp_path / f"plain{suffix}", *PICTURE, *TONE, "-c:v", "msmpeg4v3", "-c:a", "wmav2")
    info = probe(make(tmp_path / f"clip{suffix}", "-i", plain, *EMPTIED, "-bsf:v:1", "noise=drop=1"))
    assert info.index == 2
    assert [stream.index for stream in info.streams] == [3]
    assert info.average_rate == 25 and info.video.width == 96
    info = probe(make(tmp_path / f"other{suffix}", "-i", plain, *EMPTIED))
    assert (info.index, [stream.index for stream in info.streams]) == (1, [2, 3])


@pytest.mark.parametrize(("codec", "harm"), [("msmpeg4v3", "noise=drop=1"), ("flv1", "noise=amount=1")])
def test_where_no_stream_has_packets_and_where_those_of_the_first_do_not_decode_it_is_refused(
    codec: str, harm: str, tmp_path: Path
) -> None:
    plain = make(tmp_path / "plain.mkv", *PICTURE, *TONE, "-c:v", codec, "-c:a", "wmav2")
    every = "-bsf:v" if "drop" in harm else "-bsf:v:0"
    assert "none of its frames can be decoded" in refusal(
        make(tmp_path / "clip.mkv", "-i", plain, *EMPTIED[:-2], every, harm)
    )


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_captions_inside_the_pictures_are_said_to_be_lost(suffix: str, tmp_path: Path) -> None:
    plain = make(tmp_path / "plain.h264", *PICTURE, *H264, "-bf", "0")
    assert probe(make(tmp_path / f"plain{suffix}", "-i", plain, "-c", "copy")).unkept == ()
    # A user_data_registered_itu_t_t35 message (ATSC A/53, part 4) ahead of each picture, with three pairs of bytes.
    said = b"\xb5\x00\x31GA94\x03\x43\xff\xfc\x94\x20\xfc\x94\x25\xfc\xc8\xe5\xff"
    message = b"\x00\x00\x01\x06\x04" + bytes([len(said)]) + said + b"\x80"
    captioned = tmp_path / "captioned.h264"
    captioned.write_bytes(re.sub(rb"(\x00\x00\x01[\x65\x41\x01])", lambda nal: message + nal[1], plain.read_bytes()))
    info = probe(make(tmp_path / f"captioned{suffix}", "-i", captioned, "-c", "copy"))
    assert info.unkept == ("the closed captions inside its pictures",)


@pytest.mark.parametrize("flags", ["faststart", "frag_keyframe+empty_moov+delay_moov"])
def test_what_is_encrypted_is_said_to_be(flags: str, tmp_path: Path) -> None:
    key = ("-encryption_scheme", "cenc-aes-ctr", "-encryption_key", "0f" * 16, "-encryption_kid", "f0" * 16)
    path = make(tmp_path / "clip.mp4", *PICTURE, "-c:v", "mpeg4", *key, "-movflags", flags)
    assert refusal(path) == "none of its frames can be decoded (its pictures are encrypted)"


def test_a_file_whose_index_was_cut_off_is_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "clip.mp4", *PICTURE, *H264)
    path.write_bytes(path.read_bytes()[:2000])
    assert "truncated" in refusal(path)


def test_a_missing_ffmpeg_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clip.mp4").touch()
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "no-such-ffmpeg"))
    with pytest.raises(VideoError, match="no-such-ffmpeg cannot be run: No such file"):
        probe(tmp_path / "clip.mp4")


def test_an_ffmpeg_that_is_too_old_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clip.mp4").touch()
    old = tmp_path / "ffmpeg"
    old.write_text("#!/bin/sh\necho 'ffmpeg version 7.0.2-static Copyright'\n")
    old.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(old))
    with pytest.raises(VideoError, match=r"is ffmpeg 7, .* 8 or later is needed"):
        probe(tmp_path / "clip.mp4")


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("list.mkv", "concat", "ffconcat version 1.0\nfile clip.mp4\n"),
        ("list.mp4", "concat", "ffconcat version 1.0\nfile clip.mp4\n"),
        ("list.m3u8", "hls", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.2,\nclip.mp4\n#EXT-X-ENDLIST\n"),
    ],
)
def test_a_list_of_other_files_is_refused_whatever_it_is_called(
    name: str, kind: str, text: str, tmp_path: Path
) -> None:
    make(tmp_path / "clip.mp4", "-f", "lavfi", "-i", "color=s=64x48:r=25:d=0.2", *H264)
    (tmp_path / name).write_text(text)
    with pytest.raises(VideoError, match=rf"{name}: no video but a list of other files \(it looks like '{kind}'\)"):
        probe(tmp_path / name)


@pytest.mark.parametrize(
    ("tags", "height", "matrix"),
    [
        (ColourTags(), 576, "smpte170m"),
        (ColourTags(), 720, "bt709"),
        (ColourTags(matrix="bt470bg"), 1080, "smpte170m"),
        (ColourTags(matrix="bt709"), 480, "bt709"),
        (ColourTags(matrix="bt2020nc"), 480, "bt2020nc"),
    ],
)
def test_gaps_in_the_tags_are_filled_as_players_do(tags: ColourTags, height: int, matrix: str) -> None:
    pixels = planar("yuv420p")
    assert pixels is not None
    colour = resolve_colour(tags, pixels, height)
    assert (colour.matrix, colour.full_range, colour.chroma_location) == (matrix, False, "left")


def test_the_line_that_says_why_is_found_among_consequences() -> None:
    told = [
        "[in#0 @ 0x55] [info] something",
        "[vost#0:0 @ 0x55] [error] Task finished with error code: -22 (Invalid argument)",
        "[libx264 @ 0x55] [error] width not divisible by 2 (63x47).",
        "[info] Conversion failed!",
    ]
    assert ffmpeg.reason(told) == "width not divisible by 2 (63x47)"
    assert ffmpeg.reason([]) == "ffmpeg gave no reason"


def test_streams_that_programmes_share_are_one_each(tmp_path: Path) -> None:
    shared = [part for number in (1, 2) for part in ("-program", f"program_num={number}:st=0:st=1")]
    path = make(tmp_path / "two.ts", *PICTURE, *TONE, "-map", "0", "-map", "1", *H264, "-c:a", "mp2", *shared)
    assert [str(stream) for stream in probe(path).streams] == ["audio stream 1 (mp2)"]
