"""XMP packets as bytes: what no longer holds of a restored photo is changed in place, the rest stays as it was.

A packet keeps its length (but in `upright` and `resized`), for files state it elsewhere too. Properties are those of
Adobe's XMP specification, part 2.
"""

from __future__ import annotations

import codecs
import re

from deblur_cli.media import regions
from deblur_cli.media.regions import STATES

_ORIENTATION = re.compile(rb"(tiff:Orientation" + STATES + rb")([1-8])")
_SIZES = (
    rb"(?:tiff:ImageWidth|exif:PixelXDimension|stDim:w)",
    rb"(?:tiff:ImageLength|exif:PixelYDimension|stDim:h)",
)
# Android's motion photo format 1.0, and the one before it.
_CLIP = re.compile(rb"((?:MotionPhoto|MicroVideo)" + STATES + rb""")1(?=\s*["'<])""")
# Thumbnails; the list of what stands behind the picture in its file (clip, gain map, depth); the word that a gain map
# belongs to the picture (Android's Ultra HDR 1.0).
_OTHERS = (rb"xmp:Thumbnails", rb"xap:Thumbnails", rb"G?Container:Directory", rb"hdrgm:Version")
# Where the content credentials are that sign the picture: in its file, or as a URL; other words on provenance stay.
_PROVENANCE = rb"dcterms:provenance"
_CREDENTIALS = re.compile(_PROVENANCE + STATES + rb"""[^"'<>]{0,1000}?(?:jumbf|c2pa|manifests)""")
# What is measured by the size of the picture: a sphere's panorama, regions with somebody's face.
_MEASURED = (rb"GPano:\w+", rb"mwg-rs:Regions", rb"MP:RegionInfo", rb"Iptc4xmpExt:ImageRegion")
# Dots across and down: in print, on the sensor.
_RESOLUTION = re.compile(rb"\b(tiff:|exif:FocalPlane)([XY])(?=Resolution\b)")
# The encoding that XML says it is in.
_DECLARED = re.compile(rb"""(?<=<\?xml )([^<>]*?encoding=["'])[^"'<>]*""")
_EXTENSION = rb"xmpNote:HasExtendedXMP"


def orientation(packet: bytes) -> int | None:
    """The orientation that a packet states, 1 to 8; None when it states none."""
    found = _ORIENTATION.search(packet)
    return int(found[2]) if found else None


def normalised(packet: bytes) -> bytes:
    """The packet in UTF-8 where it is in UTF-16, as a TIFF may have it; any other as it is."""
    at = packet.find(b"<")
    if packet.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif at >= 0 and packet[at + 1 : at + 2] == b"\0":
        encoding = "utf-16-be" if at % 2 else "utf-16-le"
    else:
        return packet
    try:
        text = packet.decode(encoding).rstrip("\0")
    except UnicodeDecodeError:
        return packet
    return packet if "\0" in text else _DECLARED.sub(rb"\g<1>UTF-8", text.encode())


def unsigned(packet: bytes) -> bytes:
    """The packet that says no more where the content credentials of a picture are, which sign its old pixels."""
    return _without(_PROVENANCE, packet) if _CREDENTIALS.search(packet) else packet


def upright(packet: bytes, was: int, size: tuple[int, int]) -> bytes:
    """The packet for pixels that were set upright: every orientation 1; sizes, resolutions and regions as they are now.

    `was`: the orientation of the stored pixels; `size`: width and height of the upright ones. It may become longer.
    """
    packet = regions.upright(_ORIENTATION.sub(rb"\g<1>1", packet), was, size)
    if was <= 4:
        return packet
    packet = _RESOLUTION.sub(lambda found: found[1] + (b"Y" if found[2] == b"X" else b"X"), packet)
    return _with_size(packet, size[::-1], size)


def resized(packet: bytes, before: tuple[int, int], after: tuple[int, int]) -> bytes:
    """The packet of a picture that has another width and height than `before`: no panorama of a sphere, no regions.

    A number that has become longer makes it longer.
    """
    packet = _with_size(packet, before, after)
    for name in _MEASURED:
        packet = _without(name, packet)
    return packet


def unextended(packet: bytes) -> bytes:
    """The packet for a file that has no more of it, and so does not say that there is more."""
    return _without(_EXTENSION, packet)


def _with_size(packet: bytes, before: tuple[int, int], after: tuple[int, int]) -> bytes:
    for names, old, new in zip(_SIZES, before, after, strict=True):
        packet = re.sub(rb"""(%b%b)%d(?=\s*["'<])""" % (names, STATES, old), rb"\g<1>%d" % new, packet)
    return packet


def alone(packet: bytes) -> bytes:
    """The packet of a photo with nothing else in its file: no thumbnail, no gain map, no clip that follows.

    What says that a clip follows says 0; other words of such things are blanked, which leaves XML as whole as it was.
    """
    packet = _CLIP.sub(rb"\g<1>0", packet)
    for name in _OTHERS:
        packet = _without(name, packet)
    return packet


def _without(name: bytes, packet: bytes) -> bytes:
    """The packet with all attributes and elements `name`, a pattern, blanked; an element that does not end stays."""
    attribute = re.compile(rb"""\b%b\s*=\s*("[^"]*"|'[^']*')""" % name)
    packet = attribute.sub(lambda found: b" " * len(found[0]), packet)
    begin, end = re.compile(rb"<%b\b[^<>]*>" % name), re.compile(rb"</%b\s*>" % name)
    parts, at = [], 0
    while opened := begin.search(packet, at):
        closed = opened if opened[0].endswith(b"/>") else end.search(packet, opened.end())
        if closed is None:
            break
        parts += [packet[at : opened.start()], b" " * (closed.end() - opened.start())]
        at = closed.end()
    return b"".join([*parts, packet[at:]])
