"""Every pixel format that ffmpeg names has a planar one, and encoders get the one that loses least."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import pytest

from deblur_cli.errors import VideoError
from deblur_cli.media import ffmpeg
from deblur_cli.media.encoders import choose
from deblur_cli.media.pixel_formats import fourcc, least_loss, losses, nearest_planar, planar
from deblur_cli.media.video import Colour, VideoFormat

X264 = ["yuv420p", "yuv422p", "yuv444p", "nv12", "yuv420p10le", "yuv422p10le", "yuv444p10le", "gray", "gray10le"]


def test_every_format_that_ffmpeg_decodes_to_has_a_planar_one() -> None:
    listed = ffmpeg.run(["-hide_banner", "-pix_fmts"]).stdout.decode()
    rows = re.findall(r"^[I.][O.][H.][P.][B.] (\S+) +(\d) +(\d+) +([\d-]+)$", listed, re.MULTILINE)
    assert len(rows) > 150
    for name, components, _, depths in rows:
        if components == "0":
            with pytest.raises(VideoError):
                nearest_planar(name)
            continue
        found = nearest_planar(name)
        deepest = max(map(int, depths.split("-")))
        if not name.startswith("bayer"):
            assert found.depth == min(16, max(8, deepest)), name
            assert found.alpha == (components in "24" and not name.startswith("gray")), name
        assert len(fourcc(found)) == 4


@pytest.mark.parametrize(
    ("name", "wanted"),
    {
        **{"nv12": "yuv420p", "p010le": "yuv420p10le", "p210be": "yuv422p10le", "p416le": "yuv444p16le"},
        **{"yuvj422p": "yuv422p", "rgb24": "gbrp", "pal8": "gbrp", "rgba64be": "gbrap16le", "ya8": "gbrap"},
        **{"y212le": "yuv422p12le", "gray10be": "gray10le", "monow": "gray", "yuv440p10le": "yuv444p10le"},
    }.items(),
)
def test_the_nearest_planar_format_keeps_depth_chroma_and_alpha(name: str, wanted: str) -> None:
    assert nearest_planar(name).name == wanted


@pytest.mark.parametrize(
    ("wanted", "chosen", "lost"),
    [
        ("yuv420p", "yuv420p", []),
        ("yuv420p12le", "yuv420p10le", ["12 bits a sample (10 now)"]),
        ("yuv420p9le", "yuv420p10le", []),
        ("yuv411p", "yuv422p", []),
        ("yuva444p", "yuv444p", ["transparency"]),
        ("gray12le", "gray10le", ["12 bits a sample (10 now)"]),
        ("gbrp", "yuv444p", ["RGB samples (YUV now)"]),
    ],
)
def test_an_encoder_gets_the_format_that_loses_least(wanted: str, chosen: str, lost: list[str]) -> None:
    pixels, given = planar(wanted), planar(chosen)
    assert pixels is not None and given is not None
    assert least_loss(pixels, X264, 48, 64, even=True) == chosen
    assert losses(pixels, given) == lost


def test_odd_sizes_get_chroma_of_full_resolution_where_an_encoder_needs_that() -> None:
    pixels = planar("yuv420p")
    assert pixels is not None
    assert least_loss(pixels, X264, 47, 64, even=True) == "yuv422p"
    assert least_loss(pixels, X264, 47, 63, even=True) == "yuv444p"
    assert least_loss(pixels, X264, 47, 63, even=False) == "yuv420p"


def test_the_encoder_of_rgb_is_taken_by_name_whatever_the_source_is() -> None:
    pixels = planar("gbrp")
    assert pixels is not None
    video = VideoFormat(64, 48, pixels, Colour("gbr", True), Fraction(1, 25))
    assert choose(Path("out.mkv"), video, codec="libx264rgb").encoder.name == "libx264rgb"
    assert choose(Path("out.mkv"), video, codec="h264").encoder.name == "libx264", "which more players show"


NVENC = ["yuv420p", "nv12", "p010le", "yuv444p", "p012le", "p016le", "nv16", "p210le", "p212le", "yuv444p16le", "gbrp"]
QSV = ["nv12", "p010le", "p012le", "yuyv422", "y210le", "bgra"]


@pytest.mark.parametrize(
    ("formats", "wanted", "chosen"),
    [
        (NVENC, "yuv420p", "yuv420p"),
        (NVENC, "yuv420p10le", "p010le"),
        (NVENC, "yuv420p12le", "p012le"),
        (NVENC, "yuv422p", "nv16"),
        (NVENC, "yuv422p10le", "p210le"),
        (["nv12", "yuv420p", "bgra", "p010le"], "yuv420p10le", "p010le"),
        (["nv12"], "yuv420p", "nv12"),
        (QSV, "gray10le", "p010le"),
        (QSV, "yuv422p10le", "p010le"),
    ],
)
def test_encoders_of_graphics_cards_get_semi_planar_formats_where_planar_ones_lose_more(
    formats: list[str], wanted: str, chosen: str
) -> None:
    pixels = planar(wanted)
    assert pixels is not None
    assert least_loss(pixels, formats, 48, 64, even=False) == chosen
