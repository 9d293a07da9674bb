"""Pixels between the libraries' ways and ours: open, unpack, set upright, change the depth, and refuse bombs."""

from __future__ import annotations

import functools
import io
import logging
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from deblur_cli.errors import PhotoError

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 1_000_000_000
"""The largest photo, in pixels: a 200-megapixel phone fits five times; what declares more is taken for an attack."""

_BOMB_PIXELS = 1 << 26
_BOMB_PIXELS_A_BYTE = 1500
_BAND = 256


def check_size(width: int, height: int, length: int, samples: int = 1) -> None:
    """Refuse, before anything is allocated, what declares more pixels than it can honestly hold.

    Args:
        width, height: as the header declares.
        length: bytes of the file. Even a single colour in a good codec needs a byte for some hundred pixels, and a
            small file that unfolds to more than 64 megapixels at 1500 a byte is no photo.
        samples: of a pixel; each four count as a pixel.

    Raises:
        PhotoError: too large, or a decompression bomb.
    """
    if width < 1 or height < 1:
        raise PhotoError(f"corrupt: it declares {width}×{height} pixels")
    if width * height > MAX_PIXELS:
        raise PhotoError(
            f"it declares {width}×{height} pixels, more than the limit of {MAX_PIXELS:,}; crop or scale it"
        )
    if width * height * -(-samples // 4) > max(_BOMB_PIXELS, length * _BOMB_PIXELS_A_BYTE):
        size = f"{width}×{height} pixels" + (f" of {samples} samples" if samples > 4 else "")
        raise PhotoError(f"it declares {size} in {length} bytes: a decompression bomb, not a photo")


@functools.cache
def _set_up_pillow() -> None:
    from PIL import Image, PngImagePlugin

    # A printer's profile has more than the megabyte that Pillow grants one text; all together keep to its limit.
    PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY
    # Pillow raises past twice its limit and warns below; ours is the same for every format, and an error.
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    # What is damaged in tags is Pillow's to skip, and no line on the user's screen.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL + 1)


def open_image(data: bytes, format: str) -> Image.Image:  # noqa: A002  (Pillow's own word)
    """Open with Pillow as `format` alone; the size is checked, the pixels are not yet decoded.

    Raises:
        PhotoError: too large, or damaged beyond being recognised.
        Exception: what Pillow raises for a damaged file; the caller of a codec turns it into a PhotoError.
    """
    from PIL import Image, UnidentifiedImageError

    _set_up_pillow()
    try:
        image = Image.open(io.BytesIO(data), formats=[format])
    except Image.DecompressionBombError as error:
        raise PhotoError(f"it declares more pixels than the limit of {MAX_PIXELS:,}: too large, or a bomb") from error
    except UnidentifiedImageError as error:
        raise PhotoError(f"truncated or corrupt {format} (its header cannot be read)") from error
    check_size(*image.size, len(data))
    return image


def refuse_animation(image: Image.Image) -> None:
    """Raise PhotoError for more than one frame."""
    frames = int(getattr(image, "n_frames", 1))
    if frames > 1:
        raise PhotoError(f"an animation of {frames} frames; this takes single photos only, export the frame you want")


def _plain(image: Image.Image) -> Image.Image:
    """As L, LA, RGB or RGBA; a transparent colour or palette entry becomes alpha."""
    grey = image.mode in ("1", "L", "LA", "La")
    clear = image.has_transparency_data
    wanted = ("LA" if grey else "RGBA") if clear else ("L" if grey else "RGB")
    if image.mode == "La":
        image = image.convert("LA")
    return image if image.mode == wanted else image.convert(wanted)


def unpack(image: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """The 8-bit pixels of a Pillow image, H×W or H×W×3, and its alpha H×W or None; both uint8 and contiguous."""
    image.load()
    image = _plain(image)
    width, height = image.size
    colours = 3 if image.mode.startswith("RGB") else 1
    pixels = np.empty((height, width, colours), np.uint8)
    alpha = np.empty((height, width), np.uint8) if image.mode.endswith("A") else None
    # By bands, because Pillow hands out pixels through a copy, and two copies of 24 megapixels are one too many.
    for top in range(0, height, _BAND):
        bottom = min(top + _BAND, height)
        band = np.asarray(image.crop((0, top, width, bottom))).reshape(bottom - top, width, -1)
        pixels[top:bottom] = band[:, :, :colours]
        if alpha is not None:
            alpha[top:bottom] = band[:, :, colours]
    return (pixels if colours == 3 else pixels[:, :, 0]), alpha


def joined(pixels: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
    """Pixels and alpha as one array: H×W, H×W×2, H×W×3 or H×W×4."""
    if alpha is None:
        return pixels
    return np.dstack([pixels, alpha])


def pack(pixels: np.ndarray, alpha: np.ndarray | None) -> Image.Image:
    """A Pillow image (L, LA, RGB or RGBA) of uint8 pixels and alpha."""
    from PIL import Image

    _set_up_pillow()
    return Image.fromarray(np.ascontiguousarray(joined(pixels, alpha)))


def _opencv() -> Any:
    """Opencv, which keeps what it has to say of a file to itself."""
    import cv2

    if hasattr(cv2.utils, "logging"):
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    else:  # before 4.13
        cv2.setLogLevel(0)  # type: ignore[attr-defined]
    return cv2


def decode_deep(data: bytes) -> np.ndarray:
    """Decode with opencv at the file's own depth: H×W, H×W×3 RGB or H×W×4 RGBA.

    Raises:
        ValueError: opencv cannot decode it.
    """
    cv2 = _opencv()
    try:
        array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ValueError("opencv cannot decode it") from error
    if array is None:
        raise ValueError("opencv cannot decode it")
    if array.ndim == 3:
        array = cv2.cvtColor(array, cv2.COLOR_BGR2RGB if array.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)
    return np.asarray(array)


def encode_with_opencv(suffix: str, array: np.ndarray) -> bytes:
    """Encode H×W, H×W×3 RGB or H×W×4 RGBA with opencv, by its settings for `suffix`.

    Raises:
        ValueError: opencv cannot encode it.
    """
    cv2 = _opencv()
    if array.ndim == 3:
        array = cv2.cvtColor(array, cv2.COLOR_RGB2BGR if array.shape[2] == 3 else cv2.COLOR_RGBA2BGRA)
    try:
        done, encoded = cv2.imencode(suffix, np.ascontiguousarray(array))
    except cv2.error as error:
        raise ValueError(f"opencv cannot encode it as {suffix}") from error
    if not done:
        raise ValueError(f"opencv cannot encode it as {suffix}")
    return bytes(encoded.data)


def turn(array: np.ndarray, orientation: int) -> np.ndarray:
    """Set H×W[×C] pixels upright: undo an EXIF orientation of 1 to 8 (Exif 2.32, 4.6.4 A). Contiguous."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)


def to_depth(array: np.ndarray, depth: str) -> np.ndarray:
    """Change the type of pixels or alpha to `uint8`, `uint16` or `float32`, full range to full range, rounded.

    uint8 255 is uint16 65535 is float32 1.0; 128 is 32896; the way up and down again is exact.
    """
    if array.dtype.name == depth:
        return array
    if depth == "float32":
        return (array / np.float32(np.iinfo(array.dtype).max)).astype(np.float32)
    if array.dtype == np.uint8:
        return array.astype(np.uint16) * np.uint16(257)
    if array.dtype == np.uint16:
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    top = np.iinfo(depth).max
    return np.rint(np.clip(array, 0.0, 1.0) * np.float32(top)).astype(depth)


def on_white(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Pixels laid over white by their alpha, for a format without transparency; the same type."""
    top = 1.0 if pixels.dtype == np.float32 else float(np.iinfo(pixels.dtype).max)
    weight = (alpha / np.float32(top)).astype(np.float32)
    if pixels.ndim == 3:
        weight = weight[:, :, None]
    flat = pixels * weight + np.float32(top) * (1 - weight)
    return flat.astype(np.float32) if pixels.dtype == np.float32 else np.rint(flat).astype(pixels.dtype)


def unpremultiplied(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Pixels that were multiplied by their alpha, divided by it again; black where it is zero. The same type."""
    top = 1.0 if pixels.dtype == np.float32 else float(np.iinfo(pixels.dtype).max)
    weight = alpha.astype(np.float64) / top
    if pixels.ndim == 3:
        weight = weight[:, :, None]
    plain = np.divide(pixels, weight, out=np.zeros(pixels.shape), where=weight > 0).clip(0, top)
    return plain.astype(np.float32) if pixels.dtype == np.float32 else np.rint(plain).astype(pixels.dtype)
