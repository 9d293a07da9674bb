"""Protocols that lay a restored picture on its sharp one before they compare the two: Köhler's and RealBlur's.

The camera that took the sharp picture of a real pair stood, and exposed, a little differently. Compared pixel by pixel
such pairs say more of that than of the blur: Köhler's blurred pictures have about 19 dB so, and 25 dB aligned. Both
protocols first scale the restored picture z by the factor Σxz / Σz² that brings it nearest to the sharp one x. Pairs of
other sets are scored as RealBlur's are where that is asked for (`Dataset.aligned`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import cv2
import numpy as np
import torch
from torch import Tensor

from deblur_cli.errors import DatasetError
from deblur_cli.evaluation import multiscale
from deblur_cli.evaluation.metrics import K1, K2, SIGMA, WINDOW, Scores, score

_RANGE = 255.0
_LUMA = (0.299, 0.587, 0.114)
_ECC_STEPS = 100
_ECC_SMOOTHING = 5
_C1, _C2 = K1**2, K2**2  # of values in [0, 1]


def score_trajectory(images: Sequence[Tensor], frames: Iterable[Tensor]) -> list[Scores]:
    """The best scores of each image over the sharp frames of a trajectory (Köhler et al. 2012).

    As in the authors' script: the scaled image is moved by whole pixels to where the circular cross-correlation of the
    channels' means is greatest, what it does not cover is black in both, and luminance (0.299, 0.587, 0.114) is
    compared over the whole picture. The best PSNR and the best SSIM may be those of different frames. The SSIM that is
    published for this set is `ms_ssim`. A frame that is black, as a missing one may be stored, is passed over: any
    picture scaled to it would be identical.

    Args:
        images: each 1×3×H×W with values of 0 to 255, on any device.
        frames: the same, the sharp ones.

    Returns:
        The scores of each image.

    Raises:
        DatasetError: there are no frames, or they are of another size.
    """
    # One device for all: the blurred picture comes from the disk, the restored one from the network.
    floats = [image.to(images[0].device, torch.float32) for image in images]
    spectra = [torch.fft.rfft2(image.mean(dim=1)) for image in floats]
    best: list[list[Scores]] = [[] for _ in images]
    for frame in frames:
        if not frame.any():
            continue
        sharp = frame.to(floats[0])
        spectrum, luma = torch.fft.rfft2(sharp.mean(dim=1)), _luma(sharp)
        for image, own_spectrum, scores in zip(floats, spectra, best, strict=True):
            if frame.shape != image.shape:
                raise DatasetError(f"a sharp frame of {_size(frame)} does not belong to a picture of {_size(image)}")
            offset = _translation(spectrum, own_spectrum, image.shape[2:])
            moved = _moved(_luma(image) * _scale(sharp, image), offset)
            covered = _moved(torch.ones_like(moved), offset)
            scores.append(_luminance_scores(moved, luma * covered))
    if not all(best):
        raise DatasetError("there is no sharp frame to compare with")
    return [_best(scores) for scores in best]


def score_registered(image: Tensor, sharp: Tensor) -> Scores:
    """Scores of an image that a homography has laid on the sharp one, over the pixels that it covers (Rim et al. 2020).

    As in RealBlur's script: the homography maximises the enhanced correlation coefficient of both in grey (Evangelidis
    and Psarakis 2008; 100 steps, smoothed by a Gaussian of 5 pixels), the scaled image is resampled by bicubic
    interpolation, and PSNR and `ssim` are means over what is covered. `ssim_matlab`, which nobody publishes for this
    set, is taken with what is not covered black in both.

    Args:
        image: 1×3×H×W with values of 0 to 255, on any device.
        sharp: the same.

    Raises:
        DatasetError: the two cannot be aligned.
    """
    scale = np.float32(_scale(sharp.cpu().float(), image.cpu().float()))
    restored, truth = (one[0].permute(1, 2, 0).cpu().numpy().astype(np.float32) / _RANGE for one in (image, sharp))
    scaled = restored * scale
    warp = _homography(truth, scaled)
    size, inverse = truth.shape[1::-1], cv2.WARP_INVERSE_MAP
    aligned = cv2.warpPerspective(scaled, warp, size, flags=cv2.INTER_CUBIC | inverse, borderMode=cv2.BORDER_REFLECT)
    covered = cv2.warpPerspective(np.ones_like(scaled), warp, size, flags=cv2.INTER_NEAREST | inverse)
    if not covered.any():
        raise DatasetError("the picture cannot be aligned with the sharp one")
    one, other = ((values * covered).astype(np.float64) for values in (aligned, truth))
    error = np.square(one - other).sum() / covered.sum()
    volume = score(*(torch.from_numpy(values).permute(2, 0, 1)[None] for values in (one, other)), data_range=1.0)
    return Scores(
        psnr=-10 * math.log10(error) if error else math.inf,
        ssim=_covered_ssim(one, other, covered),
        ssim_matlab=volume[0].ssim_matlab,
    )


def _luminance_scores(image: Tensor, sharp: Tensor) -> Scores:
    """Of 1×1×H×W images; multi-scale SSIM too where they are large enough for it."""
    scores = score(image, sharp, data_range=_RANGE)[0]
    if min(image.shape[2:]) < multiscale.LEAST:
        return scores
    return replace(scores, ms_ssim=multiscale.ms_ssim(image, sharp, data_range=_RANGE))


def _best(scores: Sequence[Scores]) -> Scores:
    return Scores(
        psnr=max(one.psnr for one in scores),
        ssim=max(one.ssim for one in scores),
        ssim_matlab=max(one.ssim_matlab for one in scores),
        ms_ssim=max((one.ms_ssim for one in scores if one.ms_ssim is not None), default=None),
    )


def _scale(sharp: Tensor, image: Tensor) -> float:
    """Of the image, so that its squared distance to the sharp one is least; a black one stays as it is."""
    along, energy = (float(_sum(image * other)) for other in (sharp, image))
    return along / energy if energy else 1.0


def _sum(values: Tensor) -> Tensor:
    """In float64, which Apple's GPUs do not have."""
    return (values.cpu() if values.device.type == "mps" else values).sum(dtype=torch.float64)


def _translation(sharp: Tensor, image: Tensor, size: Sequence[int]) -> tuple[int, int]:
    """Rows and columns by which the image has to move, from both spectra."""
    correlation = torch.fft.irfft2(sharp * image.conj(), s=tuple(size))
    place = np.unravel_index(int(correlation.argmax()), tuple(size))
    row, column = (
        int(at) - length if 2 * int(at) > length else int(at) for at, length in zip(place, size, strict=True)
    )
    return row, column


def _moved(image: Tensor, offset: tuple[int, int]) -> Tensor:
    """The image, black where it moved away from."""
    moved = torch.roll(image, offset, dims=(2, 3))
    for dim, distance in zip((2, 3), offset, strict=True):
        start = 0 if distance >= 0 else image.shape[dim] + distance
        moved.narrow(dim, start, abs(distance)).zero_()
    return moved


def _luma(image: Tensor) -> Tensor:
    return (image * image.new_tensor(_LUMA).view(3, 1, 1)).sum(dim=1, keepdim=True)


def _homography(sharp: np.ndarray, image: np.ndarray) -> np.ndarray:
    """3×3, from places in the sharp picture to those in the image."""
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _ECC_STEPS, 0.0)
    one, other = (cv2.cvtColor(np.ascontiguousarray(values), cv2.COLOR_RGB2GRAY) for values in (sharp, image))
    start, all_of_it = np.eye(3, dtype=np.float32), np.ones(one.shape, np.uint8)
    try:
        return cv2.findTransformECC(one, other, start, cv2.MOTION_HOMOGRAPHY, criteria, all_of_it, _ECC_SMOOTHING)[1]
    except cv2.error as error:
        raise DatasetError("the picture cannot be aligned with the sharp one") from error


def _covered_ssim(one: np.ndarray, other: np.ndarray, covered: np.ndarray) -> float:
    """`metrics.ssim` of H×W×3 values in [0, 1] as a mean over the covered positions of the valid region."""

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(values, (WINDOW, WINDOW), SIGMA)

    mean_one, mean_other = mean(one), mean(other)
    spread = mean(one * one) - mean_one**2 + mean(other * other) - mean_other**2
    covariance = mean(one * other) - mean_one * mean_other
    similarity = (2 * mean_one * mean_other + _C1) * (2 * covariance + _C2)
    similarity /= (mean_one**2 + mean_other**2 + _C1) * (spread + _C2)
    inside = slice(WINDOW // 2, -(WINDOW // 2))
    weights = covered[inside, inside]
    return float(((similarity[inside, inside] * weights).sum(axis=(0, 1)) / weights.sum(axis=(0, 1))).mean())


def _size(image: Tensor) -> str:
    return f"{image.shape[3]}×{image.shape[2]}"
