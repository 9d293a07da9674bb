"""HEIF and HEIC by pillow-heif, 8, 10 and 12 bits."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from deblur_cli.errors import PhotoError
from deblur_cli.media import exif, keeping, limits, xmp
from deblur_cli.media.boxes import has_gain_map, left_behind, orientation_of_primary
from deblur_cli.media.photo import HeifFacts, Photo
from deblur_cli.media.pixels import check_size, joined, unpremultiplied

DEFAULT_QUALITY = 90
_TILE = 4096
"""Height and width of the tiles that a picture too large for the encoder is put together from."""
_CODED = ("color_primaries", "transfer_characteristics", "matrix_coefficients", "full_range_flag")


def _notes(container: Any, info: dict[str, Any], data: bytes) -> list[str]:
    notes = []
    if len(container) > 1:
        notes.append(f"the file holds {len(container)} pictures; only the primary one is kept")
    if info.get("depth_images"):
        notes.append("the depth map is not kept")
    if info.get("aux") or has_gain_map(data):
        notes.append("auxiliary pictures (gain map, mattes) are not kept")
    if info.get("heif"):
        notes.append("the camera's matrices, as of a spatial photo, are not kept")
    if len(_items(info)) < len(info["metadata"]):
        notes.append("metadata of a kind that cannot be written is not kept")
    return notes + left_behind(data)


def _items(info: dict[str, Any]) -> list[dict[str, Any]]:
    """Items of metadata beside EXIF and XMP that can be written again; of one with a URI, that would be lost."""
    kinds = [(item, item["type"]) for item in info["metadata"]]
    return [item for item, kind in kinds if len(kind) == 4 and kind.isascii() and kind != "uri "]


def _beside(info: dict[str, Any], *, turned: bool) -> dict[str, Any]:
    """What else the file says of the picture, as it is to be written; `turned`: rows have become columns."""
    found = {name: info[name] for name in keeping.HEIF_LIGHT if name in info}
    across, down = info.get("pixel_aspect_ratio") or (1, 1)
    if across != down and across and down:
        # It is that of the pixels as they are stored.
        found["pixel_aspect_ratio"] = (down, across) if turned else (across, down)
    if items := _items(info):
        found["metadata"] = items
    return found


def _full_range(array: np.ndarray, depth: int) -> np.ndarray:
    """Values of `depth` bits at the upper end of 16 spread over the whole range, by repeating the upper bits."""
    values = array >> np.uint16(16 - depth)
    return (values << np.uint16(16 - depth)) | (values >> np.uint16(2 * depth - 16))


def read(data: bytes) -> Photo:
    """Read a HEIF's primary picture, 8 bits as uint8, 10 and 12 as uint16. Upright: rotation is the decoder's part.

    Raises:
        PhotoError: a sequence, or too large.
        Exception: pillow-heif's, for a truncated or corrupt file.
    """
    import pillow_heif

    container = pillow_heif.open_heif(data, convert_hdr_to_8bit=False)
    if container.mimetype.endswith("-sequence") and len(container) > 1:
        raise PhotoError(
            f"a sequence of {len(container)} pictures; this takes single photos only, export the one you want"
        )
    picture = container[container.primary_index]
    info: dict[str, Any] = picture.info
    check_size(*picture.size, len(data))
    # libheif decodes what the header says; the colour planes come as bytes, the interface sets rows and padding apart.
    array = np.asarray(picture)
    depth = int(info["bit_depth"])
    if array.dtype == np.uint16:
        array = _full_range(array, depth)
    array = array.reshape(picture.size[1], picture.size[0], -1)
    channels = array.shape[2]
    alpha = np.ascontiguousarray(array[:, :, -1]) if channels in (2, 4) else None
    pixels = array[:, :, :3] if channels >= 3 else array[:, :, 0]
    if alpha is not None and picture.premultiplied_alpha:
        pixels = unpremultiplied(pixels, alpha)
    coded = info.get("nclx_profile")
    block = exif.normalised(info.get("exif"))
    # The decoder has applied what the boxes say; the tags are copies of it for other programs, or nothing but tags.
    orientation = orientation_of_primary(data)
    turned = orientation > 4
    notes = _notes(container, info, data)
    if info.get("exif") and not block:
        notes.append("its EXIF is damaged and is not kept")
    return Photo(
        np.array(pixels, order="C"),
        "HEIF",
        alpha,
        exif=exif.upright(block, orientation, picture.size),
        icc=info.get("icc_profile") or b"",
        xmp=xmp.upright(xmp.normalised(info.get("xmp") or b""), orientation, picture.size),
        depth=depth,
        facts=HeifFacts(
            depth,
            int(info.get("chroma", 420)),
            {key: coded[key] for key in _CODED} if coded else None,
            _beside(info, turned=turned),
        ),
        warnings=notes,
    )


def write(photo: Photo, quality: int | None, notes: list[str]) -> bytes:
    """A HEIC of `photo` (uint8 or uint16), with the chroma and depth of a source that was one, and its coded colour."""
    import pillow_heif

    if not pillow_heif.libheif_info()["HEIF"]:
        raise PhotoError("this build of pillow-heif reads HEIC but cannot write it; write --format jpeg or png")
    facts = photo.facts if isinstance(photo.facts, HeifFacts) else None
    array = joined(photo.pixels, photo.alpha)
    channels = 1 if array.ndim == 2 else array.shape[2]
    mode = ("L", "LA", "RGB", "RGBA")[channels - 1]
    settings: dict[str, Any] = {"chroma": facts.chroma if facts else 444}
    if array.dtype == np.uint16:
        depth = facts.depth if facts and facts.depth > 8 else 10
        if depth < photo.depth:
            notes.append(f"{photo.depth} bits a channel are rounded to {depth}, what HEIC holds")
        mode += ";16"
        settings["bit_depth"] = depth
        top = (1 << depth) - 1
        values = (array.astype(np.uint32) * top + 32767) // 65535
        array = (values << (16 - depth)).astype("<u2")
    if facts:
        settings |= facts.beside
    if facts and facts.colour:
        settings |= facts.colour
    elif coded := keeping.coded_colour(photo):
        # RGB becomes planes as BT.709 has it, over the full range.
        settings |= dict(zip(_CODED, (*coded, 1, 1), strict=True))
    for key, value in (("exif", photo.exif), ("icc_profile", photo.icc), ("xmp", photo.xmp)):
        if value:
            settings[key] = value
    height, width = array.shape[:2]
    if height * width > limits.HEIC_PIXELS:
        settings["tile_size"] = _TILE
    stream = io.BytesIO()
    picture = pillow_heif.from_bytes(mode, (width, height), np.ascontiguousarray(array).tobytes())
    picture.save(stream, quality=DEFAULT_QUALITY if quality is None else quality, **settings)
    return stream.getvalue()
