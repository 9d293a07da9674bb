"""Pictures that show what training sees: rows of blurred, restored and sharp crops."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deblur_cli.errors import DeblurError
from deblur_cli.media.files import replacing


def write_png(path: Path, picture: Tensor) -> None:
    """Write 3×H×W uint8 as a PNG, whole or not at all.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    import cv2

    pixels = np.ascontiguousarray(picture.permute(1, 2, 0).cpu().numpy()[:, :, ::-1])
    written, data = cv2.imencode(".png", pixels)
    if not written:
        raise DeblurError(f"{path}: the picture could not be encoded")
    with replacing(path) as stream:
        stream.write(data.tobytes())


def contact_sheet(rows: Sequence[Sequence[Tensor]], side: int = 256) -> Tensor:
    """Rows of 3×H×W uint8 images side by side, each as its middle square of at most `side` pixels; 3×H×W uint8."""
    return torch.cat([torch.cat([_middle(image, side) for image in row], dim=2) for row in rows], dim=1)


def _middle(image: Tensor, side: int) -> Tensor:
    """The middle square of an image, on white where the image is smaller."""
    height, width = (min(side, length) for length in image.shape[1:])
    top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
    square = torch.full((3, side, side), 255, dtype=torch.uint8)
    square[:, :height, :width] = image[:, top : top + height, left : left + width]
    return square
