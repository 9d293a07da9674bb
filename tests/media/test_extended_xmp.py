"""XMP that is too long for a segment of a JPEG is divided as Adobe has it, and the packet keeps what it can."""

from __future__ import annotations

import hashlib
import io
import re
from xml.etree import ElementTree

import pytest

from deblur_cli.media import extended_xmp, photos
from deblur_cli.media.photo import JpegFacts, Photo
from tests.media.photo_samples import smooth

ROOM = 65504
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
HISTORY = "<h:History><rdf:Seq>" + "".join(f"<rdf:li>step &amp; Zo\u00eb {n}</rdf:li>" for n in range(9000))
HISTORY += "</rdf:Seq></h:History>"
SUBJECT = "<dc:subject><rdf:Bag><rdf:li>boat</rdf:li></rdf:Bag></dc:subject>"
RIGHTS = '<r:rights xmlns:r="rights&amp;more">mine</r:rights><r:empty xmlns:r="rights&amp;more"/>'


def packet(properties: str, attributes: str = "", padding: int = 2000) -> bytes:
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:h="history">'
        '<rdf:Description rdf:about="" xmlns:dc="subjects" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="4"'
        f'{attributes}>{properties}</rdf:Description></rdf:RDF></x:xmpmeta>{" " * padding}<?xpacket end="w"?>'
    ).encode()


def found(*packets: bytes) -> dict[str, str | None]:
    """The properties in packets together, elements as they are written anew."""
    told: dict[str, str | None] = {}
    for each in packets:
        for described in ElementTree.fromstring(each).iter(RDF + "Description"):
            told |= described.attrib
            told |= {element.tag: ElementTree.canonicalize(ElementTree.tostring(element)) for element in described}
    return told


def in_jpeg(xmp: bytes) -> tuple[bytes, bytes, list[str]]:
    """What a JPEG of a TIFF with such XMP has: its packet, the extension, and what was said in writing."""
    stream = io.BytesIO()
    notes = photos.write(Photo(smooth(8, 8), "TIFF", xmp=xmp), stream, format="JPEG")
    photo = photos.read(io.BytesIO(stream.getvalue()))
    assert isinstance(photo.facts, JpegFacts)
    parts = [segment[4 + len(extended_xmp.PREFIX) :] for segment in photo.facts.segments]
    extension, at = b"", 0
    for part in parts:
        assert part[:32] == parts[0][:32] and int.from_bytes(part[36:40], "big") == at
        extension += part[40:]
        at += len(part[40:])
    for part in parts:
        assert part[:32].decode() == hashlib.md5(extension).hexdigest().upper()
        assert int.from_bytes(part[32:36], "big") == len(extension)
    stated = re.findall(rb'xmpNote:HasExtendedXMP="(.*?)"', photo.xmp)
    assert stated == [part[:32] for part in parts[:1]]
    again = io.BytesIO()
    assert photos.write(photo, again, format="JPEG") == []
    assert photos.read(io.BytesIO(again.getvalue())).xmp == photo.xmp
    return photo.xmp, extension, notes


def without_note(told: dict[str, str | None]) -> dict[str, str | None]:
    return {name: value for name, value in told.items() if "HasExtendedXMP" not in name}


def test_the_longest_properties_go_and_the_packet_keeps_the_others() -> None:
    whole = packet(SUBJECT + HISTORY + RIGHTS)
    main, extension, notes = in_jpeg(whole)
    assert notes == [] and len(main) < 2000 and len(extension) > 2 * ROOM
    assert without_note(found(main, extension)) == found(whole)
    assert list(found(extension)) == [RDF + "about", "{history}History"]
    assert {"{subjects}subject", "{http://ns.adobe.com/xap/1.0/}Rating", "{rights&more}rights"} <= found(main).keys()


def test_two_long_ones_go_in_their_order_and_a_third_that_fits_stays() -> None:
    texts = [f"<h:{name}>{name * length}</h:{name}>" for name, length in (("a", 40_000), ("b", 30_000), ("c", 50_000))]
    main, extension, _ = in_jpeg(packet("".join(texts)))
    assert [name for name in found(extension) if "history" in name] == ["{history}a", "{history}c"]
    assert "{history}b" in found(main) and ROOM / 3 < len(main) <= ROOM


def test_what_is_long_in_attributes_goes_whole() -> None:
    whole = packet(SUBJECT, f' h:note="{"n" * 70_000}"')
    main, extension, notes = in_jpeg(whole)
    assert notes == [] and without_note(found(main, extension)) == found(whole)


def test_padding_is_left_out_first() -> None:
    whole = packet(SUBJECT, padding=80_000)
    main, extension, notes = in_jpeg(whole)
    assert (extension, notes) == (b"", []) and found(main) == found(whole)


def test_a_packet_that_fits_stays_as_it_is() -> None:
    whole = packet(SUBJECT)
    whole = packet(SUBJECT, padding=2000 + ROOM - len(whole))
    assert extended_xmp.split(whole, ROOM) == (whole, [])


@pytest.mark.parametrize(
    "damaged",
    [
        packet(HISTORY)[:-2300],
        packet(HISTORY).replace(b"rdf:RDF", b"rdf:Other"),
        packet(HISTORY).replace(b"<x:", b"<!DOCTYPE x><x:", 1),
        packet(HISTORY).decode().encode("utf-16"),
        b"<x/>".rjust(70_000),
        packet(HISTORY, ' n:HasExtendedXMP="0123"'),
    ],
)
def test_what_cannot_be_divided_is_said(damaged: bytes) -> None:
    main, extension, notes = in_jpeg(damaged)
    assert (main, extension) == (b"", b"") and len(notes) == 1 and "XMP" in notes[0]


def test_an_old_word_of_parts_elsewhere_does_not_hinder() -> None:
    stated = ' xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="0123"'
    main, extension, notes = in_jpeg(packet(SUBJECT + HISTORY, stated))
    assert notes == [] and b"0123" not in main and b"step" in extension
