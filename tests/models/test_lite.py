import pytest
import torch
import torch.nn.functional as functional

from models import create_model, load_model, model_info
from models.lite import UnshuffledUNet
from models.measure import macs, parameters
from models.weights import SHIPPED_FOLDER


def test_size_and_cost() -> None:
    network = create_model("lite")
    assert parameters(network) == 1_003_984
    assert macs(network, 768, 1280) <= 40e9  # what a 720p frame is padded to


def test_untrained_it_gives_back_its_input() -> None:
    image = torch.rand(1, 3, 64, 128, generator=torch.Generator().manual_seed(0))
    assert torch.equal(create_model("lite")(image), image)


def test_the_multiple_follows_the_options() -> None:
    options = {"unshuffle": 4, "widths": (8, 16), "encoder_blocks": (1, 1), "decoder_blocks": (1,)}
    info = model_info("lite")
    assert info.multiple_of == 64  # 16 for the spectra, at a quarter of the size
    assert info.for_options({**info.options, **options, "scales": 1}).multiple_of == 16
    assert info.for_options({**info.options, "unshuffle": 16}).multiple_of == 128
    image = torch.rand(1, 3, 64, 32)
    assert create_model("lite", **options, scales=2)(image).shape == image.shape


def with_a_say(scales: int) -> UnshuffledUNet:
    """Random weights that change what they are given."""
    torch.manual_seed(0)
    network = create_model("lite", scales=scales)
    assert isinstance(network, UnshuffledUNet)
    torch.nn.init.normal_(network.tail.weight, std=0.01)
    return network.requires_grad_(False)


@pytest.mark.parametrize("scale", [0, 1, 2])
def test_a_scale_alone_is_the_network_on_the_smaller_image_enlarged(scale: int) -> None:
    network = with_a_say(scales=3)
    network.gains[-1].bias.copy_(torch.eye(3)[2 - scale])  # the coarsest comes first
    image = torch.rand(2, 3, 128, 192)
    small = functional.avg_pool2d(image, 2**scale)
    correction, _ = network.correct(small)
    wanted = functional.interpolate(correction, scale_factor=float(2**scale), mode="bilinear")
    assert wanted.std() > 1e-3
    assert torch.allclose(network(image), image + wanted, atol=1e-6)


def test_the_transfer_functions_of_a_place_decide_which_scale_has_a_say_there() -> None:
    network = with_a_say(scales=2)
    torch.nn.init.normal_(network.gains[-1].weight, std=0.3)
    images = [torch.rand(1, 3, side, side) for side in (64, 128)]
    transfers = [network.transfer(image) for image in images]
    before = network.gains(transfers)
    transfers[0] = transfers[0].clone()
    transfers[0][:, 0, 0] += 1  # the upper left window of four at the coarse scale, of sixteen of 64 at the fine one
    after = network.gains(transfers)
    assert [gain.shape for gain in before] == [(1, 1, 8, 8)] * 2
    changed = torch.cat([(a - b).abs() > 1e-6 for a, b in zip(after, before, strict=True)]).any(dim=0)[0]
    assert changed[0, 0] and not changed[3:, :].any() and not changed[:, 3:].any()


def test_the_blur_is_estimated_once_at_each_scale() -> None:
    """Training compares what is said of each with what blur did to it (`training.learner`)."""
    network = with_a_say(scales=3)
    seen: list[torch.Tensor] = []
    network.transfer.register_forward_hook(lambda module, images, estimate: seen.append(images[0]))
    image = torch.rand(1, 3, 64, 128)
    network(image)
    assert [tuple(one.shape[2:]) for one in seen] == [(16, 32), (32, 64), (64, 128)]
    assert all(map(torch.equal, seen, network.pyramid(image)))


@pytest.mark.parametrize(("name", "most"), [("lite", 2_500_000), ("base", 3_000_000)])
def test_what_is_shipped_is_small(name: str, most: int) -> None:
    assert (SHIPPED_FOLDER / f"{name}.safetensors").stat().st_size <= most


@pytest.mark.parametrize("name", ["lite", "base"])
def test_what_is_shipped_sees_far(name: str) -> None:
    """A ReLU network can lose its coarse levels in training and still look healthy by its loss."""
    network = load_model(name).network
    image = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    changed = image.clone()
    changed[:, :, 120:136, 120:136] = 0
    with torch.inference_mode():
        effect = (network(changed) - network(image)).abs().amax(dim=(0, 1))
    effect = effect.clone()
    effect[80:176, 80:176] = 0
    assert effect.max() > 1e-4, "nothing more than 40 pixels away matters: the coarse levels are dead"
