"""How a camera moves during an exposure (`camera_shake`), and through the exposures of a video (`sequence_shake`).

It is panned straight on, wanders with inertia and jerks (Boracchi & Foi, "Modeling the performance of image restoration
from motion blur", IEEE TIP 2012), or, in a video, is braced and knocked now and then.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as functional
from torch import Tensor

if TYPE_CHECKING:
    from deblur_cli.training.blur import BlurSettings

# Steps of a trajectory while the shutter is open, and at most while it is closed.
_OPEN, _CLOSED = 64, 32
# Share of the drift's velocity that is left after a step: half of it after one exposure.
_STEADINESS = 0.99
# Steps between two knocks against a braced camera, on average: two exposures.
_BETWEEN_KNOCKS = 128
# Share of a braced camera's velocity that is left after a step, apart from what the spring does: after an exposure a
# knock has all but faded.
_RINGING = 0.95


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
    """How the hand wanders over a sequence, count×steps×6: its direction changes within some frames, it never rests.

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
