"""Pictures that are scored, read as they are stored: 8 bits a channel, since published scores are taken on those."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deblur_cli.errors import PhotoError

if TYPE_CHECKING:
    from PIL import Image

_READABLE_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA"})


def read_picture(path: Path) -> np.ndarray:
    """The pixels as stored, H×W×3 uint8 RGB: grey is repeated, palettes are looked up, alpha is dropped.

    An orientation tag is not applied, as both pictures of a pair are compared as they are stored.

    Raises:
        PhotoError: the file is missing, truncated, corrupt, or holds anything but 8 bits a channel.
    """
    from PIL import Image

    try:
        _require_file(path)
        with Image.open(path) as picture:
            _refuse_depth(picture)
            return np.array(picture.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise PhotoError(f"'{path}' cannot be read: {error}") from error


def read_size(path: Path) -> tuple[int, int]:
    """Width and height from the file's header; raises PhotoError as `read_picture` does."""
    from PIL import Image

    try:
        _require_file(path)
        with Image.open(path) as picture:
            _refuse_depth(picture)
            return picture.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise PhotoError(f"cannot be read: {error}") from error


def _require_file(path: Path) -> None:
    """A pipe, or a device, would be waited for, or read, without end."""
    if path.exists() and not path.is_file():
        raise ValueError("no regular file")


def _refuse_depth(picture: Image.Image) -> None:
    """Pillow gives 16-bit RGB as 8 bits without a word; its decoder's arguments still tell."""
    deep = picture.mode not in _READABLE_MODES
    for tile in getattr(picture, "tile", []):
        arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        deep = deep or ";16" in str(arguments[0]) or (tile[0].startswith("ppm") and arguments[-1] > 255)
    if deep:
        raise ValueError("only pictures of 8 bits a channel, RGB or grey, are scored")
