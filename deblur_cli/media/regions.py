"""Where on a picture somebody or something is, as EXIF and XMP say it of the stored pixels: turned as those are.

Regions after the Metadata Working Group's guidelines 2.0, Microsoft's People Tagging and IPTC's Photo Metadata Standard
2023.1 (`RegionBoundary`); the subject's area after Exif 2.32, 4.6.5, which XMP states as a list.
"""

from __future__ import annotations

import re

STATES = rb"""\s*(?:=\s*["']|>)\s*"""
"""What stands between a property of XMP and its value: it is an attribute or an element."""

_AREA = re.compile(rb"<mwg-rs:Area\b(?:(?!<mwg-rs:Area\b).){0,1000}?(?:/>|</mwg-rs:Area)", re.DOTALL)
_SIDE = re.compile(rb"(stArea:([xywh])" + STATES + rb")([\d.eE+-]+)")
_RECTANGLE = re.compile(rb"(MPReg:Rectangle" + STATES + rb")([\d.eE+, -]+)")
_APPLIED = re.compile(rb"stDim:([wh])" + STATES + rb"(\d+)")
# A rectangle, a circle or the corners of a polygon, and what a boundary states of them.
_BOUNDARY = re.compile(
    rb"<Iptc4xmpExt:RegionBoundary\b(?:[^<>]*/>"
    rb"|(?:(?!<Iptc4xmpExt:RegionBoundary\b).)*?</Iptc4xmpExt:RegionBoundary)",
    re.DOTALL,
)
_MEASURE = re.compile(rb"(Iptc4xmpExt:rb(X|Y|W|H|Rx)" + STATES + rb")([\d.eE+-]+)")
_IN_PIXELS = re.compile(rb"Iptc4xmpExt:rbUnit" + STATES + rb"pixel")
_SUBJECT = re.compile(rb"<exif:Subject(?:Area|Location)>\s*<rdf:Seq>(?:\s*<rdf:li>\d{1,5}</rdf:li>){2,4}")
_ITEM = re.compile(rb"(?<=<rdf:li>)\d+")
_STATED_SIZE = re.compile(rb"exif:Pixel([XY])Dimension" + STATES + rb"(\d{1,9})")

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


def turned_subject(stated: tuple[int, ...], orientation: int, size: tuple[int, int]) -> tuple[int, ...]:
    """The subject's area (two to four numbers, as EXIF has it) in pixels of `size`, where it lies after `turned`.

    One that would lie outside of what EXIF can state stays.
    """
    across, down, *extent = stated
    wide, high = (*extent, 0, 0)[:2]
    x, y, width, height = turned((across, down, wide, high), orientation, size)
    # Two numbers are a point, a third is the diameter of a circle.
    anew = (x, y, *(stated[2:3] if len(stated) == 3 else (width, height)[: len(stated) - 2]))
    return tuple(map(int, anew)) if all(0 <= number <= 65535 for number in anew) else stated


def upright(packet: bytes, orientation: int, size: tuple[int, int]) -> bytes:
    """The XMP packet with its regions and its subject where they lie after the pixels were turned.

    Args:
        packet: the packet, which may become longer.
        orientation: of the stored pixels, 1 to 8.
        size: width and height of the upright ones. Regions that are said to apply to these, and not to the stored
            ones, stay.
    """
    if orientation == 1:
        return packet
    stored = size[::-1] if orientation > 4 else size
    stated = {found[1]: int(found[2]) for found in _STATED_SIZE.finditer(packet)}
    seen = stated.get(b"X") or stored[0], stated.get(b"Y") or stored[1]
    packet = _SUBJECT.sub(lambda found: _subject(found[0], orientation, seen), packet)
    applied = {found[1]: int(found[2]) for found in _APPLIED.finditer(packet)}
    if orientation > 4 and size[0] != size[1] and (applied.get(b"w"), applied.get(b"h")) == size:
        return packet
    packet = _AREA.sub(lambda found: _area(found[0], orientation), packet)
    packet = _BOUNDARY.sub(lambda found: _boundary(found[0], orientation, stored), packet)
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


def _boundary(text: bytes, orientation: int, stored: tuple[int, int]) -> bytes:
    """A region of IPTC's of a picture that is stored in `stored` (width, height): its points are the top left of a
    rectangle, the centre of a circle, the corners of a polygon."""
    in_pixels = _IN_PIXELS.search(text) is not None
    across, down = stored if in_pixels else (1, 1)
    sides: dict[bytes, list[float]] = {name: [] for name in (b"X", b"Y", b"W", b"H", b"Rx")}
    try:
        for found in _MEASURE.finditer(text):
            sides[found[2]].append(float(found[3]))
    except ValueError:
        return text
    numbers = [len(sides[name]) for name in (b"X", b"Y", b"W", b"H")]
    if not numbers[0] or numbers[0] != numbers[1] or max(numbers[2:]) > 1 or max(sides[b"Rx"], default=0) > max(stored):
        return text
    points = list(zip(sides[b"X"], sides[b"Y"], strict=True))
    extent = (sides[b"W"] or [0.0])[0], (sides[b"H"] or [0.0])[0]
    if not all(0 <= x <= across and 0 <= y <= down for x, y in (*points, extent)):
        return text
    corners = [_turned_corner((*point, *extent), orientation, (across, down)) for point in points]
    # A circle's radius is a part of the width.
    ratio = stored[0] / stored[1] if orientation > 4 and not in_pixels else 1.0
    anew = dict(zip((b"X", b"Y", b"W", b"H"), map(iter, zip(*corners, strict=True)), strict=True))
    anew[b"Rx"] = iter([radius * ratio for radius in sides[b"Rx"]])
    return _MEASURE.sub(lambda found: found[1] + _number(next(anew[found[2]])).rstrip(b"0").rstrip(b"."), text)


def _turned_corner(rectangle: Area, orientation: int, size: tuple[float, float]) -> Area:
    """As `turned`, of a rectangle by its top left corner, width and height."""
    left, top, width, height = rectangle
    x, y, width, height = turned((left + width / 2, top + height / 2, width, height), orientation, size)
    return x - width / 2, y - height / 2, width, height


def _subject(text: bytes, orientation: int, size: tuple[int, int]) -> bytes:
    anew = iter(turned_subject(tuple(map(int, _ITEM.findall(text))), orientation, size))
    return _ITEM.sub(lambda _: b"%d" % next(anew), text)


def _rectangle(found: re.Match[bytes], orientation: int) -> bytes:
    try:
        left, top, width, height = map(float, found[2].split(b","))
    except ValueError:
        return found[0]
    return found[1] + b", ".join(map(_number, _turned_corner((left, top, width, height), orientation, (1.0, 1.0))))


def _number(value: float) -> bytes:
    return f"{max(value, 0.0):.6f}".encode()
