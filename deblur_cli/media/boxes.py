"""Boxes of the ISO base media format (ISO/IEC 14496-12), of which HEIF and AVIF files are made."""

from __future__ import annotations

from collections.abc import Iterator

from deblur_cli.media import keeping

# Around and in the picture, or empty; uuid is anybody's, and moov a sequence, which is refused elsewhere.
_PICTURE = frozenset((b"ftyp", b"meta", b"mdat", b"idat", b"moov", b"free", b"skip", b"wide", b"uuid"))
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


def has_gain_map(data: bytes) -> bool:
    """Whether a HEIF or AVIF has a gain map after ISO 21496-1: an item of the type `tmap` in its `meta/iinf`."""
    metas = [(start + 4, end) for kind, start, end in boxes(data, 0, len(data)) if kind == b"meta"]
    lists = [(at, end) for meta in metas for kind, at, end in boxes(data, *meta) if kind == b"iinf"]
    for at, end in lists:
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
