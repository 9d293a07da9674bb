"""EXIF as bytes: read a tag, set the orientation, drop the thumbnail, without taking the rest apart.

An EXIF block is a small TIFF file: a header, a directory of 12-byte entries, values at offsets. Rewriting it moves the
values, and camera makers' notes hold offsets of their own that then point nowhere. So what can be done in place is done
in place (`upright`, `without_orientation`). Only where a block must move into or out of a TIFF file, whose own first
directory carries the tags, is it taken apart and put together again (`parse`, `assemble`), and even then makers' notes
stay where they were (`in_place`, `block_of`).

Layout after TIFF 6.0 (Adobe 1992), section 2, and Exif 2.32 (CIPA DC-008), section 4.6.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from deblur_cli.media import regions

ORIENTATION = 274
EXIF_DIRECTORY = 34665
GPS_DIRECTORY = 34853
INTEROPERABILITY_DIRECTORY = 40965
MAKER_NOTE = 37500
RESOLUTION_X, RESOLUTION_Y, RESOLUTION_UNIT = 282, 283, 296

PREFIX = b"Exif\x00\x00"
"""What stands before the block in a JPEG segment."""
LONGEST = 65527
"""The most bytes of a block that a JPEG segment holds."""

_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I"}
# The last is EXIF 3.0's text in UTF-8.
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 129: 1}
POINTERS = (EXIF_DIRECTORY, GPS_DIRECTORY, INTEROPERABILITY_DIRECTORY)
# Width and height of the picture, of the first directory and of the EXIF directory.
_SIZE_PAIRS = ((256, 257), (40962, 40963))
# Where in the picture the subject is: its area, its place.
_SUBJECT = (37396, 41492)
# Pairs that change places when rows become columns: size, resolution, and in the EXIF directory focal plane.
_TURNED_PAIRS = (*_SIZE_PAIRS, (RESOLUTION_X, RESOLUTION_Y), (41486, 41487))


class Entry(NamedTuple):
    """One value of a directory: its TIFF type, how many there are, and the bytes in the block's own byte order."""

    type: int
    number: int
    value: bytes


Directory = dict[int, "Entry | Directory"]
"""Tags and their values; the EXIF, GPS and interoperability directories are nested."""


class Place(NamedTuple):
    """Where an entry stands in the block: its tag, type, count, the entry's own position and its value's position."""

    tag: int
    type: int
    number: int
    position: int
    value: int


def byte_order(block: bytes) -> str | None:
    """`<` or `>` as `struct` writes it, or None when `block` does not begin with a TIFF header."""
    return {b"II*\x00": "<", b"MM\x00*": ">"}.get(bytes(block[:4]))


def normalised(block: bytes | None) -> bytes:
    """The block without the prefix that some files put before it; empty when there is no readable header."""
    block = block or b""
    while block.startswith(PREFIX):
        block = block[len(PREFIX) :]
    return block if byte_order(block) else b""


def _places(block: bytes | bytearray, order: str, offset: int) -> Iterator[Place]:
    """The entries of the directory at `offset`; those that point outside the block are left out."""
    if not 8 <= offset <= len(block) - 2:
        return
    (count,) = struct.unpack_from(order + "H", block, offset)
    for position in range(offset + 2, min(offset + 2 + 12 * count, len(block) - 11), 12):
        tag, kind, number = struct.unpack_from(order + "HHI", block, position)
        size = SIZES.get(kind, 0) * number
        value = position + 8 if size <= 4 else struct.unpack_from(order + "I", block, position + 8)[0]
        if size and value + size <= len(block):
            yield Place(tag, kind, number, position, value)


def _first(block: bytes | bytearray, order: str) -> int:
    return int(struct.unpack_from(order + "I", block, 4)[0]) if len(block) >= 8 else 0


def _integer(block: bytes | bytearray, order: str, place: Place) -> int:
    code = _INTEGERS.get(place.type)
    return int(struct.unpack_from(order + code, block, place.value)[0]) if code else 0


def orientation(block: bytes) -> int | None:
    """The orientation tag, 1 to 8, of the first directory; None when it is absent or means nothing."""
    order = byte_order(block)
    if order is None:
        return None
    for place in _places(block, order, _first(block, order)):
        if place.tag == ORIENTATION:
            value = _integer(block, order, place)
            return value if 1 <= value <= 8 else None
    return None


def resolution(block: bytes) -> tuple[float, float] | None:
    """Dots an inch, horizontal and vertical, from the first directory; None when it states none with a unit."""
    order = byte_order(block)
    if order is None:
        return None
    found = {place.tag: place for place in _places(block, order, _first(block, order))}
    unit = found.get(RESOLUTION_UNIT)
    scale = {2: 1.0, 3: 2.54}.get(_integer(block, order, unit) if unit else 2)
    dots = []
    for tag in (RESOLUTION_X, RESOLUTION_Y):
        if tag in found and found[tag].type == 5 and scale:
            above, below = struct.unpack_from(order + "II", block, found[tag].value)
            dots.append(scale * above / below if below else 0.0)
    return (dots[0], dots[1]) if len(dots) == 2 and min(dots) > 0 else None


def upright(block: bytes, was: int, size: tuple[int, int]) -> bytes:
    """The block for pixels that were set upright: orientation 1, the subject where it is now, no thumbnail, everything
    else at its place.

    The thumbnail shows the picture as it was, so its directory is unlinked and its bytes are blanked. Where rows became
    columns, width and height, and the two resolutions, change places.

    Args:
        block: whatever orientation it states.
        was: the orientation of the stored pixels, 1 to 8.
        size: width and height of the upright ones.
    """
    order = byte_order(block)
    if order is None:
        return block
    edited = bytearray(block)
    first = _first(edited, order)
    directories = _main_and_exif(edited, order)
    for directory in directories:
        _turn_subject(edited, order, directory, was, size[::-1] if was > 4 else size)
    tag = directories[0].get(ORIENTATION)
    if tag and tag.type in _INTEGERS:
        struct.pack_into(order + _INTEGERS[tag.type], edited, tag.value, 1)
    if was > 4:
        for directory in directories:
            _swap_pairs(edited, directory)
    _drop_thumbnail(edited, order, first)
    return bytes(edited)


def _turn_subject(
    edited: bytearray, order: str, directory: dict[int, Place], was: int, stored: tuple[int, int]
) -> None:
    """Set the area and the place of the subject to where they lie when pixels of the orientation `was` are upright.

    They are in pixels of the size that the directory states, or else of that of the `stored` pixels.
    """
    stated = [_integer(edited, order, directory[tag]) for tag in _SIZE_PAIRS[1] if tag in directory]
    size = (stated[0], stated[1]) if len(stated) == 2 and min(stated) > 0 else stored
    for tag in _SUBJECT:
        place = directory.get(tag)
        if place is None or place.type != 3 or not 2 <= place.number <= 4:
            continue
        layout = f"{order}{place.number}H"
        subject = struct.unpack_from(layout, edited, place.value)
        struct.pack_into(layout, edited, place.value, *regions.turned_subject(subject, was, size))


def resized(block: bytes, before: tuple[int, int], after: tuple[int, int]) -> bytes:
    """The block with another width and height of the picture where it states those `before`; nothing moves."""
    order = byte_order(block)
    if order is None:
        return block
    edited = bytearray(block)
    for directory in _main_and_exif(edited, order):
        for pair in _SIZE_PAIRS:
            for tag, old, new in zip(pair, before, after, strict=True):
                place = directory.get(tag)
                if place and place.number == 1 and _integer(edited, order, place) == old:
                    struct.pack_into(order + "HII", edited, place.position + 2, 4, 1, new)
    return bytes(edited)


def _main_and_exif(block: bytes | bytearray, order: str) -> list[dict[int, Place]]:
    """The entries of the first directory by their tags, and of the EXIF directory, if it has one."""
    main = {place.tag: place for place in _places(block, order, _first(block, order))}
    pointer = main.get(EXIF_DIRECTORY)
    if not pointer:
        return [main]
    return [main, {place.tag: place for place in _places(block, order, _integer(block, order, pointer))}]


def _swap_pairs(edited: bytearray, directory: dict[int, Place]) -> None:
    for one, other in _TURNED_PAIRS:
        if one in directory and other in directory:
            a, b = directory[one].position + 2, directory[other].position + 2
            edited[a : a + 10], edited[b : b + 10] = edited[b : b + 10], edited[a : a + 10]


def _drop_thumbnail(edited: bytearray, order: str, first: int) -> None:
    if not 8 <= first <= len(edited) - 2:
        return
    (count,) = struct.unpack_from(order + "H", edited, first)
    link = first + 2 + 12 * count
    if link + 4 > len(edited):
        return
    (second,) = struct.unpack_from(order + "I", edited, link)
    where = {place.tag: _integer(edited, order, place) for place in _places(edited, order, second)}
    struct.pack_into(order + "I", edited, link, 0)
    start, length = where.get(513, 0), where.get(514, 0)
    # Only past the directory that names it: a damaged block could name the first directory as its thumbnail.
    if start > second and length and start + length <= len(edited):
        edited[start : start + length] = bytes(length)
        if start + length == len(edited):
            del edited[start:]


def without_orientation(block: bytes) -> bytes:
    """The block without its orientation entry, all values at their places (the directory shrinks by one entry)."""
    order = byte_order(block)
    if order is None:
        return block
    edited = bytearray(block)
    first = _first(edited, order)
    for place in _places(edited, order, first):
        if place.tag == ORIENTATION:
            (count,) = struct.unpack_from(order + "H", edited, first)
            end = first + 2 + 12 * count + 4
            edited[place.position : end - 12] = edited[place.position + 12 : end]
            edited[end - 12 : end] = bytes(12)
            struct.pack_into(order + "H", edited, first, count - 1)
            break
    return bytes(edited)


def parse(block: bytes) -> tuple[str, Directory]:
    """The byte order and the first directory of a block, or of a whole TIFF file, with its nested directories.

    Entries that point outside are left out, and those that can only lie over others: thousands of them that share a
    value would be a bomb.

    Raises:
        ValueError: no TIFF header.
    """
    order = byte_order(block)
    if order is None:
        raise ValueError("no EXIF header")
    return order, _directory(block, order, _first(block, order), depth=0)


def _directory(block: bytes, order: str, offset: int, depth: int) -> Directory:
    found: Directory = {}
    pointed: set[int] = set()
    room = len(block)
    for place in _places(block, order, offset):
        if place.tag in POINTERS and depth < 2:
            if place.tag in pointed:  # a file of thousands that lead back would be walked for hours
                continue
            pointed.add(place.tag)
            nested = _directory(block, order, _integer(block, order, place), depth + 1)
            if nested:
                found[place.tag] = nested
        else:
            size = SIZES[place.type] * place.number
            if size > room:
                continue
            room -= size
            found[place.tag] = Entry(place.type, place.number, bytes(block[place.value : place.value + size]))
    return found


def notes_at(block: bytes) -> int | None:
    """Where in a block, or in a whole TIFF file, the makers' notes stand; None without any that could hold offsets."""
    order = byte_order(block)
    _, *details = _main_and_exif(block, order) if order else [{}]
    place = details[0].get(MAKER_NOTE) if details else None
    return place.value if place and place.value != place.position + 8 else None


def in_place(block: bytes) -> Directory:
    """What a first directory must point to in a file that has the whole block at its beginning; empty where it need not
    be there, for want of makers' notes.
    """
    order = byte_order(block)
    if order is None or notes_at(block) is None:
        return {}
    main = _main_and_exif(block, order)[0]
    found = {tag: _integer(block, order, main[tag]) for tag in (EXIF_DIRECTORY, GPS_DIRECTORY) if tag in main}
    return {tag: Entry(4, 1, struct.pack(order + "I", offset)) for tag, offset in found.items()}


def assemble(order: str, directory: Directory, base: int) -> bytes:
    """The bytes of `directory`, to stand at offset `base` (even) of a TIFF file; values and nested ones after it."""
    out = bytearray(struct.pack(order + "H", len(directory)) + bytes(12 * len(directory) + 4))
    for index, (tag, item) in enumerate(sorted(directory.items())):
        at = 2 + 12 * index
        if isinstance(item, dict):
            out += bytes(len(out) % 2)
            struct.pack_into(order + "HHII", out, at, tag, 4, 1, base + len(out))
            out += assemble(order, item, base + len(out))
        elif len(item.value) <= 4:
            struct.pack_into(order + "HHI4s", out, at, tag, item.type, item.number, item.value)
        else:
            out += bytes(len(out) % 2)
            struct.pack_into(order + "HHII", out, at, tag, item.type, item.number, base + len(out))
            out += item.value
    return bytes(out)


def block_of(order: str, directory: Directory, at: int | None = None) -> bytes:
    """A whole block, header and all, for `directory`; empty when there is nothing in it.

    `at`: the position in the block of makers' notes, where they must have a certain one (8 or more).
    """
    if not directory:
        return b""
    front = b""
    details = directory.get(EXIF_DIRECTORY)
    notes = details.get(MAKER_NOTE) if isinstance(details, dict) else None
    if at is not None and isinstance(details, dict) and isinstance(notes, Entry) and len(notes.value) > 4:
        front = bytes(at - 8) + notes.value
        front += bytes(len(front) % 2)
        # As wide as an offset, this is written into its entry as it is.
        pointer = notes._replace(value=struct.pack(order + "I", at))
        directory = directory | {EXIF_DIRECTORY: details | {MAKER_NOTE: pointer}}
    start = 8 + len(front)
    header = (b"II*\x00" if order == "<" else b"MM\x00*") + struct.pack(order + "I", start)
    return header + front + assemble(order, directory, start)
