"""Photoshop's image resources, as JPEG and TIFF files have them: IPTC, paths, guides, and a thumbnail.

A JPEG has all of them in segments, a TIFF the IPTC data in a tag and the others in another. Layout after Adobe's
"Photoshop file formats specification", section "Image resource blocks".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from deblur_cli.media import exif

TAG, IPTC_TAG = 34377, 33723
"""A TIFF's tags with the resources, and with IPTC data."""
_SEGMENT = b"Photoshop 3.0\x00"
_ROOM = 65533 - len(_SEGMENT)
_SIGNATURES = frozenset((b"8BIM", b"MeSa", b"AgHg", b"PHUT", b"DCSR"))
_IPTC = 1028
_THUMBNAILS = frozenset((1033, 1036))
"""Of Photoshop 4, and of all later ones."""


def _blocks(resources: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Number, whole block and data of each resource; what cannot be read is the last, whole, with the number 0."""
    at = 0
    while resources[at : at + 4] in _SIGNATURES and at + 7 <= len(resources):
        name = 1 + resources[at + 6]
        size = at + 6 + name + name % 2
        end = size + 4 + int.from_bytes(resources[size : size + 4], "big")
        if end > len(resources):
            break
        data = resources[size + 4 : end]
        end += len(data) % 2
        yield int.from_bytes(resources[at + 4 : at + 6], "big"), resources[at:end], data
        at = end
    yield 0, resources[at:], b""


def without_thumbnail(resources: bytes) -> bytes:
    """The blocks but for those with a thumbnail, which shows the picture as it was; what cannot be read stays."""
    return b"".join(block for number, block, _ in _blocks(resources) if number not in _THUMBNAILS)


def is_segment(segment: bytes) -> bool:
    """Whether a segment of a JPEG, with its marker and length, holds such resources."""
    return segment[1] == 0xED and segment[4:].startswith(_SEGMENT)


def of_segments(segments: Sequence[bytes]) -> bytes:
    """The resources in a JPEG's segments, of which one may lie in several."""
    return b"".join(segment[4 + len(_SEGMENT) :] for segment in segments if is_segment(segment))


def segments(resources: bytes) -> list[bytes]:
    """The segments of a JPEG, with their markers and lengths, that hold the resources."""
    parts = [_SEGMENT + resources[at : at + _ROOM] for at in range(0, len(resources), _ROOM)]
    return [b"\xff\xed" + (2 + len(part)).to_bytes(2, "big") + part for part in parts]


def of_tags(tags: Mapping[int, exif.Entry]) -> bytes:
    """The resources in a TIFF's tags; IPTC data come from their own tag where it has that too."""
    resources = tags[TAG].value if TAG in tags else b""
    if IPTC_TAG not in tags:
        return resources
    data = tags[IPTC_TAG].value
    head = b"8BIM" + _IPTC.to_bytes(2, "big") + bytes(2) + len(data).to_bytes(4, "big")
    others = b"".join(block for number, block, _ in _blocks(resources) if number != _IPTC)
    return head + data + bytes(len(data) % 2) + others


def tags(resources: bytes) -> dict[int, exif.Entry]:
    """The tags of a TIFF that hold the resources."""
    found = list(_blocks(resources))
    iptc = b"".join(data for number, _, data in found if number == _IPTC)
    others = b"".join(block for number, block, _ in found if number != _IPTC)
    # Bytes of no type, as programs expect IPTC data, and numbers of 8 bits.
    entries = {IPTC_TAG: exif.Entry(7, len(iptc), iptc), TAG: exif.Entry(1, len(others), others)}
    return {tag: entry for tag, entry in entries.items() if entry.value}
