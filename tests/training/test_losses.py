import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as functional
from safetensors.torch import save_file
from torch import Tensor, nn

from deblur_cli.errors import UsageError
from deblur_cli.training.accelerator import default_accelerator
from deblur_cli.training.losses import CONTENT_LOSSES, ImageLosses, content_loss, multi_scale, perceptual, transfer
from deblur_cli.training.recipe import Recipe, Stage
from models.blocks import gaussian_pyramid
from models.transfer import measured_transfer
from models.vgg import VGG19Features

SHARP = torch.full((2, 3, 4, 4), 0.5)
RESTORED = SHARP + 0.1
BLURRED = SHARP - 0.2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mse", 0.01),
        ("l1", 0.1),
        ("charbonnier", math.sqrt(0.01 + 1e-6)),
        ("rmse", math.sqrt(0.01 + 1e-5)),
        ("psnr", 10 * math.log10(0.01 + 1e-5)),  # −20 dB, but for the floor
        ("relative", (0.01 + 1e-4) / (0.04 + 1e-4)),
    ],
)
def test_against_values_worked_out_by_hand(name: str, value: float) -> None:
    assert float(content_loss(name)(RESTORED, SHARP, BLURRED)) == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize("name", CONTENT_LOSSES)
def test_a_perfect_restoration_is_the_least_and_has_a_finite_gradient(name: str) -> None:
    loss = content_loss(name)
    perfect = SHARP.clone().requires_grad_()
    at_best = loss(perfect, SHARP, BLURRED)
    at_best.backward()
    assert torch.isfinite(perfect.grad).all()
    assert at_best < loss(RESTORED, SHARP, BLURRED)


def test_relative_is_one_where_nothing_was_restored() -> None:
    assert float(content_loss("relative")(BLURRED, SHARP, BLURRED)) == pytest.approx(1)


def test_an_unknown_loss_names_those_there_are() -> None:
    with pytest.raises(UsageError, match="charbonnier"):
        content_loss("charbonier")


def pyramid(*errors: float) -> list[Tensor]:
    """Scales of 2², 4², … pixels that miss `SHARP` by so much."""
    return [SHARP[:1, :, :1, :1].expand(2, 3, 2**k, 2**k) + error for k, error in enumerate(errors, start=1)]


@pytest.mark.parametrize(
    ("scales", "value"),
    [
        ("last", 0.2**2),
        ("sum", 0.1**2 + 0.2**2),  # Tao et al. 2018
        ("normalised", (0.1**2 + 0.2**2) / (2 * 2)),  # 1/(2K) Σ, Nah et al. 2017
    ],
)
def test_scales_are_put_together_as_the_papers_do(scales: str, value: float) -> None:
    assert float(multi_scale("mse", scales)(pyramid(0.1, 0.2), SHARP, BLURRED)) == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize(("scales", "share"), [("last", 1.0), ("sum", 1.0), ("normalised", 0.5)])
def test_one_scale_is_a_pyramid_of_one(scales: str, share: float) -> None:
    ours = multi_scale("mse", scales)
    alone = ours(RESTORED, SHARP, BLURRED)
    assert torch.equal(alone, ours([RESTORED], SHARP, BLURRED))
    assert float(alone) == pytest.approx(share * 0.01, rel=1e-5)


def test_a_scale_is_compared_with_the_sharp_image_reduced_to_it() -> None:
    """Half the size bilinearly is the mean of each 2×2 pixels; a shift by a pixel would not be zero."""
    sharp = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    half = sharp.unflatten(3, (4, 2)).unflatten(2, (4, 2)).mean(dim=(3, 5))
    assert float(multi_scale("mse", "sum")([half, sharp], sharp, sharp)) == pytest.approx(0, abs=1e-12)
    assert float(multi_scale("mse", "sum")([half.roll(1, 3), sharp], sharp, sharp)) > 0.01


def test_normalised_scales_are_those_of_the_gaussian_pyramid_that_the_network_sees() -> None:
    sharp = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    loss = multi_scale("mse", "normalised")
    assert float(loss(gaussian_pyramid(sharp, 3), sharp, sharp)) == 0
    half = nn.functional.avg_pool2d(sharp, 2)
    assert float(loss([half, sharp], sharp, sharp)) > 1e-4


def test_unknown_scales_name_those_there_are() -> None:
    with pytest.raises(UsageError, match="normalised"):
        multi_scale("mse", "all")


class Edges(nn.Module):
    """Differences of neighbouring pixels, for features."""

    def forward(self, images: Tensor) -> Tensor:
        return images[..., 1:] - images[..., :-1]


def test_the_perceptual_loss_compares_features_and_not_pixels() -> None:
    sharp = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert float(perceptual(Edges(), sharp, sharp)) == 0
    assert float(perceptual(Edges(), sharp + 0.1, sharp)) == pytest.approx(0, abs=1e-12)
    ramp = torch.arange(8) * 0.1
    assert float(perceptual(Edges(), sharp + ramp, sharp)) == pytest.approx(0.1**2, rel=1e-4)


def test_the_perceptual_loss_reaches_the_restored_image_through_vgg19(tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_file(VGG19Features().state_dict(), tmp_path / "vgg.safetensors")
    stage = Stage(content_weight=0.0, perceptual_weight=100.0)
    recipe = Recipe(model="test-tiny", stages=(stage,))
    ours = ImageLosses(recipe, default_accelerator("cpu"), tmp_path / "vgg.safetensors")
    sharp = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    restored = (0.5 * sharp).requires_grad_()
    assert ours.parts(stage, sharp, sharp, sharp) == {"perceptual": 0}
    parts = ours.parts(stage, [restored[:, :, ::2, ::2], restored], sharp, sharp)
    assert list(parts) == ["perceptual"] and parts["perceptual"] > 0
    parts["perceptual"].backward()
    assert restored.grad is not None and restored.grad.abs().sum() > 0


def test_a_stage_pays_for_what_has_a_weight() -> None:
    """VGG19 is not even loaded where no stage asks for it: there is no such file."""
    recipe = Recipe(model="test-tiny", loss="mse")
    ours = ImageLosses(recipe, default_accelerator("cpu"), Path("nowhere.safetensors"))
    assert ours.parts(recipe.stages[0], RESTORED, SHARP, BLURRED).keys() == {"content"}


def test_transfer_is_zero_for_the_measured_one_and_weighs_misses_by_what_can_be_relied_on() -> None:
    generator = torch.Generator().manual_seed(0)
    sharp = torch.rand(1, 3, 64, 64, generator=generator)
    sharp[:, :, :, :16] = 0.5
    blurred = functional.avg_pool2d(sharp, 3, stride=1, padding=1, count_include_pad=False)
    measured, weight = measured_transfer(blurred, sharp)
    assert float(transfer(measured, blurred, sharp)) == 0
    assert float(transfer(measured + 0.5, blurred, sharp)) == pytest.approx(0.25 * float(weight.mean()), rel=1e-4)
