"""The two ends of the engine: tiles of an array of pixels as tensors, and finished blocks as pixels of its depth.

One tile at a time is converted; nothing of the image's size is ever held in floating point, unless the image is.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from deblur_cli.errors import UsageError
from deblur_cli.restoration.tiling import Span

_WHITE = {("u", 1): 255.0, ("u", 2): 65535.0, ("f", 4): 1.0}
"""The value of white in the types of pixels that are taken, by kind and bytes, so that byte order does not matter."""
_BAND = 256
"""Rows that are looked at together."""


def _is_grey(pixels: np.ndarray) -> bool:
    """Whether H×W×C pixels are the same in all channels, as in files of formats that know no grey.

    Of 8 bits those a level apart are the same: a lossy WebP rounds each channel for itself.
    """
    for top in range(0, len(pixels), _BAND):
        band = pixels[top : top + _BAND]
        for colour in range(1, band.shape[2]):
            one, other = band[:, :, 0], band[:, :, colour]
            if one.dtype == np.uint8:
                if (np.maximum(one, other) - np.minimum(one, other)).max() > 1:
                    return False
            elif not np.array_equal(one, other):
                return False
    return True


class Pixels:
    """A blurred image to be read in tiles, and `restored`, an array of its shape and type to be written in blocks.

    Args:
        pixels: H×W, H×W×1 (grey), H×W×2 (grey, alpha), H×W×3 (RGB) or H×W×4 (RGB, alpha); uint8, uint16 or float32
            in [0, 1].
        strength: 0 to 2, see `write`.

    Raises:
        UsageError: another shape or type, no pixels, or values that are not finite.
    """

    def __init__(self, pixels: np.ndarray, strength: float = 1.0) -> None:
        if not isinstance(pixels, np.ndarray):
            raise UsageError(f"an image is a NumPy array, not {type(pixels).__name__}")
        shape = "×".join(map(str, pixels.shape))
        if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 2, 3, 4)):
            raise UsageError(f"an image is H×W or H×W with 1 to 4 channels, not {shape or 'a single number'}")
        if pixels.size == 0:
            raise UsageError(f"an image of {shape} has no pixels")
        if (pixels.dtype.kind, pixels.dtype.itemsize) not in _WHITE:
            raise UsageError(f"pixels are uint8, uint16 or float32 in [0, 1], not {pixels.dtype}")
        self._white = np.float32(_WHITE[pixels.dtype.kind, pixels.dtype.itemsize])
        self._strength = strength
        self.height, self.width = pixels.shape[:2]
        self.restored = np.empty(pixels.shape, pixels.dtype)
        blurred, restored = (image[:, :, None] if pixels.ndim == 2 else image for image in (pixels, self.restored))
        colours = 3 if blurred.shape[2] >= 3 else 1
        self._blurred, self._restored = blurred[:, :, :colours], restored[:, :, :colours]
        restored[:, :, colours:] = blurred[:, :, colours:]
        self._grey = _is_grey(self._blurred)
        self.beyond_range = pixels.dtype.kind == "f" and self._leaves_range()
        """Whether there are values outside of [0, 1]."""

    def _leaves_range(self) -> bool:
        lowest, highest = float(self._blurred.min()), float(self._blurred.max())
        if not np.isfinite([lowest, highest]).all():
            raise UsageError("the image holds values that are not finite (NaN or infinity)")
        return lowest < 0.0 or highest > 1.0

    def read(self, rows: Span, columns: Span) -> Tensor:
        """What there is of the image in these rows and columns: 1×3×h×w float32 in [0, 1], grey in all three."""
        tile = self._read(rows.start, rows.stop, columns.start, columns.stop)
        return tile.expand(-1, 3, -1, -1)

    def write(self, top: int, left: int, block: Tensor) -> None:
        """Put a restored block 1×3×h×w in [0, 1] into `restored`; what lies beyond the image is left out.

        The pixels become blurred + strength · (block − blurred), clipped to [0, 1] and rounded half up where they are
        integers; of a grey image, also one in three channels, that is the mean of the block's, as far from each other
        as they were.
        """
        target = self._restored[top : top + block.shape[2], left : left + block.shape[3]]
        height, width = target.shape[:2]
        values = block[:, :, :height, :width].cpu()
        if self._grey:
            blurred = self._read(top, top + height, left, left + width)
            values = (values.mean(dim=1, keepdim=True) + (blurred - blurred[:, :1])).clamp_(0.0, 1.0)
        if self._strength != 1.0:
            values = torch.lerp(self._read(top, top + height, left, left + width), values, self._strength)
            values = values.clamp_(0.0, 1.0)
        if target.dtype.kind == "u":
            # Conversion to an integer cuts off, and no value is negative: one half more makes it rounding.
            values = values.mul(float(self._white)).add_(0.5)
        target[:] = values[0].permute(1, 2, 0).numpy().astype(target.dtype)

    def _read(self, top: int, bottom: int, left: int, right: int) -> Tensor:
        tile = self._blurred[top:bottom, left:right]
        values = np.ascontiguousarray(np.divide(tile, self._white, dtype=np.float32))
        if self.beyond_range:
            values = values.clip(0.0, 1.0)
        return torch.from_numpy(values).permute(2, 0, 1)[None]
