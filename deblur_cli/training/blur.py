"""Realistic motion blur from sharp images, made in batches on whatever device the images are on.

A blurred image is what a sensor gathers while the camera moves: the mean of the scene as it was seen at many moments.
`average_over_exposure` renders a movement (shake.py) by warping the sharp image to each moment and averaging, and
filter_flow.py, faster and for crops, with a few kernels. `synthesise` adds what else stands between a scene and a file
(degradations.py). Frames of a video are several exposures of one movement: sequences.py puts these together.

The sharp target sits at the centroid of the movement. Were it at the middle of the exposure, a random walk would leave
about half of all pairs shifted against each other, which teaches a network to hedge (about 0.15 dB).

References: Whyte et al., "Non-uniform deblurring for shaken images", IJCV 2012 (rotations as homographies); Nah et al.,
"Deep multi-scale convolutional neural network for dynamic scene deblurring", CVPR 2017 (averages of high-speed frames,
encoded and with inverse gamma 2.2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as functional
from torch import Tensor

from deblur_cli.errors import UsageError
from deblur_cli.training.degradations import add_noise, compress_jpeg, defocus
from deblur_cli.training.filter_flow import filtered_over_exposure
from deblur_cli.training.ranges import require_in_range
from deblur_cli.training.shake import camera_shake

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
    braced: float = 0.3
    """Probability that a camera that films is braced and knocked now and then: it is blurred for a frame or two, comes
    back to where it was, and in between is still. The rest wander from frame to frame. Only for sequences."""
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

    def __post_init__(self) -> None:
        require_in_range(self, "blur")
        shortest, longest = self.length
        if shortest > longest:
            raise UsageError(f"blur.length goes from a number to as much or more, not from {shortest} to {longest}")


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
    density: int = 1
    """How many of its pixels lie along the side of one of the camera's."""


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
    # Here and not at each moment: for numbers that come from the host a GPU's work is waited for.
    to_units = [
        torch.tensor([2.0 / layer.pixels.shape[3], 2.0 / layer.pixels.shape[2]], device=device) * layer.density
        for layer in layers
    ]
    total = torch.zeros(batch, 3, height, width, device=device)
    for moment in range(moments):
        seen = torch.zeros_like(total)
        for layer, matrix, to_unit in zip(layers, matrices, to_units, strict=True):
            warped = points @ matrix[:, moment]
            grid = (warped[..., :2] / warped[..., 2:] - offset.unsqueeze(1)) * to_unit
            view = functional.grid_sample(
                layer.pixels,
                grid.view(batch, height, width, 2),
                mode="bicubic",
                padding_mode="reflection",
                align_corners=False,
            )
            seen = view if view.shape[1] == 3 else torch.lerp(seen, view[:, :3], view[:, 3:].clamp(0, 1))
        total += seen
    return total / moments


@dataclass(frozen=True)
class Scene:
    """A batch of what the camera looks at, and how the light of it adds up: the same in all frames of a sequence."""

    background: Tensor
    """B×3×H×W in [0, 1]."""
    foreground: Tensor
    """B×4×H×W in [0, 1], its opacity last."""
    has_foreground: Tensor
    """B: which images show it."""
    exponent: Tensor
    """B: `GAMMA` where light is averaged, 1 where encoded values are."""
    gain: Tensor
    """B: how bright lights are, 1 is white."""

    @staticmethod
    def drawn(pictures: Tensor, settings: BlurSettings, generator: torch.Generator) -> Scene:
        """Draw what `settings` leave to chance about B×3×H×W pictures; a foreground is the next picture mirrored."""
        batch = len(pictures)
        has_foreground = _chosen(batch, settings.foreground, generator)
        foreground = torch.cat([pictures.roll(1, dims=0).flip(3), _blobs(pictures, generator)], dim=1)
        linear = _chosen(batch, settings.linear, generator)
        lights = _chosen(batch, settings.saturation, generator)
        gain = 1.5 + 2.5 * torch.rand(batch, generator=generator, device=pictures.device)
        exponent = torch.where(linear, GAMMA, 1.0)
        return Scene(pictures, foreground, has_foreground, exponent, torch.where(lights, gain, 1.0))

    def expose(
        self,
        shake: Tensor,
        own_shake: Tensor,
        size: tuple[int, int],
        frame: tuple[int, int],
        offset: Tensor,
        *,
        filtered: bool = False,
    ) -> Tensor:
        """The blurred image that one exposure gives, B×3×size, not yet clipped to [0, 1].

        Args:
            shake, own_shake: movement of the camera as background and foreground see it, each B×K×6.
            size, frame, offset: see `average_over_exposure`.
            filtered: by filter flow, for crops.
        """
        exponent = _per_image(self.exponent)
        light = _brighten(self.background, self.gain) ** exponent
        front = torch.cat([_brighten(self.foreground[:, :3], self.gain) ** exponent, self.foreground[:, 3:]], dim=1)
        seen = self.filtered if filtered else self.seen
        mean = seen(Layer(light, shake), Layer(front, own_shake), size, frame, offset)
        return mean.clamp_min(0) ** (1 / exponent)

    def seen(self, back: Layer, front: Layer, size: tuple[int, int], frame: tuple[int, int], offset: Tensor) -> Tensor:
        """Mean over the moments of `back`, with `front` before it in those images that have a foreground."""
        seen = torch.empty(len(offset), 3, *size, device=offset.device)
        for group, layers in ((~self.has_foreground, (back,)), (self.has_foreground, (back, front))):
            if group.any():
                of_group = [replace(layer, pixels=layer.pixels[group], shake=layer.shake[group]) for layer in layers]
                seen[group] = average_over_exposure(of_group, size, frame, offset[group])
        return seen

    def filtered(
        self, back: Layer, front: Layer, size: tuple[int, int], frame: tuple[int, int], offset: Tensor
    ) -> Tensor:
        """What `seen` gives, but for what filter flow leaves out: what stands behind the edge of a foreground is the
        mean of what was behind it at all moments."""
        seen = filtered_over_exposure(back.pixels, homographies(back.shake, frame), size, offset)
        some = self.has_foreground
        if some.any():
            colours, opacity = front.pixels[some].split([3, 1], dim=1)
            matrices = homographies(front.shake[some], frame)
            covering = torch.cat([colours * opacity, opacity], dim=1)
            covering = filtered_over_exposure(covering, matrices, size, offset[some])
            seen[some] = seen[some] * (1 - covering[:, 3:]) + covering[:, :3]
        return seen


def synthesise(
    scene: Tensor,
    size: tuple[int, int],
    settings: BlurSettings,
    generator: torch.Generator,
    *,
    frame: tuple[int, int] | None = None,
    offset: Tensor | None = None,
    filtered: bool = False,
) -> tuple[Tensor, Tensor]:
    """Draw a blurred image and its sharp one for each image of a batch.

    Args:
        scene: B×3×H×W sharp images in [0, 1], at least as large as `size`; what is larger is margin for the movement.
        size: height and width of the result.
        frame, offset: see `average_over_exposure`; by default the scene is the whole photo.
        filtered: by filter flow (filter_flow.py), which is faster; for crops with a margin.

    Returns:
        blurred and sharp, both B×3×size in [0, 1], unrounded.
    """
    batch, device = scene.shape[0], scene.device
    frame = frame or (scene.shape[2], scene.shape[3])
    offset = torch.zeros(batch, 2, device=device) if offset is None else offset
    shake = camera_shake(batch, settings, generator)
    own_shake = camera_shake(batch, settings, generator, moments=shake.shape[1])
    drawn = Scene.drawn(scene, settings, generator)
    blurred = degrade(drawn.expose(shake, own_shake, size, frame, offset, filtered=filtered), settings, generator)

    sharp = _crop_centre(scene, size)
    covering = _crop_centre(drawn.foreground, size)
    covered = torch.lerp(sharp, covering[:, :3], covering[:, 3:])
    return blurred, torch.where(_per_image(drawn.has_foreground), covered, sharp)


def degrade(images: Tensor, settings: BlurSettings, generator: torch.Generator, frames: int = 1) -> Tensor:
    """What lens, sensor and file make of B×3×H×W exposures, in [0, 1].

    Each sequence of `frames` consecutive images gets the same degradations, equally strong.
    """

    def chosen(probability: float) -> Tensor:
        return _chosen(len(images) // frames, probability, generator).repeat_interleave(frames)

    images = defocus(images, chosen(settings.defocus), generator, frames).clamp(0, 1)
    images = add_noise(images, chosen(settings.noise), generator, frames)
    return compress_jpeg(images, chosen(settings.jpeg), generator, frames)


def _chosen(count: int, probability: float, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator, device=generator.device) < probability


def _blobs(scene: Tensor, generator: torch.Generator) -> Tensor:
    """A smooth random opacity B×1×H×W that covers about a third of each image."""
    batch, _, height, width = scene.shape
    coarse = torch.randn(batch, 1, 5, 5, generator=generator, device=scene.device)
    smooth = functional.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False)
    return torch.sigmoid(40 * (smooth - 0.3))


def _brighten(image: Tensor, gain: Tensor) -> Tensor:
    """Undo the clipping of lights: values near white are raised by `gain`."""
    near_white = ((image.amin(dim=1, keepdim=True) - 0.9) * 10).clamp(0, 1)
    return image * (1 + _per_image(gain - 1) * near_white)


def _per_image(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


def _crop_centre(image: Tensor, size: tuple[int, int]) -> Tensor:
    top, left = (image.shape[2] - size[0]) // 2, (image.shape[3] - size[1]) // 2
    return image[:, :, top : top + size[0], left : left + size[1]]
