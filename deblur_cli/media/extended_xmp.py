"""What of a JPEG's XMP does not fit into one segment: it lies in others, found by the MD5 that the packet states.

Layout after Adobe's XMP specification, part 3, section 1.1.3.1: a digest, the length of the whole, this part's place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from deblur_cli.media import xmp

PREFIX = b"http://ns.adobe.com/xmp/extension/\x00"
_DIGEST = slice(4 + len(PREFIX), 4 + len(PREFIX) + 32)
_LENGTH = slice(_DIGEST.stop, _DIGEST.stop + 4)
_PLACE = slice(_LENGTH.stop, _LENGTH.stop + 4)


def alone(segments: Sequence[bytes], packet: bytes) -> tuple[list[bytes], bytes]:
    """JPEG segments and the packet, with what `deblur_cli.media.xmp.alone` takes out gone from their common extension.

    Segments of other kinds, and extensions of which a part is missing, stay as they are; so does the length of each.
    """
    result = list(segments)
    extended = [number for number, segment in enumerate(result) if segment[4:].startswith(PREFIX)]
    for digest in dict.fromkeys(result[number][_DIGEST] for number in extended):
        numbers = [number for number in extended if result[number][_DIGEST] == digest]
        numbers.sort(key=lambda number: result[number][_PLACE])
        whole = b"".join(result[number][_PLACE.stop :] for number in numbers)
        changed = xmp.alone(whole)
        if changed == whole or len(whole) != int.from_bytes(result[numbers[0]][_LENGTH], "big"):
            continue
        stated = hashlib.md5(changed, usedforsecurity=False).hexdigest().upper().encode()
        at = 0
        for number in numbers:
            head, size = result[number][: _PLACE.stop], len(result[number]) - _PLACE.stop
            result[number] = head[: _DIGEST.start] + stated + head[_DIGEST.stop :] + changed[at : at + size]
            at += size
        packet = packet.replace(digest, stated)
    return result, packet
