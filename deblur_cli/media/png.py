"""PNG: Pillow validates and decodes 8 bits, opencv decodes 16 and encodes; the chunks between are put in here.

Chunks after the PNG specification, third edition (W3C 2025).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from deblur_cli.media import exif, keeping
from deblur_cli.media.photo import Photo, PngFacts
from deblur_cli.media.pixels import (
    check_size,
    decode_deep,
    encode_with_opencv,
    joined,
    open_image,
    refuse_animation,
    unpack,
)

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER_END = 33
_XMP_KEYWORD = b"XML:com.adobe.xmp"
# What holds for the picture at any depth and colour type. Resolution, ICC, EXIF and XMP travel apart.
_KEPT = (b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"mDCv", b"cLLi", b"tEXt", b"zTXt", b"iTXt")
# What describes the file's own pixels, or is written anew: of these nothing is said.
_LEFT = (
    b"PLTE",
    b"tRNS",
    b"sBIT",
    b"bKGD",
    b"hIST",
    b"sPLT",
    b"tIME",
    b"iDOT",
    b"acTL",
    b"fcTL",
    b"eXIf",
    b"iCCP",
    b"pHYs",
)
_CREDENTIALS = b"caBX"
_RAW_PROFILES = {f"raw profile type {kind}": kind for kind in ("exif", "app1", "xmp")}
_CARRIED = (_XMP_KEYWORD.lower(), *map(str.encode, _RAW_PROFILES))
# What stands before an XMP packet in a JPEG's APP1 segment.
_XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\x00"
_INCH = 0.0254


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(_SIGNATURE)
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        if data[at + 4 : at + 8] == b"IEND":
            return
        at += 12 + length


def _chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(payload, zlib.crc32(kind)))


def with_chunks(encoded: bytes, chunks: Iterable[tuple[bytes, bytes]]) -> bytes:
    """`encoded`, a PNG, with further chunks (type, payload) right behind its header."""
    return b"".join([encoded[:_HEADER_END], *(_chunk(*each) for each in chunks), encoded[_HEADER_END:]])


def _keyword(payload: bytes) -> bytes:
    return payload.split(b"\x00", 1)[0]


def _is_ancillary(kind: bytes) -> bool:
    return bool(kind[0] & 0x20)


def _sound(data: bytes, notes: list[str]) -> bytes:
    """The file without ancillary chunks of a wrong checksum, for the sake of which Pillow would refuse the picture."""
    parts, begin, at = [], 0, len(_SIGNATURE)
    for kind, payload in _chunks(data):
        end = at + 12 + len(payload)
        if _is_ancillary(kind) and end <= len(data) and data[at:end] != _chunk(kind, payload):
            notes.append(f"a damaged chunk ({kind.decode('latin-1')}) is not kept")
            parts.append(data[begin:at])
            begin = end
        at = end
    return b"".join([*parts, data[begin:]]) if parts else data


def _kept(data: bytes, notes: list[str]) -> tuple[tuple[bytes, bytes], ...]:
    """Chunks to be kept: what is known to hold, and what says of itself that it may be copied (the fourth letter)."""
    kept, left, end = [], dict[bytes, None](), len(_SIGNATURE)
    for kind, payload in _chunks(data):
        end += 12 + len(payload)
        word = _keyword(payload) if kind in (b"tEXt", b"zTXt", b"iTXt") else b""
        if kind in _KEPT and not word.lower().startswith(_CARRIED):
            kept.append((kind, payload))
        elif kind == b"pHYs" and payload[8:9] == b"\x00":
            # A ratio of the sides of a pixel and no resolution; nothing else would carry it.
            kept.append((kind, payload))
        elif kind == _CREDENTIALS:
            notes.append(keeping.NO_CREDENTIALS)
        elif _is_ancillary(kind) and kind.isalpha() and kind not in (*_KEPT, *_LEFT):
            if kind[3] & 0x20:
                kept.append((kind, payload))
            else:
                left[kind] = None
    notes += keeping.behind(data[end:])
    if left:
        notes.append(f"chunks that belong to the old pixels ({', '.join(map(bytes.decode, left))}) are not kept")
    return tuple(kept)


def _raw_profiles(info: Mapping[Any, Any], notes: list[str]) -> tuple[bytes, bytes]:
    """EXIF and XMP in text chunks as ImageMagick writes them: name, length, then lines of hexadecimal digits.

    APP1, a segment of a JPEG, holds the one or the other. Both are empty where there are none.
    """
    block = packet = b""
    for key, text in info.items():
        kind = _RAW_PROFILES.get(str(key).lower())
        if kind is None:
            continue
        try:
            profile = bytes.fromhex("".join(str(text).split("\n")[3:]))
        except ValueError:
            profile = b""
        if kind == "xmp" or profile.startswith(_XMP_PREFIX):
            packet = packet or profile.removeprefix(_XMP_PREFIX)
        else:
            block = block or profile
        if not profile:
            notes.append(f"a profile of the type {kind} in its text is damaged and is not kept")
    return block, packet


def _decode_16_bits(data: bytes, colour_type: int) -> tuple[np.ndarray, np.ndarray | None]:
    clear: tuple[int, ...] = ()
    # Only what makes the pixels: a damaged profile or text must not trouble the second decoder; transparency is ours.
    bare = [_SIGNATURE]
    for kind, payload in _chunks(data):
        if kind in (b"IHDR", b"IDAT", b"IEND"):
            bare.append(_chunk(kind, payload))
        elif kind == b"tRNS" and colour_type in (0, 2):
            clear = struct.unpack(f">{len(payload) // 2}H", payload[: len(payload) // 2 * 2])
    array = decode_deep(b"".join(bare))
    if array.dtype != np.uint16:
        raise ValueError("16 bits a channel were read as fewer")
    alpha: np.ndarray | None = None
    if colour_type in (4, 6):
        alpha = np.ascontiguousarray(array[:, :, 3])
        array = np.ascontiguousarray(array[:, :, 0] if colour_type == 4 else array[:, :, :3])
    elif len(clear) == (1 if array.ndim == 2 else 3):
        hit = array == np.array(clear, np.uint16) if array.ndim == 3 else (array == clear[0])[:, :, None]
        alpha = np.where(hit.all(axis=2), np.uint16(0), np.uint16(65535))
    return array, alpha


def read(data: bytes) -> Photo:
    """Read a PNG of any depth and colour type; 16 bits stay 16, palettes and fewer bits become 8. Not yet upright.

    Raises:
        PhotoError: an animation, or too large.
        Exception: Pillow's or opencv's, for a truncated or corrupt file.
    """
    if data[12:16] != b"IHDR" or len(data) < _HEADER_END:
        raise ValueError("no header chunk")
    width, height, depth, colour_type = struct.unpack(">IIBB", data[16:26])
    check_size(width, height, len(data))
    notes: list[str] = []
    data = _sound(data, notes)
    image = open_image(data, "PNG")
    refuse_animation(image)
    if depth == 16:
        # Pillow keeps 8 of the 16 bits, but it alone says when a file is truncated.
        image.load()
    else:
        if colour_type == 0 and depth > 1 and "transparency" in image.info:
            # Pillow spreads levels of fewer bits over 8, but not the one that is clear; of that the lowest bits count.
            top = (1 << depth) - 1
            image.info["transparency"] = (image.info["transparency"] & top) * (255 // top)
        pixels, alpha = unpack(image)
    info = dict(image.info)
    image.close()
    if depth == 16:
        pixels, alpha = _decode_16_bits(data, colour_type)
    raw_block, raw_packet = _raw_profiles(info, notes)
    raw = info.get("exif") or raw_block
    block = exif.normalised(raw)
    if raw and not block:
        notes.append("its EXIF is damaged and is not kept")
    if "icc_profile" in info and not info["icc_profile"]:
        notes.append("its ICC profile is damaged and is not kept")
    # In an iTXt chunk, as it should be; or in another text, which Pillow reads as Latin-1; or in a raw profile.
    xmp = info.get("xmp") or str(info.get(_XMP_KEYWORD.decode(), "")).encode("latin-1", "replace") or raw_packet
    dpi = info.get("dpi")
    return Photo(
        pixels,
        "PNG",
        alpha,
        exif=block,
        icc=info.get("icc_profile") or b"",
        xmp=xmp if isinstance(xmp, bytes) else str(xmp).encode(),
        dpi=dpi if dpi and min(dpi) > 0 else None,
        depth=depth,
        facts=PngFacts(_kept(data, notes)),
        warnings=notes,
    )


def _encode_grey_alpha(array: np.ndarray) -> bytes:
    """H×W×2 as a PNG of grey with alpha, which opencv does not write: each row minus the one above, then deflate."""
    height, width = array.shape[:2]
    depth = 8 * array.dtype.itemsize
    rows = np.frombuffer(array.astype(array.dtype.newbyteorder(">")).tobytes(), np.uint8).reshape(height, -1)
    filtered = np.empty((height, rows.shape[1] + 1), np.uint8)
    filtered[:, 0] = 2
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, depth, 4, 0, 0, 0)
    body = zlib.compress(filtered.tobytes(), 6)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def write(photo: Photo, quality: int | None, notes: list[str]) -> bytes:
    """A PNG of `photo` (uint8 or uint16); lossless, so `quality` changes nothing."""
    array = joined(photo.pixels, photo.alpha)
    if array.ndim == 3 and array.shape[2] == 2:
        encoded = _encode_grey_alpha(array)
    else:
        encoded = encode_with_opencv(".png", array)
    chunks = []
    kept = photo.facts.chunks if isinstance(photo.facts, PngFacts) else ()
    if photo.icc:
        chunks.append((b"iCCP", b"ICC Profile\x00\x00" + zlib.compress(photo.icc)))
    if coded := keeping.coded_colour(photo):
        # The last two: RGB as it is, over the full range.
        chunks.append((b"cICP", bytes((*coded, 0, 1))))
    # A file has an embedded profile or says that it is sRGB, not both.
    chunks += [(kind, payload) for kind, payload in kept if not (photo.icc and kind == b"sRGB")]
    if photo.dpi:
        across, down = (min(0xFFFFFFFF, max(1, round(dots / _INCH))) for dots in photo.dpi)
        chunks.append((b"pHYs", struct.pack(">IIB", across, down, 1)))
    if photo.exif:
        chunks.append((b"eXIf", photo.exif))
    if photo.xmp:
        chunks.append((b"iTXt", _XMP_KEYWORD + bytes(5) + photo.xmp))
    return with_chunks(encoded, chunks)
