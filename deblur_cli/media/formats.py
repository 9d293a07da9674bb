"""Which photo formats there are: by suffix, by the first bytes of a file, and what each can hold.

Light on purpose (the standard library alone), so that a command may ask for suffixes without loading a codec.
"""

from __future__ import annotations

from dataclasses import dataclass

SUFFIXES: dict[str, str] = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".mpo": "JPEG",
    ".png": "PNG",
    ".apng": "PNG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".avif": "AVIF",
    ".avifs": "AVIF",
    ".heic": "HEIF",
    ".heif": "HEIF",
    ".hif": "HEIF",
    ".bmp": "BMP",
    ".dib": "BMP",
    ".ppm": "PPM",
    ".pgm": "PPM",
    ".pbm": "PPM",
    ".pnm": "PPM",
    ".gif": "GIF",
}
"""Lower-case suffix of a file that can be read, and its format."""


@dataclass(frozen=True)
class Capability:
    """What a format can hold.

    `depths`: the NumPy types of a channel, smallest first. `alpha`: an alpha channel. `metadata`: EXIF, ICC and XMP
    (a format without them is warned about when something would be lost). `suffix`: the usual one for a new file.
    """

    depths: tuple[str, ...]
    alpha: bool
    metadata: bool
    suffix: str


WRITABLE: dict[str, Capability] = {
    "JPEG": Capability(("uint8",), alpha=False, metadata=True, suffix=".jpg"),
    "PNG": Capability(("uint8", "uint16"), alpha=True, metadata=True, suffix=".png"),
    "WEBP": Capability(("uint8",), alpha=True, metadata=True, suffix=".webp"),
    "TIFF": Capability(("uint8", "uint16", "float32"), alpha=True, metadata=True, suffix=".tif"),
    "AVIF": Capability(("uint8",), alpha=True, metadata=True, suffix=".avif"),
    "HEIF": Capability(("uint8", "uint16"), alpha=True, metadata=True, suffix=".heic"),
    "BMP": Capability(("uint8",), alpha=True, metadata=False, suffix=".bmp"),
    "PPM": Capability(("uint8", "uint16"), alpha=False, metadata=False, suffix=".ppm"),
}
"""The formats that can be written, by name."""

_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG", "a damaged PNG (line ends in it were changed, as by a transfer in text mode)"),
    (b"%PDF", "a PDF document"),
    (b"\x00\x00\x01\x00", "a Windows icon"),
    (b"\x00\x00\x02\x00", "a Windows cursor"),
    (b"8BPS", "a Photoshop document"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 picture"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL picture"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"v/1\x01", "an OpenEXR picture"),
    (b"#?RADIANCE", "a Radiance HDR picture"),
    (b"FUJIFILMCCD-RAW", "a camera's raw file"),
    (b"II\x55\x00", "a camera's raw file"),
    (b"IIRO", "a camera's raw file"),
    (b"qoif", "a QOI picture"),
    (b"P7\n", "a PAM picture"),
    (b"PF\n", "a PFM picture"),
    (b"Pf\n", "a PFM picture"),
    (b"II\xbc\x01", "a JPEG XR picture"),
    (b"\x1aE\xdf\xa3", "a Matroska video"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"<?xml", "an XML or SVG text"),
    (b"<svg", "an SVG drawing"),
    (b"<!DOCTYPE", "a web page"),
    (b"<html", "a web page"),
)

_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_AVIF_BRANDS = {b"avif", b"avis"}


def _iso_base_media(head: bytes) -> str | None:
    """AVIF or HEIF by the major brand of an ISO base media file, then by its compatible brands; None for a video."""
    length = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, length - 3, 4))]
    for brand in brands:
        if brand in _AVIF_BRANDS:
            return "AVIF"
        if brand in _HEIF_BRANDS:
            return "HEIF"
    return "HEIF" if brands[0] in (b"mif1", b"msf1") else None


def identify(head: bytes) -> str | None:
    """The format that the first bytes of a file (64 are enough) belong to, whatever its name says; None if unknown."""
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:4] in (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"):
        return "TIFF"
    if head[4:8] == b"ftyp":
        return _iso_base_media(head)
    if head.startswith(b"BM") and len(head) >= 18 and 12 <= int.from_bytes(head[14:18], "little") <= 124:
        return "BMP"
    if len(head) > 2 and head[:1] == b"P" and head[1:2] in b"123456" and (head[2:3].isspace() or head[2:3] == b"#"):
        return "PPM"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    return None


def describe(head: bytes) -> str:
    """In words, what a file that `identify` does not know seems to be."""
    for magic, words in _OTHERS:
        if head.startswith(magic):
            return words
    if head[4:8] == b"ftyp":
        return "a video"
    if head.lstrip(b"\xef\xbb\xbf") and all(byte in b"\t\n\r\x0c" or 32 <= byte < 127 for byte in head):
        return "a text"
    return "of an unknown format"
