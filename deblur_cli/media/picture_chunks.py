"""What a picture that is a frame of a video says beside its pixels: the video's colours, and the shape of a pixel.

Chunks after the PNG specification, third edition (W3C 2025); codes after ITU-T H.273.
"""

from __future__ import annotations

import struct
from fractions import Fraction

from deblur_cli.media import keeping
from deblur_cli.media.photo import Photo, PngFacts
from deblur_cli.media.video import Colour

_PRIMARIES = {
    "bt709": 1,
    "unknown": 2,
    "bt470m": 4,
    "bt470bg": 5,
    "smpte170m": 6,
    "smpte240m": 7,
    "film": 8,
    "bt2020": 9,
    "smpte428": 10,
    "smpte431": 11,
    "smpte432": 12,
    "ebu3213": 22,
}
_TRANSFERS = {
    "bt709": 1,
    "unknown": 2,
    "bt470m": 4,
    "bt470bg": 5,
    "smpte170m": 6,
    "smpte240m": 7,
    "linear": 8,
    "log100": 9,
    "log316": 10,
    "iec61966-2-4": 11,
    "bt1361e": 12,
    "iec61966-2-1": 13,
    "bt2020-10": 14,
    "bt2020-12": 15,
    "smpte2084": 16,
    "smpte428": 17,
    "arib-std-b67": 18,
}
_OURS = (b"tEXt", b"Software\x00deblur")


def chunks(colour: Colour, aspect: Fraction | None) -> list[tuple[bytes, bytes]]:
    """Chunks (type, payload) of a PNG with a frame's RGB; none for colours that are nearly sRGB, and square pixels.

    Args:
        colour: of the video; its primaries and transfer are those of the RGB too.
        aspect: width of a pixel of the picture over its height; None: not said.
    """
    found = []
    coded = (_PRIMARIES.get(colour.primaries, 2), _TRANSFERS.get(colour.transfer, 2))
    if coded not in keeping.PLAIN:
        # The last two: RGB as it is, over the full range.
        found.append((b"cICP", bytes((*coded, 0, 1))))
    if aspect not in {None, Fraction(1)}:
        assert aspect is not None
        # Pixels a unit of length, across and down: there are fewer of those that are wide.
        found += [_OURS, (b"pHYs", struct.pack(">IIB", aspect.denominator, aspect.numerator, 0))]
    return found


def primaries_and_transfer(photo: Photo) -> tuple[str, str]:
    """What a picture says of its colours, in ffmpeg's names; `unknown` where it says nothing, or nearly sRGB."""
    chunk = _chunks(photo).get(b"cICP", b"")
    coded = tuple(chunk[:2]) if len(chunk) == 4 else keeping.coded_colour(photo)
    if coded is None or coded in keeping.PLAIN:
        return "unknown", "unknown"
    return _named(_PRIMARIES, coded[0]), _named(_TRANSFERS, coded[1])


def pixel_aspect(photo: Photo) -> tuple[Fraction | None, bool]:
    """Width of a pixel over its height as a PNG says without a unit, None where it does not; and whether that is sure.

    It is where the picture was written here. ffmpeg has the two numbers of the chunk the wrong way round, and its
    pictures cannot be told from others.
    """
    chunk = _chunks(photo).get(b"pHYs", b"")
    across, down, unit = struct.unpack(">IIB", chunk) if len(chunk) == 9 else (0, 0, 0)
    if unit or not across or not down or across == down:
        return None, True
    return Fraction(down, across), isinstance(photo.facts, PngFacts) and _OURS in photo.facts.chunks


def _chunks(photo: Photo) -> dict[bytes, bytes]:
    return dict(photo.facts.chunks) if isinstance(photo.facts, PngFacts) else {}


def _named(codes: dict[str, int], code: int) -> str:
    return next((name for name, each in codes.items() if each == code), "unknown")
