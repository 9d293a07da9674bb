"""AVIF by Pillow, 8 bits; boxes read here for the depth and the colour that Pillow does not tell.

Boxes after ISO/IEC 23008-12, `av1C` after the AV1 ISO base media binding, colour codes after ITU-T H.273.
"""

from __future__ import annotations

import io

from deblur_cli.errors import PhotoError
from deblur_cli.media import exif, keeping, xmp
from deblur_cli.media.boxes import has_gain_map, left_behind, properties
from deblur_cli.media.photo import AvifFacts, Photo
from deblur_cli.media.pixels import open_image, pack, refuse_animation, unpack

DEFAULT_QUALITY = 90
_ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0", b"urn:mpeg:hevc:2015:auxid:1\0")
_HDR = {16: "PQ", 18: "HLG"}


def _facts(data: bytes) -> tuple[int, AvifFacts]:
    """Bits a channel, and chroma and colour, of the photo (its alpha plane, which is monochrome, set aside)."""
    depth, subsampling, colour = 8, "", None
    for kind, content in properties(data):
        if kind == b"av1C" and len(content) >= 3:
            flags = content[2]
            depth = max(depth, (12 if flags & 0x20 else 10) if flags & 0x40 else 8)
            if not flags & 0x10:
                subsampling = {(0, 0): "4:4:4", (1, 0): "4:2:2"}.get((flags >> 3 & 1, flags >> 2 & 1), "4:2:0")
        elif kind == b"colr" and content[:4] == b"nclx" and len(content) >= 8 and colour is None:
            colour = (int.from_bytes(content[4:6], "big"), int.from_bytes(content[6:8], "big"))
    return depth, AvifFacts(subsampling or "4:2:0", colour)


def _notes(data: bytes) -> list[str]:
    """What else the file holds that is not kept, a line each."""
    others = {content[4:] for kind, content in properties(data) if kind == b"auxC"}
    has_others = has_gain_map(data) or any(not other.startswith(_ALPHA) for other in others)
    return ["auxiliary pictures (gain map, depth map) are not kept"] * has_others + left_behind(data)


def read(data: bytes) -> Photo:
    """Read an AVIF of 8 bits that is no sequence. Not yet upright (Pillow turns rotation boxes into the EXIF tag).

    Raises:
        PhotoError: a sequence; 10 or 12 bits, of which only 8 would be left.
        Exception: Pillow's, for a truncated or corrupt file.
    """
    depth, facts = _facts(data)
    curve = _HDR.get(facts.colour[1], "") if facts.colour else ""
    if depth > 8:
        kind = f"{depth}-bit{' HDR (' + curve + ')' if curve else ''} AVIF"
        raise PhotoError(f"a {kind}, which would lose depth here (8 bits only); convert it to 16-bit PNG or TIFF")
    image = open_image(data, "AVIF")
    refuse_animation(image)
    pixels, alpha = unpack(image)
    info = image.info
    block, packet = exif.normalised(info.get("exif")), xmp.normalised(info.get("xmp") or b"")
    if exif.orientation(block) is None:
        # No box turns the picture, and no other program would do it for the sake of the XMP.
        packet = xmp.upright(packet, 1, image.size)
    return Photo(
        pixels,
        "AVIF",
        alpha,
        exif=block,
        icc=info.get("icc_profile") or b"",
        xmp=packet,
        facts=facts,
        warnings=_notes(data),
    )


def _with_colour(encoded: bytes, colour: tuple[int, int]) -> bytes:
    """The file with the source's primaries and transfer in its colour box; the matrix stays the encoder's own."""
    at = encoded.find(b"colrnclx")
    if at < 0:
        return encoded
    codes = b"".join(code.to_bytes(2, "big") for code in colour)
    return encoded[: at + 8] + codes + encoded[at + 12 :]


def write(photo: Photo, quality: int | None, notes: list[str]) -> bytes:
    """An AVIF of `photo` (uint8), with the chroma of a source that was an AVIF, and its coded colour."""
    facts = photo.facts if isinstance(photo.facts, AvifFacts) else None
    image = pack(photo.pixels, photo.alpha)
    stream = io.BytesIO()
    settings = {} if image.mode == "L" else {"subsampling": facts.subsampling if facts else "4:4:4"}
    # Pillow writes the EXIF anew where it finds an orientation in it, and makers' notes would not survive that.
    image.save(
        stream,
        "AVIF",
        quality=DEFAULT_QUALITY if quality is None else quality,
        exif=exif.without_orientation(photo.exif),
        icc_profile=photo.icc,
        xmp=photo.xmp,
        **settings,
    )
    encoded = stream.getvalue()
    coded = facts.colour if facts and not photo.icc else keeping.coded_colour(photo)
    return _with_colour(encoded, coded) if coded else encoded
