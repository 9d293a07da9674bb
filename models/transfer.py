"""What blur did to an image, place by place: its transfer function, measured with the sharp image or estimated without.

Blur multiplies the spectrum S(f) of the sharp image by the transfer function H(f) of its kernel (Goodman, "Introduction
to Fourier optics", 2005, section 6). A sharp image's power spectrum falls smoothly in all directions, |S(f)|² ~ 1/f²
(Field, JOSA A 1987), so what |H(f)|² has carved out of it can be seen in the blurred one: that is how the length and
direction of a motion were first identified (Cannon, "Blind deconvolution of spatially invariant image blurs with
phase", IEEE Trans. ASSP 1976). Convolutions that are trained to restore find such features slowly if at all; given to
a network, the spectra of overlapping windows teach it to see blur within minutes.

Windows are of 32×32 pixels of the image and of the image at half its size, one every 16 pixels; H is told at the 40
lowest frequencies of each. Where the windows lie depends on the image's upper left corner alone, so tiles that begin
at multiples of 16 agree with the whole image.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

HOP = 16
"""Pixels between the centres of windows: there is one for each 16×16 pixels of an image."""
SCALES = (1, 2)
"""By what the image is reduced before windows are cut."""

_WINDOW = 32
_POOLED = 5  # Spectra of 5×5 windows are averaged: one window's own shows its content more than its blur.
_AROUND = (5, 15)  # Each window asks those in squares of 5×5 and of 15×15 windows around it.
_LOWEST = 4  # The highest frequency along an axis at which H is told, in cycles a window.

# H(−f) is H(f)'s conjugate: half of the plane says all.
VALUES = len(SCALES) * ((2 * _LOWEST + 1) ** 2 - 1) // 2
"""How many numbers describe the blur of a place."""

# Powers are of values in [0, 1] under a Hann window: rounding to 8 bits leaves 2·10⁻⁴ at every frequency.
_ROUNDING = 1e-4
_FAINT = 1e-2  # Power of the sharp image at which the measured H counts half.


def window_spectra(images: Tensor, scale: int) -> Tensor:
    """Fourier transforms of windows of N×3×H×W images: N×(H/16)×(W/16)×32×17, complex, of each window's luma.

    H and W are multiples of 16; `scale` is 1 or 2. Beyond the border an image is mirrored.
    """
    # Nothing here is computed in half precision under autocast: what is faint beside the rest is what is looked for.
    red, green, blue = images.float().split(1, dim=1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    luma = functional.avg_pool2d(luma, scale) if scale > 1 else luma
    hop = HOP // scale
    margin = (_WINDOW - hop) // 2
    mode = "reflect" if min(luma.shape[2:]) > margin else "replicate"
    windows = functional.pad(luma, (margin,) * 4, mode=mode)[:, 0].unfold(1, _WINDOW, hop).unfold(2, _WINDOW, hop)
    hann = torch.hann_window(_WINDOW, device=images.device)
    return torch.fft.rfft2((windows - windows.mean(dim=(-2, -1), keepdim=True)) * (hann.view(-1, 1) * hann))


def measured_transfer(blurred: Tensor, sharp: Tensor) -> tuple[Tensor, Tensor]:
    """The transfer function that turns `sharp` into `blurred`, N×3×H×W in [0, 1], and how far it can be relied on.

    The real part of H(f) = Σ B(f) S*(f) / Σ |S(f)|², the sums going over neighbouring windows: the least squares fit,
    from which noise drops out. A blur that is aligned with its sharp image has little imaginary part.

    Returns:
        H in [−1, 1], 1 where there is nothing to see, and its weight in [0, 1]; both N×(H/16)×(W/16)×`VALUES`, float32.
    """
    values, weights = [], []
    for scale in SCALES:
        of_blurred, of_sharp = (_lowest(window_spectra(images, scale)) for images in (blurred, sharp))
        shared = _pooled(of_blurred.real * of_sharp.real + of_blurred.imag * of_sharp.imag)
        power = _pooled(_power(of_sharp))
        values.append(((shared + 10 * _ROUNDING) / (power + 10 * _ROUNDING)).clamp(-1, 1))
        weights.append(power / (power + _FAINT))
    return torch.cat(values, dim=3), torch.cat(weights, dim=3)


class TransferEstimator(nn.Module):
    """Estimates the transfer function of an image's blur from its power spectra: N×3×H×W to N×(H/16)×(W/16)×`VALUES`.

    H and W are multiples of 16. What it gives is meant to come close to `measured_transfer`. Each window says what it
    sees and how sure it is of it; as a camera moves all of an image in much the same way, windows ask those around
    them, up to 7 away, and those that are surer count for more.
    """

    def __init__(self, width: int = 512) -> None:
        super().__init__()
        bins = len(SCALES) * _WINDOW * (_WINDOW // 2 + 1)
        seen = VALUES + 1
        self.look = nn.Sequential(
            nn.Linear(bins, width), nn.GELU(), nn.Linear(width, width // 2), nn.GELU(), nn.Linear(width // 2, seen)
        )
        self.agree = nn.Sequential(
            nn.Linear(seen + len(_AROUND) * VALUES, width // 2), nn.GELU(), nn.Linear(width // 2, VALUES)
        )
        for parameter in self.agree[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, images: Tensor) -> Tensor:
        powers = [_pooled(_power(window_spectra(images, scale).flatten(3))) for scale in SCALES]
        # Contrast and brightness of the scene say nothing of its blur; what is left is the shape of the spectrum.
        shape = torch.cat(powers, dim=3).add(_ROUNDING).log()
        seen = self.look(functional.layer_norm(shape, shape.shape[3:])).float()
        transfer, confidence = seen[..., :-1], seen[..., -1:].clamp(-8, 8).exp()
        weighted = torch.cat([transfer * confidence, confidence], dim=3)
        around = [_pooled(weighted, windows) for windows in _AROUND]
        views = [transfer, *(sums[..., :-1] / sums[..., -1:] for sums in around)]
        return torch.stack(views).mean(dim=0) + self.agree(torch.cat([seen[..., -1:], *views], dim=3))


def _power(spectra: Tensor) -> Tensor:
    return spectra.real.square() + spectra.imag.square()


def _lowest(spectra: Tensor) -> Tensor:
    """The lowest frequencies of N×h×w×32×17 spectra, N×h×w×40: those of half a plane, column by column."""
    # By slices: a list of indices has to reach a GPU first, for which all of its work is waited for.
    columns = torch.cat([spectra[..., -_LOWEST:, : _LOWEST + 1], spectra[..., : _LOWEST + 1, : _LOWEST + 1]], dim=-2)
    return columns.transpose(-2, -1).flatten(-2)[..., _LOWEST + 1 :]


def _pooled(values: Tensor, windows: int = _POOLED) -> Tensor:
    """N×h×w×F values of windows, averaged over squares of so many windows around each."""
    planes, reach = values.permute(0, 3, 1, 2), windows // 2
    for side, padding in (((windows, 1), (reach, 0)), ((1, windows), (0, reach))):
        planes = functional.avg_pool2d(planes, side, stride=1, padding=padding, count_include_pad=False)
    return planes.permute(0, 2, 3, 1)
