"""Köhler's and RealBlur's protocols: what a small shift and another exposure cost, and what they do not."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.metrics import structural_similarity
from torch import Tensor

from deblur_cli.errors import DatasetError
from deblur_cli.evaluation.alignment import score_registered, score_trajectory
from deblur_cli.evaluation.metrics import psnr, score

PHOTO = next((Path(__file__).parents[2] / "sample_media").rglob("*.jpg"))


def photo(height: int = 160, width: int = 200) -> np.ndarray:
    """A natural picture, H×W×3 float64 of 20 to 220, so that a scaled one stays in range."""
    with Image.open(PHOTO) as opened:
        pixels = np.asarray(opened.convert("RGB").resize((width, height), Image.Resampling.LANCZOS), np.float64)
    return 20 + pixels * (200 / 255)


def tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0)


def shifted(pixels: np.ndarray, down: int, right: int) -> np.ndarray:
    """The same camera's picture, moved: what comes in at the borders is more of the scene, here mirrored."""
    padded = np.pad(pixels, ((8, 8), (8, 8), (0, 0)), mode="reflect")
    return padded[8 - down : 8 - down + pixels.shape[0], 8 - right : 8 - right + pixels.shape[1]].copy()


def test_a_shifted_and_scaled_copy_is_as_good_as_new_where_pictures_are_aligned_and_nowhere_else() -> None:
    sharp = photo()
    copy = tensor(np.round(0.9 * shifted(sharp, 1, 1)))
    sharp = tensor(np.round(sharp))
    assert psnr(copy, sharp, data_range=255).item() < 25
    assert score_trajectory([copy], [sharp])[0].psnr > 40
    assert score_trajectory([copy], [sharp])[0].ssim > 0.995
    registered = score_registered(copy, sharp)
    assert registered.psnr > 40
    assert registered.ssim > 0.995
    assert registered.ssim_matlab > 0.995


def test_what_is_wrong_with_a_picture_stays_wrong_when_it_is_aligned() -> None:
    sharp = photo()
    blurred = cv2.GaussianBlur(sharp, (9, 9), 2)
    plain = score(tensor(blurred), tensor(sharp), data_range=255)[0]
    for aligned in (
        score_trajectory([tensor(blurred)], [tensor(sharp)])[0],
        score_registered(tensor(blurred), tensor(sharp)),
    ):
        # Luminance lacks the error of colours; a factor and a homography take little from a blur.
        assert plain.psnr - 0.5 < aligned.psnr < plain.psnr + 2
        assert abs(aligned.ssim - plain.ssim) < 0.03


@settings(max_examples=15, deadline=None)
@given(st.integers(-5, 5), st.integers(-5, 5), st.floats(0.5, 1.1))
def test_any_shift_by_whole_pixels_and_any_exposure_are_undone(down: int, right: int, gain: float) -> None:
    sharp = photo(96, 120)
    found = score_trajectory([tensor(gain * shifted(sharp, down, right))], [tensor(sharp)])[0]
    assert found.ssim > 0.97  # not more, as the factor is taken before the shift
    assert found.psnr >= psnr(tensor(gain * shifted(sharp, down, right)), tensor(sharp), data_range=255).item()


def test_the_best_frame_of_the_trajectory_counts_for_each_picture_and_each_score() -> None:
    first, second = photo(), photo()[::-1].copy()
    noisy = second + np.random.default_rng(0).normal(0, 5, second.shape)
    frames = [tensor(first), tensor(second)]
    exact, other = score_trajectory([tensor(first), tensor(noisy)], frames)
    assert exact.psnr > 120  # but for the last digits identical
    assert exact.ssim == pytest.approx(1)
    assert other == score_trajectory([tensor(noisy)], frames[::-1])[0]
    assert other == score_trajectory([tensor(noisy)], frames[1:])[0]


def test_kohlers_psnr_is_that_of_luminance() -> None:
    sharp = photo()
    red = sharp.copy()
    red[:, ::2, 0] += 10
    red[:, 1::2, 0] -= 10  # which no factor takes away
    found = score_trajectory([tensor(red)], [tensor(sharp)])[0].psnr
    assert found == pytest.approx(10 * math.log10(255**2 / (0.299 * 10) ** 2), abs=0.02)


def test_realblurs_scores_are_those_of_the_published_formulas() -> None:
    sharp = photo()
    image = np.round(np.clip(0.8 * shifted(sharp, 2, -1) + np.random.default_rng(1).normal(0, 6, sharp.shape), 0, 255))
    x, z = (np.float32(one) / np.float32(255) for one in (np.round(sharp), image))
    z = z * (np.sum(x * z) / np.sum(z * z))
    grey = [cv2.cvtColor(one, cv2.COLOR_RGB2GRAY) for one in (x, z)]
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 0)
    _, warp = cv2.findTransformECC(*grey, np.eye(3, dtype=np.float32), cv2.MOTION_HOMOGRAPHY, criteria, None, 5)
    flags, size = cv2.WARP_INVERSE_MAP, (x.shape[1], x.shape[0])
    aligned = cv2.warpPerspective(z, warp, size, flags=cv2.INTER_CUBIC + flags, borderMode=cv2.BORDER_REFLECT)
    mask = cv2.warpPerspective(np.ones_like(z), warp, size, flags=cv2.INTER_NEAREST + flags)
    assert 0.9 < mask.mean() < 1
    one, other = np.float64(aligned * mask), np.float64(x * mask)
    error = np.sum((one - other) ** 2) / np.sum(mask)
    _, similarity = structural_similarity(
        other, one, gaussian_weights=True, use_sample_covariance=False, channel_axis=-1, data_range=1.0, full=True
    )
    inner = (slice(5, -5), slice(5, -5))
    expected = np.mean((similarity * mask)[inner].sum(axis=(0, 1)) / mask[inner].sum(axis=(0, 1)))
    found = score_registered(tensor(image), tensor(np.round(sharp)))
    assert found.psnr == pytest.approx(10 * math.log10(1 / error), abs=1e-3)
    assert found.ssim == pytest.approx(expected, abs=1e-4)


def test_what_cannot_be_aligned_is_said() -> None:
    flat = torch.zeros(1, 3, 60, 60)
    with pytest.raises(DatasetError, match="cannot be aligned"):
        score_registered(flat, tensor(photo(60, 60)))
    with pytest.raises(DatasetError, match=r"a sharp frame of 60×60 does not belong to a picture of 80×70"):
        score_trajectory([tensor(photo(70, 80))], [flat + 1])
    with pytest.raises(DatasetError, match="no sharp frame"):
        score_trajectory([flat], [flat])


def test_a_black_picture_has_a_score() -> None:
    sharp = tensor(photo(60, 60))
    found = score_trajectory([torch.zeros_like(sharp)], [sharp])[0]
    assert 0 < found.psnr < 15
