"""What a video is, apart from how it is read and written: the layout of its pixels, its colours, its frames."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

GAP = Fraction(1, 20)
"""The longest that a part of a video may begin without a picture, in seconds: no longer than a film shows a frame."""


def as_meant(seconds: float) -> Fraction:
    """A time as it was written: 0.2 is a fifth, not the binary number next to it. Exact to a millionth of a second."""
    return Fraction(seconds).limit_denominator(1_000_000)


@dataclass(frozen=True)
class PixelFormat:
    """How the pixels of a frame lie in memory: planes of one or two bytes a sample, little-endian.

    `yuv` has the planes Y, Cb, Cr, `rgb` has G, B, R (ffmpeg's order of planar RGB), `grey` has Y; alpha comes last.
    """

    name: str
    """ffmpeg's name: `yuv420p`, `yuv422p10le`, `gbrp`, `gray12le`, `yuva444p` …"""
    kind: str
    """`yuv`, `rgb` or `grey`."""
    depth: int
    """Bits of a sample, 8 to 16."""
    shift_x: int = 0
    """Chroma planes have width / 2^shift_x columns, rounded up."""
    shift_y: int = 0
    """Chroma planes have height / 2^shift_y rows, rounded up."""
    alpha: bool = False

    @property
    def dtype(self) -> np.dtype:
        """uint8, or uint16 for more than 8 bits."""
        return np.dtype(np.uint8 if self.depth == 8 else "<u2")

    def plane_shapes(self, height: int, width: int) -> list[tuple[int, int]]:
        """Height and width of each plane."""
        full = (height, width)
        chroma = (-(-height >> self.shift_y), -(-width >> self.shift_x))
        planes = {"yuv": [full, chroma, chroma], "rgb": [full] * 3, "grey": [full]}[self.kind]
        return [*planes, full] if self.alpha else planes

    def frame_bytes(self, height: int, width: int) -> int:
        """Bytes of a frame."""
        return sum(rows * columns for rows, columns in self.plane_shapes(height, width)) * self.dtype.itemsize


@dataclass(frozen=True)
class Colour:
    """What the samples mean, as ITU-T H.273 names it. Nothing is left unknown: a reader fills gaps as players do."""

    matrix: str = "bt709"
    """`bt709`, `smpte170m` (BT.601), `bt2020nc` or `gbr`; untagged video counts as BT.709 from 720 lines up, else as
    BT.601."""
    full_range: bool = False
    primaries: str = "unknown"
    """As tagged; carried through."""
    transfer: str = "unknown"
    """As tagged; carried through."""
    chroma_location: str = "left"
    """Where the chroma of 4:2:0 lies: `left` (MPEG-2 and later), `center` (MPEG-1, JPEG) or `topleft` (BT.2020)."""


@dataclass(frozen=True)
class Frame:
    """One frame of a video."""

    planes: tuple[np.ndarray, ...]
    """As `PixelFormat` says, each rows×columns."""
    pts: int
    """Presentation time in ticks of the stream's time base."""
    repeated: bool = False
    """Whether it is the one before once more, in place of one that could not be decoded."""


@dataclass(frozen=True)
class VideoFormat:
    """What is the same for all frames of a video stream."""

    width: int
    height: int
    pixels: PixelFormat
    colour: Colour
    time_base: Fraction
    """Seconds of a tick."""
