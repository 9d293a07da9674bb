import pytest
import torch
import torch.nn.functional as functional
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from models.transfer import HOP, VALUES, TransferEstimator, measured_transfer, window_spectra

PER_SCALE = VALUES // 2
# Where the horizontal frequencies 1/32 to 4/32 stand among a scale's: after (1/32 … 4/32 vertical) each column has 9.
HORIZONTAL = [4 + 9 * column + 4 for column in range(4)]
VERTICAL = [0, 1, 2, 3]


def texture(height: int, width: int, seed: int = 0) -> Tensor:
    """1×3×H×W with detail at all frequencies."""
    generator = torch.Generator().manual_seed(seed)
    return 0.3 + 0.4 * torch.rand(1, 1, height, width, generator=generator).expand(-1, 3, -1, -1)


def box_blurred(image: Tensor, length: int) -> Tensor:
    """Each row averaged over `length` pixels, an odd number."""
    padded = functional.pad(image, (length // 2, length // 2, 0, 0), mode="circular")
    return functional.avg_pool2d(padded, (1, length), stride=1)


@pytest.mark.parametrize("scale", [1, 2])
def test_a_wave_has_its_power_at_its_frequency(scale: int) -> None:
    wave = torch.sin(2 * torch.pi * 4 * torch.arange(128) / (32 * scale))
    spectra = window_spectra((0.5 + 0.2 * wave).expand(1, 3, 96, 128), scale)
    assert spectra.shape == (1, 96 // HOP, 128 // HOP, 32, 17) and spectra.dtype == torch.complex64
    power = spectra.abs()[0, 2, 3]
    assert int(power.flatten().argmax()) == 4


def test_a_flat_image_has_no_spectrum() -> None:
    assert window_spectra(torch.full((1, 3, 48, 48), 0.7), 1).abs().max() < 1e-4


def test_the_least_image_has_a_window() -> None:
    assert window_spectra(texture(16, 16), 2).shape[1:3] == (1, 1)
    assert torch.isfinite(TransferEstimator()(texture(16, 32))).all()


def test_spectra_are_taken_in_full_precision_under_autocast() -> None:
    image = texture(64, 64)
    expected = window_spectra(image, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(window_spectra(image, 2), expected)
        value, _ = measured_transfer(image, image)
        assert torch.allclose(value, torch.ones(()))


def test_what_is_not_blurred_has_a_transfer_of_one() -> None:
    value, weight = measured_transfer(texture(64, 96), texture(64, 96))
    assert value.shape == weight.shape == (1, 4, 6, VALUES)
    assert torch.allclose(value, torch.ones(()))
    assert weight.min() > 0.9


def test_where_there_is_nothing_to_see_the_measure_says_one_and_does_not_count() -> None:
    value, weight = measured_transfer(torch.full((1, 3, 64, 64), 0.5), torch.full((1, 3, 64, 64), 0.4))
    assert torch.allclose(value, torch.ones(())) and weight.max() < 1e-3


@pytest.mark.parametrize("length", [3, 5, 9, 15])
def test_a_moving_average_is_measured_as_its_sinc(length: int) -> None:
    sharp = texture(256, 256)
    value = measured_transfer(box_blurred(sharp, length), sharp)[0][0, 4:-4, 4:-4].mean(dim=(0, 1))
    frequency = torch.arange(1, 5) / 32
    # The kernel of `length` equal weights: sin(πLf) / (L sin(πf)); at half the size frequencies are half as high.
    for offset, f in ((0, frequency), (PER_SCALE, frequency / 2)):
        expected = torch.sin(torch.pi * length * f) / (length * torch.sin(torch.pi * f))
        found = value[[offset + place for place in HORIZONTAL]]
        assert torch.allclose(found, expected, atol=max(0.05, 0.01 * length)), (offset, found, expected)
        assert (value[[offset + place for place in VERTICAL]] > 0.85).all(), "nothing moved up or down"


@given(seed=st.integers(0, 1000), noise=st.floats(0, 0.3))
def test_the_measure_keeps_its_range(seed: int, noise: float) -> None:
    sharp = texture(32, 48, seed)
    blurred = (sharp + noise * torch.randn(sharp.shape, generator=torch.Generator().manual_seed(seed))).clamp(0, 1)
    value, weight = measured_transfer(blurred, sharp)
    assert value.min() >= -1 and value.max() <= 1
    assert weight.min() >= 0 and weight.max() <= 1


def test_noise_drops_out_of_the_measure() -> None:
    sharp = texture(512, 512)
    noisy = sharp + 0.05 * torch.randn(sharp.shape, generator=torch.Generator().manual_seed(1))
    difference = (measured_transfer(noisy, sharp)[0] - 1).mean()
    assert abs(float(difference)) < 0.03  # what is cut off above 1


def test_the_estimate_does_not_depend_on_contrast() -> None:
    torch.manual_seed(0)
    estimator, image = TransferEstimator(), texture(64, 64)
    assert torch.allclose(estimator(image), estimator(0.5 * image + 0.2), atol=2e-3)


def test_the_estimate_looks_at_a_bounded_neighbourhood_on_a_grid_of_16() -> None:
    torch.manual_seed(0)
    estimator, image = TransferEstimator(), texture(32, 576).expand(-1, -1, 32, -1)
    torch.nn.init.normal_(estimator.agree[-1].weight, std=0.1)
    whole, tile = estimator(image), estimator(image[..., 48:560])
    # 7 windows to the side are asked, each has averaged 2 to its side, and those at half the size reach 32 pixels far.
    far = 7 + 2 + 2
    assert torch.allclose(whole[:, :, 3 + far : 35 - far], tile[:, :, far:-far], atol=1e-5)
    assert not torch.allclose(whole[:, :, 4:34], tile[:, :, 1:-1], atol=1e-5)


def test_windows_that_are_surer_count_for_more() -> None:
    """Half of an image is flat: what is seen in the other half is what is told of both."""
    torch.manual_seed(0)
    estimator = TransferEstimator()
    image = texture(64, 192)
    image[..., 96:] = 0.5

    def estimate(flat: float) -> Tensor:
        """With a sureness of `flat` where the image is, and of 0 elsewhere, and a transfer of 1 and 0."""
        marked = torch.zeros(1, 4, 12, VALUES + 1)
        marked[:, :, :6, :-1] = 1
        marked[:, :, 6:, -1] = flat
        with torch.no_grad():
            handle = estimator.look.register_forward_hook(lambda *_: marked)
            try:
                return estimator(image)[0, 2, 5:7].mean(dim=1)
            finally:
                handle.remove()

    unsure, alike = estimate(-8.0), estimate(0.0)
    assert torch.allclose(unsure, torch.tensor([1.0, 2 / 3]), atol=0.01)
    assert alike[0] < 0.9 and alike[1] < 0.5
