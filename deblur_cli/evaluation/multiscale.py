"""Multi-scale SSIM, the similarity that is published for Köhler's pictures."""

from __future__ import annotations

import torch
from torch import Tensor

from deblur_cli.evaluation.metrics import K1, K2, WINDOW, smooth

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales, the finest first."""
LEAST = (WINDOW - 1) * 2 ** (len(WEIGHTS) - 1) + 1
"""Side in pixels from which the coarsest scale holds a window."""
_SIDE = (0.377402855612830, -0.110624404418440, -0.023849465019560, 0.037828455507260)
_LOW_PASS = (*_SIDE[::-1], 0.852698679008890, *_SIDE)


def ms_ssim(restored: Tensor, sharp: Tensor, *, data_range: float) -> float:
    """Structural similarity over five scales (Wang, Simoncelli and Bovik 2003) of two grey images.

    As in the MeTriX MuX package, which Köhler's script calls: from scale to scale a low-pass filter, that of the 9/7
    biorthogonal wavelet with mirrored borders, and every second pixel; at each scale the means of the contrast and of
    the structure maps, and at the coarsest that of the luminance map, from the Gaussian windows of `metrics.ssim` that
    lie wholly inside; their product with the published exponents.

    Args:
        restored: 1×1×H×W, height and width at least `LEAST`.
        sharp: the same shape, on the same device.
        data_range: greatest possible value minus the least.

    Returns:
        A value in [0, 1]; 1 for identical images, and 0 where structures are opposed.

    Raises:
        ValueError: the shapes differ or are not 1×1×H×W, or the images are too small.
    """
    if restored.shape != sharp.shape or restored.shape[:2] != (1, 1) or min(restored.shape[2:]) < LEAST:
        shapes = f"{tuple(restored.shape)} and {tuple(sharp.shape)}"
        raise ValueError(f"two images 1×1×H×W of at least {LEAST}×{LEAST} pixels are compared, not {shapes}")
    constants = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    images = torch.cat([restored, sharp]).float()
    total = 1.0
    for scale, weight in enumerate(WEIGHTS):
        if scale:
            images = _halved(_halved(images).mT).mT
        luminance, contrast, structure = _similarities(images, constants)
        total *= (max(0.0, contrast) * max(0.0, structure)) ** weight
    return total * luminance ** WEIGHTS[-1]


def _halved(images: Tensor) -> Tensor:
    """Every second row after the low-pass filter along columns; mirrored borders show the outermost pixel twice."""
    reach, height = len(_SIDE), images.shape[2]
    padded = torch.cat([images[:, :, :reach].flip(2), images, images[:, :, height - reach :].flip(2)], dim=2)
    halved = torch.zeros_like(images[:, :, ::2])
    for shift, tap in enumerate(_LOW_PASS):
        halved.add_(padded[:, :, shift : shift + height : 2], alpha=tap / sum(_LOW_PASS))
    return halved


def _similarities(images: Tensor, constants: tuple[float, float]) -> tuple[float, float, float]:
    """Means over all windows of how alike luminance, contrast and structure of the two images, 2×1×H×W, are."""
    offset = images.mean()  # without which squares would lose the digits that variances are made of
    one, other = images - offset
    maps = torch.stack([one, other, one * one, other * other, one * other]).unsqueeze(1)
    mean_one, mean_other, square_one, square_other, product = smooth(smooth(maps, 3), 4)
    variance_one, variance_other = (
        (square_one - mean_one**2).clamp_(min=0),
        (square_other - mean_other**2).clamp_(min=0),
    )
    spread = (variance_one * variance_other).sqrt()
    covariance = product - mean_one * mean_other
    mean_one, mean_other = mean_one + offset, mean_other + offset
    luminance = (2 * mean_one * mean_other + constants[0]) / (mean_one**2 + mean_other**2 + constants[0])
    contrast = (2 * spread + constants[1]) / (variance_one + variance_other + constants[1])
    structure = (covariance + constants[1] / 2) / (spread + constants[1] / 2)
    return luminance.mean().item(), contrast.mean().item(), structure.mean().item()
