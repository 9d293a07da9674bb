"""GIF, read only: Pillow for the pixels; the blocks between are read here, for what Pillow does not tell.

Layout after CompuServe's GIF 89a; the profile after the ICC's registration, XMP after Adobe's specification, part 3.
"""

from __future__ import annotations

from collections.abc import Iterator

from deblur_cli.media import keeping
from deblur_cli.media.photo import Photo
from deblur_cli.media.pixels import open_image, refuse_animation, unpack

_SCREEN_END = 13
_EXTENSION, _PICTURE = 0x21, 0x2C
_COMMENT, _APPLICATION = 0xFE, 0xFF
_ICC, _XMP = b"ICCRGBG1012", b"XMP DataXMP"
# XMP stands as one text, which readers walk by what they take for lengths; wherever they come here, it leads them out.
_TRAILER = bytes((1, *range(255, -1, -1), 0))


def _table(flags: int) -> int:
    """The length of the colour table that the flags of a screen or picture declare."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _end(data: bytes, at: int) -> int:
    """The position behind a chain of blocks, each with its length before it; the last is empty."""
    while at < len(data) and data[at]:
        at += 1 + data[at]
    return at + 1


def _joined(chain: bytes) -> bytes:
    """What is in the blocks of a chain."""
    parts, at = [], 0
    while at < len(chain) and chain[at]:
        parts.append(chain[at + 1 : at + 1 + chain[at]])
        at += 1 + chain[at]
    return b"".join(parts)


def _extensions(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The label of each extension, and its chain of blocks."""
    at = _SCREEN_END + _table(data[10])
    while at + 2 <= len(data):
        if data[at] == _EXTENSION:
            end = _end(data, at + 2)
            yield data[at + 1], data[at + 2 : end]
        elif data[at] == _PICTURE and at + 9 < len(data):
            end = _end(data, at + 11 + _table(data[at + 9]))
        else:
            return
        at = end


def read(data: bytes) -> Photo:
    """Read a GIF of a single frame, with its profile and XMP; its comments become the text of a PNG, which is what it
    is written as. Not yet upright.

    Raises:
        PhotoError: an animation.
        Exception: Pillow's, for a truncated or corrupt file.
    """
    image = open_image(data, "GIF")
    refuse_animation(image)
    pixels, alpha = unpack(image)
    extensions = list(_extensions(data))
    comments = [_joined(chain) for label, chain in extensions if label == _COMMENT]
    # An application's first block is its name with its code.
    found = {chain[1:12]: chain[12:] for label, chain in extensions if label == _APPLICATION}
    packet = found.get(_XMP, b"")
    return Photo(
        pixels,
        "GIF",
        alpha,
        icc=_joined(found.get(_ICC, b"")),
        xmp=packet.removesuffix(_TRAILER) if packet.endswith(_TRAILER) else _joined(packet),
        facts=keeping.as_text(b"\n".join(filter(None, comments))),
    )
