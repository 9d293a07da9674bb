"""What lies beside the video: fonts, covers and further video tracks, kept where they can be, and else said."""

from __future__ import annotations

import gc
import tempfile
from pathlib import Path

import pytest

from deblur_cli.media import ffmpeg
from deblur_cli.media.encoders import container_of
from deblur_cli.media.probe import probe
from deblur_cli.media.streams import copied
from deblur_cli.media.video_join import join_segments
from deblur_cli.media.video_reader import VideoReader
from deblur_cli.media.video_writer import VideoWriter
from tests.media.video_samples import H264, make

PICTURE = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=0.2")


def with_files(folder: Path, cover: str = "jpg") -> Path:
    """A Matroska file with a font and a cover."""
    (folder / "font.ttf").write_bytes(b"a font" * 20)
    image = make(folder / f"cover.{cover}", "-f", "lavfi", "-i", "color=red:s=32x32", "-frames:v", "1")
    kind = "image/" + cover.replace("jpg", "jpeg")
    attached = ("-attach", folder / "font.ttf", "-metadata:s:t:0", "mimetype=application/x-truetype-font")
    attached += ("-attach", image, "-metadata:s:t:1", f"mimetype={kind}", "-metadata:s:t:1", f"filename=front.{cover}")
    return make(folder / "in.mkv", *PICTURE, *H264, *attached, "-metadata:s:t:1", "title=Front")


def attachment(path: Path, index: int, target: Path) -> bytes:
    """The bytes of stream `index`, an attached file or picture."""
    given = ["-loglevel", "error", "-y", f"-dump_attachment:{index}", str(target), "-i", str(path)]
    ffmpeg.run([*given, "-map", f"0:{index}?", "-c", "copy", "-f", "rawvideo", f"{target}.picture"])
    file = target if target.exists() else Path(f"{target}.picture")
    return file.read_bytes()


def joined(source: Path, target: Path) -> list[str]:
    """Take a video through a segment into `target`; what is said."""
    segment = target.with_name("segment.mkv")
    with (
        VideoReader(source) as reader,
        VideoWriter(segment, reader.info, reader.video, preset="ultrafast", with_streams=False) as writer,
    ):
        for frame in reader:
            writer.write(frame)
    return join_segments([segment], target, reader.info)


@pytest.mark.parametrize("suffix", [".webm", ".ts", ".mp4"])
def test_attached_files_go_into_matroska_alone_and_else_are_said(suffix: str, tmp_path: Path) -> None:
    others = copied(probe(with_files(tmp_path)), container_of(Path(f"x{suffix}")))
    assert others.maps == (["-map", "0:v:0", "-map", "1:2"] if suffix == ".mp4" else ["-map", "0:v:0"])
    name = container_of(Path(f"x{suffix}")).format
    assert f"attachment stream 1 (ttf): a {name} file does not hold it" in others.dropped


@pytest.mark.parametrize("cover", ["jpg", "png"])
def test_cover_and_fonts_are_kept_in_matroska(cover: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    source, target = with_files(tmp_path, cover), tmp_path / "out.mkv"
    assert joined(source, target) == []
    found = probe(target)
    assert [stream.kind for stream in found.streams] == ["attachment", "video"]
    assert attachment(target, 1, tmp_path / "font") == (tmp_path / "font.ttf").read_bytes()
    picture = found.streams[1]
    assert picture.dispositions == {"attached pic"} and picture.title == "Front"
    assert picture.metadata["filename"] == f"front.{cover}"
    assert attachment(target, 2, tmp_path / "cover") == (tmp_path / f"cover.{cover}").read_bytes()
    gc.collect()
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_cover_that_cannot_be_put_aside_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = probe(with_files(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    (line,) = copied(source, container_of(Path("x.mkv"))).dropped
    assert line.startswith("video stream 2 (mjpeg): cannot be put into a temporary file (No such file")


def test_further_video_tracks_are_said_to_be_copied_as_they_are(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mkv", *PICTURE, *PICTURE, "-map", "0", "-map", "1", *H264)
    assert joined(source, tmp_path / "out.mkv") == ["video stream 1 (h264): copied as it is, not restored"]
    assert [stream.kind for stream in probe(tmp_path / "out.mkv").streams] == ["video"]


def test_sound_that_has_ended_where_a_part_begins_is_said_and_leaves_no_track_of_hours(tmp_path: Path) -> None:
    sounds = [part for seconds in ("0.2", "0.8") for part in ("-f", "lavfi", "-i", f"sine=r=48000:d={seconds}")]
    maps = ("-map", "0", "-map", "1", "-map", "2", "-c:a", "aac")
    picture = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=0.8")
    info = probe(make(tmp_path / "in.mp4", *picture, *sounds, *maps, *H264))
    others = copied(info, container_of(Path("x.mp4")), 0.4)
    assert others.maps == ["-map", "0:v:0", "-map", "1:2"]
    assert others.dropped == ["audio stream 1 (aac): it has ended where the part begins"]
    assert copied(info, container_of(Path("x.mp4")), 0.1).dropped == []
