"""Realistic motion blur from sharp images, made in batches on whatever device the images are on.

A blurred image is what a sensor gathers while the camera moves: the mean of the scene as it was seen at many moments.
`camera_shake` draws the movement, `average_over_exposure` renders it by warping the sharp image to each moment and
averaging, and `synthesise` adds what else stands between a scene and a file (degradations.py).

The sharp target sits at the centroid of the movement. Were it at the middle of the exposure, a random walk would leave
about half of all pairs shifted against each other, which teaches a network to hedge (about 0.15 dB).

References: Boracchi & Foi, "Modeling the performance of image restoration from motion blur", IEEE TIP 2012 (random
trajectories with inertia and jerks); Whyte et al., "Non-uniform deblurring for shaken images", IJCV 2012 (rotations as
homographies); Nah et al., "Deep multi-scale convolutional neural network for dynamic scene deblurring", CVPR 2017
(averages of high-speed frames, encoded and with inverse gamma 2.2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor

from deblur_cli.training.degradations import add_noise, compress_jpeg, defocus

GAMMA = 2.2
"""Exponent that turns encoded values into linear light, Nah et al. 2017, section 3."""


@dataclass(frozen=True)
class BlurSettings:
    """What blur to draw. Lengths are pixels at the size of the images given; probabilities are per image."""

    length: tuple[float, float] = (2.0, 40.0)
    """Shortest and longest path of the image centre during the exposure, drawn log-uniformly. GOPRO's averages of 7 to
    13 frames move by 2 to 40 pixels at 1280×720 (Nah et al. 2017)."""
    straight: float = 0.35
    """Probability of a straight path at constant speed (a pan); the rest are random walks with inertia and jerks."""
    roll: float = 0.4
    """Most that roll and zoom move the corner of the frame, as a share of `length`."""
    spacing: float = 1.5
    """Pixels between two moments of the longest path in a batch; closer costs more and changes nothing visible."""
    foreground: float = 0.2
    """Probability of a foreground layer that moves by itself."""
    linear: float = 0.3
    """Probability of averaging in linear light; the rest average encoded values, as GOPRO's `blur` pairs do."""
    saturation: float = 0.1
    """Probability that lights brighter than white (1.5 to 4 times) were averaged before the sensor clipped them."""
    defocus: float = 0.1
    """Probability of a defocus disc of 0.5 to 2 pixels of radius before the sensor."""
    noise: float = 0.3
    """Probability of sensor noise: shot noise of variance up to 0.001 x, read noise of deviation up to 0.01."""
    jpeg: float = 0.3
    """Probability of JPEG compression of quality 50 to 98 after everything else."""


def camera_shake(count: int, settings: BlurSettings, generator: torch.Generator, moments: int | None = None) -> Tensor:
    """Draw `count` camera movements of six degrees of freedom, each sampled at `moments` (chosen by the longest path).

    Returns count × moments × 6, float32, on the generator's device: yaw, pitch, horizontal and vertical translation in
    pixels of shift at the image centre; roll and zoom in pixels of shift at the frame's corner. Each column has mean
    zero over the moments, so that the movement's centroid is the sharp image.

    The random walk follows Boracchi & Foi 2012: a velocity with inertia, pulled towards the centre, shaken by Gaussian
    impulses and, rarely, by a jerk against the direction of travel.
    """
    device = generator.device
    shortest, longest = settings.length
    lengths = shortest * (longest / shortest) ** torch.rand(count, generator=generator, device=device)
    if moments is None:
        moments = max(8, math.ceil(float(lengths.max()) / settings.spacing)) | 1

    fine = 64
    kicks = torch.randn(fine, count, 6, generator=generator, device=device)
    jerks = torch.rand(fine, count, 1, generator=generator, device=device) < 0.02
    anxiety = 10 ** (-1.5 * torch.rand(count, 1, generator=generator, device=device))
    velocity = torch.randn(count, 6, generator=generator, device=device)
    position = torch.zeros(count, 6, device=device)
    walk = []
    for moment in range(fine):
        walk.append(position)
        pull = -0.05 * position
        velocity = 0.9 * velocity + 0.3 * anxiety * (kicks[moment] + pull)
        velocity = torch.where(jerks[moment], -velocity + anxiety * kicks[moment], velocity)
        position = position + velocity
    random_path = torch.stack(walk, dim=1)

    direction = torch.randn(count, 1, 6, generator=generator, device=device)
    time = torch.linspace(0.0, 1.0, fine, device=device).view(1, fine, 1)
    is_straight = torch.rand(count, 1, 1, generator=generator, device=device) < settings.straight
    path = torch.where(is_straight, direction * time, random_path)

    # Yaw and translation both shift the image; how they share the shift changes only the perspective, so each column
    # pair is scaled by the length of their common path.
    shift = path[..., 0:2] + path[..., 3:5]
    travelled = (shift[:, 1:] - shift[:, :-1]).norm(dim=-1).sum(dim=1).clamp_min(1e-6)
    share = settings.roll * torch.rand(count, 1, 2, generator=generator, device=device)
    spread = (path[..., [2, 5]].amax(dim=1) - path[..., [2, 5]].amin(dim=1)).clamp_min(1e-6)
    scale = torch.empty(count, 1, 6, device=device)
    scale[..., [0, 1, 3, 4]] = (lengths / travelled).view(count, 1, 1)
    scale[..., [2, 5]] = share * lengths.view(count, 1, 1) / spread.unsqueeze(1)
    path = functional.interpolate(
        (path * scale).transpose(1, 2), size=moments, mode="linear", align_corners=True
    ).transpose(1, 2)
    return path - path.mean(dim=1, keepdim=True)


def homographies(shake: Tensor, frame: tuple[int, int]) -> Tensor:
    """Homographies of each moment: B×K×6 movements (see `camera_shake`) to B×K×3×3, in pixels from the frame's centre.

    H = K (R + t nᵀ) K⁻¹ for a plane at distance one before a camera whose focal length is the frame's longer side, with
    R to the second order of its small angles.
    """
    height, width = frame
    focal = float(max(height, width))
    corner = math.hypot(height, width) / 2
    yaw, pitch, roll, right, down, zoom = shake.unbind(dim=-1)
    yaw, pitch, right, down = yaw / focal, pitch / focal, right / focal, down / focal
    roll, zoom = roll / corner, zoom / corner
    one, zero = torch.ones_like(yaw), torch.zeros_like(yaw)
    rotation = torch.stack(
        [
            torch.stack([one - (roll**2 + yaw**2) / 2, -roll, yaw], dim=-1),
            torch.stack([roll, one - (roll**2 + pitch**2) / 2, pitch], dim=-1),
            torch.stack([-yaw, -pitch, one - (yaw**2 + pitch**2) / 2], dim=-1),
        ],
        dim=-2,
    )
    translation = torch.stack([zero, zero, right, zero, zero, down, zero, zero, zoom], dim=-1).view(*yaw.shape, 3, 3)
    calibration = torch.diag(torch.tensor([focal, focal, 1.0], device=shake.device))
    return calibration @ (rotation + translation) @ calibration.inverse()


@dataclass(frozen=True)
class Layer:
    """Something in front of the camera, and how it is seen to move."""

    pixels: Tensor
    """B×3×H×W, or B×4×H×W with its opacity last."""
    shake: Tensor
    """B×K×6, see `camera_shake`; the same K for all layers of a scene."""


def average_over_exposure(
    layers: Sequence[Layer], size: tuple[int, int], frame: tuple[int, int], offset: Tensor
) -> Tensor:
    """Mean over the moments of what the camera sees: B×3×size.

    Args:
        layers: the background first; each larger than `size` by the margin that its movement needs, and mirrored
            where it is not.
        frame: height and width of the whole photo that the layers are a part of.
        offset: B×2, how far (right, down) the layers' centre is from the photo's, in pixels.
    """
    height, width = size
    batch, moments = layers[0].shake.shape[:2]
    device = offset.device
    grid_y, grid_x = torch.meshgrid(
        torch.arange(height, device=device) - (height - 1) / 2,
        torch.arange(width, device=device) - (width - 1) / 2,
        indexing="ij",
    )
    here = torch.stack([grid_x, grid_y, torch.zeros_like(grid_x)], dim=-1).view(1, -1, 3)
    points = here + functional.pad(offset, (0, 1), value=1.0).unsqueeze(1)
    matrices = [homographies(layer.shake, frame).transpose(2, 3) for layer in layers]
    total = torch.zeros(batch, 3, height, width, device=device)
    for moment in range(moments):
        seen = torch.zeros_like(total)
        for layer, matrix in zip(layers, matrices, strict=True):
            warped = points @ matrix[:, moment]
            pixels = layer.pixels
            to_unit = torch.tensor([2.0 / pixels.shape[3], 2.0 / pixels.shape[2]], device=device)
            grid = (warped[..., :2] / warped[..., 2:] - offset.unsqueeze(1)) * to_unit
            view = functional.grid_sample(
                pixels,
                grid.view(batch, height, width, 2),
                mode="bicubic",
                padding_mode="reflection",
                align_corners=False,
            )
            seen = view if view.shape[1] == 3 else torch.lerp(seen, view[:, :3], view[:, 3:].clamp(0, 1))
        total += seen
    return total / moments


def synthesise(
    scene: Tensor,
    size: tuple[int, int],
    settings: BlurSettings,
    generator: torch.Generator,
    *,
    frame: tuple[int, int] | None = None,
    offset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Draw a blurred image and its sharp one for each image of a batch.

    Args:
        scene: B×3×H×W sharp images in [0, 1], at least as large as `size`; what is larger is margin for the movement.
        size: height and width of the result.
        frame, offset: see `average_over_exposure`; by default the scene is the whole photo.

    Returns:
        blurred and sharp, both B×3×size in [0, 1], unrounded.
    """
    batch, device = scene.shape[0], scene.device
    frame = frame or (scene.shape[2], scene.shape[3])
    offset = torch.zeros(batch, 2, device=device) if offset is None else offset

    def chosen(probability: float) -> Tensor:
        return torch.rand(batch, generator=generator, device=device) < probability

    shake = camera_shake(batch, settings, generator)
    own_shake = camera_shake(batch, settings, generator, moments=shake.shape[1])
    has_foreground = chosen(settings.foreground)
    foreground = torch.cat([scene.roll(1, dims=0).flip(3), _blobs(scene, generator)], dim=1)
    linear, lights = chosen(settings.linear), chosen(settings.saturation)
    gain = 1.5 + 2.5 * torch.rand(batch, generator=generator, device=device)

    sharp = _crop_centre(scene, size)
    covering = _crop_centre(foreground, size)
    covered = torch.lerp(sharp, covering[:, :3], covering[:, 3:])
    sharp = torch.where(_per_image(has_foreground), covered, sharp)

    exponent = torch.where(linear, GAMMA, 1.0)
    light = _brighten(scene, lights, gain) ** _per_image(exponent)
    front = torch.cat([_brighten(foreground[:, :3], lights, gain) ** _per_image(exponent), foreground[:, 3:]], dim=1)
    blurred = torch.empty_like(sharp)
    for group, with_front in ((~has_foreground, False), (has_foreground, True)):
        if group.any():
            layers = [Layer(light[group], shake[group])]
            if with_front:
                layers.append(Layer(front[group], own_shake[group]))
            blurred[group] = average_over_exposure(layers, size, frame, offset[group])
    blurred = blurred.clamp_min(0) ** _per_image(1 / exponent)

    blurred = defocus(blurred, chosen(settings.defocus), generator).clamp(0, 1)
    blurred = add_noise(blurred, chosen(settings.noise), generator)
    blurred = compress_jpeg(blurred, chosen(settings.jpeg), generator)
    return blurred, sharp


def _blobs(scene: Tensor, generator: torch.Generator) -> Tensor:
    """A smooth random opacity B×1×H×W that covers about a third of each image."""
    batch, _, height, width = scene.shape
    coarse = torch.randn(batch, 1, 5, 5, generator=generator, device=scene.device)
    smooth = functional.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False)
    return torch.sigmoid(40 * (smooth - 0.3))


def _brighten(image: Tensor, lights: Tensor, gain: Tensor) -> Tensor:
    """Undo the clipping of lights: values near white are raised by `gain` where `lights` says so."""
    near_white = ((image.amin(dim=1, keepdim=True) - 0.9) * 10).clamp(0, 1)
    return image * (1 + _per_image(lights * (gain - 1)) * near_white)


def _per_image(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


def _crop_centre(image: Tensor, size: tuple[int, int]) -> Tensor:
    top, left = (image.shape[2] - size[0]) // 2, (image.shape[3] - size[1]) // 2
    return image[:, :, top : top + size[0], left : left + size[1]]
