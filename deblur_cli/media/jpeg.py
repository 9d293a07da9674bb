"""JPEG: Pillow for the pixels; markers read here, for what Pillow does not tell (ITU-T T.81, annex B)."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np

from deblur_cli.errors import PhotoError
from deblur_cli.media import colour, exif, extended_xmp, keeping, photoshop
from deblur_cli.media.photo import Facts, JpegFacts, Photo, TiffFacts
from deblur_cli.media.pixels import check_size, open_image, pack, unpack

DEFAULT_QUALITY = 95
_LONGEST_SEGMENT = 65533
_PICTURES = b"MPF\x00"
_PLAIN_XMP = b"http://ns.adobe.com/xap/1.0/\x00"
# Segments that are written anew, or belong to further pictures; of their kinds nothing else is kept, but for APP1.
_ANEW = {
    0xE0: (b"JFIF\x00", b"JFXX\x00"),
    0xE1: (exif.PREFIX, _PLAIN_XMP),
    0xE2: (b"ICC_PROFILE\x00", _PICTURES, b"urn:iso:std:iso:ts:21496"),
    0xEB: (),
    0xEE: (b"Adobe",),
}
# A marker inside coded data: not a stuffed byte, not a restart, not a fill byte.
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of the payload of every segment before the first scan, and of the scan's header."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            at += 1
            continue
        marker = data[at + 1]
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD9:
            at += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        yield marker, at + 4, at + 2 + length
        if marker == 0xDA:
            return
        at += 2 + max(length, 2)


def _end_of_image(data: bytes, scan: int) -> int:
    """The position behind the end-of-image marker, looked for from the first scan on; the file's length without one."""
    at = scan
    while found := _MARKER.search(data, at):
        marker = data[found.start() + 1]
        if marker == 0xD9:
            return found.end()
        at = found.end()
        if not (marker == 0x01 or marker == 0xD8):
            at += int.from_bytes(data[at : at + 2], "big")
    return len(data)


def _subsampling(layers: list[tuple[int, int, int, int]]) -> tuple[int, str]:
    """Pillow's number for the chroma subsampling, and the source's own name where that is only the next finer one.

    `layers`: (identifier, samples across, samples down, table) of each component, as Pillow's `layer`.
    """
    if len(layers) != 3:
        return 0, ""
    across, down = layers[0][1] / layers[1][1], layers[0][2] / layers[1][2]
    names = {(1, 1): "4:4:4", (2, 1): "4:2:2", (2, 2): "4:2:0", (1, 2): "4:4:0", (4, 1): "4:1:1", (4, 2): "4:1:0"}
    number = 2 if across >= 2 and down >= 2 else 1 if across >= 2 else 0
    exact = (across, down) == ((1, 1), (2, 1), (2, 2))[number]
    return number, "" if exact else names.get((int(across), int(down)), "its own subsampling")


def _is_kept(marker: int, payload: bytes) -> bool:
    """Whether a segment is kept as it is: comments, extended XMP, Photoshop's resources, data of cameras' makers."""
    if marker == 0xE1:
        return not payload.startswith(_ANEW[marker])
    return marker == 0xFE or (0xE0 <= marker <= 0xEF and marker not in _ANEW)


def _bare(data: bytes) -> bytes:
    """The file without the segments that Pillow need not see: those kept as they are, and the list of further pictures.

    It refuses a whole photo over a damaged one of the first, and takes a file with the second for another format.
    """
    parts, at = [], 0
    for marker, start, end in _segments(data):
        payload = data[start : start + 64]
        if _is_kept(marker, payload) or (marker == 0xE2 and payload.startswith(_PICTURES)):
            parts.append(data[at : start - 4])
            at = end
    return b"".join([*parts, data[at:]])


def _facts(image: Any, data: bytes) -> tuple[JpegFacts, list[str]]:
    kept: list[bytes] = []
    notes: list[str] = []
    others: set[str] = set()
    signed = False
    several = scan = 0
    for marker, start, end in _segments(data):
        payload = data[start:end]
        if _is_kept(marker, payload):
            kept.append(data[start - 4 : end])
        elif marker == 0xE2 and payload.startswith(_PICTURES):
            several = 1
        elif marker == 0xEB and b"c2pa" in payload:
            signed = True
        elif marker in _ANEW and not payload.startswith(_ANEW[marker]) and not (marker == 0xEB and signed):
            others.add(f"APP{marker - 0xE0}")
        scan = end
    if signed:
        notes.append(keeping.NO_CREDENTIALS)
    if others:
        notes.append(f"application data ({', '.join(sorted(others))}) that may belong to the old pixels is not kept")
    rest = data[_end_of_image(data, scan) :]
    if several and rest:
        notes.append("the file holds further pictures (multi-picture, depth or gain map); only the first is kept")
    if not several or keeping.CLIP in rest:
        notes += keeping.behind(rest)
    layers = image.layer
    # One table a component, but as few as say the same: where they end, the last one goes on.
    identifiers = [layer[3] for layer in (layers[:3] if len(layers) == 3 else layers[:1])]
    while len(identifiers) > 1 and identifiers[-1] == identifiers[-2]:
        identifiers.pop()
    tables = [tuple(image.quantization.get(identifier, ())) for identifier in identifiers]
    number, coarser = _subsampling(layers)
    facts = JpegFacts(
        tables=tuple(tables) if all(len(table) == 64 for table in tables) else (),
        subsampling=number,
        coarser=coarser,
        progressive=bool(image.info.get("progressive")),
        rgb=len(layers) == 3
        and (image.info.get("adobe_transform") == 0 or bytes(layer[0] for layer in layers) == b"RGB"),
        segments=tuple(_without_thumbnail(kept)),
    )
    return facts, notes


def _without_thumbnail(segments: list[bytes]) -> list[bytes]:
    """Kept segments, of Photoshop's resources all but the thumbnail; one resource may lie in several segments."""
    whole = photoshop.of_segments(segments)
    rest = photoshop.without_thumbnail(whole)
    if rest == whole:
        return segments
    others = [segment for segment in segments if not photoshop.is_segment(segment)]
    return [*others, *photoshop.segments(rest)]


def _refuse_other_kinds(data: bytes) -> None:
    """Raise PhotoError for the kinds of JPEG that Pillow has no good words for."""
    for marker, start, end in _segments(data):
        if marker == 0xF7:
            raise PhotoError("a JPEG-LS picture, which no decoder here reads; convert it to PNG or TIFF")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and end - start >= 6:
            bits, height, width = data[start], data[start + 1 : start + 3], data[start + 3 : start + 5]
            if bits != 8:
                raise PhotoError(
                    f"a JPEG of {bits} bits a channel, which no decoder here reads; convert it to PNG or TIFF"
                )
            if marker in (0xC3, 0xC7, 0xCB, 0xCF):
                raise PhotoError("a lossless JPEG (T.81 annex H), as in raw files; convert it to PNG or TIFF")
            if marker in (0xC5, 0xC6, 0xCD, 0xCE):
                raise PhotoError("a hierarchical JPEG, which no decoder here reads; convert it to PNG or TIFF")
            check_size(int.from_bytes(width, "big"), int.from_bytes(height, "big"), len(data))
            return
    raise PhotoError("truncated or corrupt JPEG (no frame header)")


def read(data: bytes) -> Photo:
    """Read a JPEG; the first picture of several (MPO, Ultra HDR, motion photo). Not yet upright.

    Raises:
        PhotoError: a kind that cannot be read.
        Exception: Pillow's, for a truncated or corrupt file.
    """
    _refuse_other_kinds(data)
    image = open_image(_bare(data), "JPEG")
    info = image.info
    facts, notes = _facts(image, data)
    segments, packet = extended_xmp.alone(facts.segments, info.get("xmp") or b"")
    icc = info.get("icc_profile") or b""
    is_cmyk = image.mode == "CMYK"
    pixels, _ = unpack(colour.to_srgb(image, icc) if is_cmyk else image)
    inks = np.array(image) if is_cmyk else None
    block = exif.normalised(info.get("exif"))
    # JFIF's, or else that of the EXIF; Pillow makes one up where neither states any.
    has_unit = info.get("jfif_unit") in (1, 2)
    dpi = cast("tuple[float, float] | None", info.get("dpi") if has_unit else exif.resolution(block))
    if info.get("exif") and not block:
        notes.append("its EXIF is damaged and is not kept")
    if "icc_profile" in info and not icc:
        notes.append("its ICC profile is incomplete and is not kept")
    return Photo(
        pixels,
        "JPEG",
        exif=block,
        icc=icc,
        xmp=packet,
        dpi=dpi if dpi and dpi[0] > 0 and dpi[1] > 0 else None,
        cmyk=is_cmyk,
        inks=inks,
        facts=replace(facts, segments=tuple(segments)),
        warnings=notes,
    )


def _settings(photo: Photo, quality: int | None, notes: list[str]) -> dict[str, Any]:
    """Pillow's options for quality, chroma and scan order: a JPEG source's own, unless others are asked for."""
    facts = photo.facts if isinstance(photo.facts, JpegFacts) else None
    if facts is None:
        return {"quality": DEFAULT_QUALITY if quality is None else quality, "subsampling": 0}
    settings: dict[str, Any] = {"progressive": facts.progressive}
    if photo.pixels.ndim == 3 and not photo.cmyk:
        settings["subsampling"] = facts.subsampling
        settings["keep_rgb"] = facts.rgb and not facts.subsampling  # which libjpeg allows to YCbCr only
        if facts.coarser:
            finer = ("4:4:4", "4:2:2", "4:2:0")[facts.subsampling]
            notes.append(f"chroma subsampling of {facts.coarser} becomes {finer}, the next finer that can be written")
    if quality is not None or not facts.tables:
        settings["quality"] = DEFAULT_QUALITY if quality is None else quality
    else:
        settings["qtables"] = [list(table) for table in facts.tables]
    return settings


def _segments_of(facts: Facts | None) -> Sequence[bytes]:
    """The segments that a JPEG keeps of its source: a JPEG's as they were, a TIFF's IPTC and Photoshop data."""
    if isinstance(facts, JpegFacts):
        return facts.segments
    return photoshop.segments(photoshop.of_tags(facts.tags)) if isinstance(facts, TiffFacts) else ()


def write(photo: Photo, quality: int | None, notes: list[str]) -> bytes:
    """A JPEG of `photo` (uint8, no alpha); what cannot be kept goes into `notes`."""
    from PIL import ImageFile

    image = colour.to_cmyk(photo.pixels, photo.icc, photo.inks) if photo.cmyk else pack(photo.pixels, None)
    settings = _settings(photo, quality, notes)
    extra = b"".join(_segments_of(photo.facts))
    if photo.exif:
        if len(photo.exif) > exif.LONGEST:
            notes.append("the EXIF is longer than a JPEG segment and is not kept")
        else:
            settings["exif"] = exif.PREFIX + photo.exif
    if photo.xmp:
        try:
            settings["xmp"], further = extended_xmp.split(photo.xmp, _LONGEST_SEGMENT - len(_PLAIN_XMP))
            extra += b"".join(further)
        except ValueError:
            notes.append("the XMP is longer than a JPEG segment, cannot be divided, and is not kept")
    if photo.dpi:
        settings["dpi"] = tuple(min(65535, max(1, round(dots))) for dots in photo.dpi)
    # Optimised and progressive files leave the encoder in one piece, and Pillow's guess of its size is short for noise.
    ImageFile.MAXBLOCK = max(ImageFile.MAXBLOCK, 2 * photo.pixels.nbytes + len(photo.icc) + len(extra) + (1 << 18))
    stream = io.BytesIO()
    image.save(stream, "JPEG", optimize=True, icc_profile=photo.icc or None, extra=extra, **settings)
    return stream.getvalue()
