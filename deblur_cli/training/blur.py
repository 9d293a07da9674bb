"""Realistic motion blur from sharp images, made in batches on whatever device the images are on.

A blurred image is what a sensor gathers while the camera moves: the mean of the scene as it was seen at many moments.
`camera_shake` draws the movement, `average_over_exposure` renders it by warping the sharp image to each moment and
averaging, and `synthesise` adds what else stands between a scene and a file (degradations.py). Frames of a video are
several exposures of one movement: `sequence_shake` draws these, sequences.py puts them together.

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
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as functional
from torch import Tensor

from deblur_cli.training.degradations import add_noise, compress_jpeg, defocus

GAMMA = 2.2
"""Exponent that turns encoded values into linear light, Nah et al. 2017, section 3."""

_OPEN, _CLOSED = 64, 32
# Steps of a trajectory while the shutter is open, and at most while it is closed.
_STEADINESS = 0.99
# What is left of the drift's velocity after a step: half of it after one exposure.
_BETWEEN_KNOCKS = 128
# Steps between two knocks against a braced camera, on average: two exposures.
_RINGING = 0.95
# What is left of its velocity after a step, but for the spring: after an exposure a knock has all but faded.


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
    back to where it was, and in between is still. The rest wander from frame to frame. Single frames know no such."""
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
    zero over the moments, so that the movement's centroid is the sharp image: exactly for shifts, otherwise up to the
    perspective's second order (a few thousandths of a pixel for the default settings in a frame of 1280×720).

    The random walk follows Boracchi & Foi 2012: a velocity with inertia, pulled towards the centre, shaken by Gaussian
    impulses and, rarely, by a jerk against the direction of travel.
    """
    return sequence_shake(count, 1, settings, generator, moments)[:, 0]


def sequence_shake(
    count: int, frames: int, settings: BlurSettings, generator: torch.Generator, moments: int | None = None
) -> Tensor:
    """Draw `count` camera movements that go on through the exposures of `frames` frames and the gaps between them.

    Between two exposures the shutter stays closed for up to half the time that it is open; the share is drawn once a
    sequence. The longest exposure of a sequence has the length drawn from `settings`, the others are no longer.

    Returns count × frames × moments × 6, with the columns of `camera_shake`. The mean of a column over the whole
    sequence is zero; its mean over the moments of one frame is where that frame's sharp image is seen from.
    """
    device = generator.device
    shortest, longest = settings.length
    lengths = shortest * (longest / shortest) ** torch.rand(count, generator=generator, device=device)
    if moments is None:
        moments = max(8, math.ceil(float(lengths.max()) / settings.spacing)) | 1

    total = _OPEN + (frames - 1) * (_OPEN + _CLOSED)
    random_path = _random_walk(count, total, generator)
    direction = torch.randn(count, 1, 6, generator=generator, device=device)
    time = torch.linspace(0.0, (total - 1) / (_OPEN - 1), total, device=device).view(1, total, 1)
    is_straight = torch.rand(count, 1, 1, generator=generator, device=device) < settings.straight
    share = settings.roll * torch.rand(count, 1, 1, 2, generator=generator, device=device)
    if frames > 1:
        random_path = random_path + _drift(count, total, generator)
    path = torch.where(is_straight, direction * time, random_path)
    if frames > 1:
        is_braced = torch.rand(count, 1, 1, generator=generator, device=device) < settings.braced
        path = torch.where(is_braced, _knocked(count, total, generator), path)
        # Alone, the two may nearly cancel, which is seen in the perspective only. Over the long way of a sequence the
        # perspective would leave the frame, so both take half of the shift.
        shift = (path[..., 0:2] + path[..., 3:5]) / 2
        path = torch.cat([shift, path[..., 2:3], shift, path[..., 5:6]], dim=-1)
    path = _exposures(path, frames, generator)

    # Yaw and translation both shift the image; how they share the shift changes only the perspective, so each column
    # pair is scaled by the length of their common path.
    shift = path[..., 0:2] + path[..., 3:5]
    travelled = (shift[:, :, 1:] - shift[:, :, :-1]).norm(dim=-1).sum(dim=2).amax(dim=1).clamp_min(1e-6)
    turning = path[..., [2, 5]]
    spread = (turning.amax(dim=2) - turning.amin(dim=2)).amax(dim=1).clamp_min(1e-6)
    scale = torch.empty(count, 1, 1, 6, device=device)
    scale[..., [0, 1, 3, 4]] = (lengths / travelled).view(count, 1, 1, 1)
    scale[..., [2, 5]] = share * lengths.view(count, 1, 1, 1) / spread.view(count, 1, 1, 2)
    path = functional.interpolate(
        (path * scale).flatten(0, 1).transpose(1, 2), size=moments, mode="linear", align_corners=True
    ).transpose(1, 2)
    path = path.reshape(count, frames * moments, 6)
    return (path - path.mean(dim=1, keepdim=True)).view(count, frames, moments, 6)


def _random_walk(count: int, steps: int, generator: torch.Generator) -> Tensor:
    """Paths with inertia and jerks, count×steps×6, from zero on."""
    device = generator.device
    kicks = torch.randn(steps, count, 6, generator=generator, device=device)
    jerks = torch.rand(steps, count, 1, generator=generator, device=device) < 0.02
    anxiety = 10 ** (-1.5 * torch.rand(count, 1, generator=generator, device=device))
    velocity = torch.randn(count, 6, generator=generator, device=device)
    position = torch.zeros(count, 6, device=device)
    walk = []
    for moment in range(steps):
        walk.append(position)
        pull = -0.05 * position
        velocity = 0.9 * velocity + 0.3 * anxiety * (kicks[moment] + pull)
        velocity = torch.where(jerks[moment], -velocity + anxiety * kicks[moment], velocity)
        position = position + velocity
    return torch.stack(walk, dim=1)


def _drift(count: int, steps: int, generator: torch.Generator) -> Tensor:
    """Where the hand wanders over a sequence, count×steps×6: it turns within some frames and comes to rest in none.

    The walk's own first velocity fades within a sixth of an exposure, which would leave later frames nearly sharp.
    """
    velocity = torch.randn(count, 6, generator=generator, device=generator.device)
    turns = torch.randn(steps, count, 6, generator=generator, device=generator.device)
    velocities = []
    for turn in turns:
        velocities.append(velocity)
        velocity = _STEADINESS * velocity + math.sqrt(1 - _STEADINESS**2) * turn
    return torch.stack(velocities, dim=1).cumsum(dim=1)


def _knocked(count: int, steps: int, generator: torch.Generator) -> Tensor:
    """A braced camera's paths, count×steps×6: at rest until knocked, then swinging back as a damped spring does.

    So some frames of a video are sharper than their neighbours and show the same from the same place (the "lucky"
    frames of Cho, Wang & Lee, "Video deblurring for hand-held cameras using patch-based synthesis", ACM TOG 2012).
    """
    device = generator.device
    kicks = torch.randn(steps, count, 6, generator=generator, device=device)
    knocks = torch.rand(steps, count, 1, generator=generator, device=device) < 1 / _BETWEEN_KNOCKS
    # One knock comes at least an exposure before the end, however short the gaps will be, so that it is seen.
    last = (steps - _OPEN) * _OPEN // (_OPEN + _CLOSED)
    first = torch.randint(last, (count,), generator=generator, device=device)
    knocks[first, torch.arange(count, device=device)] = True
    # A swing takes half an exposure to two.
    period = _OPEN * 2 ** (2 * torch.rand(count, 1, generator=generator, device=device) - 1)
    spring = (2 * torch.pi / period) ** 2
    velocity = position = torch.zeros(count, 6, device=device)
    path = []
    for kick, knock in zip(kicks, knocks, strict=True):
        path.append(position)
        velocity = _RINGING * velocity - spring * position + knock * kick
        position = position + velocity
    return torch.stack(path, dim=1)


def _exposures(path: Tensor, frames: int, generator: torch.Generator) -> Tensor:
    """What of B×S×6 paths is seen while the shutter is open: B×frames×_OPEN×6, after gaps of one length a sequence."""
    if frames == 1:
        return path.unsqueeze(1)
    device = path.device
    gap = torch.randint(_CLOSED + 1, (len(path), 1, 1), generator=generator, device=device)
    begin = (_OPEN + gap) * torch.arange(frames, device=device).view(1, frames, 1)
    moment = (begin + torch.arange(_OPEN, device=device)).flatten(1)
    return path.gather(1, moment.unsqueeze(-1).expand(-1, -1, 6)).unflatten(1, (frames, _OPEN))


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
    total = torch.zeros(batch, 3, height, width, device=device)
    for moment in range(moments):
        seen = torch.zeros_like(total)
        for layer, matrix in zip(layers, matrices, strict=True):
            warped = points @ matrix[:, moment]
            pixels = layer.pixels
            to_unit = torch.tensor([2.0 / pixels.shape[3], 2.0 / pixels.shape[2]], device=device) * layer.density
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
        self, shake: Tensor, own_shake: Tensor, size: tuple[int, int], frame: tuple[int, int], offset: Tensor
    ) -> Tensor:
        """The blurred image that one exposure gives, B×3×size, not yet clipped to [0, 1].

        Args:
            shake, own_shake: movement of the camera as background and foreground see it, each B×K×6.
            size, frame, offset: see `average_over_exposure`.
        """
        exponent = _per_image(self.exponent)
        light = _brighten(self.background, self.gain) ** exponent
        front = torch.cat([_brighten(self.foreground[:, :3], self.gain) ** exponent, self.foreground[:, 3:]], dim=1)
        mean = self.seen(Layer(light, shake), Layer(front, own_shake), size, frame, offset)
        return mean.clamp_min(0) ** (1 / exponent)

    def seen(self, back: Layer, front: Layer, size: tuple[int, int], frame: tuple[int, int], offset: Tensor) -> Tensor:
        """Mean over the moments of `back`, with `front` before it in those images that have a foreground."""
        seen = torch.empty(len(offset), 3, *size, device=offset.device)
        for group, layers in ((~self.has_foreground, (back,)), (self.has_foreground, (back, front))):
            if group.any():
                of_group = [replace(layer, pixels=layer.pixels[group], shake=layer.shake[group]) for layer in layers]
                seen[group] = average_over_exposure(of_group, size, frame, offset[group])
        return seen


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
    shake = camera_shake(batch, settings, generator)
    own_shake = camera_shake(batch, settings, generator, moments=shake.shape[1])
    drawn = Scene.drawn(scene, settings, generator)
    blurred = degrade(drawn.expose(shake, own_shake, size, frame, offset), settings, generator)

    sharp = _crop_centre(scene, size)
    covering = _crop_centre(drawn.foreground, size)
    covered = torch.lerp(sharp, covering[:, :3], covering[:, 3:])
    return blurred, torch.where(_per_image(drawn.has_foreground), covered, sharp)


def degrade(images: Tensor, settings: BlurSettings, generator: torch.Generator, frames: int = 1) -> Tensor:
    """What lens, sensor and file do to B×3×H×W exposures, in [0, 1]; alike to each `frames` that follow each other."""

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
