"""DeepDeblur: the size, cost, names and value range of its authors' PyTorch release."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models import create_model, load_model, model_info
from models.deepdeblur import recognise
from models.measure import macs, parameters
from tests.models.helpers import small


def test_size_and_cost() -> None:
    with torch.device("meta"):
        network = create_model("deepdeblur").eval()
    info = model_info("deepdeblur")
    assert parameters(network) == info.parameters == 11_721_321
    assert info.gmacs == pytest.approx(336)
    assert macs(network, 256, 256) / 1e9 == pytest.approx(info.gmacs, rel=0.02)


def test_names_and_shapes_of_the_released_checkpoint() -> None:
    with torch.device("meta"):
        shapes = {key: tuple(tensor.shape) for key, tensor in create_model("deepdeblur").state_dict().items()}
    some = {
        "body_models.0.body.0.weight": (64, 6, 5, 5),
        "body_models.1.body.0.weight": (64, 6, 5, 5),
        "body_models.2.body.0.weight": (64, 3, 5, 5),
        "body_models.0.body.1.body.0.weight": (64, 64, 5, 5),
        "body_models.2.body.19.body.2.bias": (64,),
        "body_models.0.body.20.weight": (3, 64, 5, 5),
        "conv_end_models.1.uppath.0.weight": (12, 3, 5, 5),
        "conv_end_models.2.uppath.0.bias": (12,),
    }
    assert {key: shapes.get(key) for key in some} == some
    assert len(shapes) == 3 * (2 + 19 * 4 + 2) + 2 * 2  # scales of head, blocks and tail; enlarging


@pytest.mark.parametrize("layout", ["plain", "generator", "generator and discriminator", "data parallel"])
def test_released_checkpoints_load_as_they_are(tmp_path: Path, layout: str) -> None:
    network = small("deepdeblur", channels=4, blocks=2)
    weights = network.state_dict()
    content = {
        "plain": weights,
        "generator": {"G": weights},
        "generator and discriminator": {"D": {"net.0.weight": torch.zeros(1)}, "G": weights},
        "data parallel": {f"module.{key}": tensor for key, tensor in weights.items()},
    }[layout]
    # As torch wrote files when the release was made.
    torch.save(content, tmp_path / "model-1000.pt", _use_new_zipfile_serialization=False)

    loaded = load_model(tmp_path / "model-1000.pt")

    assert (loaded.info.name, loaded.options) == ("deepdeblur", {"channels": 4, "blocks": 2})
    blurred = torch.rand(1, 3, 8, 12)
    with torch.inference_mode():
        assert torch.equal(loaded.network(blurred), network(blurred))


@settings(max_examples=10, deadline=None)
@given(channels=st.integers(1, 70), blocks=st.integers(0, 21))
def test_any_size_is_recognised(channels: int, blocks: int) -> None:
    options = {"channels": channels, "blocks": blocks}
    with torch.device("meta"):
        assert recognise(create_model("deepdeblur", **options).state_dict()) == options


def test_other_networks_are_not_recognised() -> None:
    with torch.device("meta"):
        assert recognise(create_model("msrn").state_dict()) is None
        assert recognise(create_model("nafnet").state_dict()) is None
    assert recognise({"body_models.0.body.0.weight": torch.tensor(1.0)}) is None


def test_the_network_sees_pixels_to_255_less_the_mid_grey() -> None:
    """One tap a layer, no blocks: the finest scale is a straight line, and what its biases add is counted in 255ths."""
    network = create_model("deepdeblur", channels=3, blocks=0).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        head, tail = network.body_models[0].body[0], network.body_models[0].body[1]
        head.weight[:, :3, 2, 2] = torch.eye(3)
        tail.weight[:, :, 2, 2] = 2 * torch.eye(3)
        tail.bias.fill_(51.0)
        head.bias.fill_(127.5)  # so that the head's output is the pixel as it was, 0 to 255
        blurred = torch.rand(1, 3, 8, 8)
        torch.testing.assert_close(network(blurred), 2 * blurred + 0.2 + 0.5)


def test_the_coarsest_scale_is_the_last_of_the_release() -> None:
    network = create_model("deepdeblur", channels=3, blocks=0).train()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.body_models[2].body[1].bias.fill_(127.5)
        assert [scale.mean().item() for scale in network(torch.rand(1, 3, 8, 8))] == [1.0, 0.5, 0.5]


def test_results_are_enlarged_by_the_layer_of_their_own_scale() -> None:
    network = create_model("deepdeblur", channels=3, blocks=0).eval()
    seen = {}
    for scale, enlarge in network.conv_end_models.items():
        enlarge.register_forward_pre_hook(lambda _, inputs, scale=scale: seen.update({scale: inputs[0].shape[2:]}))
    with torch.no_grad():
        network(torch.rand(1, 3, 16, 24))
    assert seen == {"2": (4, 6), "1": (8, 12)}


def test_facts() -> None:
    info = model_info("deepdeblur")
    assert (info.multiple_of, info.recurrent) == (4, False)
    assert [(score.psnr, score.ssim_kind) for score in info.published] == [
        (29.23, "ssim_matlab"),
        (30.40, "ssim"),
        (26.48, ""),
    ]
