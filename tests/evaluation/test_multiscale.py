"""Multi-scale SSIM against a slow definition written out here, and in Köhler's protocol and reports."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import correlate1d
from scipy.signal import correlate2d
from skimage import data
from skimage.filters import gaussian
from torch import Tensor

from deblur_cli.evaluation.alignment import score_trajectory
from deblur_cli.evaluation.multiscale import LEAST, ms_ssim
from tests.evaluation.pictures import write

# The analysis low-pass filter of the 9/7 wavelet as printed: Antonini et al. 1992, table I, halves from the centre on.
WAVELET = np.array([0.602949, 0.266864, -0.078223, -0.016864, 0.026749])


def tensor(picture: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture))[None, None]


def slow_ms_ssim(restored: np.ndarray, sharp: np.ndarray) -> float:
    """Of H×W images of 0 to 255."""
    line = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    taps = np.concatenate([WAVELET[:0:-1], WAVELET])
    a, b = restored.astype(np.float64), sharp.astype(np.float64)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    result = 1.0
    for scale, weight in enumerate([0.0448, 0.2856, 0.3001, 0.2363, 0.1333]):
        if scale:
            # scipy's "reflect" repeats the outermost pixel
            a, b = (
                correlate1d(
                    correlate1d(one, taps / taps.sum(), 0, mode="reflect"), taps / taps.sum(), 1, mode="reflect"
                )
                for one in (a, b)
            )
            a, b = a[::2, ::2], b[::2, ::2]
        mean_a, mean_b, square_a, square_b, product = (
            correlate2d(one, window, mode="valid") for one in (a, b, a * a, b * b, a * b)
        )
        deviation_a = np.sqrt(np.maximum(0, square_a - mean_a**2))
        deviation_b = np.sqrt(np.maximum(0, square_b - mean_b**2))
        contrast = (2 * deviation_a * deviation_b + c2) / (deviation_a**2 + deviation_b**2 + c2)
        structure = (product - mean_a * mean_b + c2 / 2) / (deviation_a * deviation_b + c2 / 2)
        result *= contrast.mean() ** weight * max(0.0, structure.mean()) ** weight
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return float(result * luminance.mean() ** weight)


def photo(height: int = 200, width: int = 231) -> np.ndarray:
    return data.camera()[100 : 100 + height, 90 : 90 + width].astype(np.float64)


@pytest.mark.parametrize(
    "change",
    [
        lambda sharp: gaussian(sharp, 2, preserve_range=True),
        lambda sharp: np.clip(sharp + np.random.default_rng(0).normal(0, 20, sharp.shape), 0, 255),
        lambda sharp: 0.7 * sharp + 9,
        lambda sharp: np.random.default_rng(1).uniform(0, 255, sharp.shape),
    ],
)
def test_it_is_the_slow_definition(change: Callable[[np.ndarray], np.ndarray]) -> None:
    sharp = photo()
    restored = change(sharp)
    expected = slow_ms_ssim(restored, sharp)
    assert 0.0 < expected < 0.999
    assert ms_ssim(tensor(restored), tensor(sharp), data_range=255) == pytest.approx(expected, abs=2e-5)
    scaled = ms_ssim(tensor(restored) / 255, tensor(sharp) / 255, data_range=1)
    assert scaled == pytest.approx(expected, abs=2e-5)


def test_identical_images_have_one_and_opposed_ones_zero() -> None:
    image = tensor(photo())
    assert ms_ssim(image, image, data_range=255) == pytest.approx(1, abs=1e-6)
    assert ms_ssim(255 - image, image, data_range=255) == 0


@settings(max_examples=10, deadline=None)
@given(st.floats(0.5, 3), st.floats(1.2, 3))
def test_more_blur_is_less_alike_and_the_order_of_images_does_not_count(sigma: float, factor: float) -> None:
    sharp = photo(LEAST, LEAST)
    little, much = (gaussian(sharp, spread, preserve_range=True) for spread in (sigma, factor * sigma))
    near, far = (ms_ssim(tensor(blurred), tensor(sharp), data_range=255) for blurred in (little, much))
    assert 0 < far < near < 1
    assert ms_ssim(tensor(sharp), tensor(much), data_range=255) == pytest.approx(far, abs=1e-6)


@pytest.mark.parametrize("shapes", [((1, 1, 160, 300), (1, 1, 160, 300)), ((1, 3, 200, 200), (1, 3, 200, 200))])
def test_what_cannot_be_compared(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="at least 161×161 pixels"):
        ms_ssim(torch.zeros(shapes[0]), torch.zeros(shapes[1]), data_range=255)


def test_koehlers_protocol_takes_it_of_the_aligned_luminance_and_keeps_the_best() -> None:
    sharp = np.repeat(photo()[..., None], 3, axis=2)
    colours: Tensor = torch.from_numpy(sharp).permute(2, 0, 1)[None]
    blurred = torch.from_numpy(gaussian(sharp, 1.5, channel_axis=-1, preserve_range=True)).permute(2, 0, 1)[None]
    black = torch.zeros_like(colours)
    found = score_trajectory([blurred, colours], [colours.flip(3), black, colours])
    scale = float((colours * blurred).sum() / (blurred * blurred).sum())
    expected = slow_ms_ssim(scale * blurred[0, 0].numpy(), photo())
    assert found[0].ms_ssim == pytest.approx(expected, abs=1e-4)
    assert found[0].psnr < 40, "the black frame counts for nothing"
    assert found[1].ms_ssim == pytest.approx(1, abs=1e-5)


def test_reports_on_koehlers_set_have_the_column(run: Callable[[list[str]], Any], tmp_path: Path) -> None:
    sharp = np.repeat(photo()[..., None], 3, axis=2).astype(np.uint8)
    blurred = gaussian(sharp, 1.5, channel_axis=-1, preserve_range=True).astype(np.uint8)
    write(tmp_path / "set/BlurryImages/Blurry1_1.png", blurred)
    for number in (1, 2):
        name = f"set/Image1/Kernel1/GroundTruth1_1_{number}.png"
        write(tmp_path / name, sharp if number == 2 else sharp[::-1].copy())
    table, document, journal = (tmp_path / f"scores.{kind}" for kind in ("csv", "json", "journal"))
    command = ["eval", str(tmp_path / "set"), "-m", "test-tiny", "--device", "cpu", "--precision", "fp32"]
    files = ["--csv", str(table), "--json", str(document), "--journal", str(journal)]
    first = run([*command, *files])
    assert first.code == 0, first.stderr
    with table.open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    value = float(row["ms_ssim"])
    assert 0.9 < value < 1 and float(row["blurred_ms_ssim"]) == value
    assert json.loads(document.read_text())["models"][0]["restored"]["ms_ssim"] == value
    assert "ms_ssim" in first.stdout and f"{value:.4f}" in first.stdout
    written = table.read_bytes()
    again = run([*command, *files])
    assert "1 of 1 images are in the journal already" in again.stderr
    assert table.read_bytes() == written
