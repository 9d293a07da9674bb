"""What a restored batch is compared with its sharp one by: content losses, over one scale or several, and a perceptual
loss. Images are B×3×H×W in [0, 1]. What a critic says of them is in adversarial.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from deblur_cli.errors import UsageError
from deblur_cli.training.unrolled import Restored, full_size
from models.blocks import gaussian_pyramid
from models.transfer import measured_transfer
from models.vgg import load_vgg

if TYPE_CHECKING:
    from accelerate import Accelerator

    from deblur_cli.training.recipe import Recipe, Stage

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

    Where several sharp images are possible, it is least for their mean. `l1` is least for their median, which for a
    blur that could run in either direction restores nothing. The error is kept above 10⁻⁵ as in `psnr`.
    """
    return ((restored - sharp).square().mean(dim=(1, 2, 3)) + 1e-5).sqrt().mean()


def psnr(restored: Tensor, sharp: Tensor, blurred: Tensor) -> Tensor:
    """Negative PSNR in dB, range 1, mean over the batch (Chen et al., "HINet", CVPR workshops 2021).

    The squared error is kept above 10⁻⁵ (50 dB), or flat crops with nothing to restore would dominate the gradient.
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


MultiScaleLoss = Callable[[Restored, Tensor, Tensor], Tensor]
"""(restored or its pyramid, sharp, blurred) to a scalar."""


def last(loss: ContentLoss, restored: Restored, sharp: Tensor, blurred: Tensor) -> Tensor:
    """The loss at full size alone; coarser scales are not looked at."""
    return loss(full_size(restored), sharp, blurred)


def summed(loss: ContentLoss, restored: Restored, sharp: Tensor, blurred: Tensor) -> Tensor:
    """Σ L_k over the scales k, each of weight 1, images reduced bilinearly (Tao et al., "Scale-recurrent network for
    deep image deblurring", CVPR 2018, section "Losses")."""
    pyramid = _pyramid(restored)
    return _per_scale(loss, pyramid, _bilinear(sharp, pyramid), _bilinear(blurred, pyramid)).sum()


def normalised(loss: ContentLoss, restored: Restored, sharp: Tensor, blurred: Tensor) -> Tensor:
    """1/(2K) Σ L_k over the K scales of a Gaussian pyramid (Nah et al., "Deep multi-scale convolutional neural network
    for dynamic scene deblurring", CVPR 2017, eq. 5); half the loss where there is one scale."""
    pyramid = _pyramid(restored)
    references = (gaussian_pyramid(images, len(pyramid)) for images in (sharp, blurred))
    return _per_scale(loss, pyramid, *references).mean() / 2


SCALES: dict[str, Callable[[ContentLoss, Restored, Tensor, Tensor], Tensor]] = {
    "last": last,
    "sum": summed,
    "normalised": normalised,
}


def multi_scale(name: str, scales: str) -> MultiScaleLoss:
    """The content loss `name` over the scales of a pyramid, put together as `scales` says.

    Raises:
        UsageError: there is no such loss, or no such way to put scales together.
    """
    if scales not in SCALES:
        raise UsageError(f"scales are put together by {', '.join(SCALES)}, not '{scales}'")
    return partial(SCALES[scales], content_loss(name))


def _pyramid(restored: Restored) -> list[Tensor]:
    return [restored] if isinstance(restored, Tensor) else restored


def _bilinear(images: Tensor, pyramid: Sequence[Tensor]) -> list[Tensor]:
    """The images in the sizes of a pyramid's."""

    def resized(size: torch.Size) -> Tensor:
        if size == images.shape[2:]:
            return images
        return functional.interpolate(images, size=size, mode="bilinear", align_corners=False)

    return [resized(scale.shape[2:]) for scale in pyramid]


def _per_scale(
    loss: ContentLoss, restored: Sequence[Tensor], sharp: Sequence[Tensor], blurred: Sequence[Tensor]
) -> Tensor:
    """The loss of each scale, K."""
    return torch.stack([loss(*images) for images in zip(restored, sharp, blurred, strict=True)])


def perceptual(features: nn.Module, restored: Tensor, sharp: Tensor) -> Tensor:
    """Mean of (φ(restored) − φ(sharp))² over features φ.

    Johnson et al., "Perceptual losses for real-time style transfer and super-resolution", ECCV 2016, the feature
    reconstruction loss of section 3.2; with VGG19's conv3_3 for φ in Kupyn et al., "DeblurGAN", CVPR 2018, section 3.1.
    """
    with torch.no_grad():
        target = features(sharp)
    return (features(restored) - target).square().mean()


def transfer(estimate: Tensor, blurred: Tensor, sharp: Tensor) -> Tensor:
    """Mean of w (Ĥ − H)², Ĥ being the estimated transfer function of the blur, H the measured one and w how far that
    can be relied on, see `models.transfer.measured_transfer`."""
    with torch.no_grad():
        measured, weight = measured_transfer(blurred, sharp)
    return (weight * (estimate.float() - measured).square()).mean()


class ImageLosses:
    """The parts of a recipe's loss that compare a restored batch with its sharp one.

    Args:
        vgg: VGG19's weights, see `models.vgg.load_vgg`; looked at only if the recipe has a perceptual loss.

    Raises:
        ModelError: they cannot be had.
    """

    def __init__(self, recipe: Recipe, accelerator: Accelerator, vgg: Path | None = None) -> None:
        self.recipe = recipe
        self.features = nn.Module()
        if "perceptual" in recipe.losses:
            with accelerator.local_main_process_first():  # which fetches the file for all
                self.features = load_vgg(vgg).to(accelerator.device)

    def parts(self, stage: Stage, restored: Restored, sharp: Tensor, blurred: Tensor) -> dict[str, Tensor]:
        """The content and the perceptual loss, those of the two that the stage gives a weight, not weighted yet."""
        parts = {}
        if stage.content_weight:
            content = multi_scale(stage.loss or self.recipe.loss, self.recipe.scales)
            parts["content"] = content(restored, sharp, blurred)
        if stage.perceptual_weight:
            parts["perceptual"] = perceptual(self.features, full_size(restored), sharp)
        return parts
