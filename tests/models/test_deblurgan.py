"""DeblurGAN: the published size, public checkpoints as they are, and instance norm against torch's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from models import ModelError, create_model, load_model, model_info
from models.deblurgan import InstanceNorm, ReflectionPad, recognise
from models.measure import macs, parameters
from models.whole_image import Box, SharedStatistics, WholeImageMoments

BEFORE_TORCH_0_4 = ("running_mean", "running_var")
SINCE_TORCH_0_4 = (*BEFORE_TORCH_0_4, "num_batches_tracked")


def public_checkpoint(convolutions: int, running_statistics: Sequence[str]) -> dict[str, Tensor]:
    """A checkpoint by the names and shapes of the released ones, written down without help from our network."""
    convs = {"model.1": (64, 3, 7), "model.4": (128, 64, 3), "model.7": (256, 128, 3)}
    norms = {"model.2": 64, "model.5": 128, "model.8": 256, "model.20": 128, "model.23": 64}
    for block in range(10, 19):
        for conv in (1, 6)[:convolutions]:
            convs[f"model.{block}.conv_block.{conv}"] = (256, 256, 3)
            norms[f"model.{block}.conv_block.{conv + 1}"] = 256
    convs |= {"model.19": (256, 128, 3), "model.22": (128, 64, 3), "model.26": (3, 64, 7)}
    biases = {name: shape[1] if name in ("model.19", "model.22") else shape[0] for name, shape in convs.items()}
    generator = torch.Generator().manual_seed(0)
    tensors = {
        f"{name}.weight": 0.02 * torch.randn(*shape, shape[2], generator=generator) for name, shape in convs.items()
    }
    tensors |= {f"{name}.bias": 0.02 * torch.randn(size, generator=generator) for name, size in biases.items()}
    for name, size in norms.items():
        for statistic in running_statistics:
            tensors[f"{name}.{statistic}"] = torch.tensor(7) if statistic == "num_batches_tracked" else torch.rand(size)
    return tensors


def test_size_and_cost_are_the_published_ones() -> None:
    with torch.device("meta"):
        network = create_model("deblurgan")
        released = create_model("deblurgan", convolutions=1)
    assert parameters(network) == 11_378_179 == model_info("deblurgan").parameters
    assert parameters(released) == 6_067_459
    # Head and tail 3·64·7² at full size; 64·128·3² and 128·256·3² at 1/4 and 1/16 of the pixels, once down and once up;
    # eighteen of 256²·3² at 1/16.
    ends, sampling, blocks = 2 * 9_408, 2 * (73_728 / 4 + 294_912 / 16), 18 * 589_824 / 16
    assert macs(network, 256, 256) == 256**2 * (ends + sampling + blocks)
    assert model_info("deblurgan").gmacs == pytest.approx(macs(network, 256, 256) / 1e9, rel=0.01)


@pytest.mark.parametrize(
    ("convolutions", "running_statistics", "prefix"),
    [(2, BEFORE_TORCH_0_4, ""), (2, (), "module."), (1, SINCE_TORCH_0_4, "module."), (1, (), "")],
)
def test_public_checkpoints_load_as_they_are(
    tmp_path: Path, convolutions: int, running_statistics: tuple[str, ...], prefix: str
) -> None:
    tensors = public_checkpoint(convolutions, running_statistics)
    torch.save({prefix + name: tensor for name, tensor in tensors.items()}, tmp_path / "latest_net_G.pth")

    loaded = load_model(tmp_path / "latest_net_G.pth")

    assert loaded.info.name == "deblurgan"
    assert loaded.options == {"convolutions": convolutions, "running_statistics": running_statistics}
    state = loaded.network.state_dict()
    assert state.keys() == tensors.keys()
    assert all(torch.equal(state[name], tensors[name]) for name in tensors)


def test_running_statistics_change_no_image() -> None:
    tensors = public_checkpoint(1, SINCE_TORCH_0_4)
    without = create_model("deblurgan", convolutions=1).eval()
    without.load_state_dict(public_checkpoint(1, ()))
    kept = create_model("deblurgan", convolutions=1, running_statistics=SINCE_TORCH_0_4).eval()
    kept.load_state_dict(tensors)
    blurred = torch.rand(1, 3, 16, 16)
    with torch.inference_mode():
        assert torch.equal(kept(blurred), without(blurred))
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in kept.state_dict().items())


def reference(tensors: dict[str, Tensor], blurred: Tensor, convolutions: int) -> Tensor:
    """The released network, layer by layer, from torch's own modules."""

    def conv(name: str, stride: int = 1, pad: int = 0) -> nn.Module:
        weight = tensors[f"{name}.weight"]
        layer = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], stride, pad)
        layer.load_state_dict({"weight": weight, "bias": tensors[f"{name}.bias"]})
        return layer

    def up(name: str) -> nn.Module:
        weight = tensors[f"{name}.weight"]
        layer = nn.ConvTranspose2d(weight.shape[0], weight.shape[1], 3, 2, 1, output_padding=1)
        layer.load_state_dict({"weight": weight, "bias": tensors[f"{name}.bias"]})
        return layer

    norm, relu = nn.InstanceNorm2d(1), nn.ReLU()
    x = 2 * blurred - 1
    y = relu(norm(conv("model.1")(nn.ReflectionPad2d(3)(x))))
    y = relu(norm(conv("model.4", 2, 1)(y)))
    y = relu(norm(conv("model.7", 2, 1)(y)))
    for block in range(10, 19):
        z = relu(norm(conv(f"model.{block}.conv_block.1")(nn.ReflectionPad2d(1)(y))))
        if convolutions == 2:
            z = norm(conv(f"model.{block}.conv_block.6")(nn.ReflectionPad2d(1)(z)))
        y = y + z
    y = relu(norm(up("model.19")(y)))
    y = relu(norm(up("model.22")(y)))
    y = torch.tanh(conv("model.26")(nn.ReflectionPad2d(3)(y)))
    return ((x + y).clamp(-1, 1) + 1) / 2


@pytest.mark.filterwarnings("ignore:input's size at dim=1 does not match num_features")
@pytest.mark.parametrize("convolutions", [1, 2])
def test_it_is_the_released_network(convolutions: int) -> None:
    tensors = public_checkpoint(convolutions, ())
    network = create_model("deblurgan", convolutions=convolutions).eval()
    network.load_state_dict(tensors)
    blurred = torch.rand(2, 3, 20, 28)
    with torch.inference_mode():
        torch.testing.assert_close(network(blurred), reference(tensors, blurred, convolutions), rtol=0, atol=2e-5)


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(2, 20), st.integers(1, 20)),
    mean=st.sampled_from([0.0, 3.0, -100.0, 1000.0]),
    deviation=st.sampled_from([1e-3, 1.0, 50.0]),
)
def test_instance_norm_is_torch_s_and_does_not_cancel(shape: tuple[int, ...], mean: float, deviation: float) -> None:
    """But for how float32 rounds the mean; the mean of squares minus its square would lose all digits far from zero."""
    x = deviation * torch.randn(shape, generator=torch.Generator().manual_seed(0)) + mean
    expected = nn.InstanceNorm2d(shape[1])(x.double()).float()
    variance = x.double().var(dim=(2, 3), unbiased=False).min()
    rounding = 3e-7 * float(x.abs().max() / (variance + 1e-5).sqrt())
    torch.testing.assert_close(InstanceNorm(shape[1])(x), expected, rtol=1e-5, atol=1e-5 + rounding)


def test_tiles_can_share_the_statistics_of_instance_norm() -> None:
    norm, x = InstanceNorm(3), torch.randn(1, 3, 8, 24) + torch.linspace(0, 3, 24)  # so that no half is like the whole
    shared = SharedStatistics(norm)
    for _ in shared.rounds():
        halves = []
        for half in x.chunk(2, dim=3):
            shared.begin((8, 12), [Box(0, 8, 0, 12)])
            halves.append(norm(half))
    torch.testing.assert_close(torch.cat(halves, dim=3), norm(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_instance_norm_keeps_the_type_and_computes_in_float32(dtype: torch.dtype) -> None:
    x = (300 * torch.randn(1, 3, 16, 16)).to(dtype)  # squares of these are beyond float16
    found = InstanceNorm(3)(x)
    assert found.dtype == dtype
    assert torch.equal(found, InstanceNorm(3)(x.float()).to(dtype))


def test_instance_norm_keeps_channels_last() -> None:
    x = torch.randn(1, 8, 6, 5).to(memory_format=torch.channels_last)
    assert InstanceNorm(8)(x).is_contiguous(memory_format=torch.channels_last)


def test_the_gradient_of_instance_norm_is_torch_s() -> None:
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    gradients = []
    for norm in (InstanceNorm(3), nn.InstanceNorm2d(3)):
        image = x.clone().requires_grad_()
        (norm(image) ** 3).sum().backward()
        assert image.grad is not None
        gradients.append(image.grad)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(4, 4), (4, 32), (8, 4)])
def test_the_smallest_images_go_in_and_come_out(size: tuple[int, int]) -> None:
    """An image of 4×4 has a single pixel at a quarter of the resolution, which nothing can reflect."""
    blurred = torch.rand(1, 3, *size)
    with torch.inference_mode():
        restored = create_model("deblurgan").eval()(blurred)
    assert restored.shape == blurred.shape
    assert torch.isfinite(restored).all()


def test_padding_is_torch_s_where_there_is_enough_to_reflect() -> None:
    x = torch.randn(1, 2, 4, 6)
    assert torch.equal(ReflectionPad(3)(x), nn.ReflectionPad2d(3)(x))
    assert torch.equal(ReflectionPad(3)(x[:, :, :3]), nn.ReplicationPad2d(3)(x[:, :, :3]))


@settings(max_examples=5, deadline=None)
@given(rows=st.integers(1, 7), columns=st.integers(1, 7), images=st.integers(1, 2))
def test_any_multiple_of_four_goes_in_and_comes_out_in_range(rows: int, columns: int, images: int) -> None:
    blurred = torch.rand(images, 3, 4 * rows, 4 * columns)
    with torch.inference_mode():
        restored = create_model("deblurgan")(blurred)
    assert restored.shape == blurred.shape
    assert restored.min() >= 0 and restored.max() <= 1


@pytest.mark.parametrize("convolutions", [1, 2])
def test_features_are_dropped_in_training_only(convolutions: int) -> None:
    torch.manual_seed(0)
    network = create_model("deblurgan", convolutions=convolutions)
    blurred = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        assert not torch.equal(network.train()(blurred), network(blurred))
        assert torch.equal(network.eval()(blurred), network(blurred))


def test_the_gradient_reaches_every_parameter() -> None:
    torch.manual_seed(0)
    network = create_model("deblurgan")
    network(torch.rand(1, 3, 16, 16)).square().mean().backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    assert all(gradient is not None for gradient in gradients.values())
    # Before an instance norm a bias changes nothing, so only weights are moved for certain.
    assert all(gradient.any() for name, gradient in gradients.items() if gradient is not None and "weight" in name)


def test_every_norm_has_moments_that_tiles_can_share() -> None:
    with torch.device("meta"):
        network = create_model("deblurgan")
    assert sum(isinstance(module, WholeImageMoments) for module in network.modules()) == 3 + 2 * 9 + 2


def test_options_out_of_their_range_are_refused_in_one_line() -> None:
    with pytest.raises(ModelError, match="a block has 1 or 2 convolutions"):
        create_model("deblurgan", convolutions=3)
    with pytest.raises(ModelError, match="the running statistics are running_mean, running_var"):
        create_model("deblurgan", running_statistics=("running_median",))


def test_other_networks_are_not_recognised() -> None:
    assert recognise(create_model("test-tiny").state_dict()) is None
