"""The directories of a BigTIFF, whose counts and offsets have 64 bits, as those of a TIFF: see `deblur_cli.media.exif`.

Layout after Adobe's and the libtiff project's BigTIFF: a 16-byte header, then entries of 20 bytes.
"""

from __future__ import annotations

import struct
from typing import Literal

from deblur_cli.media import exif

_HEADERS = {b"II+\x00": "<", b"MM\x00+": ">"}
_ENDS: dict[str, Literal["little", "big"]] = {"<": "little", ">": "big"}
# Types of 64 bits, and those of 32 in their place: numbers, signed numbers, offsets of directories.
_WIDE = {16: (4, "I"), 17: (9, "i"), 18: (13, "I")}
_SIZES = exif.SIZES | dict.fromkeys(_WIDE, 8)


def parse(data: bytes) -> tuple[str, exif.Directory]:
    """The byte order and the first directory, with its nested ones; entries are left out as by `exif.parse`.

    Numbers of 64 bits become such of 32, or are left out where they do not fit.

    Raises:
        ValueError: no header of a BigTIFF.
    """
    order = _HEADERS.get(data[:4])
    if order is None or len(data) < 16:
        raise ValueError("no header of a BigTIFF")
    return order, _directory(data, order, struct.unpack_from(order + "Q", data, 8)[0], depth=0)


def _directory(data: bytes, order: str, offset: int, depth: int) -> exif.Directory:
    found: exif.Directory = {}
    pointed: set[int] = set()
    room = len(data)
    if not 16 <= offset <= len(data) - 8:
        return found
    (count,) = struct.unpack_from(order + "Q", data, offset)
    for position in range(offset + 8, min(offset + 8 + 20 * count, len(data) - 19), 20):
        tag, kind, number = struct.unpack_from(order + "HHQ", data, position)
        size = _SIZES.get(kind, 0) * number
        start = position + 12 if size <= 8 else struct.unpack_from(order + "Q", data, position + 12)[0]
        if not size or start + size > len(data) or size > room:
            continue
        room -= size
        item = _narrowed(kind, number, data[start : start + size], order)
        if item is not None and tag in exif.POINTERS and depth < 2:
            if tag in pointed:  # as in `exif.parse`
                continue
            pointed.add(tag)
            nested = _directory(data, order, int.from_bytes(item.value, _ENDS[order]), depth + 1)
            if nested:
                found[tag] = nested
        elif item is not None:
            found[tag] = item
    return found


def _narrowed(kind: int, number: int, value: bytes, order: str) -> exif.Entry | None:
    """The entry in types of at most 32 bits; None where it holds a number that does not fit."""
    if kind not in _WIDE:
        return exif.Entry(kind, number, value)
    narrow, code = _WIDE[kind]
    try:
        numbers = struct.unpack(f"{order}{number}{'q' if code == 'i' else 'Q'}", value)
        return exif.Entry(narrow, number, struct.pack(f"{order}{number}{code}", *numbers))
    except struct.error:
        return None
