"""How large a picture the formats hold: asked before the work on a photo is begun, and whenever one is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deblur_cli.errors import PhotoError

if TYPE_CHECKING:
    from deblur_cli.media.photo import Photo

HEIC_PIXELS = 142_000_000
"""The largest picture, in pixels, that the encoder of HEIC takes whole; a larger one is put together from tiles."""

# What a file of a format is called, and its longest side.
_LONGEST_SIDES = {"JPEG": ("a JPEG", 65500), "WEBP": ("a WebP", 16383), "AVIF": ("an AVIF", 32768)}
# The encoder takes long sides for pictures of a certain width only; and the decoder only so long ones, in one piece.
_HEIC_LONG, _HEIC_NARROW, _HEIC_LONGEST = 4216, 32, 65528
# Offsets have 32 bits; a part of what they reach is left to what stands beside the pixels.
_TIFF_BYTES = (1 << 32) - (1 << 25)


def refuse_too_large(photo: Photo, format: str, width: int | None = None) -> None:  # noqa: A002
    """Refuse what a file of `format` cannot hold for its size.

    Args:
        photo: what is to be written, or what is still to be restored for it.
        format: a name of `WRITABLE`.
        width: of the picture that is written, in pixels; by default that of `photo`.

    Raises:
        PhotoError: the picture is too large, too long, or too narrow for its length.
    """
    height, own_width = photo.pixels.shape[:2]
    width = width or own_width
    size = f"{width}×{height} pixels"
    if format in _LONGEST_SIDES:
        name, longest = _LONGEST_SIDES[format]
        if max(height, width) > longest:
            raise PhotoError(f"{size}: {name} has at most {longest} a side; write PNG or TIFF")
    elif format == "HEIF":
        is_whole = height * width <= HEIC_PIXELS
        too_narrow = max(height, width) > _HEIC_LONG and min(height, width) < _HEIC_NARROW
        if too_narrow or (is_whole and max(height, width) > _HEIC_LONGEST):
            raise PhotoError(f"{size}: too long, or too narrow for its length, for HEIC; write PNG or TIFF")
        # Readers take tiles with transparency for opaque.
        if photo.alpha is not None and not is_whole:
            raise PhotoError(
                f"{size}: a HEIC with transparency has at most {HEIC_PIXELS // 10**6} megapixels; write PNG or TIFF"
            )
    elif format == "TIFF":
        colours = 4 if photo.cmyk else 3 if photo.pixels.ndim == 3 else 1
        channels = colours + (photo.alpha is not None)
        if height * width * channels * photo.pixels.itemsize > _TIFF_BYTES:
            raise PhotoError("more than 4 GB of pixels: too large for a TIFF; write PNG")
