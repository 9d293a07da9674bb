"""A video file is whole or not there, and what cannot be written is said in one line."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deblur_cli.errors import DiskFullError, UsageError, VideoError
from deblur_cli.media import ffmpeg, video_writer
from deblur_cli.media.encoders import CONTAINERS, choose
from deblur_cli.media.pixel_formats import planar
from deblur_cli.media.probe import VideoInfo, probe
from deblur_cli.media.video import Colour, Frame, PixelFormat, VideoFormat
from deblur_cli.media.video_join import join_segments, segment_suffix, timestamps
from deblur_cli.media.video_reader import VideoReader
from deblur_cli.media.video_writer import VideoWriter
from tests.media.video_samples import (
    H264,
    PICTURE,
    TONE,
    VARIABLE,
    make,
    noise,
    packet_hashes,
    sound_times,
    subtitle_text,
)

GREY = PixelFormat("gray", "grey", 8)
VIDEO = VideoFormat(32, 16, GREY, Colour(), Fraction(1, 600))


def frames(count: int, video: VideoFormat = VIDEO) -> list[Frame]:
    return [noise(video.pixels, video.height, video.width, 20 * k, k) for k in range(count)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of variable rate that begins late, is rotated, and has sound."""
    folder = tmp_path_factory.mktemp("clip")
    shaken = VARIABLE[1].replace("setpts=(", "setpts=(0.2+")
    long = ("-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=1.48", "-f", "lavfi", "-i", "sine=d=1.7")
    plain = make(folder / "plain.mp4", *long, "-vf", shaken, *VARIABLE[2:], *H264, "-bf", "2", "-c:a", "aac")
    return make(folder / "clip.mp4", "-display_rotation", "90", "-i", plain, "-c", "copy")


def test_an_exception_leaves_nothing_and_does_not_touch_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    target.write_text("before")
    with pytest.raises(KeyError), VideoWriter(target, None, VIDEO) as writer:
        writer.write(frames(1)[0])
        raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
    assert target.read_text() == "before"


def test_the_name_appears_when_the_file_is_whole(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "out.mkv", None, VIDEO)
    for frame in frames(5):
        writer.write(frame)
    assert not (tmp_path / "out.mkv").exists()
    writer.close()
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["out.mkv"]
    with pytest.raises(VideoError, match="is closed"):
        writer.write(frames(6)[5])


def test_no_frame_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no frame to write"):
        VideoWriter(tmp_path / "out.mp4", None, VIDEO).close()
    assert list(tmp_path.iterdir()) == []


def test_frames_out_of_order_or_of_another_shape_are_faults_of_the_caller(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "out.mp4", None, VIDEO)
    first, second = frames(2)
    writer.write(second)
    for wrong in (first, second, Frame((np.zeros((16, 31), np.uint8),), 99)):
        with pytest.raises(ValueError, match="frame"):
            writer.write(wrong)
    writer.abort()


def test_a_full_disk_is_said_with_what_is_needed(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = tmp_path / "full.part"
    full.symlink_to("/dev/full")
    monkeypatch.setattr(video_writer, "temporary_name", lambda _: full)
    # Frames that do not compress, so that the encoder's output is felt before the end.
    large = replace(VIDEO, width=640, height=480)
    writer = VideoWriter(tmp_path / "out.mkv", probe(clip), large, codec="ffv1", with_streams=False)
    with pytest.raises(DiskFullError, match="the disk is full after"), writer:
        for frame in frames(20, large):
            writer.write(frame)
    assert not (tmp_path / "out.mkv").exists()
    assert not full.is_symlink()


@pytest.mark.parametrize(
    ("name", "codec", "message"),
    [
        ("out.gif", "auto", "no video is written as '.gif'"),
        ("out.webm", "h264", "does not hold h264; take one of .mp4"),
        ("out.mp4", "prores", "does not hold prores; take one of .mov, .mkv"),
        ("out.mp4", "cinepak2", "there is no video codec 'cinepak2'"),
        ("out.avi", "auto", "AVI has no timestamps"),
    ],
)
def test_what_cannot_be_written_is_refused_before_it_begins(
    name: str, codec: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(VideoError, match=message):
        VideoWriter(tmp_path / name, None, VIDEO, codec=codec)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("codec", "option"),
    [("ffv1", {"crf": 20}), ("prores", {"crf": 20}), ("ffv1", {"preset": "x"}), ("hevc", {"preset": "warp"})],
)
def test_a_scale_that_a_codec_does_not_have_is_a_wrong_use(codec: str, option: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        choose(Path("out.mov"), VIDEO, codec=codec, **option)  # type: ignore[arg-type]


def test_a_missing_encoder_is_said_with_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ffmpeg, "encoders", lambda: frozenset({"libx264", "ffv1"}))
    with pytest.raises(VideoError, match=r"no encoder for hevc \(libx265\); it has h264, ffv1$"):
        choose(Path("out.mp4"), VIDEO, codec="hevc")


def test_another_encoder_serves_where_the_best_one_is_missing_or_loses_more(monkeypatch: pytest.MonkeyPatch) -> None:
    fine = replace(VIDEO, pixels=planar("yuv444p10le") or GREY)
    assert choose(Path("a.mp4"), VIDEO, codec="av1").encoder.name == "libsvtav1"
    assert choose(Path("a.mp4"), fine, codec="av1").encoder.name == "libaom-av1"
    monkeypatch.setattr(ffmpeg, "encoders", lambda: frozenset({"libaom-av1"}))
    assert choose(Path("a.mp4"), VIDEO, codec="av1").encoder.name == "libaom-av1"


def test_arguments_of_ones_own_come_last(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", None, VIDEO, extra=["-metadata", "title=mine"]) as writer:
        writer.write(frames(1)[0])
    assert probe(tmp_path / "out.mp4").file_metadata["title"] == "mine"


def test_arguments_that_ffmpeg_refuses_are_one_clear_line(tmp_path: Path) -> None:
    # It may be gone before the first bytes reach it.
    with pytest.raises(VideoError, match=r"out\.mp4: cannot be encoded"):  # noqa: SIM117
        with VideoWriter(tmp_path / "out.mp4", None, VIDEO, extra=["-no_such_option", "1"]) as writer:
            for frame in frames(50):
                writer.write(frame)
    assert list(tmp_path.iterdir()) == []


def test_colours_are_tagged_where_there_is_no_source(tmp_path: Path) -> None:
    colour = Colour("bt2020nc", True, "bt2020", "arib-std-b67", "topleft")
    video = replace(VIDEO, pixels=planar("yuv420p10le") or GREY, colour=colour)
    with VideoWriter(tmp_path / "out.mp4", None, video, codec="hevc") as writer:
        writer.write(frames(1, video)[0])
    assert probe(tmp_path / "out.mp4").video.colour == colour


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_a_part_of_a_video_begins_at_zero_with_its_sound(suffix: str, clip: Path, tmp_path: Path) -> None:
    target = tmp_path / f"part{suffix}"
    with VideoReader(clip, start=0.8, end=1.4) as reader:
        with VideoWriter(target, reader.info, reader.video, start=0.8, end=1.4) as writer:
            for frame in reader:
                writer.write(frame)
        shown = [frame.pts * reader.video.time_base - Fraction(8, 10) for frame in reader]
    kept = timestamps(target)
    tolerance = Fraction(1, 1000) if suffix == ".mkv" else Fraction(1, 10_000)
    assert max(abs(one - other) for one, other in zip(shown, kept, strict=True)) < tolerance
    sound = subprocess.run(
        [ffmpeg.executable(), "-v", "error", "-i", target, "-map", "0:a", "-f", "framecrc", "-"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    samples = [line.split(",") for line in sound if not line.startswith("#")]
    assert abs(int(samples[0][2]) / 44100) < 0.06
    assert (int(samples[-1][2]) + int(samples[-1][3])) / 44100 == pytest.approx(0.6, abs=0.06)


@pytest.mark.parametrize(
    ("codec", "size", "extra", "pixels", "lost"),
    [
        ("h264", (64, 48), (), "yuv420p", ["RGB samples", "chroma resolution, .*'-pix_fmt yuv444p' keeps more"]),
        ("h264", (64, 48), ("-pix_fmt", "yuv444p"), "yuv444p", ["RGB samples"]),
        ("h264", (63, 48), (), "yuv444p", ["RGB samples"]),
        ("hevc", (64, 48), (), "yuv420p", [r"RGB samples \(YUV now\) and chroma resolution, .*'-pix_fmt gbrp' keeps"]),
        ("hevc", (64, 48), ("-pix_fmt:v", "gbrp"), "gbrp", []),
        ("libx264", (64, 48), (), "yuv444p", ["RGB samples"]),
        ("h264", (64, 48), ("-pix_fmt", "rgb24"), "gbrp", []),
        ("av1", (64, 48), ("-pix_fmt", "yuv444p"), "yuv444p", ["RGB samples"]),
        ("hevc", (64, 48), ("-pix_fmt", "nv12"), "yuv420p", ["RGB samples", "chroma resolution", "the pixel format"]),
        (
            "hevc",
            (64, 48),
            ("-pix_fmt", "p010le"),
            "yuv420p10le",
            ["RGB samples", "chroma resolution", "the pixel format"],
        ),
    ],
)
def test_pictures_become_what_players_show_unless_more_is_asked_for(
    codec: str, size: tuple[int, int], extra: tuple[str, ...], pixels: str, lost: list[str], tmp_path: Path
) -> None:
    video = VideoFormat(*size, planar("gbrp") or GREY, Colour("gbr", True), Fraction(1, 25))
    preset = "8" if codec == "av1" else "ultrafast"
    with VideoWriter(tmp_path / "out.mp4", None, video, codec=codec, preset=preset, extra=extra) as writer:
        writer.write(frames(1, video)[0])
    written = probe(tmp_path / "out.mp4").video
    assert written.pixels.name == pixels
    assert (written.colour.matrix == "gbr") == (pixels == "gbrp")
    assert len(writer.dropped) == len(lost)
    for line, pattern in zip(writer.dropped, lost, strict=True):
        assert re.match(pattern, line)


@pytest.mark.parametrize(
    ("codec", "pixels", "written", "lost"),
    [
        ("h264", "gbrp16le", "yuv420p", r"16 bits a sample \(8 now\) and chroma .*'-pix_fmt yuv444p10le' keeps more"),
        ("hevc", "gbrp16le", "yuv420p10le", r"'-pix_fmt gbrp12le' keeps"),
        ("h264", "gray16le", "yuv420p", "16 bits"),
        ("h264", "gray", "yuv420p", ""),
    ],
)
def test_of_pictures_players_are_given_the_bits_and_colours_that_they_show(
    codec: str, pixels: str, written: str, lost: str
) -> None:
    video = VideoFormat(64, 48, planar(pixels) or GREY, Colour(), Fraction(1, 25))
    encoding = choose(Path("out.mp4"), video, codec=codec)
    assert encoding.pixels == written
    assert re.search(lost, "\n".join(encoding.losses)) and bool(encoding.losses) == bool(lost)


def test_a_pixel_format_may_be_called_as_ffmpeg_takes_it_and_one_that_no_encoder_has_is_said() -> None:
    video = VideoFormat(64, 48, GREY, Colour(), Fraction(1, 25))
    assert choose(Path("out.mp4"), video, codec="hevc", pixels="yuv420p10").pixels == "yuv420p10le"
    assert choose(Path("out.mp4"), video, codec="hevc", pixels="+gray12").pixels == "gray12le"
    colours = replace(video, pixels=PixelFormat("yuv444p", "yuv", 8))
    (told,) = choose(Path("out.mp4"), colours, codec="h264", pixels="nv12").losses
    assert told == "chroma resolution: not written by libx264"
    (told,) = choose(Path("out.mkv"), video, codec="ffv1", pixels="rgb24").losses
    assert told == "the pixel format rgb24 (one that is near, by ffmpeg's choice): not written by ffv1"


def cut(source: VideoInfo, target: Path, start: float, end: float, **joining: Any) -> list[str]:
    """Write a part of a video as the restoration does, in one segment; what the target cannot hold."""
    segment = target.with_name(f"0{segment_suffix(target)}")
    reader = VideoReader(source.path, start=start, end=end)
    with reader, VideoWriter(segment, source, reader.video, with_streams=False) as writer:
        for frame in reader:
            writer.write(frame)
    return join_segments([segment], target, source, start=start, end=end, **joining)


CUES = ((100, 400, "gone"), (500, 900, "from before"), (1000, 1200, "whole"), (1300, 1900, "too long"))


@pytest.mark.parametrize("kind", [".mp4", ".mkv"])
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".3gp", ".mkv", ".webm"])
def test_subtitles_of_a_part_are_cut_at_both_ends_and_move_nothing(kind: str, suffix: str, tmp_path: Path) -> None:
    script = [f"{n}\n00:00:0{a / 1000:.3f} --> 00:00:0{b / 1000:.3f}\n{text}\n" for n, (a, b, text) in enumerate(CUES)]
    (tmp_path / "cues.srt").write_text("\n".join(script).replace(".", ","))
    pictures = ("-f", "lavfi", "-i", "testsrc2=s=64x64:r=10:d=2", "-i", tmp_path / "cues.srt")
    source = probe(make(tmp_path / f"in{kind}", *pictures, *H264, "-c:s", "mov_text" if kind == ".mp4" else "subrip"))
    target = tmp_path / f"part{suffix}"
    assert cut(source, target, 0.65, 1.5) == []
    assert [float(time) for time in timestamps(target)] == pytest.approx([0.05 + k / 10 for k in range(8)])
    told = subtitle_text(target).split("\n")
    assert [line.replace("00:00:00,", "") for line in told if "-->" in line] == [
        "000 --> 250",
        "350 --> 550",
        "650 --> 850",
    ]
    assert [told[2], told[6], told[10]] == [text for _, _, text in CUES[1:]]
    assert probe(target).duration == pytest.approx(0.85, abs=0.011), "no longer than the part"


@pytest.mark.parametrize(
    ("order", "without", "kind"),
    [
        ("avs", "-an", ".mkv"),
        ("avs", "-an", ".mp4"),
        ("vsa", "-sn", ".mkv"),
        ("asv", "-an", ".mkv"),
        ("sva", "-sn", ".mp4"),
    ],
)
def test_where_streams_of_a_kind_are_left_out_the_others_are_what_they_were(
    order: str, without: str, kind: str, tmp_path: Path
) -> None:
    (tmp_path / "cues.srt").write_text(
        "1\n00:00:00,500 --> 00:00:00,900\none\n\n2\n00:00:01,300 --> 00:00:01,900\ntwo\n"
    )
    tone = ("-f", "lavfi", "-i", "sine=d=2")
    inputs = ("-f", "lavfi", "-i", "testsrc2=s=64x64:r=10:d=2", *tone, "-i", tmp_path / "cues.srt")
    maps = [word for letter in order for word in ("-map", str("vas".index(letter)))]
    languages = [
        word
        for letter, language in (("a", "fra"), ("s", "nld"), ("v", "deu"))
        for key in ("language", "title")
        for word in (f"-metadata:s:{order.index(letter)}", f"{key}={language}")
    ]
    coded = (*maps, *languages, *H264, "-c:a", "aac", "-c:s", "subrip")
    source = probe(make(tmp_path / "in.mkv", *inputs, *coded))
    target = tmp_path / f"part{kind}"
    assert cut(source, target, 0.65, 1.5, extra=[without], until=Fraction("1.5")) == []
    after = probe(target)
    left = order.replace(without[1], "")
    assert after.index == left.index("v")
    assert kind == ".mp4" or after.metadata["title"] == "deu"
    (stream,) = after.streams
    assert (stream.kind, stream.language) == (("subtitle", "nld") if without == "-an" else ("audio", "fra"))
    assert after.duration == pytest.approx(0.85, abs=0.035), "sound comes in packets of 23 ms"
    if without == "-an":
        times = [line.replace("00:00:00,", "") for line in subtitle_text(target).split("\n") if "-->" in line]
        assert times == ["000 --> 250", "650 --> 850"]
    else:
        steps = [later - time for time, later in pairwise(sound_times(target))]
        assert steps and max(abs(step - Fraction(1024, 44100)) for step in steps) < Fraction(1, 900)


def test_a_text_that_is_shown_since_long_before_the_cut_is_there_still(tmp_path: Path) -> None:
    (tmp_path / "cues.srt").write_text("1\n00:00:01,000 --> 00:00:38,000\nlong\n")
    pictures = ("-f", "lavfi", "-i", "testsrc2=s=64x64:r=2:d=40", "-i", tmp_path / "cues.srt")
    for kind, codec in ((".mkv", "subrip"), (".mp4", "mov_text")):
        source = probe(make(tmp_path / f"in{kind}", *pictures, *H264, "-g", "10", "-c:s", codec))
        for suffix in (".mkv", ".mp4"):
            target = tmp_path / f"part{suffix}"
            cut(source, target, 30, 33)
            assert "00:00:00,000 --> 00:00:03,000\nlong" in subtitle_text(target)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".ts"])
def test_segments_joined_are_the_video_as_if_it_had_never_been_cut(suffix: str, clip: Path, tmp_path: Path) -> None:
    target, segments = tmp_path / f"joined's{suffix}", []
    with VideoReader(clip) as reader:
        every = list(reader)
    # The last segment is a single frame.
    assert len(every) % 9 == 1
    for begin in range(0, len(every), 9):
        segments.append(tmp_path / f"it's {begin}{segment_suffix(target)}")
        with VideoWriter(segments[-1], reader.info, reader.video, with_streams=False) as writer:
            for frame in every[begin : begin + 9]:
                writer.write(frame)
    dropped = join_segments(segments, target, reader.info)
    shown = [frame.pts * reader.video.time_base for frame in every]
    kept = timestamps(target, decode=True)
    lag = kept[0] - shown[0] if suffix == ".ts" else Fraction(0)
    tolerance = Fraction(1, 1000) if suffix in {".mkv", ".ts"} else 0
    assert max(abs(one - other - lag) for one, other in zip(kept, shown, strict=True)) <= tolerance
    after = probe(target)
    if suffix == ".ts":
        assert len(dropped) == 2
    else:
        assert dropped == [] and after.rotation == 90
    assert (after.tags.matrix, after.video.pixels) == (reader.info.tags.matrix, reader.info.video.pixels)
    if suffix != ".ts":
        # A transport stream carries AAC with headers of its own.
        assert packet_hashes(clip) == packet_hashes(target)
    with VideoReader(target) as joined:
        pieces = iter(joined)
        for segment in segments:
            with VideoReader(segment) as piece:
                for frame in piece:
                    assert all(map(np.array_equal, frame.planes, next(pieces).planes))
    assert joined.damaged is None and joined.undecodable == 0


def test_a_missing_segment_is_said(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"0\.mp4"):
        join_segments([tmp_path / "0.mp4"], tmp_path / "out.mp4", probe(clip))
    assert list(tmp_path.iterdir()) == []


def test_every_container_takes_its_first_codec(tmp_path: Path) -> None:
    video = replace(VIDEO, pixels=planar("yuv420p") or GREY, time_base=Fraction(1, 25))
    source = replace(probe(make(tmp_path / "in.avi", *PICTURE, *TONE, "-c:v", "mjpeg")), mastering_display=None)
    for suffix, container in CONTAINERS.items():
        target = tmp_path / f"out{suffix}"
        with VideoWriter(target, source, video, with_streams=False) as writer:
            for k in range(4):
                writer.write(noise(video.pixels, video.height, video.width, k, k))
        assert writer.encoding.codec == container.codecs[0]
        assert len(timestamps(target)) == 4
