"""The way from coarse scales to fine ones, and the two networks that go it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.transform import pyramid_gaussian
from torch import nn

from models import create_model
from models.blocks import FullPrecisionConv2d, ResBlock, coarse_to_fine, gaussian_pyramid

MULTI_SCALE = [("msrn", {"channels": 8, "blocks": 1}), ("deepdeblur", {"channels": 8, "blocks": 2})]


@settings(max_examples=10, deadline=None)
@given(height=st.integers(1, 12), width=st.integers(1, 12), seed=st.integers(0, 100))
def test_the_pyramid_is_that_of_scikit_image(height: int, width: int, seed: int) -> None:
    image = np.random.default_rng(seed).random((4 * height, 4 * width, 3), dtype=np.float32)
    expected = list(pyramid_gaussian(image, 2, channel_axis=-1))[::-1]
    found = gaussian_pyramid(torch.from_numpy(image).permute(2, 0, 1)[None], 3)
    for ours, theirs in zip(found, expected, strict=True):
        difference = np.abs(ours[0].permute(1, 2, 0).numpy() - theirs)
        # Theirs mirrors the image at its border, ours repeats the border; both see the same three pixels inside.
        assert difference.max() < 0.02
        assert difference[3:-3, 3:-3].max(initial=0) < 1e-5


def test_a_ramp_stays_a_ramp_with_pixels_centred_between_four() -> None:
    ramp = torch.arange(32.0).expand(1, 3, 32, 32)
    half = gaussian_pyramid(ramp, 2)[0]
    torch.testing.assert_close(half[..., 2:-2], (2 * torch.arange(16.0) + 0.5)[2:-2].expand(1, 3, 16, 12))


def test_a_block_adds_to_its_input() -> None:
    block = ResBlock(4)
    x = torch.rand(2, 4, 6, 5)
    torch.testing.assert_close(block(x) - x, block.body[2](torch.relu(block.body[0](x))))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_full_precision_convolution_is_not_rounded_under_autocast(dtype: torch.dtype) -> None:
    convolution = FullPrecisionConv2d(4, 3, 5, padding=2)
    x = torch.rand(2, 4, 6, 5).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        found = convolution(x)
    assert torch.equal(found, nn.Conv2d.forward(convolution, x.float()))


def test_finer_scales_see_the_enlarged_result_of_coarser_ones() -> None:
    class Seen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inputs: torch.Tensor | None = None

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.inputs = x
            return x[:, :3] + 1

    pyramid = [torch.rand(1, 3, side, side) for side in (2, 4, 8)]
    networks = [Seen() for _ in pyramid]
    enlarge = nn.Upsample(scale_factor=2)
    restored = coarse_to_fine(pyramid, networks, [enlarge, enlarge])
    assert [torch.equal(found, blurred + 1) for found, blurred in zip(restored, pyramid, strict=True)] == [True] * 3
    assert networks[0].inputs is pyramid[0]
    for number in (1, 2):
        expected = torch.cat([pyramid[number], enlarge(pyramid[number - 1] + 1)], dim=1)
        assert torch.equal(networks[number].inputs, expected)


@pytest.mark.parametrize(("name", "options"), MULTI_SCALE)
@pytest.mark.parametrize(("height", "width"), [(4, 4), (8, 20), (36, 24)])
def test_training_gives_the_pyramid_and_restoring_its_finest_scale(
    name: str, options: dict[str, int], height: int, width: int
) -> None:
    network = create_model(name, **options)
    blurred = torch.rand(2, 3, height, width)
    with torch.no_grad():
        pyramid, restored = network.train()(blurred), network.eval()(blurred)
    assert [tuple(scale.shape) for scale in pyramid] == [(2, 3, height // n, width // n) for n in (4, 2, 1)]
    assert torch.equal(restored, pyramid[-1])


@pytest.mark.parametrize(("name", "options"), MULTI_SCALE)
def test_the_finest_scale_alone_teaches_every_parameter(name: str, options: dict[str, int]) -> None:
    torch.manual_seed(0)
    network = create_model(name, **options).train()
    network(torch.rand(1, 3, 16, 16))[-1].square().sum().backward()
    idle = [key for key, parameter in network.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert idle == []
