"""What only a photo's own format says of it: its colours by code, and what a change of format leaves behind."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from deblur_cli.media import exif, extended_xmp, photoshop
from deblur_cli.media.formats import WRITABLE
from deblur_cli.media.photo import AvifFacts, HeifFacts, JpegFacts, Photo, PngFacts, TiffFacts

PLAIN = frozenset((primaries, transfer) for primaries in (1, 2) for transfer in (1, 2, 6, 13))
"""Primaries and transfer (ITU-T H.273) of sRGB, which every untagged picture is taken for, or as good as that: BT.709
and unspecified, BT.709's and BT.601's curve."""
# Chunks of a PNG about its colours, and what they say of sRGB.
_COLOURS = {
    b"gAMA": ("gamma", struct.pack(">I", 45455)),
    b"cHRM": ("chromaticities", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)),
}
_MASTERING = frozenset((b"mDCV", b"mDCv", b"cLLI", b"cLLi"))
_TEXTS = frozenset((b"tEXt", b"zTXt", b"iTXt"))
_COMMENT = b"Comment\x00"
_SEGMENTS = {0xE1: (extended_xmp.PREFIX, "extended XMP"), 0xED: (b"Photoshop", "IPTC and Photoshop data")}
_GEOTIFF = (33550, 33922, 34264, 34735, 34736, 34737)
_TAGS = {photoshop.IPTC_TAG: "IPTC", photoshop.TAG: "Photoshop data"} | dict.fromkeys(_GEOTIFF, "GeoTIFF")
HEIF_LIGHT = {
    "content_light_level": "mastering data",
    "mastering_display_colour_volume": "mastering data",
    "ambient_viewing_environment": "viewing conditions",
    "nominal_diffuse_white_luminance": "viewing conditions",
}
"""Properties of a HEIF about light, by pillow-heif's names, and what they are called."""
NO_CREDENTIALS = "the content credentials (C2PA) sign the old pixels and are not kept"
CLIP = b"ftyp"
"""What the clip of a motion photo has at its beginning."""
# What programs write that know of none.
_NO_RESOLUTION = (72, 72)
_WITH_CODED_COLOUR = frozenset(("PNG", "AVIF", "HEIF"))
_WITH_RESOLUTION = frozenset(("JPEG", "PNG", "TIFF", "BMP"))


def coded_colour(photo: Photo) -> tuple[int, int] | None:
    """Primaries and transfer (ITU-T H.273) by which a HEIF or AVIF states its colours, where no ICC profile does.

    None where it states none, or sRGB, which colours are taken for that nothing is said of.
    """
    facts, colour = photo.facts, None
    if isinstance(facts, AvifFacts):
        colour = facts.colour
    elif isinstance(facts, HeifFacts) and facts.colour:
        # libheif's numbers are those of H.273.
        colour = facts.colour["color_primaries"], facts.colour["transfer_characteristics"]
    return None if photo.icc or colour is None or colour in PLAIN or max(colour) > 255 else colour


def has_depth(photo: Photo) -> bool:
    """Whether there is a depth map in the photo's XMP or its extension, as Google's portraits have it."""
    segments = photo.facts.segments if isinstance(photo.facts, JpegFacts) else ()
    return any(b"GDepth:Data" in each for each in (photo.xmp, *segments))


def as_text(comment: bytes) -> PngFacts | None:
    """The comment of a file of another format as the text of a PNG; None where it is empty."""
    comment = comment.replace(b"\x00", b"")
    return PngFacts(((b"tEXt", _COMMENT + comment),)) if comment else None


def comment_of(photo: Photo) -> bytes:
    """What `as_text` made a text of; empty where there is none."""
    chunks = photo.facts.chunks if isinstance(photo.facts, PngFacts) else ()
    return b"".join(text.removeprefix(_COMMENT) for kind, text in chunks if text.startswith(_COMMENT))


def behind(rest: bytes) -> list[str]:
    """What the bytes after a picture are that is not kept with it, in a line; none for fill bytes."""
    if CLIP in rest:
        return ["the motion photo's clip behind the picture is not kept"]
    return [f"{len(rest)} bytes behind the picture are not kept"] if rest.strip(b"\x00\xff\r\n ") else []


def own_resolution(photo: Photo) -> tuple[float, float] | None:
    """Dots an inch that the photo's file states, and its EXIF does not.

    None where the EXIF states the same, or states any and the file only what programs write that know of none.
    """
    stated = exif.resolution(photo.exif)
    if photo.dpi is None or stated is None:
        return photo.dpi
    across, down = map(round, photo.dpi)
    return None if (across, down) in (tuple(map(round, stated)), _NO_RESOLUTION) else photo.dpi


def losses(photo: Photo, format: str) -> list[str]:  # noqa: A002
    """What of `photo` has no place in a file of `format`, a name of `WRITABLE`, though its own had one; a line each."""
    notes = []
    lost = [] if format == photo.format else list(dict.fromkeys(_only_its_own(photo, format)))
    if lost:
        notes.append(f"{format} is written without the {photo.format}'s {', '.join(lost)}")
    dots = own_resolution(photo) if WRITABLE[format].metadata else photo.dpi
    across, down = map(round, dots or _NO_RESOLUTION)
    if (across, down) != _NO_RESOLUTION and format not in _WITH_RESOLUTION:
        notes.append(f"{format} is written without the resolution of {across} × {down} dots an inch")
    return notes


def _only_its_own(photo: Photo, format: str) -> list[str]:  # noqa: A002
    """What the photo's own format has beside pixels, EXIF, ICC and XMP, and `format`, another, is written without."""
    facts = photo.facts
    if isinstance(facts, JpegFacts):
        left = [each for each in facts.segments if not (format == "TIFF" and photoshop.is_segment(each))]
        return [_segment(segment[1], segment[4:]) for segment in left]
    if isinstance(facts, PngFacts):
        return [] if format == "PNG" else _chunks(dict(facts.chunks), has_profile=bool(photo.icc))
    if isinstance(facts, TiffFacts):
        placed = (photoshop.TAG, photoshop.IPTC_TAG) if format == "JPEG" else ()
        return [_TAGS.get(tag, "other tags") for tag in facts.tags if tag not in placed]
    lost = _beside(facts.beside) if isinstance(facts, HeifFacts) else []
    colour = coded_colour(photo)
    if colour is not None and format not in _WITH_CODED_COLOUR:
        lost.append(f"coded colour (primaries {colour[0]}, transfer {colour[1]})")
    return lost


def _beside(beside: Mapping[str, Any]) -> list[str]:
    """What a HEIF says beside its colours, in words."""
    lost = [words for name, words in HEIF_LIGHT.items() if name in beside]
    if "pixel_aspect_ratio" in beside:
        lost.append("pixel aspect ratio")
    return lost + ["IPTC" if item["type"] == "iptc" else "other metadata" for item in beside.get("metadata", ())]


def _segment(marker: int, payload: bytes) -> str:
    """What a segment of a JPEG holds, in words."""
    begins, words = _SEGMENTS.get(marker, (b"", "comments" if marker == 0xFE else "application data"))
    return words if payload.startswith(begins) else "application data"


def _chunks(chunks: dict[bytes, bytes], *, has_profile: bool) -> list[str]:
    """What the chunks of a PNG (type → payload) say, but for colours that are sRGB's anyway.

    Of what says the colours a reader follows the first: coded colour, profile, sRGB, gamma and chromaticities.
    """
    lost = []
    if b"cICP" in chunks:
        if tuple(chunks[b"cICP"][:2]) not in PLAIN:
            lost.append("coded colour")
    elif not has_profile and b"sRGB" not in chunks:
        lost += [word for kind, (word, plain) in _COLOURS.items() if chunks.get(kind, plain) != plain]
    if chunks.keys() & _MASTERING:
        lost.append("mastering data")
    if chunks.keys() & _TEXTS:
        lost.append("texts")
    if chunks.keys() - _TEXTS - _MASTERING - _COLOURS.keys() - {b"cICP", b"sRGB", b"pHYs"}:
        lost.append("further chunks")
    return lost
