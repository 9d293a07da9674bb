"""Where on a picture somebody or something is, as EXIF and XMP say it of the stored pixels: turned as those are.

Regions after the Metadata Working Group's guidelines 2.0 and Microsoft's People Tagging; the subject's area after Exif
2.32, 4.6.5.
"""

from __future__ import annotations

import re

STATES = rb"""\s*(?:=\s*["']|>)\s*"""
"""What stands between a property of XMP and its value: it is an attribute or an element."""

_AREA = re.compile(rb"<mwg-rs:Area\b(?:(?!<mwg-rs:Area\b).){0,1000}?(?:/>|</mwg-rs:Area)", re.DOTALL)
_SIDE = re.compile(rb"(stArea:([xywh])" + STATES + rb")([\d.eE+-]+)")
_RECTANGLE = re.compile(rb"(MPReg:Rectangle" + STATES + rb")([\d.eE+, -]+)")
_APPLIED = re.compile(rb"stDim:([wh])" + STATES + rb"(\d+)")

Area = tuple[float, float, float, float]
"""Centre (across, down), width and height."""


def turned(area: Area, orientation: int, size: tuple[float, float]) -> Area:
    """An area of pixels of `size` (width, height), where it lies after `deblur_cli.media.pixels.turn`."""
    x, y, width, height = area
    across, down = size
    if orientation > 4:
        x, y, width, height, across, down = y, x, height, width, down, across
    if orientation in (3, 4, 7, 8):
        y = down - y
    if orientation in (2, 3, 6, 7):
        x = across - x
    return x, y, width, height


def upright(packet: bytes, orientation: int, size: tuple[int, int]) -> bytes:
    """The XMP packet with its regions where they lie after the pixels were turned.

    Args:
        packet: the packet, which may become longer.
        orientation: of the stored pixels, 1 to 8.
        size: width and height of the upright ones. Regions that are said to apply to these, and not to the stored
            ones, stay.
    """
    applied = {found[1]: int(found[2]) for found in _APPLIED.finditer(packet)}
    if orientation == 1 or (orientation > 4 and size[0] != size[1] and (applied.get(b"w"), applied.get(b"h")) == size):
        return packet
    packet = _AREA.sub(lambda found: _area(found[0], orientation), packet)
    return _RECTANGLE.sub(lambda found: _rectangle(found, orientation), packet)


def _area(text: bytes, orientation: int) -> bytes:
    try:
        sides = {found[2]: float(found[3]) for found in _SIDE.finditer(text)}
    except ValueError:
        return text
    if not {b"x", b"y"} <= sides.keys() or not all(0 <= side <= 1 for side in sides.values()):
        return text
    area = sides[b"x"], sides[b"y"], sides.get(b"w", 0.0), sides.get(b"h", 0.0)
    anew = dict(zip((b"x", b"y", b"w", b"h"), turned(area, orientation, (1.0, 1.0)), strict=True))
    return _SIDE.sub(lambda found: found[1] + _number(anew[found[2]]), text)


def _rectangle(found: re.Match[bytes], orientation: int) -> bytes:
    try:
        left, top, width, height = map(float, found[2].split(b","))
    except ValueError:
        return found[0]
    x, y, width, height = turned((left + width / 2, top + height / 2, width, height), orientation, (1.0, 1.0))
    return found[1] + b", ".join(map(_number, (x - width / 2, y - height / 2, width, height)))


def _number(value: float) -> bytes:
    return f"{max(value, 0.0):.6f}".encode()
