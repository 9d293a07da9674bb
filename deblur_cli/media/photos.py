"""Photo files: read one into a `Photo`, write a `Photo` as one; whole or not at all, and never in silence.

The format is told by the content, not by the name. Each has a module beside this one; here is what all of them share:
the errors, the orientation, the fit of what the pixels have to what a format holds, and the atomic write.

Importing this module is cheap; NumPy and the codecs are loaded when a file is read or written.
"""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from deblur_cli.errors import PhotoError
from deblur_cli.media.files import is_temporary, replacing, temporary_name
from deblur_cli.media.formats import SUFFIXES, WRITABLE, describe, identify
from deblur_cli.media.limits import refuse_too_large
from deblur_cli.media.photo import Photo

if TYPE_CHECKING:
    import numpy as np

__all__ = ["SUFFIXES", "WRITABLE", "Photo", "is_temporary", "read", "temporary_name", "write"]

_log = logging.getLogger(__name__)

# What codecs raise for a damaged file; Pillow's parsers stumble in nearly every way. The cause is always chained.
_DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)

# Bytes by which a format is told.
_HEAD = 64

Reader = Callable[[bytes], Photo]
Writer = Callable[[Photo, "int | None", "list[str]"], bytes]


def _reader(format: str) -> Reader:  # noqa: A002
    from deblur_cli.media import avif, gif, heif, jpeg, png, simple, tiff, webp

    return {
        "JPEG": jpeg.read,
        "PNG": png.read,
        "WEBP": webp.read,
        "TIFF": tiff.read,
        "AVIF": avif.read,
        "HEIF": heif.read,
        "BMP": simple.read_bmp,
        "PPM": simple.read_ppm,
        "GIF": gif.read,
    }[format]


def _writer(format: str) -> Writer:  # noqa: A002
    from deblur_cli.media import avif, heif, jpeg, png, simple, tiff, webp

    return {
        "JPEG": jpeg.write,
        "PNG": png.write,
        "WEBP": webp.write,
        "TIFF": tiff.write,
        "AVIF": avif.write,
        "HEIF": heif.write,
        "BMP": simple.write_bmp,
        "PPM": simple.write_ppm,
    }[format]


def _one_line(error: Exception) -> str:
    """What a library says, in brackets; nothing where it says nothing."""
    words = " ".join(str(error).split())
    return f" ({words if len(words) <= 120 else words[:119] + '…'})" if words else ""


def _whole(stream: BinaryIO, name: str) -> tuple[str, bytes]:
    """The format and the bytes of a stream; of what is no photo only the first are read, for there may be no end."""
    head = stream.read(_HEAD)
    if not head:
        raise PhotoError(f"{name}: an empty file")
    format = identify(head)  # noqa: A001
    if format is None:
        raise PhotoError(f"{name}: {describe(head)}, not a photo that can be read ({', '.join(WRITABLE)}, GIF)")
    return format, head + stream.read()


def _content(source: Path | BinaryIO) -> tuple[str, str, bytes]:
    """The name to be used in messages, the format, and the bytes."""
    if not isinstance(source, Path):
        name = "standard input" if getattr(source, "name", 0) in (0, "<stdin>") else str(source.name)
        return name, *_whole(source, name)
    try:
        with source.open("rb") as stream:
            return str(source), *_whole(stream, str(source))
    except FileNotFoundError as error:
        raise PhotoError(f"{source}: no such file") from error
    except IsADirectoryError as error:
        raise PhotoError(f"{source}: a folder, not a photo") from error
    except OSError as error:
        raise PhotoError(f"{source}: cannot be read ({error.strerror or error})") from error


def read(source: Path | BinaryIO) -> Photo:
    """Read a photo: pixels upright and at the file's own depth, alpha apart, and everything that must survive.

    JPEG, PNG, WebP, TIFF, AVIF, HEIC, BMP, the PPM family, and GIF of one frame; what it is, the content says. CMYK and
    Lab become sRGB, palettes true colour, fewer than 8 bits 8. A file of several photos (MPO, HEIC burst) gives its
    first, with a warning.

    Args:
        source: a file, or an open binary stream, which is read to its end.

    Raises:
        PhotoError: no photo of a kind that can be read without loss, in one line that names the file: empty, truncated,
            corrupt, animated, of several pages, larger than `pixels.MAX_PIXELS`, of an unknown format, of samples that
            cannot be kept (10-bit AVIF, 12-bit JPEG, float outside [0, 1]).
    """
    name, format, data = _content(source)  # noqa: A001
    try:
        photo = _upright(_reader(format)(data))
    except PhotoError as error:
        raise PhotoError(f"{name}: {error}") from error
    except MemoryError as error:
        raise PhotoError(f"{name}: not enough memory to decode it") from error
    except _DAMAGE as error:
        _log.info("%s", name, exc_info=True)
        if str(error).startswith("Unsupported"):  # as Pillow's parsers begin where nothing is damaged
            words = _one_line(error)
            raise PhotoError(f"{name}: a kind of {format} not read here{words}; convert it to PNG") from error
        raise PhotoError(f"{name}: truncated or corrupt {format}{_one_line(error)}") from error
    return photo


def _upright(photo: Photo) -> Photo:
    """The photo with its orientation applied to the pixels and set to 1 in EXIF and XMP, without its old thumbnail and
    words of what else was in its file."""
    from deblur_cli.media import exif, keeping, xmp
    from deblur_cli.media.pixels import turn

    stated = xmp.normalised(photo.xmp)
    orientation = exif.orientation(photo.exif) or xmp.orientation(stated) or 1
    turned = orientation > 4
    pixels = turn(photo.pixels, orientation)
    height, width = pixels.shape[:2]
    packet = xmp.unsigned(stated)
    warnings = list(photo.warnings)
    if packet != stated and keeping.NO_CREDENTIALS not in warnings:
        warnings.append(keeping.NO_CREDENTIALS)
    if orientation > 1 and keeping.has_depth(photo):
        warnings.append("the depth map in its XMP lies as the pixels did before they were turned upright")
    return replace(
        photo,
        pixels=pixels,
        alpha=None if photo.alpha is None else turn(photo.alpha, orientation),
        inks=None if photo.inks is None else turn(photo.inks, orientation),
        exif=exif.upright(photo.exif, orientation, (width, height)),
        xmp=xmp.alone(xmp.upright(packet, orientation, (width, height))),
        dpi=(photo.dpi[1], photo.dpi[0]) if photo.dpi and turned else photo.dpi,
        warnings=warnings,
    )


def _by_profile(photo: Photo, format: str, notes: list[str]) -> tuple[np.ndarray, bytes]:  # noqa: A002
    """The pixels of a photo that does not stay CMYK, and its profile, as `format` can hold both: where it cannot, the
    pixels are sRGB and there is no profile."""
    from deblur_cli.media import colour, profiles

    pixels, icc = photo.pixels, photo.icc
    space, grey = colour.profile_space(icc), pixels.ndim == 2
    if photo.cmyk or space == "CMYK":
        return pixels, b""
    # A WebP is always in colour, and so are these where they have an alpha channel.
    in_colour = not grey or format == "WEBP" or (format in ("AVIF", "HEIF") and photo.alpha is not None)
    misfit = space == "GRAY" and in_colour
    if misfit or not WRITABLE[format].metadata:
        turned = profiles.in_srgb(pixels, icc)
        if turned is not None:
            rounded = turned.itemsize == 1 < pixels.itemsize and "uint16" in WRITABLE[format].depths
            rough = ", through 8 bits a channel" if rounded else ""
            without = "a grey ICC profile with colour pixels" if misfit else "an ICC profile"
            notes.append(
                f"its {'grey' if grey else 'colours'} became sRGB{rough}: {format} is written without {without}"
            )
            return turned, b""
        if misfit:
            notes.append("the grey ICC profile does not fit colour pixels and is not kept")
            return pixels, b""
    if format == "PNG" and grey and space == "RGB":
        if not profiles.differs_from_srgb(icc):
            notes.append("PNG holds no RGB ICC profile with grey pixels: not kept")
            return pixels, b""
        notes.append("its grey became three channels: PNG holds no RGB ICC profile with grey pixels")
        return pixels[:, :, None].repeat(3, axis=2), icc
    return pixels, icc


def _fit(photo: Photo, format: str, notes: list[str]) -> Photo:  # noqa: A002
    """The photo as `format` can hold it: depth, alpha, colours; what is lost, here or beside, is a line in `notes`."""
    from deblur_cli.media import keeping, xmp
    from deblur_cli.media.pixels import on_white, to_depth

    holds = WRITABLE[format]
    pixels, alpha = photo.pixels, photo.alpha
    depth = pixels.dtype.name if pixels.dtype.name in holds.depths else holds.depths[-1]
    if depth != pixels.dtype.name and (format, depth) != ("HEIF", "uint16"):  # its writer says how many of the 16
        bits = photo.depth if photo.depth > 8 else 16
        was = "32-bit float" if pixels.dtype.name == "float32" else f"{bits} bits a channel"
        notes.append(
            f"{was} rounded to {depth.removeprefix('uint')} bits a channel, the most that is written as {format}"
        )
    keeps_inks = photo.cmyk and format in ("JPEG", "TIFF") and depth == "uint8" and pixels.ndim == 3 and alpha is None
    if photo.cmyk and not keeps_inks:
        notes.append(f"CMYK became sRGB: {format} is written without it")
    # By the profile first, then rounded: linear light has no room for shadows in 8 bits.
    pixels, icc = (pixels, photo.icc) if keeps_inks else _by_profile(photo, format, notes)
    pixels = to_depth(pixels, depth)
    alpha = None if alpha is None else to_depth(alpha, depth)
    if alpha is not None and not holds.alpha:
        if alpha.min() < (1 if depth == "float32" else (1 << 8 * alpha.dtype.itemsize) - 1):
            notes.append(f"{format} holds no transparency: laid over white")
            pixels = on_white(pixels, alpha)
        alpha = None
    lost = [word for word, value in (("EXIF", photo.exif), ("ICC profile", icc), ("XMP", photo.xmp)) if value]
    if lost and not holds.metadata:
        notes.append(f"{format} holds no {', '.join(lost)}: not kept")
    packet = photo.xmp if format == photo.format == "JPEG" else xmp.unextended(photo.xmp)
    fitting = replace(photo, pixels=pixels, alpha=alpha, icc=icc, xmp=packet, cmyk=keeps_inks)
    notes += keeping.losses(photo, format)
    return fitting


def write(
    photo: Photo,
    target: Path | BinaryIO,
    *,
    format: str | None = None,  # noqa: A002
    quality: int | None = None,
) -> list[str]:
    """Write a photo with everything that was kept from its source.

    A file appears whole under its name or not at all: it is written beside `target`, synchronised and renamed.
    Permissions follow the umask; an existing target is replaced.

    Args:
        photo: what to write.
        target: a file, or a binary stream.
        format: a name of `WRITABLE`; by default what the target's suffix says, for a stream the photo's own format.
        quality: 0 to 100 for JPEG, WebP, AVIF and HEIC; by default as the source was encoded (the same quantisation
            tables for a JPEG, lossless for a lossless WebP), else 95, 95, 90 and 90. Lossless formats ignore it.

    Returns:
        What could not be kept, a sentence each.

    Raises:
        PhotoError: the format is unknown or not written, cannot hold this photo, or the file cannot be written.
    """
    name = str(target) if isinstance(target, Path) else "standard output"
    if format is None:
        format = SUFFIXES.get(target.suffix.lower()) if isinstance(target, Path) else photo.format  # noqa: A001
    if format not in WRITABLE:
        raise PhotoError(
            f"{name}: {format or 'its suffix'} is not a format that can be written ({', '.join(WRITABLE)})"
        )
    if quality is not None and not 0 <= quality <= 100:
        raise PhotoError(f"{name}: quality {quality} is not between 0 and 100")
    notes: list[str] = []
    try:
        refuse_too_large(photo, format)
        encoded = _writer(format)(_fit(photo, format, notes), quality, notes)
    except PhotoError as error:
        raise PhotoError(f"{name}: {error}") from error
    except MemoryError as error:
        raise PhotoError(f"{name}: not enough memory to encode it") from error
    except (OSError, ValueError, RuntimeError, OverflowError, struct.error) as error:
        raise PhotoError(f"{name}: cannot be written as {format}{_one_line(error)}") from error
    if not isinstance(target, Path):
        target.write(encoded)
        return notes
    try:
        with replacing(target) as stream:
            stream.write(encoded)
    except OSError as error:
        raise PhotoError(f"{name}: cannot be written ({error.strerror or error})") from error
    return notes
