"""Photo: pixels, and all that must survive beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from deblur_cli.media import exif, xmp

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class JpegFacts:
    """How a JPEG was encoded, so that it can be encoded so again.

    `tables`: quantisation tables by component, 64 values each, row by row. `subsampling`: as Pillow counts (0 is 4:4:4,
    1 is 4:2:2, 2 is 4:2:0). `coarser`: the name of the source's own subsampling where it cannot be written and the next
    finer one stands for it. `segments`: whole segments to be kept as they are (IPTC, extended XMP, comments, data of
    makers).
    """

    tables: tuple[tuple[int, ...], ...]
    subsampling: int
    coarser: str
    progressive: bool
    rgb: bool
    segments: tuple[bytes, ...]


@dataclass(frozen=True)
class PngFacts:
    """Chunks of a PNG to be kept as they are: (type, payload), in their order; all belong before the pixels.

    The comment of a GIF or PPM is such a chunk too.
    """

    chunks: tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True)
class WebpFacts:
    """Whether a WebP's pixels were coded without loss."""

    lossless: bool


@dataclass(frozen=True)
class TiffFacts:
    """What a TIFF file holds beside EXIF, ICC and XMP: byte order (`<`, `>`), compressed or not, and further tags."""

    order: str
    compressed: bool
    tags: Mapping[int, exif.Entry]


@dataclass(frozen=True)
class AvifFacts:
    """Chroma of an AVIF (`4:2:0` and so on), and its coded colour: primaries and transfer (ITU-T H.273), or None."""

    subsampling: str
    colour: tuple[int, int] | None


@dataclass(frozen=True)
class HeifFacts:
    """Bits a channel of a HEIF, its chroma (420, 422, 444) and its coded colour by libheif's names, if it has one.

    `beside`: what else it says of the picture (light levels, display, shape of a pixel, items such as IPTC), by the
    names that pillow-heif's `save` takes.
    """

    depth: int
    chroma: int
    colour: Mapping[str, int] | None
    beside: Mapping[str, Any] = field(default_factory=dict)


Facts = JpegFacts | PngFacts | WebpFacts | TiffFacts | AvifFacts | HeifFacts


@dataclass
class Photo:
    """A photo as the restorer needs it, with what a writer needs to make the same kind of file again.

    The pixels stand upright, whatever the file's orientation tag said; `exif` and `xmp` say so too.

    Attributes:
        pixels: H×W×3 RGB or H×W grey; uint8, uint16 (the full range of 16 bits, whatever the file's own depth) or
            float32 in [0, 1].
        format: the format of the file's content, whatever its name: a value of `SUFFIXES`.
        alpha: H×W of the same type, not premultiplied, or None.
        exif: the EXIF block as in `deblur_cli.media.exif`, without its thumbnail; empty when there is none.
        icc: the ICC profile; that of the file's own colours, which for CMYK are not those of `pixels` (sRGB).
        xmp: the XMP packet.
        dpi: dots an inch, horizontal and vertical, if the file states them.
        cmyk: the file's own colours are CMYK; a writer that can, turns the pixels back.
        inks: H×W×4 uint8, these colours as they were read, so that what is not changed keeps them.
        depth: bits a channel in the file.
        facts: what only this format has.
        warnings: what could not be kept in reading, a sentence each.
    """

    pixels: np.ndarray
    format: str
    alpha: np.ndarray | None = None
    exif: bytes = b""
    icc: bytes = b""
    xmp: bytes = b""
    dpi: tuple[float, float] | None = None
    cmyk: bool = False
    inks: np.ndarray | None = None
    depth: int = 8
    facts: Facts | None = None
    warnings: list[str] = field(default_factory=list)

    def with_pixels(self, pixels: np.ndarray) -> Photo:
        """This photo with other pixels (H×W×3, H×W×1 or H×W; the same three types); all else is kept.

        The alpha channel is kept too, so height and width must be those of the pixels. EXIF and XMP state the new size.

        Raises:
            ValueError: another shape or type, or the alpha channel does not fit.
        """
        if pixels.ndim == 3 and pixels.shape[2] == 1:
            pixels = pixels[:, :, 0]
        if pixels.ndim != 2 and not (pixels.ndim == 3 and pixels.shape[2] == 3):
            raise ValueError(f"pixels of shape {pixels.shape}: a photo takes H×W or H×W×3")
        if pixels.dtype.name not in ("uint8", "uint16", "float32"):
            raise ValueError(f"pixels of type {pixels.dtype}: a photo takes uint8, uint16 or float32")
        if self.alpha is not None and self.alpha.shape != pixels.shape[:2]:
            raise ValueError(f"pixels of {pixels.shape[:2]} do not fit an alpha channel of {self.alpha.shape}")
        inks = self.inks if self.inks is not None and self.inks.shape[:2] == pixels.shape[:2] else None
        (old_height, old_width), (height, width) = self.pixels.shape[:2], pixels.shape[:2]
        before, after = (old_width, old_height), (width, height)
        block, packet = self.exif, self.xmp
        if before != after:
            block, packet = exif.resized(block, before, after), xmp.resized(packet, before, after)
        return replace(self, pixels=pixels, exif=block, xmp=packet, inks=inks, warnings=list(self.warnings))
