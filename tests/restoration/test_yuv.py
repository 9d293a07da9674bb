"""Planes to RGB and the change back: values worked out by hand, where chroma lies, and what must come back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deblur_cli.errors import DeblurError
from deblur_cli.media.video import PixelFormat, VideoFormat
from deblur_cli.restoration import yuv
from tests.restoration.videos import BY_NAME, PIXEL_FORMATS, random_frame, video_format

pytestmark = pytest.mark.usefixtures("one_thread")

MATRICES = ["bt709", "smpte170m", "bt2020nc"]


def planes_of(video: VideoFormat, *values: int) -> list[Tensor]:
    shapes = video.pixels.plane_shapes(video.height, video.width)
    numbers = np.dtype(video.pixels.dtype)
    return [torch.from_numpy(np.full((1, *shape), v, numbers)) for shape, v in zip(shapes, values, strict=True)]


def black(video: VideoFormat) -> list[Tensor]:
    scale = 1 << (video.pixels.depth - 8)
    luma = 0 if video.colour.full_range else 16 * scale
    rest = {"yuv": [128 * scale] * 2, "rgb": [luma] * 2, "grey": []}[video.pixels.kind]
    return planes_of(video, luma, *rest)


def add_to(planes: list[Tensor], change: Tensor, video: VideoFormat) -> list[Tensor]:
    return yuv.add_change(planes, torch.zeros_like(change), change, video)


def picture(rgb: Tensor, video: VideoFormat) -> list[Tensor]:
    """N×3×H×W in [0, 1] as planes: what has to be added to black."""
    return add_to(black(video), rgb, video)


@pytest.mark.parametrize(
    ("name", "matrix", "full_range", "rgb", "samples"),
    [
        # SMPTE bars and the primaries, as the recommendations tabulate them.
        ("yuv444p", "bt709", False, (1, 0, 0), (63, 102, 240)),
        ("yuv444p", "bt709", False, (0, 1, 0), (173, 42, 26)),
        ("yuv444p", "bt709", False, (0, 0, 1), (32, 240, 118)),
        ("yuv420p", "bt709", False, (1, 1, 1), (235, 128, 128)),
        ("yuv420p", "smpte170m", False, (1, 0, 0), (81, 90, 240)),
        ("yuv420p", "smpte170m", False, (0, 1, 0), (145, 54, 34)),
        ("yuv420p", "smpte170m", False, (0, 0, 1), (41, 240, 110)),
        ("yuv420p", "smpte170m", True, (1, 0, 0), (76, 85, 255)),  # as in JPEG; Cr would be 255.5
        ("yuv420p10le", "bt709", False, (1, 1, 0), (877, 64, 553)),
        ("yuv420p10le", "bt2020nc", False, (0, 0, 1), (116, 960, 476)),
        ("gbrp", "gbr", True, (1, 0.2, 0), (51, 0, 255)),
        ("gbrp", "gbr", False, (1, 0, 0), (16, 16, 235)),
        ("gray", "bt709", False, (1, 1, 1), (235,)),
        ("gray16le", "bt709", True, (0.5, 0.5, 0.5), (32768,)),
    ],
)
def test_colours_have_the_samples_that_the_standards_give(
    name: str, matrix: str, full_range: bool, rgb: tuple[float, ...], samples: tuple[int, ...]
) -> None:
    video = video_format(name, 6, 6, matrix=matrix, full_range=full_range)
    flat = torch.tensor(rgb).float()[None, :, None, None].expand(1, 3, 6, 6)
    assert [int(plane.unique()) for plane in picture(flat, video)] == list(samples)
    back = yuv.to_rgb(planes_of(video, *samples), video)
    step = 1 / (1 << (video.pixels.depth - 8)) / 100
    torch.testing.assert_close(back, flat, rtol=0, atol=step)


def bars_and_ramp(height: int = 32, width: int = 256) -> Tensor:
    """1×3×H×W: eight colour bars above, none so strong that rounding takes it out of [0, 1], a grey ramp below."""
    bars = torch.tensor([[bar >> bit & 1 for bar in range(8)] for bit in (1, 2, 0)]) * 0.65 + 0.1
    upper = bars.repeat_interleave(width // 8, dim=1)[:, None].expand(3, height // 2, width)
    ramp = torch.linspace(0, 1, width).expand(3, height // 2, width)
    return torch.cat([upper, ramp], dim=1)[None]


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("name", ["yuv444p", "yuva444p16le", "gbrp", "gray", "gray16le"])
def test_without_subsampling_a_picture_comes_back_exactly(name: str, matrix: str, full_range: bool) -> None:
    video = video_format(name, 32, 256, matrix=matrix, full_range=full_range)
    video = replace(video, pixels=replace(video.pixels, alpha=False))
    planes = picture(bars_and_ramp(), video)
    for before, after in zip(planes, picture(yuv.to_rgb(planes, video), video), strict=True):
        assert torch.equal(before, after)


@pytest.mark.parametrize("location", ["left", "center", "topleft"])
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("name", ["yuv420p", "yuv422p", "yuv411p"])
def test_with_subsampling_a_picture_comes_back_within_one_step(
    name: str, matrix: str, full_range: bool, location: str
) -> None:
    video = video_format(name, 32, 256, matrix=matrix, full_range=full_range, chroma_location=location)
    planes = picture(bars_and_ramp(), video)
    again = picture(yuv.to_rgb(planes, video), video)
    columns = torch.arange(256)
    smooth = {2: (columns % 32 >= 8) & (columns % 32 < 24)}  # away from where one bar ends and the next begins
    for before, after in zip(planes, again, strict=True):
        shift = (256 // before.shape[2]).bit_length() - 1
        rows = 32 // before.shape[1]
        difference = (before.int() - after.int()).abs()
        kept = smooth[2][:: 1 << shift]
        assert difference[:, : 12 // rows, kept].max() <= 1
        assert difference[:, 20 // rows :].max() <= 1


@pytest.mark.parametrize("location", ["left", "center", "topleft"])
@pytest.mark.parametrize("shifts", [(1, 1), (1, 0), (2, 0), (2, 2), (0, 1)])
def test_a_slope_of_chroma_keeps_its_place(shifts: tuple[int, int], location: str) -> None:
    """Linear interpolation, and its transpose, give a slope back exactly, if they know where the samples lie."""
    pixels = PixelFormat("some", "yuv", 16, *shifts)
    video = replace(video_format("yuv444p", 33, 61, full_range=True, chroma_location=location), pixels=pixels)
    factor_x, factor_y = 1 << shifts[0], 1 << shifts[1]
    first_x = (factor_x - 1) / 2 if location == "center" else 0.0
    first_y = 0.0 if location == "topleft" else (factor_y - 1) / 2

    def slope(y: Tensor, x: Tensor) -> Tensor:
        return 0.5 + 0.004 * (x[None, :] - 30) - 0.006 * (y[:, None] - 16)

    at_pixels = slope(torch.arange(33.0), torch.arange(61.0))
    rows, columns = pixels.plane_shapes(33, 61)[1]
    at_samples = slope(first_y + factor_y * torch.arange(rows), first_x + factor_x * torch.arange(columns))
    neutral = torch.full((1, 33, 61), 32768).to(torch.uint16)
    chroma = (at_samples * 65535)[None].round().to(torch.int32).to(torch.uint16)
    middle = torch.full_like(chroma.int(), 32768).to(torch.uint16)
    inner = (slice(factor_y, -factor_y - 1), slice(factor_x, -factor_x - 1))

    red = yuv.to_rgb([neutral, middle, chroma], video)[0, 0]
    torch.testing.assert_close(red[inner], (0.5 + 1.5748 * (at_pixels - 0.5)).clamp(0, 1)[inner], rtol=0, atol=1e-4)

    change = torch.zeros(1, 3, 33, 61)
    change[:, 0] = (at_pixels - 0.5) * 0.5
    _, _, after = add_to([neutral, middle, middle], change, video)
    expected = 32768 + (at_samples - 0.5) * 0.5 * (1 - 0.2126) / 1.5748 * 65535
    torch.testing.assert_close(after[0].float()[1:-2, 1:-2], expected[1:-2, 1:-2], rtol=0, atol=1.0)


@given(
    pixels=st.sampled_from(PIXEL_FORMATS),
    size=st.tuples(st.integers(1, 21), st.integers(1, 21)),
    matrix=st.sampled_from(MATRICES),
    full_range=st.booleans(),
    location=st.sampled_from(["left", "center", "topleft"]),
)
@settings(deadline=None, max_examples=80)
def test_no_change_changes_nothing_and_rgb_stays_in_range(
    pixels: PixelFormat, size: tuple[int, int], matrix: str, full_range: bool, location: str
) -> None:
    video = video_format(pixels.name, *size, matrix=matrix, full_range=full_range, chroma_location=location)
    frames = [random_frame(video, number) for number in range(2)]
    planes = [torch.from_numpy(np.stack(same)) for same in zip(*(frame.planes for frame in frames), strict=True)]
    rgb = yuv.to_rgb(planes, video)
    assert rgb.shape == (2, 3, *size)
    assert rgb.dtype == torch.float32
    assert 0 <= float(rgb.min()) <= float(rgb.max()) <= 1
    for before, after in zip(planes, yuv.add_change(planes, rgb, rgb.clone(), video), strict=True):
        assert before.dtype == after.dtype
        assert torch.equal(before.int(), after.int())
    # And each frame of a batch is what it is alone.
    alone = [yuv.to_rgb([plane[n : n + 1] for plane in planes], video) for n in range(2)]
    assert torch.equal(rgb, torch.cat(alone))


def test_whiter_than_white_stays_so_and_moves_with_the_change() -> None:
    video = video_format("yuv420p", 4, 4)
    planes = planes_of(video, 250, 128, 128)
    assert float(yuv.to_rgb(planes, video).max()) == 1.0
    darker = add_to(planes, torch.full((1, 3, 4, 4), -0.1), video)
    assert [int(plane.unique()) for plane in darker] == [228, 128, 128]  # 250 − 0.1 · 219
    brightest = add_to(planes, torch.full((1, 3, 4, 4), 0.1), video)
    assert int(brightest[0].unique()) == 255


def test_grey_changes_by_the_mean_of_the_channels_and_alpha_not_at_all() -> None:
    change = torch.tensor([0.1, 0.2, 0.3])[None, :, None, None].expand(1, 3, 4, 4)
    video = video_format("gray", 4, 4, full_range=True)
    assert int(add_to(planes_of(video, 100), change, video)[0].unique()) == 151
    video = video_format("yuva420p", 4, 4)
    assert int(add_to(planes_of(video, 100, 128, 128, 77), change, video)[3].unique()) == 77


def test_white_is_white() -> None:
    for name in BY_NAME:
        video = video_format(name, 5, 5)
        samples = yuv.white(video)
        torch.testing.assert_close(yuv.to_rgb(planes_of(video, *samples), video), torch.ones(1, 3, 5, 5))


def test_a_matrix_nobody_knows_is_refused() -> None:
    video = video_format("yuv420p", 4, 4, matrix="ycgco")
    with pytest.raises(DeblurError, match="ycgco"):
        yuv.to_rgb(planes_of(video, 1, 1, 1), video)


@pytest.mark.parametrize("location", ["left", "center", "topleft"])
@pytest.mark.parametrize("name", ["yuv420p", "yuv422p", "yuv440p", "yuv444p", "yuv410p", "yuv420p10le"])
@pytest.mark.parametrize("size", [(37, 23), (64, 16)])
def test_strips_give_what_the_whole_gives(
    name: str, location: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last bit: chroma is interpolated across their borders."""
    video = video_format(name, *size, chroma_location=location)
    planes = [torch.from_numpy(plane)[None] for plane in random_frame(video).planes]
    restored = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))

    def in_strips_of(pixels: int) -> tuple[Tensor, list[Tensor]]:
        monkeypatch.setattr(yuv, "_STRIP_PIXELS", pixels)
        blurred = yuv.to_rgb(planes, video)
        return blurred, yuv.add_change(planes, blurred, restored, video)

    whole, rows, some = (in_strips_of(pixels) for pixels in (1 << 20, 1, 16 * video.width))
    for rgb, changed in (rows, some):
        assert torch.equal(rgb, whole[0])
        for plane, expected in zip(changed, whole[1], strict=True):
            assert torch.equal(plane.int(), expected.int())
