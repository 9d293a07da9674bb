"""From the planes of a video's frames to RGB for a network, and the network's change back to the planes.

A network sees RGB in [0, 1], and video holds more than that: values above white and below black, chroma that changes
when it is resampled back and forth. So the planes are not made anew from the restored RGB. Instead, what the network
*changed* is converted and added to them: planes + yuv(restored − blurred). The conversion is linear, so inside of
[0, 1] that is the same picture, and what the network leaves alone stays as it was to the last bit, in every format.

Matrices and quantisation are those of ITU-T H.273, in gamma-encoded values throughout. Chroma is upsampled by linear
interpolation between the places where its samples lie, and downsampled by the transpose of that, a triangle over two
chroma samples. All arithmetic is elementwise in float32: a GPU's matrix units would round it to 10 bits (TF32).

A processor works strip by strip, so that what lies between two operations stays in its cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from deblur_cli.errors import DeblurError
from deblur_cli.media.video import Colour, PixelFormat, VideoFormat

_LUMA_WEIGHTS = {"bt709": (0.2126, 0.0722), "smpte170m": (0.299, 0.114), "bt2020nc": (0.2627, 0.0593)}
"""Kr and Kb of a matrix; Kg is what is left to 1."""

_STRIP_PIXELS = 3 << 16
"""Of a strip, which one thread works on. Fewer take more calls, more do not stay in a core's cache."""


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
            rgb[:, channel] = _unit(plane, black, white).clamp_(0.0, 1.0)
        return rgb
    red, blue, green = _weights(colour)
    (factor, offset), columns = _siting(pixels, colour)
    # Columns first, while there are few rows: writing with a stride is what costs on a processor.
    chroma = _upsampled(_chroma(planes, video), 3, *columns)[..., : video.width]
    for own, reach in _strips(video, rgb.device):
        rows = _scaled(own, factor)
        target = rgb[:, :, rows]
        luma = _unit(planes[0][:, rows], black, white)
        tint = _upsampled(chroma[:, :, reach], 2, factor, offset)[:, :, _scaled(_within(own, reach), factor)]
        blueness, redness = tint[:, :, : luma.shape[1]].unbind(1)
        torch.add(luma, redness, alpha=2 * (1 - red), out=target[:, 0])
        torch.add(luma, blueness, alpha=-2 * (1 - blue) * blue / green, out=target[:, 1])
        target[:, 1].add_(redness, alpha=-2 * (1 - red) * red / green)
        torch.add(luma, blueness, alpha=2 * (1 - blue), out=target[:, 2])
        target.clamp_(0.0, 1.0)
    return rgb


def add_change(planes: Sequence[Tensor], blurred: Tensor, restored: Tensor, video: VideoFormat) -> list[Tensor]:
    """The planes of some frames after a change of their RGB; where that is nothing, they are as they were.

    Args:
        planes: N×h×w each, integers, as `PixelFormat` says; alpha is handed on.
        blurred: N×3×H×W float32, `to_rgb(planes, video)`.
        restored: what it became, N×3×H×W float32. The change of a grey frame is the mean of the three channels.
        video: their format.

    Returns:
        New planes of the same shapes and type, rounded, and clipped to what the depth can hold.

    Raises:
        DeblurError: as `to_rgb`.
    """
    pixels = video.pixels
    black, white, _, _ = _levels(pixels, video.colour)
    if pixels.kind == "grey":
        change = (restored - blurred).mean(dim=1)
        return [_added(planes[0], change.mul_(white - black), pixels), *planes[1:]]
    if pixels.kind == "rgb":
        changes = (restored[:, channel] - blurred[:, channel] for channel in (1, 2, 0))
        added = (_added(p, c.mul_(white - black), pixels) for p, c in zip(planes, changes, strict=False))
        return [*added, *planes[3:]]
    luma, chroma = _add_to_luma(planes, blurred, restored, video)
    return [luma, *_add_to_chroma(planes, chroma, video), *planes[3:]]


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


def _siting(pixels: PixelFormat, colour: Colour) -> tuple[tuple[int, float], tuple[int, float]]:
    """For rows and columns: pixels from a chroma sample to the next, and at which of them the first one lies."""
    factor_y, factor_x = 1 << pixels.shift_y, 1 << pixels.shift_x
    return (
        (factor_y, 0.0 if colour.chroma_location == "topleft" else (factor_y - 1) / 2),
        (factor_x, (factor_x - 1) / 2 if colour.chroma_location == "center" else 0.0),
    )


def _unit(plane: Tensor, black: int, white: int) -> Tensor:
    return plane.float().sub_(black).mul_(1 / (white - black))


def _strips(video: VideoFormat, device: torch.device) -> Iterator[tuple[slice, slice]]:
    """The rows of chroma in each strip, and with them the one above and below, from which it is interpolated."""
    shift = video.pixels.shift_y
    count = -(-video.height >> shift)
    step = count
    if device.type == "cpu":
        step = max(_STRIP_PIXELS // (video.width << shift), 1)
    for start in range(0, count, step):
        stop = min(start + step, count)
        yield slice(start, stop), slice(max(start - 1, 0), min(stop + 1, count))


def _scaled(rows: slice, factor: int) -> slice:
    """The rows of the picture that lie in rows of chroma; an odd last one may not be there."""
    return slice(rows.start * factor, rows.stop * factor)


def _within(rows: slice, others: slice) -> slice:
    """`rows` counted from the first of `others`."""
    return slice(rows.start - others.start, rows.stop - others.start)


def _chroma(planes: Sequence[Tensor], video: VideoFormat) -> Tensor:
    """Pb and Pr of each sample, in [−½, ½] where they are in range: N×2×h×w."""
    _, _, middle, steps = _levels(video.pixels, video.colour)
    return torch.stack((planes[1].float(), planes[2].float()), dim=1).sub_(middle).mul_(1 / steps)


def _add_to_luma(
    planes: Sequence[Tensor], blurred: Tensor, restored: Tensor, video: VideoFormat
) -> tuple[Tensor, Tensor]:
    """The new plane of luma, and how Pr and Pb change in each column of chroma's rows, N×2×h×W, scaled as R and B."""
    black, white, _, _ = _levels(video.pixels, video.colour)
    red, blue, green = _weights(video.colour)
    (factor, offset), _ = _siting(video.pixels, video.colour)
    added = torch.empty_like(planes[0])
    lines = restored.new_empty((len(restored), 2, planes[1].shape[1], video.width))
    for own, reach in _strips(video, restored.device):
        rows, wide, inner = _scaled(own, factor), _scaled(reach, factor), _within(own, reach)
        change = restored[:, :, wide] - blurred[:, :, wide]
        luma = (change[:, 0] * red).add_(change[:, 1], alpha=green).add_(change[:, 2], alpha=blue)
        chroma = change[:, ::2].sub_(luma[:, None])
        lines[:, :, own] = _downsampled(chroma, 2, factor, offset)[:, :, inner]
        luma = luma[:, _scaled(inner, factor)].mul_(white - black)
        added[:, rows] = _added(planes[0][:, rows], luma, video.pixels)
    return added, lines


def _add_to_chroma(planes: Sequence[Tensor], lines: Tensor, video: VideoFormat) -> tuple[Tensor, Tensor]:
    """The new planes of chroma."""
    _, _, _, steps = _levels(video.pixels, video.colour)
    red, blue, _ = _weights(video.colour)
    _, columns = _siting(video.pixels, video.colour)
    redder, bluer = _downsampled(lines, 3, *columns).unbind(1)
    return (
        _added(planes[1], bluer * (steps / (2 * (1 - blue))), video.pixels),
        _added(planes[2], redder * (steps / (2 * (1 - red))), video.pixels),
    )


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
    for phase, (_, *beside) in enumerate(_taps(factor, offset)):
        target = _phase(pixels, axis, factor, phase)
        if not beside:
            target.copy_(samples)
        for step, weight in beside:  # one at most: interpolation is between two samples
            kept = samples.shape[axis] - abs(step)
            here, there = (samples.narrow(axis, max(sign * step, 0), kept) for sign in (1, -1))
            torch.lerp(here, there, weight, out=target.narrow(axis, max(step, 0), kept))
            border = 0 if step > 0 else kept
            target.narrow(axis, border, 1).copy_(samples.narrow(axis, border, 1))
    return pixels


def _downsampled(pixels: Tensor, axis: int, factor: int, offset: float) -> Tensor:
    """Means under triangles two samples wide, the transpose of `_upsampled`; an odd end counts as repeated."""
    if factor == 1:
        return pixels
    if missing := -pixels.shape[axis] % factor:
        end = pixels.narrow(axis, pixels.shape[axis] - 1, 1)
        pixels = torch.cat([pixels, *[end] * missing], dim=axis)
    taps = _taps(factor, offset)
    phases = [_phase(pixels, axis, factor, phase) for phase in range(factor)]
    if axis == 3:
        phases = [phase.contiguous() for phase in phases]  # read with a stride once, not in each operation
    samples = phases[0] * (taps[0][0][1] / factor)
    for phase, of_phase in enumerate(taps):
        for step, weight in of_phase[1:] if phase == 0 else of_phase:
            _add_moved(samples, phases[phase], axis, -step, weight / factor)
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


def _added(plane: Tensor, change: Tensor, pixels: PixelFormat) -> Tensor:
    # In integers, and of eight bits in short ones, which is faster on a processor than in floating point.
    wide = torch.int16 if plane.dtype == torch.uint8 else torch.int32
    return plane.to(wide).add_(change.round_().to(wide)).clamp_(0, (1 << pixels.depth) - 1).to(plane.dtype)
