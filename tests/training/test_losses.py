import math

import pytest
import torch

from deblur_cli.errors import UsageError
from deblur_cli.training.losses import CONTENT_LOSSES, content_loss

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
