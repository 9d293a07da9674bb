from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.overrides import TorchFunctionMode

from deblur_cli.training.blur import BlurSettings, Layer, average_over_exposure, homographies, synthesise
from deblur_cli.training.shake import camera_shake

CLEAN = BlurSettings(foreground=0, linear=0, saturation=0, defocus=0, noise=0, jpeg=0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(seed=st.integers(0, 2**31), shortest=st.floats(1, 20), factor=st.floats(1, 4))
@settings(max_examples=25, deadline=None)
def test_a_shake_is_centred_and_as_long_as_asked(seed: int, shortest: float, factor: float) -> None:
    wanted = BlurSettings(length=(shortest, shortest * factor), roll=0.4)
    shake = camera_shake(8, wanted, generator(seed))
    assert shake.shape[::2] == (8, 6)
    assert shake.mean(dim=1).abs().max() < 1e-3 * shortest * factor
    shift = shake[..., 0:2] + shake[..., 3:5]
    travelled = (shift[:, 1:] - shift[:, :-1]).norm(dim=-1).sum(dim=1)
    # Sampled at fewer moments than it was drawn with, a jerky path loses some of its corners and never gains length.
    assert (travelled <= shortest * factor * 1.001).all()
    assert (travelled > 0).all()
    corner = shake[..., [2, 5]].amax(dim=1) - shake[..., [2, 5]].amin(dim=1)
    assert (corner <= 0.4 * shortest * factor * 1.001).all()


def test_a_straight_path_is_straight_and_its_length_exact() -> None:
    shake = camera_shake(16, BlurSettings(length=(10, 10), straight=1.0), generator())
    shift = shake[..., 0:2] + shake[..., 3:5]
    assert torch.allclose((shift[:, -1] - shift[:, 0]).norm(dim=-1), torch.full((16,), 10.0), atol=1e-3)


def test_no_shake_is_the_identity_and_a_roll_turns() -> None:
    assert torch.allclose(homographies(torch.zeros(1, 3, 6), (720, 1280)), torch.eye(3).expand(1, 3, 3, 3), atol=1e-6)
    roll = torch.zeros(1, 1, 6)
    roll[..., 2] = 5.0  # pixels at the corner
    corner = torch.tensor([640.0, 360.0, 1.0])
    moved = homographies(roll, (720, 1280))[0, 0] @ corner
    assert (moved[:2] / moved[2] - corner[:2]).norm() == pytest.approx(5.0, rel=0.01)


def test_a_still_camera_sees_the_scene() -> None:
    scene = torch.rand(2, 3, 20, 24, generator=generator())
    seen = average_over_exposure([Layer(scene, torch.zeros(2, 3, 6))], (20, 24), (20, 24), torch.zeros(2, 2))
    assert torch.allclose(seen, scene, atol=1e-4)


def test_no_moment_waits_for_numbers_from_the_host() -> None:
    class Made(TorchFunctionMode):
        count = 0

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.count += func is torch.tensor
            return func(*args, **(kwargs or {}))

    def tensors_made(moments: int) -> int:
        with Made() as made:
            average_over_exposure(
                [Layer(torch.zeros(1, 3, 8, 8), torch.zeros(1, moments, 6))], (8, 8), (8, 8), torch.zeros(1, 2)
            )
        return made.count

    assert tensors_made(9) == tensors_made(3) > 0


def test_a_move_of_whole_pixels_is_the_mean_of_moved_scenes() -> None:
    scene = torch.rand(1, 3, 40, 40, generator=generator())
    shake = torch.zeros(1, 3, 6)
    shake[0, :, 0] = torch.tensor([-2.0, 0.0, 2.0])
    # A frame so long that yaw is a shift and nothing else.
    seen = average_over_exposure([Layer(scene, shake)], (20, 20), (10**6, 10**6), torch.zeros(1, 2))
    expected = sum(scene[:, :, 10:30, 10 + shift : 30 + shift] for shift in (-2, 0, 2)) / 3
    assert torch.allclose(seen, expected, atol=1e-2)


@given(seed=st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_the_sharp_target_sits_at_the_centroid(seed: int) -> None:
    """The centroid of the light that a spot leaves is where the spot is in the sharp image.

    The spot is smooth, since the negative lobes that bicubic sampling puts around a lone pixel are clipped; and it is
    seen as a part of a frame of usual size, since zoom and roll of some pixels would be large movements in a small one,
    during which the spot changes its size and with it the weight of its moments.
    """
    place = torch.arange(101.0) - 50
    spot = torch.exp(-(place.view(-1, 1) ** 2 + place**2) / (2 * 1.5**2)).expand(1, 3, 101, 101)
    blur = BlurSettings(**{**vars(CLEAN), "length": (4, 20)})
    blurred, sharp = synthesise(spot, (101, 101), blur, generator(seed), frame=(720, 1280))
    assert torch.equal(sharp, spot)
    weight = blurred[0, 0] / blurred[0, 0].sum()
    assert float((weight.sum(dim=1) * place).sum()) == pytest.approx(0, abs=0.15)
    assert float((weight.sum(dim=0) * place).sum()) == pytest.approx(0, abs=0.15)


@given(seed=st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_away_from_the_centre_of_the_frame_the_target_sits_there_too(seed: int) -> None:
    shake = camera_shake(200, BlurSettings(), generator(seed))
    place = (torch.rand(200, 1, 2, generator=generator(seed), dtype=torch.float64) - 0.5) * torch.tensor([1280, 720])
    ahead = torch.nn.functional.pad(place, (0, 1), value=1.0)
    seen = (homographies(shake, (720, 1280)).double() @ ahead.unsqueeze(-1)).squeeze(-1)
    error = (seen[..., :2] / seen[..., 2:]).mean(dim=1) - place[:, 0]
    assert error.norm(dim=1).median() < 0.02
    assert error.norm(dim=1).quantile(0.9) < 0.1


@pytest.mark.parametrize("linear", [0.0, 1.0])
def test_a_flat_scene_stays_flat_in_either_light(linear: float) -> None:
    flat = torch.full((2, 3, 32, 32), 0.4)
    blurred, sharp = synthesise(flat, (24, 24), BlurSettings(**{**vars(CLEAN), "linear": linear}), generator())
    assert torch.allclose(sharp, torch.full_like(sharp, 0.4))
    assert torch.allclose(blurred, sharp, atol=1e-3)


def test_everything_at_once_stays_in_range_and_repeats_with_its_seed() -> None:
    scene = torch.rand(4, 3, 64, 64, generator=generator())
    wild = BlurSettings(length=(5, 30), foreground=1, linear=0.5, saturation=1, defocus=1, noise=1, jpeg=1)
    blurred, sharp = synthesise(scene, (48, 48), wild, generator(7))
    assert blurred.shape == sharp.shape == (4, 3, 48, 48)
    for image in (blurred, sharp):
        assert torch.isfinite(image).all()
        assert image.min() >= 0 and image.max() <= 1
    assert not torch.allclose(blurred, sharp, atol=0.05)
    again, _ = synthesise(scene, (48, 48), wild, generator(7))
    other, _ = synthesise(scene, (48, 48), wild, generator(8))
    assert torch.equal(again, blurred)
    assert not torch.equal(other, blurred)
