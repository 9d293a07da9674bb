"""Critics: what they look at, how far they see, and that a gradient penalty can be taken of them."""

from __future__ import annotations

import pytest
import torch

from models import ModelError
from models.critics import CRITICS, create_critic
from models.measure import parameters

PATCH = ("patch", "patch-conditional")


@pytest.mark.parametrize(
    ("name", "count"),
    [
        # k4 convolutions with biases: 64, 128, 256, 512 and 1 channels of 16 taps each.
        ("patch", 3 * 64 * 16 + 64 + 64 * 128 * 16 + 128 + 128 * 256 * 16 + 256 + 256 * 512 * 16 + 512 + 512 * 16 + 1),
        (
            "patch-conditional",
            6 * 64 * 16 + 64 + 64 * 128 * 16 + 128 + 128 * 256 * 16 + 256 + 256 * 512 * 16 + 512 + 512 * 16 + 1,
        ),
        (
            "nine-layer",
            sum(
                inputs * outputs * 25 + outputs
                for inputs, outputs in [
                    (3, 32), (32, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512)
                ]
            )
            + 512 * 512 * 16 + 512
            + 512 + 1,
        ),
    ],
)  # fmt: skip
def test_sizes(name: str, count: int) -> None:
    with torch.device("meta"):
        assert parameters(create_critic(name)) == count


@pytest.mark.parametrize(
    ("name", "shape"),
    [("patch", (2, 1, 30, 30)), ("patch-conditional", (2, 1, 30, 30)), ("nine-layer", (2, 1))],
)
def test_what_comes_of_a_crop_of_256(name: str, shape: tuple[int, ...]) -> None:
    with torch.device("meta"):
        crop = torch.empty(2, 3, 256, 256)
        assert create_critic(name)(crop, crop).shape == shape


@pytest.mark.parametrize("name", PATCH)
def test_a_patch_critic_sees_70_pixels_and_not_one_more(name: str) -> None:
    """In eval mode the norms would still mix all pixels, so they are taken out: what is left is the convolutions."""
    torch.manual_seed(0)
    critic = create_critic(name)
    for place, layer in list(critic.named_modules()):
        if isinstance(layer, torch.nn.InstanceNorm2d):
            critic.set_submodule(place, torch.nn.Identity())
    candidate = torch.rand(1, 3, 128, 128, requires_grad=True)
    logits = critic(candidate, torch.rand(1, 3, 128, 128))
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    assert candidate.grad is not None
    seen = candidate.grad.abs().amax(dim=(0, 1))
    for axis in (0, 1):
        touched = seen.amax(dim=axis).nonzero()
        assert int(touched[-1] - touched[0]) + 1 == 70


@pytest.mark.parametrize(("name", "normalised"), [("patch", 3), ("patch-conditional", 3), ("nine-layer", 0)])
def test_the_middle_layers_of_a_patch_critic_are_normalised(name: str, normalised: int) -> None:
    layers = [type(layer).__name__ for layer in create_critic(name).modules() if not list(layer.children())]
    assert layers.count("InstanceNorm2d") == normalised
    assert "InstanceNorm2d" not in layers[:2] + layers[-1:]


@pytest.mark.parametrize("name", CRITICS)
def test_only_the_conditional_critic_looks_at_the_blurred_image(name: str) -> None:
    torch.manual_seed(0)
    critic = create_critic(name).eval()
    side = 256 if name == "nine-layer" else 64
    candidate, one, other = torch.rand(3, 1, 3, side, side)
    with torch.inference_mode():
        same = torch.equal(critic(candidate, one), critic(candidate, other))
        assert same == (name != "patch-conditional")
        assert not torch.equal(critic(candidate, one), critic(other, one))


def test_the_conditional_critic_tells_the_two_images_apart() -> None:
    torch.manual_seed(0)
    critic = create_critic("patch-conditional").eval()
    one, other = torch.rand(2, 1, 3, 64, 64)
    with torch.inference_mode():
        assert not torch.allclose(critic(one, other), critic(other, one))


@pytest.mark.parametrize("name", CRITICS)
def test_critics_give_logits(name: str) -> None:
    """Any real number, of either sign: no sigmoid at the end."""
    torch.manual_seed(0)
    critic = create_critic(name).eval()
    side = 256 if name == "nine-layer" else 64
    crop = torch.rand(1, 3, side, side)
    with torch.no_grad():
        logits = critic(crop, crop)
        *_, last_weight, last_bias = critic.parameters()
        last_weight.neg_()
        last_bias.neg_()
        torch.testing.assert_close(critic(crop, crop), -logits)


@pytest.mark.parametrize("name", CRITICS)
def test_the_gradient_reaches_every_parameter_and_a_penalty_of_it_does_too(name: str) -> None:
    """The penalty of WGAN-GP is a loss of the gradient, so each layer must have a second derivative."""
    torch.manual_seed(0)
    critic = create_critic(name)
    side = 256 if name == "nine-layer" else 32
    candidate = torch.rand(1, 3, side, side, requires_grad=True)
    logits = critic(candidate, torch.rand(1, 3, side, side))
    (gradient,) = torch.autograd.grad(logits.sum(), candidate, create_graph=True)
    penalty = (gradient.flatten(1).norm(dim=1) - 1).square().mean()
    (logits.mean() + penalty).backward()
    weights = {key: parameter for key, parameter in critic.named_parameters() if key.endswith("weight")}
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in weights.values())
    assert all(
        bool(torch.isfinite(parameter.grad).all()) for parameter in critic.parameters() if parameter.grad is not None
    )


@pytest.mark.parametrize("size", [(128, 128), (256, 128), (512, 512)])
def test_the_nine_layer_critic_wants_crops_of_256(size: tuple[int, int]) -> None:
    crop = torch.rand(1, 3, *size)
    with pytest.raises(ValueError, match=f"256×256, not of {size[0]}×{size[1]}"):
        create_critic("nine-layer")(crop, crop)


def test_an_unknown_critic_names_those_there_are() -> None:
    with pytest.raises(ModelError, match="no critic is called 'pach'; there are patch, patch-conditional, nine-layer"):
        create_critic("pach")
