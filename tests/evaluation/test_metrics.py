"""The metrics against values by hand, against scikit-image, and against slow definitions written out here."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data
from skimage.filters import gaussian
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from deblur_cli.evaluation import metrics
from deblur_cli.evaluation.metrics import Scores, psnr, round_to_uint8, score, ssim, ssim_matlab

FEW = settings(max_examples=15, deadline=None)
SIZES = st.integers(11, 30)
SEEDS = st.integers(0, 2**31)


def tensor(*pictures: np.ndarray) -> Tensor:
    return torch.stack([torch.from_numpy(picture).permute(2, 0, 1) for picture in pictures])


def random_images(seed: int, count: int, height: int, width: int) -> Tensor:
    return torch.randint(0, 256, (count, 3, height, width), generator=torch.Generator().manual_seed(seed)).byte()


def natural_pair() -> tuple[np.ndarray, np.ndarray]:
    sharp = data.astronaut()[60:180, 130:290]
    blurred = gaussian(sharp, sigma=1.6, channel_axis=-1, preserve_range=True)
    return np.rint(blurred).astype(np.uint8), sharp


def flat_pair() -> tuple[np.ndarray, np.ndarray]:
    """Flat and nearly saturated, where float32 loses most."""
    sharp = np.full((90, 70, 3), 254, np.uint8)
    sharp[:40] = 1
    restored = sharp.copy()
    restored[::7] += 1
    return restored, sharp


def random_pair() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(3)
    return tuple(generator.integers(0, 256, (37, 53, 3), dtype=np.uint8) for _ in range(2))  # type: ignore[return-value]


PAIRS = [natural_pair(), flat_pair(), random_pair()]


def slow_ssim_3d(restored: np.ndarray, sharp: np.ndarray, data_range: float) -> float:
    """SSIM of H×W×C volumes by an explicit 11×11×11 window over a volume padded by replication."""
    offsets = np.arange(-5, 6)
    line = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = line[:, None, None] * line[None, :, None] * line[None, None, :]
    window /= window.sum()

    def mean(volume: np.ndarray) -> np.ndarray:
        padded = np.pad(volume, 5, mode="edge")
        total = np.zeros(volume.shape)
        height, width, channels = volume.shape
        for (y, x, z), weight in np.ndenumerate(window):
            total += weight * padded[y : y + height, x : x + width, z : z + channels]
        return total

    a, b = restored.astype(np.float64), sharp.astype(np.float64)
    mean_a, mean_b = mean(a), mean(b)
    variance_a, variance_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    covariance = mean(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    above = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    below = (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    return float((above / below).mean())


def test_the_docstrings_value_by_hand() -> None:
    found = doctest.testmod(metrics)
    assert found.attempted > 0
    assert found.failed == 0


@pytest.mark.parametrize("constant, expected", [(1, 48.13080361), (16, 24.04840396), (255, 0.0)])
def test_psnr_of_a_constant_difference(constant: int, expected: float) -> None:
    dark = torch.zeros(2, 3, 5, 7, dtype=torch.uint8)
    values = psnr(dark + constant, dark, data_range=255)
    assert values.tolist() == pytest.approx([expected] * 2, abs=1e-6)
    assert psnr((dark + constant) / 255, dark / 255, data_range=1).tolist() == pytest.approx([expected] * 2, abs=1e-5)


def test_psnr_takes_one_error_over_all_channels() -> None:
    sharp = torch.zeros(1, 3, 4, 4)
    restored = sharp.clone()
    restored[:, 0] = 3  # MSE 9/3 = 3, not a mean of three PSNRs
    assert psnr(restored, sharp, data_range=255).item() == pytest.approx(10 * math.log10(255**2 / 3))


@pytest.mark.parametrize("pair", PAIRS)
def test_psnr_agrees_with_scikit_image(pair: tuple[np.ndarray, np.ndarray]) -> None:
    restored, sharp = pair
    expected = peak_signal_noise_ratio(sharp, restored, data_range=255)
    assert psnr(tensor(restored), tensor(sharp), data_range=255).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("pair", PAIRS)
def test_ssim_agrees_with_scikit_image(pair: tuple[np.ndarray, np.ndarray]) -> None:
    restored, sharp = pair
    expected = structural_similarity(
        restored,
        sharp,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        channel_axis=-1,
        data_range=255,
    )
    images = tensor(restored), tensor(sharp)
    assert ssim(*images, data_range=255).item() == pytest.approx(expected, abs=1e-6)
    assert ssim(images[0] / 255, images[1] / 255, data_range=1).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("pair", PAIRS)
def test_ssim_matlab_agrees_with_the_slow_definition(pair: tuple[np.ndarray, np.ndarray]) -> None:
    restored, sharp = (picture[:40, :60] for picture in pair)
    expected = slow_ssim_3d(restored, sharp, 255)
    assert ssim_matlab(tensor(restored), tensor(sharp), data_range=255).item() == pytest.approx(expected, abs=1e-6)


def test_one_channel_makes_the_volume_a_plane_with_borders() -> None:
    restored, sharp = (picture[:30, :30, :1] for picture in natural_pair())
    repeated = [np.repeat(picture, 3, axis=2) for picture in (restored, sharp)]
    single = ssim_matlab(tensor(restored), tensor(sharp), data_range=255).item()
    assert single == pytest.approx(slow_ssim_3d(*repeated, 255), abs=1e-6)


@pytest.mark.parametrize("pair", PAIRS)
def test_float32_keeps_what_float64_knows(pair: tuple[np.ndarray, np.ndarray]) -> None:
    images = [tensor(picture) for picture in pair]
    coarse = score(*images, data_range=255)[0]
    fine = score(*(image.double() for image in images), data_range=255)[0]
    assert vars(coarse) == pytest.approx(vars(fine), abs=1e-6)


def test_strips_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [tensor(picture).double() for picture in natural_pair()]
    whole = score(*images, data_range=255)[0]
    monkeypatch.setattr(metrics, "_STRIP_VALUES_CPU", 1)
    for rows in (1, 3, 8, 119):
        monkeypatch.setattr(metrics, "_LEAST_STRIP_ROWS", rows)
        assert vars(score(*images, data_range=255)[0]) == pytest.approx(vars(whole), abs=1e-10)


def test_the_place_in_memory_does_not_show() -> None:
    restored, sharp = (tensor(picture).contiguous() for picture in natural_pair())
    elsewhere = restored.contiguous(memory_format=torch.channels_last)
    assert score(elsewhere, sharp, data_range=255) == score(restored, sharp, data_range=255)


def test_the_number_of_threads_is_put_back() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        image = random_images(0, 1, 20, 20)
        ssim(image, image, data_range=255)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_identical_images() -> None:
    image = random_images(0, 2, 20, 20)
    assert [vars(one) for one in score(image, image, data_range=255)] == [
        {"psnr": math.inf, "ssim": 1.0, "ssim_matlab": 1.0, "ms_ssim": None}
    ] * 2


@FEW
@given(SEEDS, SIZES, SIZES, st.integers(1, 3))
def test_symmetric_bounded_and_each_image_for_itself(seed: int, height: int, width: int, count: int) -> None:
    restored = random_images(seed, count, height, width)
    sharp = random_images(seed + 1, count, height, width)
    together = score(restored, sharp, data_range=255)
    assert together == score(sharp, restored, data_range=255)
    for index, one in enumerate(together):
        alone = score(restored[index : index + 1], sharp[index : index + 1], data_range=255)[0]
        assert vars(alone) == pytest.approx(vars(one), abs=1e-6)
        assert one.psnr > 0
        assert -1 <= one.ssim <= 1
        assert -1 <= one.ssim_matlab <= 1


@FEW
@given(SEEDS, st.permutations(range(3)), SIZES)
def test_the_order_of_images_and_of_axes(seed: int, order: list[int], size: int) -> None:
    restored, sharp = random_images(seed, 3, size, size + 3), random_images(seed + 1, 3, size, size + 3)
    values = score(restored, sharp, data_range=255)
    shuffled = score(restored[order], sharp[order], data_range=255)
    turned = score(restored.mT, sharp.mT, data_range=255)
    for index, source in enumerate(order):
        assert vars(shuffled[index]) == pytest.approx(vars(values[source]), abs=1e-6)
    for one, other in zip(values, turned, strict=True):
        assert vars(one) == pytest.approx(vars(other), abs=1e-6)


@FEW
@given(SEEDS, st.floats(0.1, 1000))
def test_only_the_ratio_to_the_range_counts(seed: int, factor: float) -> None:
    restored, sharp = (random_images(seed + index, 1, 14, 17).double() for index in range(2))
    scaled = score(restored * factor, sharp * factor, data_range=255 * factor)[0]
    plain = score(restored, sharp, data_range=255)[0]
    assert [scaled.psnr, scaled.ssim, scaled.ssim_matlab] == pytest.approx(
        [plain.psnr, plain.ssim, plain.ssim_matlab], rel=1e-6
    )


@FEW
@given(SEEDS, SIZES, SIZES)
def test_all_at_once_is_one_after_the_other(seed: int, height: int, width: int) -> None:
    images = random_images(seed, 1, height, width), random_images(seed + 1, 1, height, width)
    alone = [metric(*images, data_range=255).item() for metric in (psnr, ssim, ssim_matlab)]
    assert score(*images, data_range=255)[0] == Scores(*alone)


def test_rounding_is_to_the_nearest_and_clamps() -> None:
    values = torch.tensor([-0.1, 0.0, 0.49 / 255, 0.5 / 255, 1.49 / 255, 254.5 / 255, 1.0, 1.2], dtype=torch.float64)
    assert round_to_uint8(values).tolist() == [0, 0, 0, 1, 1, 255, 255, 255]
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(round_to_uint8(every / 255), every)


@pytest.mark.parametrize(
    "restored, sharp, data_range",
    [
        (torch.zeros(1, 3, 20, 20), torch.zeros(1, 3, 20, 21), 255),
        (torch.zeros(3, 20, 20), torch.zeros(3, 20, 20), 255),
        (torch.zeros(0, 3, 20, 20), torch.zeros(0, 3, 20, 20), 255),
        (torch.zeros(1, 3, 20, 20), torch.zeros(1, 3, 20, 20), 0),
    ],
)
@pytest.mark.parametrize("metric", [psnr, ssim, ssim_matlab])
def test_what_cannot_be_compared(metric, restored: Tensor, sharp: Tensor, data_range: float) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=r"images of one shape|data_range must be positive"):
        metric(restored, sharp, data_range=data_range)


def test_too_small_for_the_window() -> None:
    image = torch.zeros(1, 3, 10, 40)
    with pytest.raises(ValueError, match="at least 11×11 pixels, not 40×10"):
        ssim(image, image, data_range=1)
    assert psnr(image, image + 1, data_range=1).item() == 0
