import io

import numpy as np
import pytest
import torch
from PIL import Image

from deblur_cli.training import degradations


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gradient(height: int = 64, width: int = 80) -> torch.Tensor:
    """A smooth coloured picture, 1×3×H×W, on which JPEG does its usual small harm."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    return torch.stack([x, y, 0.5 + 0.4 * torch.sin(12 * x * y)]).unsqueeze(0)


@pytest.mark.parametrize("quality", [50, 75, 95])
@pytest.mark.parametrize("halved", [False, True])
def test_jpeg_is_what_a_real_encoder_leaves(quality: int, halved: bool) -> None:
    image = gradient()
    ours = degradations._jpeg(image, torch.tensor([float(quality)]), torch.tensor([halved]))
    buffer = io.BytesIO()
    picture = Image.fromarray((image[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8))
    picture.save(buffer, "JPEG", quality=quality, subsampling=2 if halved else 0)
    theirs = torch.from_numpy(np.asarray(Image.open(buffer)).copy()).permute(2, 0, 1).unsqueeze(0) / 255
    assert (ours - theirs).abs().mean() < 1.5 / 255
    assert (ours - image).abs().mean() > 0.1 / 255


def test_noise_has_the_variance_it_says() -> None:
    seed, level = 3, 0.5
    image = torch.full((1, 3, 256, 256), level)
    shot, read = torch.rand(2, 1, 1, 1, 1, generator=generator(seed)).flatten() * 0.01
    noisy = degradations.add_noise(image, torch.tensor([True]), generator(seed))
    assert float((noisy - image).var()) == pytest.approx(float(0.1 * shot * level + read**2), rel=0.02)


def test_defocus_spreads_a_point_without_losing_light() -> None:
    image = torch.zeros(1, 3, 33, 33)
    image[:, :, 16, 16] = 1
    spread = degradations.defocus(image, torch.tensor([True]), generator())
    assert float(spread[0, 0].sum()) == pytest.approx(1, abs=1e-5)
    assert float(spread[0, 0, 16, 16]) < 0.7
    assert torch.allclose(spread, spread.flip(2)) and torch.allclose(spread, spread.flip(3))


@pytest.mark.parametrize("harm", [degradations.defocus, degradations.add_noise, degradations.compress_jpeg])
def test_only_the_chosen_images_change(harm) -> None:
    images = torch.rand(3, 3, 40, 48, generator=generator())
    changed = harm(images, torch.tensor([False, True, False]), generator(1))
    assert torch.equal(changed[[0, 2]], images[[0, 2]])
    assert not torch.equal(changed[1], images[1])
