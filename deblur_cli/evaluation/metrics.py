"""PSNR and the two SSIMs that deblurring papers print, on torch tensors of any device, with an explicit data range.

All three take N×C×H×W images of the same shape and any number type and give one value an image, as a float64 tensor of
shape N on the processor. `data_range` is the distance between the least and the greatest possible value (255 for 8-bit
values, 1 for values in [0, 1]); it is never guessed.

The work is done in strips of rows small enough to stay in a processor's cache, which is several times faster than
filtering whole images and keeps the memory flat for photos of any size. On a processor one thread does it: on pieces
that small, several spend more time waiting for each other than they save, most of all on a busy machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

WINDOW = 11
"""Side of SSIM's Gaussian window in pixels; an image smaller than this has no SSIM."""
SIGMA = 1.5
"""Its standard deviation in pixels."""
_RADIUS = WINDOW // 2
K1, K2 = 0.01, 0.03
"""Constants of all SSIMs, as parts of the data range."""

# Values of one image map in a strip: about 34 rows of a 720p frame fit a processor's cache, a GPU wants large launches.
_STRIP_VALUES_CPU = 1 << 17
_STRIP_VALUES_GPU = 1 << 24
_LEAST_STRIP_ROWS = 8


@dataclass(frozen=True)
class Scores:
    """How near one image is to its sharp one; all three are greater where it is nearer."""

    psnr: float
    """Peak signal-to-noise ratio in dB; infinite for identical images."""
    ssim: float
    """See `ssim`; at most 1."""
    ssim_matlab: float
    """See `ssim_matlab`; at most 1."""
    ms_ssim: float | None = None
    """See `multiscale.ms_ssim`; None where the protocol, or the size of the image, has none."""


def round_to_uint8(image: Tensor) -> Tensor:
    """Values in [0, 1] to the 0..255 that a saved file holds, halves rounded up; what lies outside is clamped."""
    image = image.to(torch.promote_types(image.dtype, torch.float32))  # bfloat16 has no 255.5
    return image.clamp(0, 1).mul(255).add_(0.5).floor_().to(torch.uint8)


def psnr(restored: Tensor, sharp: Tensor, *, data_range: float) -> Tensor:
    """Peak signal-to-noise ratio in dB: 10 log10(data_range² / MSE), one MSE over all pixels and channels of an image.

    Identical images give infinity. By hand: values that all differ by 1 have MSE 1, so at a range of 255 the ratio is
    10 log10(65025) = 48.1308 dB.

    >>> flat = torch.zeros(1, 3, 4, 4)
    >>> round(psnr(flat + 1, flat, data_range=255).item(), 4)
    48.1308

    Args:
        restored: N×C×H×W.
        sharp: the same shape.
        data_range: greatest possible value minus the least.

    Returns:
        N values in dB, float64.

    Raises:
        ValueError: the shapes differ or are not N×C×H×W with at least one value, or the range is not positive.
    """
    _check(restored, sharp, data_range)
    dtype = _working_dtype(restored, sharp)
    with _one_thread(restored.device):
        sums = [
            (_part(restored, rows, dtype) - _part(sharp, rows, dtype)).square().sum(dim=(1, 2, 3))
            for rows in _strips(restored)
        ]
    error = _total(sums) / restored[0].numel()
    return 10 * torch.log10(data_range**2 / error)


@torch.no_grad()
def ssim(restored: Tensor, sharp: Tensor, *, data_range: float) -> Tensor:
    """Structural similarity (Wang et al. 2004) per channel, the mean of the channels.

    Gaussian window 11×11 of sigma 1.5, weighted (not sample) covariances, K1 = 0.01, K2 = 0.03, averaged over the
    region where the window lies wholly inside. It is scikit-image's with `gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False`, and what DeepDeblur-PyTorch prints.

    Args:
        restored: N×C×H×W, height and width at least 11.
        sharp: the same shape.
        data_range: greatest possible value minus the least.

    Returns:
        N values in [-1, 1], float64; exactly 1 for identical images.

    Raises:
        ValueError: as for `psnr`, or an image smaller than the window.
    """
    return _similarities(restored, sharp, data_range, plane=True, volume=False)[0]


@torch.no_grad()
def ssim_matlab(restored: Tensor, sharp: Tensor, *, data_range: float) -> Tensor:
    """Structural similarity as MATLAB's `ssim` computes it for an RGB array: the image is one volume.

    The Gaussian window is 11×11×11 over height, width and channel, sigma 1.5, with replicated borders in all three
    directions, averaged over every position. Most deblurring papers print this one. It reads higher than `ssim` on the
    same pictures (0.949 against 0.914 at 31.8 dB). With one channel it is the plain 11×11 window.

    Args:
        restored: N×C×H×W, height and width at least 11.
        sharp: the same shape.
        data_range: greatest possible value minus the least.

    Returns:
        N values in [-1, 1], float64; exactly 1 for identical images.

    Raises:
        ValueError: as for `ssim`.
    """
    return _similarities(restored, sharp, data_range, plane=False, volume=True)[1]


@torch.no_grad()
def score(restored: Tensor, sharp: Tensor, *, data_range: float) -> list[Scores]:
    """All three metrics of each image; the SSIMs share their window sums, so this is faster than one after the other.

    Args:
        restored: N×C×H×W, height and width at least 11.
        sharp: the same shape, on the same device.
        data_range: greatest possible value minus the least.

    Returns:
        N scores.

    Raises:
        ValueError: as for `ssim`.
    """
    ratios = psnr(restored, sharp, data_range=data_range)
    planes, volumes = _similarities(restored, sharp, data_range, plane=True, volume=True)
    return [Scores(*values) for values in torch.stack([ratios, planes, volumes], dim=1).tolist()]


def _check(restored: Tensor, sharp: Tensor, data_range: float) -> None:
    if restored.shape != sharp.shape or restored.ndim != 4 or restored.numel() == 0:
        raise ValueError(
            f"images of one shape N×C×H×W are compared, not {tuple(restored.shape)} with {tuple(sharp.shape)}"
        )
    if not 0 < data_range < math.inf:
        raise ValueError(f"data_range must be positive, not {data_range}")


def _working_dtype(restored: Tensor, sharp: Tensor) -> torch.dtype:
    # In strips a GPU is fast enough in float64. A processor would take twice the time for the seventh digit.
    if restored.device.type == "cuda" or torch.float64 in (restored.dtype, sharp.dtype):
        return torch.float64
    return torch.float32


def _strips(image: Tensor) -> Iterator[slice]:
    count, channels, height, width = image.shape
    values = _STRIP_VALUES_CPU if image.device.type == "cpu" else _STRIP_VALUES_GPU
    rows = max(_LEAST_STRIP_ROWS, values // (count * channels * width))
    for top in range(0, height, rows):
        yield slice(top, min(height, top + rows))


def _total(sums: list[Tensor]) -> Tensor:
    # One copy to the processor for all strips, and only there float64, which not every device has.
    return torch.stack(sums).cpu().double().sum(dim=0)


def _similarities(
    restored: Tensor, sharp: Tensor, data_range: float, *, plane: bool, volume: bool
) -> tuple[Tensor, Tensor]:
    """`ssim` where `plane` and `ssim_matlab` where `volume`, N values each; what was not asked for is 0."""
    _check(restored, sharp, data_range)
    count, channels, height, width = restored.shape
    if height < WINDOW or width < WINDOW:
        raise ValueError(f"SSIM needs images of at least {WINDOW}×{WINDOW} pixels, not {width}×{height}")
    constants = 2 * (K1 * data_range) ** 2, 2 * (K2 * data_range) ** 2
    dtype = _working_dtype(restored, sharp)
    mixing = _channel_window(channels).to(restored.device, dtype)
    zero = torch.zeros(count, dtype=dtype, device=restored.device)
    plane_sums, volume_sums = [zero], [zero]
    with _one_thread(restored.device):
        for rows in _strips(restored):
            moments, offset = _moments(_extended(restored, rows, dtype), _extended(sharp, rows, dtype))
            if plane:
                inside = slice(max(0, _RADIUS - rows.start), max(0, height - _RADIUS - rows.start))
                valid = moments[:, :, :, inside, _RADIUS : width - _RADIUS]
                plane_sums.append(_similarity_sum(valid, offset, constants))
            if volume:
                mixed = torch.matmul(mixing, moments.flatten(3)).view_as(moments)
                volume_sums.append(_similarity_sum(mixed, offset, constants))
    positions = channels * (height - 2 * _RADIUS) * (width - 2 * _RADIUS)
    return _total(plane_sums) / positions, _total(volume_sums) / restored[0].numel()


@contextmanager
def _one_thread(device: torch.device) -> Iterator[None]:
    """Operations on a processor run in the calling thread alone; torch's setting is put back at the end."""
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _part(image: Tensor, rows: slice, dtype: torch.dtype) -> Tensor:
    # Contiguous first: the order of a sum, and so its last digits, must not depend on how the image lies in memory.
    return image[:, :, rows].contiguous().to(dtype)


def _extended(image: Tensor, rows: slice, dtype: torch.dtype) -> Tensor:
    """The strip `rows` with the window's radius around it, borders of the image replicated."""
    height = image.shape[2]
    first, last = rows.start - _RADIUS, rows.stop + _RADIUS
    part = _part(image, slice(max(0, first), min(height, last)), dtype)
    return functional.pad(part, (_RADIUS, _RADIUS, max(0, -first), max(0, last - height)), mode="replicate")


def _moments(restored: Tensor, sharp: Tensor) -> tuple[Tensor, Tensor]:
    """Window means of s, d, s², d², where s is the sum of both images less an offset and d their difference.

    Four maps instead of the usual five (both images, both squares, the product) say all that SSIM needs, and d² keeps
    its digits where the images are alike. The offset, the strip's own mean of s, keeps the digits of s².

    Returns:
        4×N×C×h×w, and the offset, N×1×1×1.
    """
    total = restored + sharp
    offset = total.mean(dim=(1, 2, 3), keepdim=True)
    maps = torch.empty(4, *restored.shape, dtype=restored.dtype, device=restored.device)
    torch.sub(total, offset, out=maps[0])
    torch.sub(restored, sharp, out=maps[1])
    torch.square(maps[:2], out=maps[2:])
    return smooth(smooth(maps, 3), 4), offset


def smooth(maps: Tensor, dim: int) -> Tensor:
    """The Gaussian window along `dim`, which gets shorter by twice the radius."""
    # Shifted additions: in cache they are faster than convolutions of one channel, and no device rounds them to TF32.
    length = maps.shape[dim] - 2 * _RADIUS
    weights = _window().tolist()
    smoothed = maps.narrow(dim, _RADIUS, length) * weights[_RADIUS]
    for shift in range(_RADIUS):
        smoothed.add_(maps.narrow(dim, shift, length), alpha=weights[shift])
        smoothed.add_(maps.narrow(dim, 2 * _RADIUS - shift, length), alpha=weights[shift])
    return smoothed


def _similarity_sum(moments: Tensor, offset: Tensor, constants: tuple[float, float]) -> Tensor:
    """Sum of the SSIM map of each image; `constants` are 2·C1 and 2·C2.

    With s and d the sum and difference of both images, 2·μa·μb = (μs² − μd²)/2, μa² + μb² = (μs² + μd²)/2, and so for
    covariance and variances. Both fractions are extended by 2.
    """
    squared = moments[:2].square()
    spread_sum, spread_difference = moments[2:] - squared
    mean_sum, mean_difference = (moments[0] + offset).square_(), squared[1]
    above = (mean_sum - mean_difference + constants[0]) * (spread_sum - spread_difference + constants[1])
    below = (mean_sum + mean_difference + constants[0]) * (spread_sum + spread_difference + constants[1])
    return (above / below).sum(dim=(1, 2, 3))


def _window() -> Tensor:
    """The 11 weights of the Gaussian window, float64, of sum 1."""
    weights = torch.exp(-0.5 * (torch.arange(-_RADIUS, _RADIUS + 1, dtype=torch.float64) / SIGMA).square())
    return weights / weights.sum()


def _channel_window(channels: int) -> Tensor:
    """The window along the channels with replicated borders as a matrix, channels×channels, float64, rows of sum 1."""
    matrix = torch.zeros(channels, channels, dtype=torch.float64)
    weights = _window()
    for channel in range(channels):
        for shift in range(-_RADIUS, _RADIUS + 1):
            matrix[channel, min(max(channel + shift, 0), channels - 1)] += weights[shift + _RADIUS]
    return matrix
