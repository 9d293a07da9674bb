import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur_cli.training.blur import BlurSettings, Layer, Scene, average_over_exposure, homographies
from deblur_cli.training.filter_flow import CELL, filtered_over_exposure
from deblur_cli.training.shake import camera_shake

FRAME = (720, 1280)


def smooth(*shape: int, seed: int = 0) -> torch.Tensor:
    """Random scenes without detail of a pixel's size, of which bicubic views would lose a part."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(*shape[:2], shape[2] // 4, shape[3] // 4, generator=generator)
    return torch.nn.functional.interpolate(coarse, size=shape[2:], mode="bicubic").clamp(0, 1)


def differences(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Root mean square of each image."""
    return (one - other).square().mean(dim=(1, 2, 3)).sqrt()


@pytest.mark.parametrize("size", [(64, 64), (CELL + 40, 96), (96, 2 * CELL + 1)])
def test_a_still_camera_sees_the_scene(size: tuple[int, int]) -> None:
    scene = torch.rand(2, 4, size[0] + 20, size[1] + 8, generator=torch.Generator().manual_seed(0))
    still = homographies(torch.zeros(2, 3, 6), FRAME)
    seen = filtered_over_exposure(scene, still, size, torch.tensor([[100.0, -50.0], [0.0, 0.0]]))
    torch.testing.assert_close(seen, scene[:, :, 10:-10, 4:-4], atol=1e-4, rtol=0)


def test_a_move_of_whole_pixels_is_the_mean_of_moved_scenes() -> None:
    scene = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    shake = torch.zeros(1, 3, 6)
    shake[0, :, 0] = torch.tensor([-2.0, 0.0, 2.0])
    # A frame so long that yaw is a shift and nothing else.
    seen = filtered_over_exposure(scene, homographies(shake, (10**6, 10**6)), (20, 20), torch.zeros(1, 2))
    expected = sum(scene[:, :, 10:30, 10 + shift : 30 + shift] for shift in (-2, 0, 2)) / 3
    torch.testing.assert_close(seen, expected, atol=1e-2, rtol=0)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), right=st.floats(-400, 400), down=st.floats(-200, 200))
def test_it_differs_from_warping_by_a_small_part_of_the_blur(seed: int, right: float, down: float) -> None:
    size, margin = (CELL + 60, CELL - 40), 32
    scene = smooth(2, 3, size[0] + 2 * margin, size[1] + 2 * margin, seed=seed)
    shake = camera_shake(2, BlurSettings(length=(4, 24)), torch.Generator().manual_seed(seed))
    offset = torch.tensor([[right, down]] * 2)
    warped = average_over_exposure([Layer(scene, shake)], size, FRAME, offset)
    seen = filtered_over_exposure(scene, homographies(shake, FRAME), size, offset)
    sharp = scene[:, :, margin:-margin, margin:-margin]
    # A level of 255 is for what bicubic views lose of the scene.
    assert (differences(seen, warped) < 0.004 + 0.1 * differences(sharp, warped)).all()


def test_a_foreground_covers_what_is_behind_it() -> None:
    generator = torch.Generator().manual_seed(3)
    blur = BlurSettings(length=(6, 12), foreground=1.0, linear=0.5, saturation=0.0)
    shakes = [camera_shake(4, blur, generator, moments=9) for _ in range(2)]
    drawn = Scene.drawn(smooth(4, 3, 160, 160), blur, generator)
    offset = torch.zeros(4, 2)
    warped, seen = (
        drawn.expose(*shakes, (128, 128), FRAME, offset, filtered=filtered).clamp(0, 1) for filtered in (False, True)
    )
    without = Scene(**{**vars(drawn), "has_foreground": torch.zeros(4, dtype=torch.bool)})
    behind = without.expose(*shakes, (128, 128), FRAME, offset, filtered=True).clamp(0, 1)
    assert (differences(seen, warped) < 0.1 * differences(behind, warped)).all()
