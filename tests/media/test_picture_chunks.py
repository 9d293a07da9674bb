"""What frames as pictures say of their colours and of the shape of a pixel, there and back."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from deblur_cli.media import ffmpeg
from deblur_cli.media.frame_folders import FrameFolderReader, FrameFolderWriter
from deblur_cli.media.picture_chunks import chunks
from deblur_cli.media.video import Colour
from tests.media.photo_samples import chunk
from tests.media.video_samples import make


def folder_with(folder: Path, colour: Colour, aspect: Fraction | None, count: int = 2) -> Path:
    writer = FrameFolderWriter(folder, chunks=chunks(colour, aspect))
    for number in range(count):
        writer.write(np.full((6, 8, 3), 100 * number, np.uint16))
    return folder


@pytest.mark.parametrize(
    ("primaries", "transfer", "payload"),
    [
        ("bt2020", "smpte2084", (9, 16)),
        ("bt2020", "arib-std-b67", (9, 18)),
        ("bt2020", "unknown", (9, 2)),
        ("smpte432", "bt709", (12, 1)),
        ("bt470bg", "smpte170m", (5, 6)),
    ],
)
def test_colours_that_are_not_those_of_the_web_are_said_and_read(
    primaries: str, transfer: str, payload: tuple[int, int], tmp_path: Path
) -> None:
    colour = Colour("bt2020nc", False, primaries, transfer)
    reader = FrameFolderReader(folder_with(tmp_path, colour, None))
    assert chunk(b"cICP", bytes((*payload, 0, 1))) in (tmp_path / "000002.png").read_bytes()
    assert reader.video.colour == Colour("gbr", True, primaries, transfer)
    assert reader.sample_aspect is None and reader.warnings == []


@pytest.mark.parametrize("primaries", ["bt709", "unknown"])
@pytest.mark.parametrize("transfer", ["bt709", "smpte170m", "iec61966-2-1", "unknown"])
def test_everyday_pictures_say_nothing(primaries: str, transfer: str) -> None:
    assert chunks(Colour("bt709", False, primaries, transfer), Fraction(1)) == []


def test_ffmpeg_reads_the_colours_alike(tmp_path: Path) -> None:
    folder_with(tmp_path, Colour("bt2020nc", False, "bt2020", "smpte2084"), None)
    told = ffmpeg.run(["-i", str(tmp_path / "000001.png")]).stderr.decode()
    assert "(pc, gbr/bt2020/smpte2084)" in told


@pytest.mark.parametrize("aspect", [Fraction(64, 45), Fraction(8, 9)])
def test_a_pixel_that_is_wider_than_high_has_more_of_them_to_a_unit_down_than_across(
    aspect: Fraction, tmp_path: Path
) -> None:
    reader = FrameFolderReader(folder_with(tmp_path, Colour(), aspect))
    counts = struct.pack(">IIB", aspect.denominator, aspect.numerator, 0)
    assert chunk(b"pHYs", counts) in (tmp_path / "000001.png").read_bytes()
    assert reader.sample_aspect == aspect and reader.warnings == []


def test_what_ffmpeg_says_of_pixels_is_not_trusted_and_that_is_said(tmp_path: Path) -> None:
    make(tmp_path / "%06d.png", "-f", "lavfi", "-i", "color=s=64x48:r=25:d=0.08", "-vf", "setsar=64/45")
    # The standard has the counts of pixels to a unit here, across first.
    assert chunk(b"pHYs", struct.pack(">IIB", 64, 45, 0)) in (tmp_path / "000001.png").read_bytes()
    reader = FrameFolderReader(tmp_path)
    assert reader.sample_aspect is None
    (line,) = reader.warnings
    assert "taken for square" in line and "-aspect" in line


def test_pictures_of_square_pixels_need_no_word(tmp_path: Path) -> None:
    make(tmp_path / "%06d.png", "-f", "lavfi", "-i", "color=s=64x48:r=25:d=0.08", "-vf", "setsar=1")
    reader = FrameFolderReader(tmp_path)
    assert (reader.sample_aspect, reader.warnings) == (None, [])
