"""Boxes of the ISO base media format (ISO/IEC 14496-12), of which HEIF and AVIF files are made."""

from __future__ import annotations

from collections.abc import Iterator

from deblur_cli.media import keeping

# Around and in the picture, or empty; uuid is anybody's, and moov a sequence, which is refused elsewhere.
_PICTURE = frozenset((b"ftyp", b"meta", b"mdat", b"idat", b"moov", b"free", b"skip", b"wide", b"uuid"))
# What `deblur_cli.media.pixels.turn` does by orientation, 1 to 8: it transposes, mirrors down, mirrors across.
_STEPS = (
    *((False, False, False), (False, False, True), (False, True, True), (False, True, False)),
    *((True, False, False), (True, False, True), (True, True, True), (True, True, False)),
)
_CREDENTIALS = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")


def boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Type, and start and end of the content, of the boxes between two positions."""
    while start + 8 <= end:
        size, header = int.from_bytes(data[start : start + 4], "big"), 8
        if size == 1:
            size, header = int.from_bytes(data[start + 8 : start + 16], "big"), 16
        elif size == 0:
            size = end - start
        if size < header:
            return
        yield data[start + 4 : start + 8], start + header, min(start + size, end)
        start += size


def _within(data: bytes, *path: bytes) -> list[tuple[int, int]]:
    """Start and end of the content of all boxes at a path of types that begins with `meta`."""
    spans = [(0, len(data))]
    for wanted in path:
        # Of these types only `meta` has a version and flags before the boxes in it.
        skip = 4 if wanted == b"meta" else 0
        spans = [(at + skip, last) for span in spans for kind, at, last in boxes(data, *span) if kind == wanted]
    return spans


def properties(data: bytes) -> list[tuple[bytes, bytes]]:
    """Type and content of all item properties (`meta/iprp/ipco`) of a HEIF or AVIF, in their order."""
    spans = _within(data, b"meta", b"iprp", b"ipco")
    return [(kind, data[at:last]) for span in spans for kind, at, last in boxes(data, *span)]


def orientation_of_primary(data: bytes) -> int:
    """The orientation, 1 to 8 as EXIF counts, of the stored pixels of a HEIF's primary picture, by its boxes `irot` and
    `imir` (ISO/IEC 23008-12, 6.5.10 and 6.5.12), which decoders apply; 1 without any."""
    transposed = down = across = False  # in this order, the later two are mirrored
    for kind, content in _properties_of_primary(data):
        number = content[0] & 3 if content else 0
        if kind == b"imir":
            down, across = (down, not across) if number & 1 else (not down, across)
        for _ in range(-number % 4 if kind == b"irot" else 0):  # it counts quarters anticlockwise
            transposed, down, across = not transposed, across, not down
    return 1 + _STEPS.index((transposed, down, across))


def _properties_of_primary(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and content of the properties of the primary item, in the order in which they apply."""
    every = properties(data)
    stated = _within(data, b"meta", b"pitm")
    primary = {_number(data, at + 4, 4 if data[at : at + 1] > b"\x00" else 2) for at, _ in stated}
    for at, end in _within(data, b"meta", b"iprp", b"ipma"):
        # Version and flags say how wide numbers of items and of properties are, whose highest bit means something else.
        wide, narrow = (4 if data[at : at + 1] > b"\x00" else 2), 1 + (_number(data, at + 3, 1) & 1)
        place = at + 8
        while place + wide < end:
            item, count = _number(data, place, wide), data[place + wide]
            place += wide + 1
            numbers = [_number(data, each, narrow) for each in range(place, place + count * narrow, narrow)]
            place += count * narrow
            for number in numbers if item in primary else ():
                number &= 0x7FFF if narrow == 2 else 0x7F
                if 0 < number <= len(every):
                    yield every[number - 1]


def _number(data: bytes, at: int, width: int) -> int:
    return int.from_bytes(data[at : at + width], "big")


def has_gain_map(data: bytes) -> bool:
    """Whether a HEIF or AVIF has a gain map after ISO 21496-1: an item of the type `tmap` in its `meta/iinf`."""
    for at, end in _within(data, b"meta", b"iinf"):
        # Numbers of items take 16 bits or, of a later version, 32.
        for _, item, _ in boxes(data, at + (8 if data[at : at + 1] > b"\x00" else 6), end):
            kind_at = item + (10 if data[item : item + 1] > b"\x02" else 8)
            if data[kind_at : kind_at + 4] == b"tmap":
                return True
    return False


def left_behind(data: bytes) -> list[str]:
    """What stands beside and behind the picture in the file `data` and is not kept, a line each."""
    notes, at = [], 0
    for kind, start, end in boxes(data, 0, len(data)):
        if kind not in _PICTURE:
            break
        if kind == b"uuid" and data[start : start + 16] == _CREDENTIALS:
            notes.append(keeping.NO_CREDENTIALS)
        at = end
    return notes + keeping.behind(data[at:])
