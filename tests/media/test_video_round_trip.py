"""Videos of every kind go through reader and writer with nothing lost; a table of it stands in the test's output."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from deblur_cli.media.pixel_formats import planar
from deblur_cli.media.probe import VideoInfo, probe
from deblur_cli.media.video import Colour, Frame, VideoFormat
from deblur_cli.media.video_join import timestamps
from deblur_cli.media.video_reader import VideoReader
from deblur_cli.media.video_writer import VideoWriter
from tests.media.video_samples import (
    CHAPTERS,
    H264,
    PICTURE,
    QUICK,
    SUBTITLES,
    TONE,
    VARIABLE,
    differences,
    make,
    noise,
    packet_hashes,
    subtitle_text,
)

HEVC = ("-c:v", "libx265", *QUICK, "-x265-params", "log-level=error")
VP9 = ("-c:v", "libvpx-vp9", "-cpu-used", "8", "-deadline", "realtime", "-crf", "40", "-b:v", "0")
AV1 = ("-c:v", "libsvtav1", "-preset", "12", "-crf", "45")
AAC = ("-c:a", "aac")
HDR = (
    "-pix_fmt",
    "yuv420p10le",
    "-vf",
    "setparams=colorspace=bt2020nc:color_primaries=bt2020:color_trc=smpte2084:range=tv",
)
MASTERING = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
SVT_MASTERING = "G(0.265,0.69)B(0.15,0.06)R(0.68,0.32)WP(0.3127,0.329)L(1000.0,0.005)"
ODD = ("-f", "lavfi", "-i", "testsrc2=s=63x47:r=25:d=0.4")
ALPHA = "format=yuva420p,geq=lum=lum(X\\,Y):cb=cb(X\\,Y):cr=cr(X\\,Y):a=4*Y"


def tagged(matrix: str, primaries: str, transfer: str, extent: str = "tv") -> tuple[str, ...]:
    chain = f"setparams=colorspace={matrix}:color_primaries={primaries}:color_trc={transfer}:range={extent}"
    return ("-vf", chain)


@dataclass(frozen=True)
class Case:
    """A source as ffmpeg makes it, the container that it is written to, and what that cannot hold."""

    arguments: tuple[str, ...]
    suffix: str = ".mp4"
    target: str | None = None
    codec: str = "auto"
    steps: tuple[tuple[str, ...], ...] = ()
    """Options of further runs, each copying the file of the one before: before and after its `-i`."""
    lost: tuple[str, ...] = ()
    """The beginnings of the lines that say what was dropped."""
    exact: bool = False
    """Whether samples come back as they were."""


CASES = {
    "variable rate, mp4": Case((*PICTURE, *TONE, *VARIABLE, *H264, *AAC)),
    "variable rate, mkv": Case((*PICTURE, *TONE, *VARIABLE, *H264, *AAC), ".mkv"),
    "variable rate, mp4 to mkv": Case((*PICTURE, *TONE, *VARIABLE, *H264, *AAC), target=".mkv"),
    "variable rate, mkv to mp4": Case((*PICTURE, *TONE, *VARIABLE, *H264, *AAC), ".mkv", ".mp4"),
    "starts 0.7 s late": Case((*PICTURE, *TONE, "-vf", "setpts=PTS+0.7/TB", *H264, *AAC)),
    "starts 0.7 s late, to mkv": Case((*PICTURE, *TONE, "-vf", "setpts=PTS+0.7/TB", *H264, *AAC), target=".mkv"),
    "edit list": Case((*PICTURE, "-c:v", "libx264", "-g", "50", "-crf", "30"), steps=(("-ss", "0.2", "--"),)),
    "rotated by 90": Case((*PICTURE, *H264), steps=(("-display_rotation", "90", "--"),)),
    "rotated by 180": Case((*PICTURE, *H264), steps=(("-display_rotation", "180", "--"),)),
    "rotated by 270": Case((*PICTURE, *H264), steps=(("-display_rotation", "270", "--"),)),
    "rotated, to mkv": Case((*PICTURE, *H264), target=".mkv", steps=(("-display_rotation", "90", "--"),)),
    "mirrored": Case((*PICTURE, *H264), steps=(("-display_hflip", "--"),)),
    "rotated and mirrored": Case((*PICTURE, *H264), steps=(("-display_rotation", "90", "-display_hflip", "--"),)),
    "pixels wider than high": Case((*PICTURE, "-vf", "setsar=16/11", *H264)),
    "10 bits": Case((*PICTURE, *HEVC, "-pix_fmt", "yuv420p10le")),
    "12 bits": Case((*PICTURE, *HEVC, "-pix_fmt", "yuv420p12le"), ".mkv"),
    "12 bits, to H.264": Case(
        (*PICTURE, *HEVC, "-pix_fmt", "yuv420p12le"), codec="h264", lost=("12 bits a sample (10 now)", "pixels")
    ),
    "4:2:2, 10 bits": Case((*PICTURE, *H264, "-pix_fmt", "yuv422p10le")),
    "4:4:4": Case((*PICTURE, *H264, "-pix_fmt", "yuv444p")),
    "grey": Case((*PICTURE, *H264, "-pix_fmt", "gray")),
    "full range": Case((*PICTURE, "-vf", "scale=out_range=pc,format=yuv420p", *H264)),
    "BT.601, NTSC": Case((*PICTURE, *tagged("smpte170m", "smpte170m", "smpte170m"), *H264)),
    "BT.601, PAL": Case((*PICTURE, *tagged("bt470bg", "bt470bg", "bt709"), *H264)),
    "BT.709": Case((*PICTURE, *tagged("bt709", "bt709", "bt709"), *H264)),
    "BT.709, full range": Case((*PICTURE, *tagged("bt709", "bt709", "bt709", "pc"), *H264)),
    "BT.2020": Case((*PICTURE, *tagged("bt2020nc", "bt2020", "bt2020-10"), *HEVC, "-pix_fmt", "yuv420p10le")),
    "odd size, VP9": Case((*ODD, *VP9), ".webm"),
    "odd size, AV1": Case((*ODD, *AV1)),
    "odd size, to H.264": Case((*ODD, *VP9), ".webm", ".mp4", codec="h264", lost=("pixels",)),
    "odd size, FFV1": Case((*ODD, "-c:v", "ffv1"), ".mkv", exact=True),
    "HDR10, HEVC": Case((*PICTURE, *HDR, *HEVC[:-1], f"log-level=error:master-display={MASTERING}:max-cll=1000,400")),
    "HDR10, AV1": Case(
        (*PICTURE, *HDR, *AV1, "-svtav1-params", f"mastering-display={SVT_MASTERING}:content-light=1000,400")
    ),
    "alpha, VP9": Case((*PICTURE, "-vf", ALPHA, *VP9, "-auto-alt-ref", "0"), ".webm"),
    "alpha, ProRes": Case(
        (*PICTURE, "-vf", ALPHA, "-c:v", "prores_ks", "-pix_fmt", "yuva444p10le"), ".mov", lost=("12 bits",)
    ),
    "alpha, FFV1": Case((*PICTURE, "-vf", ALPHA, "-c:v", "ffv1"), ".mkv", exact=True),
    "alpha, to H.264": Case(
        (*PICTURE, "-vf", ALPHA, "-c:v", "ffv1"), ".mkv", codec="h264", lost=("transparency", "pixels")
    ),
    "ProRes 4:2:2": Case((*PICTURE, "-c:v", "prores_ks", "-pix_fmt", "yuv422p10le"), ".mov"),
    "RGB, FFV1": Case((*PICTURE, "-c:v", "ffv1", "-pix_fmt", "bgr0"), ".mkv", exact=True),
    "RGB in QuickTime": Case((*PICTURE, "-c:v", "qtrle", "-pix_fmt", "rgb24"), ".mov", ".mkv", exact=True),
    "MPEG-2 in a transport stream": Case((*PICTURE, *TONE, "-c:v", "mpeg2video", "-c:a", "mp2"), ".ts"),
    "Blu-ray's transport stream": Case((*PICTURE, *TONE, *H264, "-c:a", "ac3"), ".m2ts"),
    "Motion JPEG in AVI": Case((*PICTURE, *TONE, "-c:v", "mjpeg", "-c:a", "pcm_s16le"), ".avi", lost=("location",)),
}

ROWS: list[tuple[str, str, str]] = []


@pytest.fixture(scope="module", autouse=True)
def table(request: pytest.FixtureRequest) -> Iterator[None]:
    """Prints what became of each video when all have been tried."""
    yield
    capture = request.config.pluginmanager.getplugin("capturemanager")
    reporter = request.config.pluginmanager.getplugin("terminalreporter")
    if capture is None or reporter is None:
        return
    with capture.global_and_fixture_disabled():
        reporter.write_line("")
        for name, error, lost in (("video", "greatest timestamp error", "not kept, and said"), *ROWS):
            reporter.write_line(f"{name:32} {error:26} {lost}")


def through(
    source: Path, target: Path, codec: str = "auto", extra: Sequence[str] = ()
) -> tuple[VideoInfo, VideoInfo, list[str]]:
    """Copy a video frame by frame; what both files hold, and what was dropped."""
    with (
        VideoReader(source) as reader,
        VideoWriter(target, reader.info, reader.video, codec=codec, extra=extra) as writer,
    ):
        for frame in reader:
            writer.write(frame)
    return reader.info, probe(target), writer.dropped


@pytest.mark.parametrize("name", list(CASES))
def test_nothing_is_lost_but_what_is_said(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    source = make(tmp_path / f"source{case.suffix}", *case.arguments)
    for k, step in enumerate(case.steps):
        split = step.index("--")
        source = make(tmp_path / f"step{k}{case.suffix}", *step[:split], "-i", source, "-c", "copy", *step[split + 1 :])
    target = tmp_path / f"target{case.target or case.suffix}"
    before, after, dropped = through(source, target, case.codec)

    shown, kept = timestamps(source, decode=True), timestamps(target, decode=True)
    assert len(shown) == len(kept)
    error = max(abs(one - other) for one, other in zip(shown, kept, strict=True))
    ROWS.append((name, f"{float(error) * 1000:.3f} ms", "; ".join(dropped)))
    assert error <= (0 if case.target in {None, case.suffix} else Fraction(1, 1000))
    assert packet_hashes(source) == packet_hashes(target)
    changed = differences(before, after)
    assert len(changed) == sum(any(line.startswith(lost) for line in changed) for lost in case.lost), changed
    assert len(dropped) == sum(any(line.startswith(lost) for line in dropped) for lost in case.lost), dropped
    if case.exact:
        with VideoReader(source) as one, VideoReader(target) as other:
            for left, right in zip(one, other, strict=True):
                assert all(map(np.array_equal, left.planes, right.planes))


@pytest.mark.parametrize(
    ("name", "codec", "parameters", "told"),
    [
        ("HDR10, HEVC", "auto", "-x265-params aq-mode=3", b"aq-mode=3"),
        ("HDR10, HEVC", "h264", "-x264-params aq-mode=3", b"aq=3"),
        ("HDR10, AV1", "auto", "-svtav1-params aq-mode=0", b""),
    ],
)
def test_parameters_for_the_encoder_leave_the_hdr10_data_alone(
    name: str, codec: str, parameters: str, told: bytes, tmp_path: Path
) -> None:
    source, target = make(tmp_path / "source.mp4", *CASES[name].arguments), tmp_path / "target.mp4"
    before, after, dropped = through(source, target, codec, parameters.split())
    assert dropped == [] and before.mastering_display is not None and before.content_light == (1000, 400)
    assert differences(before, after) == []
    assert told in target.read_bytes()  # x264 and x265 write into the file how they encoded it


def rich(folder: Path, suffix: str, subtitles: str) -> Path:
    """A video with two languages, subtitles, chapters and a title."""
    (folder / "texts.srt").write_text(SUBTITLES)
    (folder / "chapters.txt").write_text(CHAPTERS)
    return make(
        folder / f"rich{suffix}",
        *(*PICTURE, *TONE, *TONE, "-i", folder / "texts.srt", "-i", folder / "chapters.txt"),
        *("-map", "0", "-map", "1", "-map", "2", "-map", "3", "-map_metadata", "4", "-map_chapters", "4"),
        *("-metadata:s:a:0", "language=fra", "-metadata:s:a:1", "language=jpn", "-metadata:s:s:0", "language=eng"),
        *("-disposition:a:1", "comment", *H264, "-c:a:0", "aac", "-c:a:1", "ac3", "-c:s", subtitles),
    )


@pytest.mark.parametrize(("suffix", "subtitles"), [(".mp4", "mov_text"), (".mkv", "subrip"), (".mov", "mov_text")])
@pytest.mark.parametrize("target", [".mp4", ".mkv"])
def test_languages_subtitles_chapters_and_title_go_along(
    suffix: str, subtitles: str, target: str, tmp_path: Path
) -> None:
    source = rich(tmp_path, suffix, subtitles)
    before, after, dropped = through(source, tmp_path / f"target{target}")
    assert dropped == []
    assert differences(before, after) == []
    assert len(after.streams) - sum(stream.kind == "data" for stream in after.streams) == 3
    assert packet_hashes(source) == packet_hashes(tmp_path / f"target{target}")
    assert subtitle_text(tmp_path / f"target{target}") == subtitle_text(source) != ""
    assert [chapter.title for chapter in after.chapters] == ["One", "Other"]


def test_what_a_container_cannot_hold_is_said_and_dropped(tmp_path: Path) -> None:
    source = rich(tmp_path, ".mkv", "subrip")
    _, after, dropped = through(source, tmp_path / "target.ts")
    assert [line.split(":")[0] for line in dropped] == [
        "subtitle stream 3 (subrip, eng)",
        "2 chapters",
        "the clock's zero",
    ]
    assert [stream.kind for stream in after.streams] == ["audio", "audio"]


def test_audio_that_webm_does_not_take_is_dropped(tmp_path: Path) -> None:
    source = make(tmp_path / "source.mp4", *PICTURE, *TONE, *H264, *AAC)
    _, after, dropped = through(source, tmp_path / "target.webm")
    assert after.codec == "vp9" and after.streams == ()
    assert dropped == ["audio stream 1 (aac): a webm file does not hold it"]


def test_cover_art_is_kept_and_is_not_the_video(tmp_path: Path) -> None:
    cover = make(tmp_path / "cover.png", "-f", "lavfi", "-i", "color=red:s=32x32", "-frames:v", "1")
    attached = ("-map", "1", "-map", "0", "-c:v:0", "copy", "-c:v:1", "libx264", "-disposition:v:0", "attached_pic")
    source = make(tmp_path / "source.mp4", *PICTURE, "-i", cover, *attached)
    before, after, dropped = through(source, tmp_path / "target.mp4")
    assert before.codec == after.codec == "h264"
    assert dropped == [] and differences(before, after) == []
    assert [(stream.codec, stream.dispositions) for stream in after.streams] == [("png", frozenset({"attached pic"}))]
    _, after, dropped = through(source, tmp_path / "target.mkv")
    assert after.codec == "h264" and dropped == []
    assert [(stream.codec, stream.dispositions) for stream in after.streams] == [("png", frozenset({"attached pic"}))]
    _, after, dropped = through(source, tmp_path / "target.webm")
    assert after.streams == () and [line.split(":")[0] for line in dropped] == ["video stream 1 (png)"]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_of_a_truncated_file_all_is_written_that_is_there(suffix: str, tmp_path: Path) -> None:
    long = ("-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=3", "-f", "lavfi", "-i", "sine=d=3")
    source = make(tmp_path / f"source{suffix}", *long, *H264, *AAC, "-movflags", "faststart")
    source.write_bytes(source.read_bytes()[: source.stat().st_size * 6 // 10])
    _, after, dropped = through(source, tmp_path / f"target{suffix}")
    assert dropped == [] and len(after.streams) == 1
    assert timestamps(tmp_path / f"target{suffix}") == timestamps(source, decode=True)


@pytest.mark.parametrize(("codec", "suffix"), [("h264", ".mp4"), ("hevc", ".mkv"), ("av1", ".mkv")])
def test_the_place_of_the_chroma_is_kept_where_no_range_is_tagged(codec: str, suffix: str, tmp_path: Path) -> None:
    source = make(tmp_path / "old.3gp", *PICTURE, "-s", "128x96", "-c:v", "h263")
    target = tmp_path / f"new{suffix}"
    with VideoReader(source) as reader:
        assert (reader.info.tags.range, reader.info.tags.chroma_location) == ("unknown", "center")
        with VideoWriter(target, reader.info, reader.video, codec=codec) as writer:
            writer.write(next(iter(reader)))
    assert differences(probe(source), probe(target)) == []


def test_rgb_becomes_the_ycbcr_that_its_tags_say(tmp_path: Path) -> None:
    red = ("-f", "lavfi", "-i", "color=red:s=64x48:r=25:d=0.2,format=rgb24")
    source = make(tmp_path / "source.mov", *red, "-c:v", "qtrle", "-pix_fmt", "rgb24")
    _, after, dropped = through(source, tmp_path / "target.mp4")
    assert dropped == ["RGB samples (YUV now): not written by libx264"]
    assert (after.video.colour.matrix, after.video.colour.full_range) == ("bt709", False)
    with VideoReader(tmp_path / "target.mp4") as reader:
        means = [plane.mean() for plane in next(iter(reader)).planes]
    assert means == pytest.approx([16 + 219 * 0.2126, 128 - 224 * 0.2126 / 1.8556, 240], abs=1.5)


LOSSLESS = (
    "yuv420p yuv422p yuv444p yuv440p yuv411p yuv410p yuva420p gray gbrp gbrap yuv420p9le yuv420p10le yuv422p12le "
    "yuv444p14le yuv444p16le yuva444p16le yuva422p10le gray10le gray16le gbrp9le gbrp10le gbrp12le gbrp16le gbrap10le "
    "gbrap16le"
)


@pytest.mark.parametrize("name", LOSSLESS.split())
@pytest.mark.parametrize("full_range", [False, True])
def test_a_lossless_file_gives_back_every_sample(name: str, full_range: bool, tmp_path: Path) -> None:
    pixels = planar(name)
    assert pixels is not None
    colour = Colour("gbr" if pixels.kind == "rgb" else "bt709", full_range or pixels.kind == "rgb")
    # ffmpeg's own 4:1:1 and 4:1:0 lose the last column of sizes that are no multiple of four.
    height, width = (24, 40) if pixels.shift_x == 2 else (23, 37)
    video = VideoFormat(width, height, pixels, colour, Fraction(1, 1000))
    frames = [noise(pixels, height, width, pts, seed=pts) for pts in (0, 40, 77)]
    with VideoWriter(tmp_path / "lossless.mkv", None, video, codec="ffv1") as writer:
        for frame in frames:
            writer.write(frame)
    assert writer.dropped == []
    with VideoReader(tmp_path / "lossless.mkv") as reader:
        found: list[Frame] = list(reader)
    assert reader.video == video
    assert [frame.pts for frame in found] == [0, 40, 77]
    for one, other in zip(frames, found, strict=True):
        assert all(map(np.array_equal, one.planes, other.planes))
