"""MSR2B: the published size, and each block against the paper's equations."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as functional
from hypothesis import given, settings
from hypothesis import strategies as st

from models import ModelError, create_model, load_model, model_info
from models.measure import macs, parameters
from models.msr2b import Bottleneck, MultiScaleMiddle, PlainMiddle, Res2NetMiddle
from models.weights import save_weights

BLOCKS = ("msr2b", "res2net", "resnet")


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
    torch.manual_seed(0)
    network = create_model("msr2b").eval()
    blurred = torch.rand(1, 3, 16, 16)
    with torch.inference_mode():
        whole = network(blurred)
        for number in range(9):
            weight = network.get_parameter("fuse.0.weight")
            part = slice(256 * number, 256 * (number + 1))
            kept = weight[:, part].clone()
            weight[:, part] = 0
            assert not torch.allclose(network(blurred), whole, atol=1e-6), number
            weight[:, part] = kept


def test_without_its_tail_it_gives_back_the_blurred_image() -> None:
    network = create_model("msr2b").eval()
    with torch.no_grad():
        network.get_parameter("tail.4.weight").zero_()
        network.get_parameter("tail.4.bias").zero_()
    blurred = torch.rand(1, 3, 12, 20)
    assert torch.equal(network(blurred), blurred)


@settings(max_examples=5, deadline=None)
@given(rows=st.integers(1, 7), columns=st.integers(1, 7), images=st.integers(1, 2))
def test_any_multiple_of_four_goes_in_and_comes_out(rows: int, columns: int, images: int) -> None:
    blurred = torch.rand(images, 3, 4 * rows, 4 * columns)
    with torch.inference_mode():
        assert create_model("msr2b")(blurred).shape == blurred.shape


@pytest.mark.parametrize("block", BLOCKS)
def test_the_gradient_reaches_every_parameter(block: str) -> None:
    torch.manual_seed(0)
    network = create_model("msr2b", block=block)
    network(torch.rand(1, 3, 16, 16)).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())


def test_saved_weights_come_back_with_their_block(tmp_path: Path) -> None:
    network = create_model("msr2b", block="res2net").eval()
    save_weights(network, tmp_path / "mine.safetensors", name="msr2b", options={"block": "res2net"}, card={})
    loaded = load_model(tmp_path / "mine.safetensors")
    blurred = torch.rand(1, 3, 8, 8)
    with torch.inference_mode():
        assert torch.equal(loaded.network(blurred), network(blurred))
