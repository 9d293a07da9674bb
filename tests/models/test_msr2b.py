"""MSR2B: the published size, and each block against the paper's equations."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as functional
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from deblur_cli.training.shut import ShutChannels
from models import ModelError, create_model, load_model, model_info
from models.measure import macs, parameters
from models.msr2b import Bottleneck, MultiScaleMiddle, PlainMiddle, Res2NetMiddle
from models.weights import save_weights

BLOCKS = ("msr2b", "res2net", "resnet")


def drawn(block: str = "msr2b") -> nn.Module:
    """A network whose last convolution gives something, as an untrained one's does not."""
    torch.manual_seed(0)
    network = create_model("msr2b", block=block).eval()
    with torch.no_grad():
        network.get_parameter("tail.4.weight").normal_(std=0.1)
    return network


def test_size_and_cost_are_the_published_ones() -> None:
    with torch.device("meta"):
        network = create_model("msr2b")
    assert parameters(network) == 5_444_771 == model_info("msr2b").parameters
    assert macs(network, 256, 256) / 1e9 == pytest.approx(24.7, rel=0.02)


def test_each_step_of_the_ablation_differs_in_the_middle_of_the_blocks_alone() -> None:
    with torch.device("meta"):
        shapes = {
            block: {name: tensor.shape for name, tensor in create_model("msr2b", block=block).state_dict().items()}
            for block in BLOCKS
        }
    shared = {
        block: {
            name: shape
            for name, shape in found.items()
            if ".body.2." not in name and not name.endswith("body.3.weight")
        }
        for block, found in shapes.items()
    }
    assert shared["msr2b"] == shared["res2net"] == shared["resnet"]
    assert len({tuple(found.items()) for found in shapes.values()}) == 3


def test_an_unknown_block_names_those_there_are() -> None:
    with pytest.raises(ModelError, match="there are the blocks resnet, res2net, msr2b"):
        create_model("msr2b", block="resnext")


def test_the_block_by_the_equations() -> None:
    torch.manual_seed(0)
    block = Bottleneck(MultiScaleMiddle())
    tensors = dict(block.named_parameters())

    def conv(name: str, x: torch.Tensor) -> torch.Tensor:
        weight = tensors[f"body.{name}.weight"]
        return functional.conv2d(x, weight, tensors[f"body.{name}.bias"], padding=weight.shape[-1] // 2)

    x = torch.randn(2, 256, 6, 9)
    s = functional.relu(conv("0", x)).split(32, dim=1)
    t2 = functional.relu(conv("2.second", s[1]))
    t3 = functional.relu(conv("2.third", s[2] + t2))
    t4 = functional.relu(conv("2.fourth", s[3] + t3))
    w0 = torch.cat([s[0], t2, t3, t4], dim=1)
    w1 = functional.relu(conv("2.small", torch.cat([t2, t3, t4], dim=1)))
    w2 = functional.relu(conv("2.large", torch.cat([t2, t3, t4], dim=1)))
    expected = conv("3", torch.cat([w0, w1, w2], dim=1)) + x

    assert tensors["body.2.small.weight"].shape == (96, 96, 3, 3)
    assert tensors["body.2.large.weight"].shape == (96, 96, 5, 5)
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize("middle", [PlainMiddle, Res2NetMiddle, MultiScaleMiddle])
def test_a_block_leaves_its_input_as_it_is(middle: type[PlainMiddle | Res2NetMiddle]) -> None:
    x = torch.randn(1, 256, 4, 4)
    before = x.clone()
    Bottleneck(middle())(x)
    assert torch.equal(x, before)


def test_the_output_of_every_block_reaches_the_image() -> None:
    """The local skip connections: each block's output has its own 256 of the 2304 channels that are fused."""
    network, blurred = drawn(), torch.rand(1, 3, 16, 16)
    with torch.inference_mode():
        whole = network(blurred)
        for number in range(9):
            weight = network.get_parameter("fuse.0.weight")
            part = slice(256 * number, 256 * (number + 1))
            kept = weight[:, part].clone()
            weight[:, part] = 0
            assert not torch.allclose(network(blurred), whole, atol=1e-6), number
            weight[:, part] = kept


@pytest.mark.parametrize("block", BLOCKS)
def test_untrained_it_is_open_and_gives_the_blurred_image_back(block: str) -> None:
    torch.manual_seed(0)
    network, blurred = create_model("msr2b", block=block).eval(), torch.rand(1, 3, 64, 64)
    with torch.inference_mode(), ShutChannels() as channels:
        assert torch.equal(network(blurred), blurred)
    assert channels.share is not None
    assert channels.share < 0.1


@pytest.mark.parametrize("block", BLOCKS)
def test_untrained_features_keep_their_size(block: str) -> None:
    torch.manual_seed(0)
    network, sizes = create_model("msr2b", block=block).eval(), []
    for module in (*network.get_submodule("head"), *network.get_submodule("blocks"), *network.get_submodule("tail")):
        module.register_forward_hook(lambda module, given, result: sizes.append(float(result.square().mean().sqrt())))
    with torch.inference_mode():
        network(torch.rand(1, 3, 64, 64))
    assert min(sizes[:-1]) > 0.2
    assert max(sizes[:-1]) < 2
    assert sizes[-1] == 0


@settings(max_examples=5, deadline=None)
@given(rows=st.integers(1, 7), columns=st.integers(1, 7), images=st.integers(1, 2))
def test_any_multiple_of_four_goes_in_and_comes_out(rows: int, columns: int, images: int) -> None:
    blurred = torch.rand(images, 3, 4 * rows, 4 * columns)
    with torch.inference_mode():
        assert create_model("msr2b")(blurred).shape == blurred.shape


@pytest.mark.parametrize("block", BLOCKS)
def test_the_gradient_reaches_every_parameter(block: str) -> None:
    network = drawn(block)
    network(torch.rand(1, 3, 16, 16)).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())


def test_saved_weights_come_back_with_their_block(tmp_path: Path) -> None:
    network = drawn("res2net")
    save_weights(network, tmp_path / "mine.safetensors", name="msr2b", options={"block": "res2net"}, card={})
    loaded = load_model(tmp_path / "mine.safetensors")
    blurred = torch.rand(1, 3, 8, 8)
    with torch.inference_mode():
        assert torch.equal(loaded.network(blurred), network(blurred))
