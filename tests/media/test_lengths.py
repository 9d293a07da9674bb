"""What is missing of a file by its own lengths is known, even where ffmpeg says nothing of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deblur_cli.media import ffmpeg
from deblur_cli.media.lengths import shortfall, top_box
from deblur_cli.media.video_reader import VideoReader
from tests.media.video_samples import H264, PICTURE, TONE, make

FRAGMENTS = ("-movflags", "frag_keyframe+empty_moov+delay_moov", "-g", "5")
KINDS = {
    ".mp4": ("mov,mp4", ("-c:a", "aac", *FRAGMENTS)),
    ".avi": ("avi", ("-c:a", "pcm_s16le")),
    ".flv": ("flv", ("-c:a", "aac")),
}
TAPE = ("-s", "720x576", "-c:v", "dvvideo", "-pix_fmt", "yuv420p", "-ar", "48000", "-ac", "2")
NUMBERED = {
    ".ogv": ("ogg", ("-c:v", "libtheora", "-c:a", "libvorbis")),
    ".wmv": ("asf", ("-c:v", "wmv2", "-c:a", "wmav2")),
    ".mxf": ("mxf", ("-c:v", "mpeg2video", "-c:a", "pcm_s16le", "-ar", "48000")),
    ".dv": ("dv", TAPE),
}
"""Those whose lengths are not around their parts, but in a header, or in that of each page or frame."""

BEHIND = [bytes(1), bytes(4), b"\r\n", bytes(600), b"\x00\x00\x00\x10gps " + bytes(8), b"\xff" * 20]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("whole")
    return {
        suffix: make(folder / f"clip{suffix}", *PICTURE, *TONE, *H264, *options)
        for suffix, (_, options) in KINDS.items()
    }


@pytest.mark.parametrize("suffix", KINDS)
def test_a_file_that_is_whole_lacks_nothing_and_one_that_is_cut_off_anywhere_does(
    suffix: str, clips: dict[str, Path], tmp_path: Path
) -> None:
    container, _ = KINDS[suffix]
    assert shortfall(clips[suffix], container) is None
    data, cut = clips[suffix].read_bytes(), tmp_path / "cut"
    for length in range(len(data) * 6 // 10, len(data) * 6 // 10 + 20):
        cut.write_bytes(data[:length])
        assert "cut off" in (shortfall(cut, container) or "")


@pytest.mark.parametrize("suffix", NUMBERED)
def test_a_reader_says_that_packets_are_missing(suffix: str, tmp_path: Path) -> None:
    container, options = NUMBERED[suffix]
    clip, cut = make(tmp_path / f"clip{suffix}", *PICTURE, *TONE, *options), tmp_path / f"cut{suffix}"
    with VideoReader(clip) as reader:
        assert len(list(reader)) >= 14 and reader.damaged is None
        assert container in reader.info.container.split(",")
    data = clip.read_bytes()
    for length in range(len(data) * 13 // 20, len(data) * 13 // 20 + 20):
        cut.write_bytes(data[:length])
        assert "cut off" in (shortfall(cut, container) or "")
    with VideoReader(cut) as reader:
        assert list(reader) and reader.damaged
    cut.write_bytes(data + b"TAG" + bytes(125))
    assert shortfall(cut, container) is None, "a tag behind it is no part of it"


@pytest.mark.parametrize("suffix", [".ogv", ".wmv", ".mxf"])
def test_what_was_recorded_through_a_pipe_is_whole(suffix: str, tmp_path: Path) -> None:
    container, options = NUMBERED[suffix]
    piped = ffmpeg.run(["-loglevel", "error", *PICTURE, *TONE, *options, "-f", container, "pipe:1"]).stdout
    (tmp_path / "piped").write_bytes(piped)
    assert len(piped) > 1000 and shortfall(tmp_path / "piped", container) is None


@pytest.mark.parametrize("suffix", KINDS)
def test_a_reader_says_what_is_missing_of_the_sound(suffix: str, clips: dict[str, Path], tmp_path: Path) -> None:
    cut = tmp_path / f"cut{suffix}"
    data = clips[suffix].read_bytes()
    end = data.rfind(b"mfra") - 4 if suffix == ".mp4" else data.rfind(b"idx1") if suffix == ".avi" else len(data)
    cut.write_bytes(data[: end - 7])
    with VideoReader(cut) as reader:
        assert len(list(reader)) >= 14
        assert reader.damaged and reader.damaged.startswith("the file is cut off")
    with VideoReader(cut, end=0.3) as reader:
        assert len(list(reader)) >= 7
        assert reader.damaged is None, "what lies behind the part is no concern of it"


def test_a_hole_among_fragments_is_known_and_what_lies_behind_a_film_is_no_hole(
    clips: dict[str, Path], tmp_path: Path
) -> None:
    data, path = clips[".mp4"].read_bytes(), tmp_path / "clip.mp4"
    hole = data.find(b"mdat", data.find(b"mdat") + 4) + 20
    path.write_bytes(data[:hole] + data[hole + 33 :])
    assert shortfall(path, "mov") == "a part in the middle is missing, or damaged"
    path.write_bytes(data + bytes(1000))  # room that a recorder had made beforehand
    assert shortfall(path, "mov") is None
    plain = make(tmp_path / "plain.mp4", *PICTURE, *H264).read_bytes()
    path.write_bytes(plain + b"\x00\x00\x00\x30SEFH" + bytes(10))  # a telephone's own
    assert shortfall(path, "mov") is None


@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize("suffix", [".mp4", ".flv"])
def test_what_was_put_behind_a_whole_film_leaves_it_whole(
    suffix: str, behind: bytes, clips: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / f"clip{suffix}"
    path.write_bytes(clips[suffix].read_bytes() + behind)
    assert shortfall(path, KINDS[suffix][0]) is None


def test_a_length_that_counts_its_own_header_is_no_shortfall(clips: dict[str, Path], tmp_path: Path) -> None:
    data, path = clips[".avi"].read_bytes(), tmp_path / "clip.avi"
    path.write_bytes(data[:4] + len(data).to_bytes(4, "little") + data[8:])
    assert shortfall(path, "avi") is None


def test_where_nothing_tells_nothing_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "clip"
    assert shortfall(path, "mov") is None
    os.mkfifo(tmp_path / "pipe")
    assert shortfall(tmp_path / "pipe", "mov") is None and top_box(tmp_path / "pipe", b"moov") == b""
    path.write_bytes(b"RIFF\xff\xff\xff\xffAVI LIST")
    assert shortfall(path, "avi") is None, "being written, or sent through a pipe"
    for container in ("ogg", "dv", "asf", "mxf"):
        for content in (b"", b"\x1f", b"\xff" * 200):
            path.write_bytes(content)
            assert shortfall(path, container) is None
    path.write_bytes(b"FLV")
    assert shortfall(path, "flv") is None
    path.write_bytes(b"\x00\x00\x00\x00mdat" + bytes(50))
    assert shortfall(path, "mov") is None
    path.write_bytes(b"\x00\x00\x00\x01mdat" + (40).to_bytes(8) + bytes(20))
    assert shortfall(path, "mov") == "the file is cut off: 4 bytes are missing at its end"
    assert shortfall(path, "mpegts") is None
