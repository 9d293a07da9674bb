"""WebP by Pillow; lossless stays lossless (chunks after RFC 9649)."""

from __future__ import annotations

import io

from deblur_cli.errors import PhotoError
from deblur_cli.media import exif, keeping
from deblur_cli.media.photo import Photo, WebpFacts
from deblur_cli.media.pixels import open_image, pack, refuse_animation, unpack

DEFAULT_QUALITY = 95


def _chunks(data: bytes) -> set[bytes]:
    """The types of the chunks."""
    found, at = set(), 12
    while at + 8 <= len(data):
        found.add(data[at : at + 4])
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + length + length % 2
    return found


def read(data: bytes) -> Photo:
    """Read a WebP that is no animation. Not yet upright.

    Raises:
        PhotoError: an animation, or truncated.
        Exception: Pillow's, for a corrupt file.
    """
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data) + 1:
        raise PhotoError("truncated WebP: the file is shorter than it says")
    image = open_image(data, "WEBP")
    refuse_animation(image)
    pixels, alpha = unpack(image)
    info = image.info
    block = exif.normalised(info.get("exif"))
    notes = ["its EXIF is damaged and is not kept"] if info.get("exif") and not block else []
    chunks = _chunks(data[:end])
    if b"C2PA" in chunks:
        notes.append(keeping.NO_CREDENTIALS)
    notes += keeping.behind(data[end:])
    return Photo(
        pixels,
        "WEBP",
        alpha,
        exif=block,
        icc=info.get("icc_profile") or b"",
        xmp=info.get("xmp") or b"",
        facts=WebpFacts(b"VP8L" in chunks),
        warnings=notes,
    )


def write(photo: Photo, quality: int | None, notes: list[str]) -> bytes:
    """A WebP of `photo` (uint8): lossless where the source was a lossless WebP and no quality is asked for."""
    lossless = quality is None and isinstance(photo.facts, WebpFacts) and photo.facts.lossless
    stream = io.BytesIO()
    image = pack(photo.pixels, photo.alpha)
    if image.mode in ("L", "LA"):
        image = image.convert("RGBA" if image.mode == "LA" else "RGB")
    # `exact` keeps the colour under full transparency, which the network has seen and somebody may uncover.
    image.save(
        stream,
        "WEBP",
        lossless=lossless,
        quality=80 if lossless else DEFAULT_QUALITY if quality is None else quality,
        exact=True,
        exif=photo.exif,
        icc_profile=photo.icc,
        xmp=photo.xmp,
    )
    return stream.getvalue()
