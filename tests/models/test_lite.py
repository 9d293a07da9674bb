import torch

from models import create_model, load_model, model_info
from models.measure import macs, parameters
from models.weights import SHIPPED_FOLDER


def test_size_and_cost() -> None:
    network = create_model("lite")
    assert parameters(network) == 1_938_333
    assert macs(network, 720, 1280) <= 40e9


def test_untrained_it_gives_back_its_input() -> None:
    image = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    assert torch.equal(create_model("lite")(image), image)


def test_the_multiple_follows_the_options() -> None:
    options = {"unshuffle": 4, "widths": (8, 16), "encoder_blocks": (1, 1), "decoder_blocks": (1,)}
    info = model_info("lite")
    assert info.multiple_of == 16
    assert info.for_options({**info.options, **options}).multiple_of == 16  # that of the spectra
    assert info.for_options({**info.options, "unshuffle": 8}).multiple_of == 64
    image = torch.rand(1, 3, 32, 16)
    assert create_model("lite", **options)(image).shape == image.shape


def test_what_is_shipped_is_small() -> None:
    assert (SHIPPED_FOLDER / "lite.safetensors").stat().st_size <= 8_000_000


def test_what_is_shipped_sees_far() -> None:
    """A ReLU network can lose its coarse levels in training and still look healthy by its loss."""
    network = load_model("lite").network
    image = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    changed = image.clone()
    changed[:, :, 120:136, 120:136] = 0
    with torch.inference_mode():
        effect = (network(changed) - network(image)).abs().amax(dim=(0, 1))
    effect = effect.clone()
    effect[80:176, 80:176] = 0
    assert effect.max() > 1e-4, "nothing more than 40 pixels away matters: the coarse levels are dead"
