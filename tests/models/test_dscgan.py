"""DSC-GAN: the published size, its attention by definition, and the windows that channel attention looks at."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from hypothesis import given, settings
from hypothesis import strategies as st

from models import create_model, model_info
from models.dscgan import (
    DSCRB,
    ChannelAttention,
    SeparableConv,
    SpatialAttention,
    _between_cells,
    _mean_and_maximum,
)
from models.measure import macs, parameters


def test_size_and_cost_are_the_published_ones() -> None:
    with torch.device("meta"):
        network = create_model("dscgan")
    assert parameters(network) == 2_973_682 == model_info("dscgan").parameters
    assert 4 * parameters(network) / 1e6 == pytest.approx(11.9, abs=0.05)
    assert macs(network, 256, 256) / 1e9 == pytest.approx(12.2, rel=0.02)
    assert not [name for name, _ in network.named_parameters() if name.endswith("bias")]


def test_channel_attention_by_its_definition() -> None:
    torch.manual_seed(0)
    attention = ChannelAttention(8)
    first, second = (attention.get_parameter(f"perceptron.{number}.weight")[:, :, 0, 0] for number in (0, 2))
    x = torch.randn(2, 8, 5, 7)

    def perceptron(of_channels: torch.Tensor) -> torch.Tensor:
        hidden = functional.leaky_relu(of_channels @ first.T, 0.2)
        return hidden @ second.T

    weights = torch.sigmoid(perceptron(x.mean((2, 3))) + perceptron(x.amax((2, 3))))
    assert first.shape == (4, 8)
    torch.testing.assert_close(attention(x), x * weights[:, :, None, None])


def test_spatial_attention_by_its_definition() -> None:
    torch.manual_seed(0)
    attention = SpatialAttention()
    x = torch.randn(2, 6, 9, 8)
    over_channels = torch.stack([x.mean(1), x.amax(1)], dim=1)
    weights = torch.sigmoid(functional.conv2d(over_channels, attention.conv.weight, padding=3))
    assert attention.conv.weight.shape == (1, 2, 7, 7)
    torch.testing.assert_close(attention(x), x * weights)


def test_a_separable_convolution_is_one_of_rank_one_a_channel() -> None:
    torch.manual_seed(0)
    layer = SeparableConv(4)
    depthwise, pointwise = layer.get_parameter("0.weight"), layer.get_parameter("1.weight")
    dense = pointwise * depthwise[:, 0]  # out × in × 3 × 3
    x = torch.randn(1, 4, 6, 6)
    torch.testing.assert_close(layer(x), functional.leaky_relu(functional.conv2d(x, dense, padding=1), 0.2))


def test_a_block_adds_to_its_input_and_leaves_it_as_it_is() -> None:
    block = DSCRB(8, dropout=0.5).eval()
    x = torch.randn(1, 8, 5, 5)
    before = x.clone()
    torch.testing.assert_close(block(x), before + block.body(before))
    assert torch.equal(x, before)


def test_features_are_dropped_in_training_only() -> None:
    torch.manual_seed(0)
    network = create_model("dscgan")
    blurred = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        assert not torch.equal(network.train()(blurred), network(blurred))
        assert torch.equal(network.eval()(blurred), network(blurred))
        whole = create_model("dscgan", dropout=0.0).train()
        assert torch.equal(whole(blurred), whole(blurred))


@settings(max_examples=5, deadline=None)
@given(rows=st.integers(1, 7), columns=st.integers(1, 7), images=st.integers(1, 2))
def test_any_multiple_of_sixteen_goes_in_and_comes_out(rows: int, columns: int, images: int) -> None:
    blurred = torch.rand(images, 3, 16 * rows, 16 * columns)
    with torch.inference_mode():
        assert create_model("dscgan")(blurred).shape == blurred.shape


def test_what_is_added_is_less_than_one() -> None:
    network = create_model("dscgan").eval()
    with torch.inference_mode():
        list(network.parameters())[-1].mul_(1e4)  # of the last convolution
        blurred = torch.rand(1, 3, 8, 8)
        added = network(blurred) - blurred
    assert added.abs().max() <= 1 + 1e-6
    assert added.abs().max() > 0.5


def test_the_gradient_reaches_every_parameter() -> None:
    torch.manual_seed(0)
    network = create_model("dscgan")
    network(torch.rand(1, 3, 16, 16)).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 25), columns=st.integers(1, 25))
def test_each_cell_sees_the_window_around_it_moved_inside_and_between_cells_it_is_linear(
    rows: int, columns: int
) -> None:
    x = torch.rand(1, 1, 4 * rows, 4 * columns, dtype=torch.float64)
    tops, lefts = ([4 * min(max(n - 8, 0), max(count - 17, 0)) for n in range(count)] for count in (rows, columns))
    windows = [[x[0, 0, top : top + 68, left : left + 68] for left in lefts] for top in tops]
    for found, reduce in zip(_mean_and_maximum(x), (torch.mean, torch.amax), strict=True):
        expected = np.array([[float(reduce(window)) for window in row] for row in windows])
        for axis, count in enumerate((rows, columns)):
            at = (np.arange(4 * count) - 1.5) / 4  # in cells; 0 is the centre of the first
            expected = np.apply_along_axis(
                lambda line, at=at: np.interp(at, np.arange(len(line)), line), axis, expected
            )
        seen = _between_cells(found, 4 * rows, 4 * columns).expand_as(x)
        torch.testing.assert_close(seen[0, 0], torch.from_numpy(expected))


def test_a_highlight_far_away_changes_nothing() -> None:
    torch.manual_seed(0)
    attention = ChannelAttention(6)
    x = torch.rand(1, 6, 8, 160)
    brighter = x.clone()
    brighter[..., -4:] *= 50
    with torch.inference_mode():
        torch.testing.assert_close(attention(brighter)[..., :100], attention(x)[..., :100], rtol=0, atol=0)
        assert not torch.allclose(attention(brighter)[..., 140:156], attention(x)[..., 140:156])


def test_within_a_tile_whose_cells_are_the_images_channel_attention_sees_the_same() -> None:
    torch.manual_seed(0)
    attention, x = ChannelAttention(6), torch.rand(1, 6, 72, 200)
    with torch.inference_mode():
        whole, tile = attention(x), attention(x[..., 40:160])
        torch.testing.assert_close(tile[..., 36:-36], whole[..., 76:124])
        assert not torch.allclose(tile[..., :20], whole[..., 40:60])  # its windows lie elsewhere near its border
        assert not torch.allclose(attention(x[..., 38:158])[..., 38:-36], whole[..., 76:122])  # as do its cells here
