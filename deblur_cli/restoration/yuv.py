"""From the planes of a video's frames to RGB for a network, and the network's change back to the planes.

A network sees RGB in [0, 1], and video holds more than that: values above white and below black, chroma that changes
when it is resampled back and forth. So the planes are not made anew from the restored RGB. Instead, what the network
*changed* is converted and added to them: planes + yuv(restored − blurred). The conversion is linear, so inside of
[0, 1] that is the same picture, and what the network leaves alone stays as it was to the last bit, in every format.

Matrices and quantisation are those of ITU-T H.273, in gamma-encoded values throughout. Chroma is upsampled by linear
interpolation between the places where its samples lie, and downsampled by the transpose of that, a triangle over two
chroma samples. All arithmetic is elementwise in float32: a GPU's matrix units would round it to 10 bits (TF32).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deblur_cli.errors import DeblurError
from deblur_cli.media.video import Colour, PixelFormat, VideoFormat

_LUMA_WEIGHTS = {"bt709": (0.2126, 0.0722), "smpte170m": (0.299, 0.114), "bt2020nc": (0.2627, 0.0593)}
"""Kr and Kb of a matrix; Kg is what is left to 1."""


def to_rgb(planes: Sequence[Tensor], video: VideoFormat) -> Tensor:
    """What a network sees of some frames.

    Args:
        planes: N×h×w each, integers, as `PixelFormat` says; alpha is not looked at.
        video: their format.

    Returns:
        N×3×H×W float32 on the device of the planes, clipped to [0, 1]; three equal channels for grey.

    Raises:
        DeblurError: a matrix that is none of BT.601, BT.709, BT.2020 (non-constant luminance) and RGB.
    """
    pixels, colour = video.pixels, video.colour
    black, white, _, _ = _levels(pixels, colour)
    shape = (planes[0].shape[0], 3, video.height, video.width)
    if pixels.kind == "grey":
        return _unit(planes[0], black, white).clamp_(0.0, 1.0)[:, None].expand(shape)
    rgb = torch.empty(shape, device=planes[0].device)
    if pixels.kind == "rgb":
        for plane, channel in zip(planes, (1, 2, 0), strict=False):  # G, B, R
            rgb[:, channel] = _unit(plane, black, white)
        return rgb.clamp_(0.0, 1.0)
    red, blue, green = _weights(colour)
    luma = _unit(planes[0], black, white)
    blueness, redness = _chroma_at_every_pixel(planes, video).unbind(1)
    torch.add(luma, redness, alpha=2 * (1 - red), out=rgb[:, 0])
    torch.add(luma, blueness, alpha=-2 * (1 - blue) * blue / green, out=rgb[:, 1])
    rgb[:, 1].add_(redness, alpha=-2 * (1 - red) * red / green)
    torch.add(luma, blueness, alpha=2 * (1 - blue), out=rgb[:, 2])
    return rgb.clamp_(0.0, 1.0)


def add_change(planes: Sequence[Tensor], change: Tensor, video: VideoFormat) -> list[Tensor]:
    """The planes of some frames after a change of their RGB; where that is nothing, they are as they were.

    Args:
        planes: N×h×w each, integers, as `PixelFormat` says; alpha is handed on.
        change: N×3×H×W float32, what is to be added to `to_rgb(planes, video)`. The change of a grey frame is the mean
            of the three channels.
        video: their format.

    Returns:
        New planes of the same shapes and type, rounded, and clipped to what the depth can hold.

    Raises:
        DeblurError: as `to_rgb`.
    """
    pixels, colour = video.pixels, video.colour
    black, white, _, steps = _levels(pixels, colour)
    if pixels.kind == "grey":
        changes = [change.mean(dim=1).mul_(white - black)]
    elif pixels.kind == "rgb":
        changes = [change[:, channel] * (white - black) for channel in (1, 2, 0)]
    else:
        red, blue, green = _weights(colour)
        luma = (change[:, 0] * red).add_(change[:, 1], alpha=green).add_(change[:, 2], alpha=blue)
        chroma = change[:, ::2] - luma[:, None]  # red, blue
        for axis, (shift, offset) in _siting(pixels, colour).items():
            chroma = _downsampled(chroma, axis, 1 << shift, offset)
        changes = [
            luma.mul_(white - black),
            chroma[:, 1] * (steps / (2 * (1 - blue))),
            chroma[:, 0] * (steps / (2 * (1 - red))),
        ]
    most = (1 << pixels.depth) - 1
    changed = [_added(plane, change, most) for plane, change in zip(planes, changes, strict=False)]
    return [*changed, *planes[len(changed) :]]


def white(video: VideoFormat) -> list[int]:
    """The sample of opaque white in each plane."""
    pixels = video.pixels
    _, most, middle, _ = _levels(pixels, video.colour)
    colours = {"yuv": [most, middle, middle], "rgb": [most] * 3, "grey": [most]}[pixels.kind]
    return [*colours, (1 << pixels.depth) - 1] if pixels.alpha else colours


def _levels(pixels: PixelFormat, colour: Colour) -> tuple[int, int, int, int]:
    """Black, white, the middle of chroma and the steps from its least to its largest value (H.273, equations 20 on)."""
    if colour.full_range:
        most = (1 << pixels.depth) - 1
        return 0, most, 1 << (pixels.depth - 1), most
    scale = 1 << (pixels.depth - 8)
    return 16 * scale, 235 * scale, 128 * scale, 224 * scale


def _weights(colour: Colour) -> tuple[float, float, float]:
    if colour.matrix not in _LUMA_WEIGHTS:
        raise DeblurError(f"video with the colour matrix '{colour.matrix}' cannot be restored; convert it to bt709")
    red, blue = _LUMA_WEIGHTS[colour.matrix]
    return red, blue, 1 - red - blue


def _siting(pixels: PixelFormat, colour: Colour) -> dict[int, tuple[int, float]]:
    """For rows and columns (axes of N×C×H×W): the shift, and at which pixel the first chroma sample lies."""
    middle_y, middle_x = ((1 << shift) / 2 - 0.5 for shift in (pixels.shift_y, pixels.shift_x))
    return {
        2: (pixels.shift_y, 0.0 if colour.chroma_location == "topleft" else middle_y),
        3: (pixels.shift_x, middle_x if colour.chroma_location == "center" else 0.0),
    }


def _unit(plane: Tensor, black: int, white: int) -> Tensor:
    return plane.float().sub_(black).mul_(1 / (white - black))


def _chroma_at_every_pixel(planes: Sequence[Tensor], video: VideoFormat) -> Tensor:
    """Pb and Pr, in [−½, ½] where they are in range: N×2×H×W."""
    _, _, middle, steps = _levels(video.pixels, video.colour)
    chroma = torch.stack((planes[1].float(), planes[2].float()), dim=1).sub_(middle).mul_(1 / steps)
    for axis, (shift, offset) in _siting(video.pixels, video.colour).items():
        chroma = _upsampled(chroma, axis, 1 << shift, offset)
    return chroma[:, :, : video.height, : video.width]


def _taps(factor: int, offset: float) -> list[list[tuple[int, float]]]:
    """How chroma samples that lie at pixel `offset`, `offset + factor`, … weigh in the pixels by linear interpolation.

    Returns:
        For each phase from 0 to `factor` − 1 some (step, weight), step 0 first: in pixel factor · (i + step) + phase
        sample i weighs so much.
    """
    return [
        [(step, weight) for step in (0, -1, 1) if (weight := 1 - abs(phase + factor * step - offset) / factor) > 0]
        for phase in range(factor)
    ]


def _upsampled(samples: Tensor, axis: int, factor: int, offset: float) -> Tensor:
    """Linear interpolation along an axis to `factor` times the size; beyond the first and last sample their values."""
    if factor == 1:
        return samples
    shape = list(samples.shape)
    shape[axis] *= factor
    pixels = samples.new_empty(shape)
    for phase, ((_, here), *beside) in enumerate(_taps(factor, offset)):
        values = samples * here
        for step, weight in beside:
            _add_moved(values, samples, axis, step, weight)
        # Written with a stride once, not in each operation: that is what costs on a processor.
        _phase(pixels, axis, factor, phase).copy_(values)
    return pixels


def _downsampled(pixels: Tensor, axis: int, factor: int, offset: float) -> Tensor:
    """Means under triangles two samples wide, the transpose of `_upsampled`; an odd end counts as repeated."""
    if factor == 1:
        return pixels
    if missing := -pixels.shape[axis] % factor:
        end = pixels.narrow(axis, pixels.shape[axis] - 1, 1)
        pixels = torch.cat([pixels, *[end] * missing], dim=axis)
    taps = _taps(factor, offset)
    samples = _phase(pixels, axis, factor, 0) * (taps[0][0][1] / factor)
    for phase, of_phase in enumerate(taps):
        for step, weight in of_phase[1:] if phase == 0 else of_phase:
            _add_moved(samples, _phase(pixels, axis, factor, phase), axis, -step, weight / factor)
    return samples


def _phase(pixels: Tensor, axis: int, factor: int, phase: int) -> Tensor:
    return pixels[:, :, phase::factor] if axis == 2 else pixels[..., phase::factor]


def _add_moved(target: Tensor, values: Tensor, axis: int, step: int, weight: float) -> None:
    """target[i + step] += weight · values[i] along the axis; what moves in from outside repeats the border."""
    last = values.shape[axis] - 1
    kept = last + 1 - abs(step)
    target.narrow(axis, max(step, 0), kept).add_(values.narrow(axis, max(-step, 0), kept), alpha=weight)
    if step:
        border = 0 if step > 0 else last
        target.narrow(axis, border, 1).add_(values.narrow(axis, border, 1), alpha=weight)


def _added(plane: Tensor, change: Tensor, most: int) -> Tensor:
    # In integers, and of eight bits in short ones, which is faster on a processor than in floating point.
    wide = torch.int16 if plane.dtype == torch.uint8 else torch.int32
    return plane.to(wide).add_(change.round_().to(wide)).clamp_(0, most).to(plane.dtype)
