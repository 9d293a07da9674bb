"""The two simple baselines: size, shapes, reach."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from models import create_model, model_info
from models.measure import macs, parameters

NAMES = ["cnn", "autoencoder"]


@pytest.mark.parametrize(("name", "count"), [("cnn", 20_099), ("autoencoder", 776_579)])
def test_size_and_cost(name: str, count: int) -> None:
    with torch.device("meta"):
        network = create_model(name)
    info = model_info(name)
    assert parameters(network) == info.parameters == count
    assert macs(network, 256, 256) / 1e9 == pytest.approx(info.gmacs, rel=0.01)


def test_layers_of_the_cnn_by_hand() -> None:
    """9·9·3·64 + 64, 64·32 + 32 and 5·5·32·3 + 3 parameters; ReLU between, none after the last."""
    network = create_model("cnn")
    assert [parameters(network[number]) for number in (0, 2, 4)] == [15_616, 2_080, 2_403]
    with torch.no_grad():
        network[4].bias.fill_(-100.0)
        assert network(torch.rand(1, 3, 9, 7)).max() < 0


@pytest.mark.parametrize(("height", "width"), [(16, 16), (48, 32)])
def test_the_autoencoder_keeps_the_size_and_stays_in_range(height: int, width: int) -> None:
    network = create_model("autoencoder")
    code: list[Tensor] = []
    network.encoder.register_forward_hook(lambda _, __, output: code.append(output))
    restored = network(torch.rand(2, 3, height, width))
    assert restored.shape == (2, 3, height, width)
    assert code[0].shape == (2, 256, height // 16, width // 16)
    assert restored.min() > 0 and restored.max() < 1


@pytest.mark.parametrize("size", [(1, 1), (5, 8)])
def test_the_cnn_takes_any_size(size: tuple[int, int]) -> None:
    assert create_model("cnn")(torch.rand(1, 3, *size)).shape == (1, 3, *size)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_learns(name: str) -> None:
    torch.manual_seed(0)
    network = create_model(name)
    network(torch.rand(2, 3, 32, 32)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_tiles_overlap_by_all_that_a_pixel_sees(name: str) -> None:
    network = create_model(name)
    overlap = model_info(name).tile_overlap
    assert overlap - 2 <= furthest(network) <= overlap


def furthest(network: nn.Module) -> int:
    """How far, in pixels, what a pixel of the output depends on lies away from it."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(1e-3)  # so that no ReLU is shut and no path cancels another
    middle, distances = 96, []
    for column in range(middle, middle + 16):
        # One row is enough: the kernels are square.
        image = torch.full((1, 3, 16, 2 * middle), 0.5, requires_grad=True)
        network(image)[0, 0, 8, column].backward()
        assert image.grad is not None
        seen = image.grad[0].abs().sum(dim=(0, 1)).nonzero().flatten()
        distances += [column - int(seen[0]), int(seen[-1]) - column]
    return max(distances)
