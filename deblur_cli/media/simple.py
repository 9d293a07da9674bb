"""The formats without metadata: BMP, and the PPM family, whose 16 bits and comments are read and written here."""

from __future__ import annotations

import re
import struct

import numpy as np

from deblur_cli.errors import PhotoError
from deblur_cli.media import keeping
from deblur_cli.media.photo import Photo
from deblur_cli.media.pixels import check_size, encode_with_opencv, joined, open_image, unpack

_INCH = 0.0254
_BMP_RESOLUTION = 38
# Of the fifth header: what the colours are by; where an embedded profile lies, from the header on, and its length.
_BMP_COLOURS, _BMP_PROFILE = 14 + 56, 14 + 112
_BMP_EMBEDDED = b"DEBM"
# Magic (text or binary, grey or colour), width, height, greatest value, comments between; a white space, the samples.
_NUMBER = rb"(?:\s|#[^\n]*\n)+(\d+)"
_PPM_HEADER = re.compile(rb"P([2356])" + 3 * _NUMBER + rb"\s")
# Of black and white no greatest value is told.
_PBM_HEADER = re.compile(rb"P([14])" + 2 * _NUMBER + rb"\s")
_PPM_COMMENT = re.compile(rb"#([^\n]*)\n")


def read_bmp(data: bytes) -> Photo:
    """Read a BMP; an alpha channel and a colour profile where its header declares them.

    Raises:
        Exception: Pillow's, for a truncated or corrupt file.
    """
    image = open_image(data, "BMP")
    pixels, alpha = unpack(image)
    dpi = image.info.get("dpi")
    icc = b""
    if data[_BMP_COLOURS : _BMP_COLOURS + 4] == _BMP_EMBEDDED and int.from_bytes(data[14:18], "little") >= 124:
        start, length = struct.unpack_from("<II", data, _BMP_PROFILE)
        icc = data[14 + start : 14 + start + length]
    return Photo(pixels, "BMP", alpha, icc=icc, dpi=dpi if dpi and dpi[0] > 0 and dpi[1] > 0 else None)


def write_bmp(photo: Photo, quality: int | None, notes: list[str]) -> bytes:
    """A BMP of `photo` (uint8), 8, 24 or 32 bits; `quality` changes nothing."""
    pixels = photo.pixels
    if photo.alpha is not None and pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    encoded = encode_with_opencv(".bmp", joined(pixels, photo.alpha))
    if not photo.dpi:
        return encoded
    resolution = struct.pack("<ii", *(min(0x7FFFFFFF, max(1, round(dots / _INCH))) for dots in photo.dpi))
    return encoded[:_BMP_RESOLUTION] + resolution + encoded[_BMP_RESOLUTION + 8 :]


def read_ppm(data: bytes) -> Photo:
    """Read a PPM, PGM or PBM; 16 bits stay 16, scaled to the full range where the file's greatest value is less. The
    comments of its header become the text of a PNG.

    Raises:
        PhotoError: truncated, or too large.
        Exception: Pillow's, for a corrupt file.
    """
    header = _PPM_HEADER.match(data)
    told = header or _PBM_HEADER.match(data)
    lines = _PPM_COMMENT.findall(told[0]) if told else []
    facts = keeping.as_text(b"\n".join(line.strip() for line in lines))
    # A file of binary pictures may hold several.
    notes = keeping.behind(data[told.end() + _length(told) :]) if told and told[1] in b"456" else []
    if header is None or int(header[4]) <= 255:
        pixels, alpha = unpack(open_image(data, "PPM"))
        return Photo(pixels, "PPM", alpha, facts=facts, warnings=notes)
    if header[1] in b"23":
        raise PhotoError("a PPM of more than 8 bits written as text; convert it to PNG or binary PPM")
    width, height, top = (int(header[index]) for index in (2, 3, 4))
    channels = 3 if header[1] == b"6" else 1
    if top > 65535:
        raise PhotoError(f"corrupt PPM: {top} as the greatest value, where 65535 is the limit")
    check_size(width, height, len(data))
    if len(data) - header.end() < _length(header):
        raise PhotoError("truncated PPM: fewer samples than its header declares")
    samples = np.frombuffer(data, ">u2", width * height * channels, header.end()).astype(np.uint16)
    if top < 65535:
        samples = ((np.minimum(samples, top).astype(np.uint32) * 65535 + top // 2) // top).astype(np.uint16)
    pixels = samples.reshape((height, width, 3) if channels == 3 else (height, width))
    return Photo(pixels, "PPM", depth=16, facts=facts, warnings=notes)


def _length(header: re.Match[bytes]) -> int:
    """Bytes of the samples behind the header of a binary picture."""
    width, height = int(header[2]), int(header[3])
    if header[1] == b"4":
        return -(-width // 8) * height
    return width * height * (3 if header[1] == b"6" else 1) * (2 if int(header[4]) > 255 else 1)


def write_ppm(photo: Photo, quality: int | None, notes: list[str]) -> bytes:
    """A binary PPM or PGM of `photo` (uint8 or uint16) with a PPM's comments; `quality` changes nothing."""
    height, width = photo.pixels.shape[:2]
    magic, top = ("P5" if photo.pixels.ndim == 2 else "P6"), np.iinfo(photo.pixels.dtype).max
    told = keeping.comment_of(photo) if photo.format == "PPM" else b""
    comments = b"".join(b"# " + line + b"\n" for line in told.splitlines())
    return (
        f"{magic}\n".encode()
        + comments
        + f"{width} {height}\n{top}\n".encode()
        + photo.pixels.astype(photo.pixels.dtype.newbyteorder(">")).tobytes()
    )
