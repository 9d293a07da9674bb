"""NAFNet: published sizes, published names, and each part against its definition."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models import create_model, load_model, model_info
from models.measure import parameters
from models.nafnet import ChannelNorm, NAFBlock, WindowMean, recognise, simple_gate, spread

SHAPES = [
    {"width": 4, "encoders": (1, 2), "middle": 1, "decoders": (2, 1)},
    {"width": 6, "encoders": (0, 1, 1), "middle": 0, "decoders": (1, 0, 2)},
    {"width": 2, "encoders": (1, 0, 0, 0, 0), "middle": 11, "decoders": (0, 0, 0, 0, 1)},
]


def trained_looking(network: torch.nn.Module) -> torch.nn.Module:
    """Random values everywhere, the residual scales too, which are zero in a new network."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.2)
    return network.eval()


@pytest.mark.parametrize(("width", "count"), [(32, 17_111_907), (64, 67_888_835)])
def test_parameter_counts_of_the_released_shapes(width: int, count: int) -> None:
    with torch.device("meta"):
        assert parameters(create_model("nafnet", width=width)) == count


def test_names_and_shapes_of_the_released_checkpoint() -> None:
    with torch.device("meta"):
        shapes = {key: tuple(tensor.shape) for key, tensor in create_model("nafnet").state_dict().items()}
    some = {
        "intro.weight": (32, 3, 3, 3),
        "ending.bias": (3,),
        "downs.3.weight": (512, 256, 2, 2),
        "ups.0.0.weight": (1024, 512, 1, 1),
        "ups.3.0.weight": (128, 64, 1, 1),
        "encoders.3.27.sca.1.weight": (256, 256, 1, 1),
        "encoders.0.0.conv2.weight": (64, 1, 3, 3),
        "middle_blks.0.norm1.weight": (512,),
        "middle_blks.0.conv3.weight": (512, 512, 1, 1),
        "decoders.3.0.conv4.weight": (64, 32, 1, 1),
        "decoders.0.0.beta": (1, 256, 1, 1),
        "decoders.0.0.gamma": (1, 256, 1, 1),
    }
    assert {key: shapes.get(key) for key in some} == some
    assert "ups.0.0.bias" not in shapes
    assert len(shapes) == 36 * 18 + 2 + 2 + 4 * 2 + 4  # blocks, intro, ending, downs, ups


def test_channel_norm_by_its_definition() -> None:
    norm = ChannelNorm(5)
    with torch.no_grad():
        norm.weight.copy_(torch.rand(5) + 0.5)
        norm.bias.copy_(torch.rand(5))
    x = 3 * torch.randn(2, 5, 4, 7) + 1
    mean = x.mean(1, keepdim=True)
    variance = ((x - mean) ** 2).mean(1, keepdim=True)
    expected = (x - mean) / (variance + 1e-6).sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]
    torch.testing.assert_close(norm(x), expected)
    torch.testing.assert_close(norm(x.to(memory_format=torch.channels_last)), expected)


def test_channel_norm_keeps_channels_last() -> None:
    x = torch.randn(1, 8, 6, 5).to(memory_format=torch.channels_last)
    assert ChannelNorm(8)(x).is_contiguous(memory_format=torch.channels_last)


def test_the_gate_multiplies_the_halves() -> None:
    x = torch.arange(4.0).reshape(1, 4, 1, 1)
    assert simple_gate(x).flatten().tolist() == [0.0 * 2.0, 1.0 * 3.0]


@settings(max_examples=30, deadline=None)
@given(height=st.integers(1, 12), width=st.integers(1, 12), side=st.integers(1, 8))
def test_each_pixel_sees_the_mean_over_a_window_that_stays_inside(height: int, width: int, side: int) -> None:
    x = torch.rand(2, 3, height, width, dtype=torch.float64)
    rows, columns = min(side, height), min(side, width)
    found = spread(WindowMean(side)(x), height, width).expand(-1, -1, height, width)
    for row, column in ((0, 0), (height // 2, width // 2), (height - 1, width - 1)):
        top = min(max(row - (rows - 1) // 2, 0), height - rows)
        left = min(max(column - (columns - 1) // 2, 0), width - columns)
        window = x[:, :, top : top + rows, left : left + columns]
        torch.testing.assert_close(found[:, :, row, column].double(), window.mean(dim=(2, 3)), rtol=1e-5, atol=1e-6)


def test_windows_are_of_384_pixels_of_the_image_at_every_level() -> None:
    with torch.device("meta"):
        modules = dict(create_model("nafnet").named_modules())
    windows = {name: module.side for name, module in modules.items() if isinstance(module, WindowMean)}
    assert {name.rpartition(".0.sca")[0]: side for name, side in windows.items() if ".0.sca" in name} == {
        **{f"encoders.{level}": 384 >> level for level in range(4)},
        "middle_blks": 24,
        **{f"decoders.{3 - level}": 384 >> level for level in range(4)},
    }
    assert windows["encoders.3.27.sca.0"] == 48


def test_what_lies_beyond_the_windows_hardly_counts() -> None:
    network = trained_looking(create_model("nafnet", width=2, encoders=(1,), middle=1, decoders=(1,)))
    blurred = torch.rand(1, 3, 16, 1200, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        whole, part = network(blurred), network(blurred[..., :800])
    torch.testing.assert_close(part[..., :400], whole[..., :400], rtol=1e-3, atol=1e-3)
    assert (part[..., 700:] - whole[..., 700:800]).abs().max() > 1e-2


def test_a_new_block_is_the_identity() -> None:
    x = torch.randn(1, 4, 8, 8)
    assert torch.equal(NAFBlock(4)(x), x)


def test_memory_format_changes_nothing() -> None:
    network = trained_looking(create_model("nafnet", **SHAPES[0]))
    blurred = torch.rand(1, 3, 16, 24)
    with torch.inference_mode():
        expected = network(blurred)
        found = network.to(memory_format=torch.channels_last)(blurred.to(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", SHAPES)
def test_public_checkpoints_load_as_they_are(tmp_path: Path, options: dict) -> None:
    network = trained_looking(create_model("nafnet", **options))
    torch.save({"params": network.state_dict()}, tmp_path / "public.pth")

    loaded = load_model(tmp_path / "public.pth")

    assert loaded.info.name == "nafnet"
    assert loaded.options == options
    assert loaded.info.multiple_of == 2 ** len(options["encoders"])
    blurred = torch.rand(1, 3, loaded.info.multiple_of, 2 * loaded.info.multiple_of)
    with torch.inference_mode():
        assert torch.equal(loaded.network(blurred), network(blurred))


@settings(max_examples=15, deadline=None)
@given(
    width=st.integers(1, 6),
    levels=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=4),
    middle=st.integers(0, 3),
)
def test_any_shape_is_recognised(width: int, levels: list[tuple[int, int]], middle: int) -> None:
    options = {
        "width": width,
        "encoders": tuple(down for down, _ in levels),
        "middle": middle,
        "decoders": tuple(up for _, up in levels),
    }
    with torch.device("meta"):
        assert recognise(create_model("nafnet", **options).state_dict()) == options


def test_other_networks_are_not_recognised() -> None:
    assert recognise(create_model("test-tiny").state_dict()) is None
    assert recognise({"intro.weight": torch.tensor(1.0), "ending.weight": torch.tensor(1.0)}) is None


def test_facts() -> None:
    info = model_info("nafnet")
    assert info.multiple_of == 16
    assert [score.psnr for score in info.published] == [32.87, 33.69]
