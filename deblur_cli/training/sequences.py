"""Frames that follow each other, for recurrent networks: from one sharp photo, from a high-speed clip, from files.

A camera that films goes on moving from frame to frame, so a sequence of blurred frames shows one movement in parts, and
the sharp frame to each is the scene as seen from the centroid of its part.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as functional
from torch import Tensor

from deblur_cli.training.blur import BlurSettings, Layer, Scene, degrade
from deblur_cli.training.shake import sequence_shake

FRAMES_AVERAGED = (7, 9, 11, 13)
"""Frames of a clip that make a blurred one, Nah et al. 2017, section 3; odd, so that the middle one is the target."""
OWN_MOTION = 0.5
"""How far a foreground moves by itself, as a share of how far the camera does."""

# Of the windowed sinc, on either side: 12 taps.
_LOBES = 6
_NUMBERED = re.compile(r"(.*?)(\d*)", re.DOTALL)


def synthesise_sequence(
    scene: Tensor,
    frames: int,
    size: tuple[int, int],
    settings: BlurSettings,
    generator: torch.Generator,
    *,
    frame: tuple[int, int],
    offset: Tensor,
) -> tuple[Tensor, Tensor]:
    """Film each image of a batch with a camera that shakes all the while: blurred frames and the sharp ones to them.

    One movement goes through all exposures of a sequence (see `sequence_shake`), and a foreground adds a mild one of
    its own. Noise and compression are as strong in all frames of a sequence and independent from frame to frame.

    Args:
        scene: B×3×H×W sharp images in [0, 1], at least as large as `size` and mirrored where the camera sees more.
        frames: how many each sequence has.
        size: height and width of the result.
        frame, offset: see `average_over_exposure`.

    Returns:
        blurred and sharp, both B×frames×3×size in [0, 1], unrounded.
    """
    batch = len(scene)
    shake = sequence_shake(batch, frames, settings, generator)
    own_shake = shake + OWN_MOTION * sequence_shake(batch, frames, settings, generator, moments=shake.shape[2])
    drawn = Scene.drawn(scene, settings, generator)
    exposures = [
        drawn.expose(of_camera, of_foreground, size, frame, offset)
        for of_camera, of_foreground in zip(shake.unbind(1), own_shake.unbind(1), strict=True)
    ]
    blurred = degrade(torch.stack(exposures, dim=1).flatten(0, 1), settings, generator, frames)

    # Frames stand fractions of a pixel apart. Interpolated at its own resolution, the target would lose its finest
    # detail, and more of it in some frames than in others.
    back, front = doubled(drawn.background), doubled(drawn.foreground)
    sharp = []
    for number in range(frames):
        at_centroid = (shakes[:, number].mean(dim=1, keepdim=True) for shakes in (shake, own_shake))
        layers = [Layer(*seen, density=2) for seen in zip((back, front), at_centroid, strict=True)]
        sharp.append(drawn.seen(layers[0], layers[1], size, frame, offset))
    return blurred.unflatten(0, (batch, frames)), torch.stack(sharp, dim=1).clamp(0, 1)


def doubled(images: Tensor) -> Tensor:
    """B×C×H×W images with twice the pixels along either side, B×C×2H×2W, by a sinc windowed by its own main lobe.

    Pixels are areas: the new ones are centred a quarter of an old pixel to either side of its centre. Up to four fifths
    of the highest frequency, a view interpolated from the result is true to 5 %, one from the images themselves to a
    half (Duchon, "Lanczos filtering in one and two dimensions", Journal of Applied Meteorology 1979).
    """
    channels = images.shape[1]
    tap = torch.arange(-_LOBES, _LOBES + 1, device=images.device, dtype=images.dtype)
    distance = torch.stack([tap + 0.25, tap - 0.25])
    kernels = torch.sinc(distance) * torch.sinc(distance / _LOBES) * (distance.abs() < _LOBES)
    kernels = (kernels / kernels.sum(dim=1, keepdim=True)).repeat(channels, 1)
    for kernel, padding, dim in (
        (kernels.view(-1, 1, 1, len(tap)), (_LOBES, _LOBES, 0, 0), 3),
        (kernels.view(-1, 1, len(tap), 1), (0, 0, _LOBES, _LOBES), 2),
    ):
        padded = functional.pad(images, padding, mode="reflect")
        halves = functional.conv2d(padded, kernel, groups=channels).unflatten(1, (channels, 2))
        images = torch.stack(halves.unbind(2), dim=dim + 1).flatten(dim, dim + 1)
    return images


def shortest_clip(frames: int) -> int:
    """How many frames a clip must have for a sequence of `frames` blurred ones to be cut from it."""
    return frames * FRAMES_AVERAGED[0]


def draw_exposures(length: int, frames: int, host: random.Random) -> list[slice]:
    """Which frames of a clip make each of `frames` blurred ones.

    All exposures of a sequence are equally long, 7 to 13 frames, and begin equally far apart, the shutter being closed
    for up to half the time that it is open. Where the clip is too short for that, they are shorter, or closer.

    Args:
        length: frames of the clip, at least `shortest_clip(frames)`.
    """
    averaged = host.choice([number for number in FRAMES_AVERAGED if number * frames <= length])
    stride = host.randint(averaged, min(averaged * 3 // 2, (length - averaged) // (frames - 1))) if frames > 1 else 0
    first = host.randrange(length - averaged - stride * (frames - 1) + 1)
    return [slice(start, start + averaged) for start in (first + stride * number for number in range(frames))]


def followers(files: Sequence[Path]) -> list[int | None]:
    """For each picture of a video, which of `files` is the frame after it: the same folder and name, the number plus 1.

    A picture without a number, and one whose successor is missing, is followed by none.
    """
    places = [_place(file) for file in files]
    at = {place: position for position, place in enumerate(places)}
    return [at.get((folder, name, number + 1)) for folder, name, number in places]


def _place(file: Path) -> tuple[Path, str, int]:
    """Folder, name and number of `SEQUENCE/000001.png` or `SEQUENCE-000001.png`; without one it is -2, beside none."""
    match = _NUMBERED.fullmatch(file.stem)
    assert match
    return file.parent, match[1], int(match[2] or -2)
