"""Networks that keep their word pass; each way to break it is told by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models import ModelError, registry
from models.check import check
from models.registry import register_model


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a test register networks that are gone afterwards."""
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))


class Layer(nn.Module):
    """A 3×3 convolution, N×3×H×W to the same, and what a test makes of its output."""

    def __init__(self, change: Callable[[Layer, Tensor], Any] = lambda layer, restored: restored) -> None:
        super().__init__()
        self.change = change
        self.layer = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, blurred: Tensor) -> Any:
        return self.change(self, self.layer(blurred))


def faults(builder: Callable[[], nn.Module], **facts: Any) -> str:
    register_model("wrong", "a network for this test", **facts)(builder)
    result = check("wrong")
    assert result.passed == (not result.faults)
    return "; ".join(result.faults)


@pytest.mark.parametrize("name", ["test-tiny", "test-tiny-recurrent"])
def test_networks_that_keep_their_word_pass(name: str) -> None:
    result = check(name)
    assert result.passed and result.faults == ()
    assert result.info.name == name and result.seconds is not None and result.seconds > 0


def test_figures_are_those_worked_out_by_hand() -> None:
    result = check("test-tiny")  # 3→8 and 8→3, 3×3 each
    assert result.parameters == 2 * 3 * 8 * 9 + 8 + 3
    assert result.gmacs == pytest.approx(2 * 3 * 8 * 9 * 256 * 256 / 1e9)


def test_the_image_is_padded_to_what_the_network_asks_for() -> None:
    def builder() -> nn.Module:
        return Layer()

    assert faults(builder, multiple_of=100) == ""
    assert check("wrong").gmacs == pytest.approx(3 * 3 * 9 * 300 * 300 / 1e9)


def test_other_figures_than_registered_are_told() -> None:
    gmacs = 3 * 3 * 9 * 256 * 256 / 1e9
    for facts, expected in (
        ({"parameters": 84, "gmacs": gmacs}, ""),
        ({"parameters": 84, "gmacs": 1.015 * gmacs}, ""),
        ({"parameters": 85}, "84 parameters, where 85 are registered"),
        ({"gmacs": 1.03 * gmacs}, "0.005308 GMACs, where 0.005468 are registered"),
    ):
        registry._REGISTRY.pop("wrong", None)
        assert faults(Layer, **facts) == expected


def test_a_pyramid_is_for_training_alone() -> None:
    def pyramid(layer: Layer, restored: Tensor) -> list[Tensor]:
        return [nn.functional.avg_pool2d(restored, 2), restored]

    assert faults(lambda: Layer(lambda layer, x: pyramid(layer, x) if layer.training else x)) == ""
    registry._REGISTRY.pop("wrong")
    assert faults(lambda: Layer(pyramid)) == "gives a list in eval mode and not an image"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda layer, x: x[..., 1:], "gives 1×3×256×255 in eval mode"),
        (lambda layer, x: x[:, :1] if layer.training else x, "gives 1×1×256×256 in training mode for 1×3×256×256"),
        (lambda layer, x: [x, x[..., ::2]] if layer.training else x, "gives 1×3×256×128 in training mode"),
        (lambda layer, x: x / 0, "gives values that are not finite"),
        (lambda layer, x: (x - x).sqrt(), "2 parameters with a gradient that is not finite, the first layer.weight"),
        (lambda layer, x: x.view(7), "RuntimeError: "),
    ],
)
def test_a_wrong_output_is_told(change: Callable[[Layer, Tensor], Any], expected: str) -> None:
    assert expected in faults(lambda: Layer(change))


def test_a_parameter_that_takes_no_part_is_told() -> None:
    def builder() -> nn.Module:
        network = Layer()
        network.idle = nn.Conv2d(3, 3, 1)
        return network

    assert faults(builder) == "2 parameters without a gradient, the first idle.weight"


def test_a_network_that_cannot_be_built_is_told() -> None:
    def builder() -> nn.Module:
        raise ValueError("no such\nthing")

    message = faults(builder)
    assert "no such thing" in message and "\n" not in message
    assert (check("wrong").parameters, check("wrong").gmacs, check("wrong").seconds) == (None, None, None)


def test_checking_leaves_random_numbers_alone() -> None:
    state = torch.get_rng_state()
    check("test-tiny")
    assert torch.equal(torch.get_rng_state(), state)


def test_an_unknown_network_is_an_error() -> None:
    with pytest.raises(ModelError, match="no network is called"):
        check("zzzz")
