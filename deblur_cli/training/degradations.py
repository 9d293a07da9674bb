"""What stands between a blurred scene and its file: defocus, sensor noise, JPEG. Batched, on the images' own device.

Each function takes B×3×H×W images in [0, 1] and a B mask of which to change, and draws its strengths from a generator
on the same device. Of frames of videos, `frames` that follow each other get the same strengths: B is then a multiple of
it, and what is random within an image stays independent.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

# Tables K.1 and K.2 of ITU-T T.81 (JPEG), Annex K, as the usual encoders scale them by quality.
_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
# ITU-T T.871 (JFIF): full-range BT.601.
_TO_YCBCR = (
    (0.299, 0.587, 0.114),
    (-0.168735892, -0.331264108, 0.5),
    (0.5, -0.418687589, -0.081312411),
)


def defocus(images: Tensor, mask: Tensor, generator: torch.Generator, frames: int = 1) -> Tensor:
    """Blur by an anti-aliased disc of 0.5 to 2 pixels of radius."""
    radius = 0.5 + 1.5 * _strengths(1, images, frames, generator)[0]
    if not mask.any():
        return images
    reach = torch.arange(-3, 4, device=images.device, dtype=images.dtype)
    distance = (reach.view(-1, 1) ** 2 + reach.view(1, -1) ** 2).sqrt()
    discs = (radius[mask].view(-1, 1, 1) + 0.5 - distance).clamp(0, 1)
    discs = discs / discs.sum(dim=(1, 2), keepdim=True)
    chosen = functional.pad(images[mask], (3, 3, 3, 3), mode="reflect")
    kernels = discs.repeat_interleave(3, dim=0).unsqueeze(1)
    blurred = functional.conv2d(chosen.flatten(0, 1).unsqueeze(0), kernels, groups=len(kernels))
    result = images.clone()
    result[mask] = blurred.view(-1, *images.shape[1:])
    return result


def add_noise(images: Tensor, mask: Tensor, generator: torch.Generator, frames: int = 1) -> Tensor:
    """Shot and read noise: a normal of variance a·x + b², a up to 0.001 and b up to 0.01 of full scale.

    The normal stands for the Poisson distribution of photons, to which it is close from some ten photons up
    (Foi et al., "Practical Poissonian-Gaussian noise modeling", IEEE TIP 2008).
    """
    shot, read = _strengths(2, images, frames, generator).view(2, -1, 1, 1, 1) * 0.01
    noise = torch.randn(images.shape, generator=generator, device=images.device)
    noisy = images + noise * (0.1 * shot * images + read**2).sqrt()
    return torch.where(mask.view(-1, 1, 1, 1), noisy.clamp(0, 1), images)


def compress_jpeg(images: Tensor, mask: Tensor, generator: torch.Generator, frames: int = 1) -> Tensor:
    """What baseline JPEG of quality 50 to 98 leaves of each image; half of them have chroma halved both ways."""
    quality = 50 + 48 * _strengths(1, images, frames, generator)[0]
    halved = _strengths(1, images, frames, generator)[0] < 0.5
    if not mask.any():
        return images
    result = images.clone()
    result[mask] = _jpeg(images[mask], quality[mask], halved[mask])
    return result


def _strengths(kinds: int, images: Tensor, frames: int, generator: torch.Generator) -> Tensor:
    """kinds×B numbers of [0, 1), each repeated for the frames of a sequence."""
    drawn = torch.rand(kinds, len(images) // frames, generator=generator, device=images.device)
    return drawn.repeat_interleave(frames, dim=1)


def _jpeg(images: Tensor, quality: Tensor, halved: Tensor) -> Tensor:
    height, width = images.shape[2:]
    padded = functional.pad(images, (0, -width % 16, 0, -height % 16), mode="replicate")
    matrix = torch.tensor(_TO_YCBCR, device=images.device, dtype=images.dtype)
    ycbcr = torch.einsum("ij,bjhw->bihw", matrix, padded * 255)
    ycbcr = ycbcr - torch.tensor([128.0, 0.0, 0.0], device=images.device).view(1, 3, 1, 1)
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality).view(-1, 1, 1, 1)
    tables = [
        ((torch.tensor(table, device=images.device) * scale + 50) / 100).floor().clamp(1, 255)
        for table in (_LUMINANCE, _CHROMINANCE)
    ]
    luma, chroma = ycbcr[:, :1], ycbcr[:, 1:]
    small = functional.interpolate(
        _quantise(functional.avg_pool2d(chroma, 2), tables[1]), scale_factor=2, mode="bilinear", align_corners=False
    )
    chroma = torch.where(halved.view(-1, 1, 1, 1), small, _quantise(chroma, tables[1]))
    decoded = torch.cat([_quantise(luma, tables[0]) + 128, chroma], dim=1)
    rgb = torch.einsum("ij,bjhw->bihw", matrix.inverse(), decoded) / 255
    return rgb[:, :, :height, :width].clamp(0, 1)


def _quantise(plane: Tensor, table: Tensor) -> Tensor:
    """Round the 8×8 DCT coefficients of B×C×H×W planes to multiples of the B×1×8×8 table."""
    order = torch.arange(8, device=plane.device, dtype=plane.dtype)
    basis = torch.cos((2 * order.view(1, -1) + 1) * order.view(-1, 1) * torch.pi / 16) / 2
    basis[0] *= 0.5**0.5
    batch, channels, height, width = plane.shape
    blocks = plane.view(batch, channels, height // 8, 8, width // 8, 8).permute(0, 1, 2, 4, 3, 5)
    table = table.view(batch, 1, 1, 1, 8, 8)
    coefficients = (basis @ blocks @ basis.T / table).round() * table
    blocks = basis.T @ coefficients @ basis
    return blocks.permute(0, 1, 2, 4, 3, 5).reshape(batch, channels, height, width)
