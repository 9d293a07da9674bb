"""What of a JPEG's XMP does not fit into one segment: it lies in others, found by the MD5 that the packet states.

Such parts of a JPEG stay as they are (`alone`); a longer packet of another format is divided so (`split`).

Layout after Adobe's XMP specification, part 3, section 1.1.3.1: a digest, the length of the whole, this part's place.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from deblur_cli.media import xmp

PREFIX = b"http://ns.adobe.com/xmp/extension/\x00"
_DIGEST = slice(4 + len(PREFIX), 4 + len(PREFIX) + 32)
_LENGTH = slice(_DIGEST.stop, _DIGEST.stop + 4)
_PLACE = slice(_LENGTH.stop, _LENGTH.stop + 4)
# What the specification allows of an extension in a segment.
_ROOM = 65400
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_PACKET = b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>%b<?xpacket end="w"?>'
_BODY = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="' + _RDF.encode() + b'">%b</rdf:RDF></x:xmpmeta>'
_POINTER = (
    b'<rdf:Description xmlns:rdf="' + _RDF.encode() + b'" rdf:about="" '
    b'xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="%b"/>'
)
_DIGITS = 32


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
        stated = _digest(changed)
        at = 0
        for number in numbers:
            head, size = result[number][: _PLACE.stop], len(result[number]) - _PLACE.stop
            result[number] = head[: _DIGEST.start] + stated + head[_DIGEST.stop :] + changed[at : at + size]
            at += size
        packet = packet.replace(digest, stated)
    return result, packet


@dataclass
class _Element:
    """One that is open: its name, where it begins, and the namespaces that are known in it, by their attributes."""

    name: str
    begin: int
    spaces: dict[str, str]


@dataclass
class _Layout:
    """Where in a packet its XML is, without the wrapper; where the RDF ends; and its properties that are elements.

    `properties`: begin, end, and the namespaces known there.
    """

    begin: int = -1
    end: int = -1
    rdf_end: int = -1
    properties: list[tuple[int, int, dict[str, str]]] = field(default_factory=list)


def _layout(packet: bytes) -> _Layout:
    """Where the parts of a packet are.

    Raises:
        ValueError: it is no XML, or no RDF in such.
    """
    layout, opened = _Layout(), list[_Element]()
    parser = expat.ParserCreate("UTF-8")

    def begin(name: str, attributes: dict[str, str]) -> None:
        spaces: dict[str, str] = {}
        if len(opened) <= 2:  # those in a property go with it
            known = opened[-1].spaces if opened else {}
            spaces = known | {key: uri for key, uri in attributes.items() if key.partition(":")[0] == "xmlns"}
        opened.append(_Element(name, parser.CurrentByteIndex, spaces))

    def end(name: str) -> None:
        element, at = opened.pop(), parser.CurrentByteIndex
        if not packet.startswith(b"</" + name.encode(), at):  # an empty one
            return
        behind = packet.index(b">", at) + 1
        if not opened:
            layout.begin, layout.end = element.begin, behind
        elif len(opened) >= 2 and _is_rdf(opened[-2].name):
            layout.properties.append((element.begin, behind, opened[-1].spaces))
        if len(opened) <= 1 and _is_rdf(name):
            layout.rdf_end = at

    parser.StartElementHandler, parser.EndElementHandler = begin, end
    try:
        parser.Parse(packet.rstrip(b"\x00"), True)
    except expat.ExpatError as error:
        raise ValueError("XMP that is no XML") from error
    if layout.begin < 0 or layout.rdf_end < 0 or b"<!DOCTYPE" in packet[: layout.begin]:
        raise ValueError("XMP without RDF")
    return layout


def _is_rdf(name: str) -> bool:
    return name.rpartition(":")[2] == "RDF"


def split(packet: bytes, room: int) -> tuple[bytes, list[bytes]]:
    """A packet of at most `room` bytes, and JPEG segments with the rest, which it names; none where all of it fits.

    The longest properties go, for a program that reads the packet alone finds most in it then.

    Raises:
        ValueError: a longer packet that is no XMP, or already one of several parts.
    """
    if len(packet) <= room:
        return packet, []
    if b"HasExtendedXMP" in packet:
        raise ValueError("XMP of which a part lies elsewhere already")
    layout = _layout(packet)
    room -= len(_PACKET) + len(_POINTER) + _DIGITS
    length = layout.end - layout.begin
    if length <= room:  # what is left out is padding
        return _PACKET % packet[layout.begin : layout.end], []
    moved = []
    for each in sorted(layout.properties, key=lambda each: each[0] - each[1]):
        if length > room:
            moved.append(each)
            length -= each[1] - each[0]
    if length > room:  # in attributes
        whole = packet[layout.begin : layout.end]
        digest = _digest(whole)
        return _PACKET % (_BODY % (_POINTER % digest)), _segments(whole, digest)
    moved.sort(key=lambda each: each[0])
    whole = _BODY % b"".join(_described(packet[begin:end], spaces) for begin, end, spaces in moved)
    digest = _digest(whole)
    parts, at = list[bytes](), layout.begin
    for begin, end, _ in moved:
        parts.append(packet[at:begin])
        at = end
    parts += packet[at : layout.rdf_end], _POINTER % digest, packet[layout.rdf_end : layout.end]
    return _PACKET % b"".join(parts), _segments(whole, digest)


def _described(element: bytes, spaces: dict[str, str]) -> bytes:
    """A property as an element of RDF in a packet of its own, where the namespaces of its old one must be said."""
    said = "".join(f" {name}={quoteattr(uri)}" for name, uri in (spaces | {"xmlns:rdf": _RDF}).items())
    return b'<rdf:Description%b rdf:about="">%b</rdf:Description>' % (said.encode(), element)


def _digest(whole: bytes) -> bytes:
    return hashlib.md5(whole, usedforsecurity=False).hexdigest().upper().encode()


def _segments(whole: bytes, digest: bytes) -> list[bytes]:
    """An extension as segments, with their markers and lengths."""
    parts = []
    for at in range(0, len(whole), _ROOM):
        part = PREFIX + digest + struct.pack(">II", len(whole), at) + whole[at : at + _ROOM]
        parts.append(b"\xff\xe1" + struct.pack(">H", 2 + len(part)) + part)
    return parts
