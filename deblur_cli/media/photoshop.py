"""Photoshop's image resources, as JPEG and TIFF files have them: IPTC, paths, guides, and a thumbnail.

Layout after Adobe's "Photoshop file formats specification", section "Image resource blocks".
"""

from __future__ import annotations

_SIGNATURES = frozenset((b"8BIM", b"MeSa", b"AgHg", b"PHUT", b"DCSR"))
_THUMBNAILS = frozenset((1033, 1036))
"""Of Photoshop 4, and of all later ones."""


def without_thumbnail(resources: bytes) -> bytes:
    """The blocks but for those with a thumbnail, which shows the picture as it was; what cannot be read stays."""
    kept, at = [], 0
    while resources[at : at + 4] in _SIGNATURES and at + 7 <= len(resources):
        name = 1 + resources[at + 6]
        size = at + 6 + name + name % 2
        length = int.from_bytes(resources[size : size + 4], "big")
        end = size + 4 + length + length % 2
        if size + 4 + length > len(resources):
            break
        if int.from_bytes(resources[at + 4 : at + 6], "big") not in _THUMBNAILS:
            kept.append(resources[at:end])
        at = end
    return b"".join([*kept, resources[at:]])
