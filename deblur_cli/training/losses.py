"""Content losses: what a restored batch is compared with its sharp one by. Images are B×3×H×W in [0, 1]."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from deblur_cli.errors import UsageError

ContentLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(restored, sharp, blurred) to a scalar. Most ignore the blurred image; `relative` does not."""


def mse(restored: Tensor, sharp: Tensor, blurred: Tensor) -> Tensor:
    """Mean of (restored − sharp)²."""
    return (restored - sharp).square().mean()


def l1(restored: Tensor, sharp: Tensor, blurred: Tensor) -> Tensor:
    """Mean of |restored − sharp|."""
    return (restored - sharp).abs().mean()


def charbonnier(restored: Tensor, sharp: Tensor, blurred: Tensor) -> Tensor:
    """Mean of √((restored − sharp)² + ε²), ε = 10⁻³ (Lai et al., "Deep Laplacian pyramid networks", CVPR 2017)."""
    return ((restored - sharp).square() + 1e-6).sqrt().mean()


def rmse(restored: Tensor, sharp: Tensor, blurred: Tensor) -> Tensor:
    """Root of each image's mean squared error, mean over the batch; half-way between `mse` and `psnr`.

    What it asks of a pixel is the mean of what may be there, and not the median as `l1` does, which for a blur that
    could run either way is no restoration at all. The error is kept above 10⁻⁵ as in `psnr`.
    """
    return ((restored - sharp).square().mean(dim=(1, 2, 3)) + 1e-5).sqrt().mean()


def psnr(restored: Tensor, sharp: Tensor, blurred: Tensor) -> Tensor:
    """Negative PSNR in dB, range 1, mean over the batch (Chen et al., "HINet", CVPR workshops 2021).

    The squared error is kept above 10⁻⁵ (50 dB), or flat crops that hold nothing to restore would lead the gradient.
    """
    error = (restored - sharp).square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(error + 1e-5).mean()


def relative(restored: Tensor, sharp: Tensor, blurred: Tensor) -> Tensor:
    """Squared error as a share of the blurred image's own, mean over the batch; 1 where nothing was restored.

    To first order around the identity it is the gain in PSNR, and unlike `psnr` it stays bounded; 10⁻⁴ (40 dB) is
    added to both sides for the same reason as there.
    """
    error = (restored - sharp).square().mean(dim=(1, 2, 3))
    reference = (blurred - sharp).square().mean(dim=(1, 2, 3))
    return ((error + 1e-4) / (reference + 1e-4)).mean()


CONTENT_LOSSES: dict[str, ContentLoss] = {
    "mse": mse,
    "l1": l1,
    "charbonnier": charbonnier,
    "rmse": rmse,
    "psnr": psnr,
    "relative": relative,
}


def content_loss(name: str) -> ContentLoss:
    """The content loss that a recipe names.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in CONTENT_LOSSES:
        raise UsageError(f"no content loss is called '{name}'; there are {', '.join(CONTENT_LOSSES)}")
    return CONTENT_LOSSES[name]
