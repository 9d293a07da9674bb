"""Photo files made for the tests: pictures, metadata, and files put together byte by byte."""

from __future__ import annotations

import functools
import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from deblur_cli.media import photos
from deblur_cli.media.photo import Photo

XMP = (
    b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/" '
    b'tiff:Orientation="%d"><dc:title>Harbour</dc:title></rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)
MAKER_NOTE = b"MAKER\x00\x01\x02 offsets of its own \xff\xfe" * 4
THUMBNAIL = b"\xff\xd8old thumbnail of the blurred picture\xff\xd9"


@functools.cache
def srgb() -> bytes:
    """An sRGB profile; always the same one, though each that littleCMS makes has its time in it."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def smooth(height: int, width: int, channels: int = 3, dtype: Any = np.uint8) -> np.ndarray:
    """A picture without fine detail, no two corners alike, that a lossy format keeps within a few levels."""
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float64)
    planes = [
        0.2 + 0.6 * (rows + 1) / (height + 1),
        0.2 + 0.6 * (columns + 1) / (width + 1),
        0.5 + 0.2 * np.sin((rows + 2 * columns) / 9),
        0.1 + 0.8 * (rows + columns + 1) / (height + width),
    ][:channels]
    array = np.dstack(planes) if channels > 1 else planes[0]
    top = 1.0 if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max
    return (array * top).astype(dtype)


def exif_block(
    orientation: int = 1, size: tuple[int, int] = (40, 24), order: str = "<", *, orientation_type: int = 3
) -> bytes:
    """An EXIF block with maker notes, GPS, two resolutions, sizes and a thumbnail, laid out by hand."""
    width, height = size

    def directory(at: int, entries: list[tuple[int, int, int, bytes]], link: int = 0) -> bytes:
        head = struct.pack(order + "H", len(entries))
        body, tail = b"", b""
        values = at + 2 + 12 * len(entries) + 4
        for tag, kind, count, value in sorted(entries):
            if len(value) <= 4:
                body += struct.pack(order + "HHI4s", tag, kind, count, value)
            else:
                body += struct.pack(order + "HHII", tag, kind, count, values + len(tail))
                tail += value + b"\x00" * (len(value) % 2)
        return head + body + struct.pack(order + "I", link) + tail

    def byte(value: int) -> bytes:
        return struct.pack("B", value)

    def short(value: int) -> bytes:
        return struct.pack(order + "H", value)

    def long(value: int) -> bytes:
        return struct.pack(order + "I", value)

    def ratio(above: int, below: int = 1) -> bytes:
        return struct.pack(order + "II", above, below)

    def main(exif_at: int, gps_at: int, second_at: int) -> bytes:
        return directory(
            8,
            [
                (271, 2, 6, b"Maker\x00"),
                (272, 2, 8, b"Model X\x00"),
                (274, orientation_type, 1, {1: byte, 3: short, 4: long}[orientation_type](orientation)),
                (282, 5, 1, ratio(300)),
                (283, 5, 1, ratio(150)),
                (296, 3, 1, short(2)),
                (306, 2, 20, b"2024:05:06 07:08:09\x00"),
                (33432, 2, 4, b"(c)\x00"),
                (34665, 4, 1, long(exif_at)),
                (34853, 4, 1, long(gps_at)),
            ],
            second_at,
        )

    exif_at = 8 + len(main(0, 0, 0))
    details = [
        (33434, 5, 1, ratio(1, 125)),
        (36867, 2, 20, b"2024:05:06 07:08:09\x00"),
        (37500, 7, len(MAKER_NOTE), MAKER_NOTE),
        (40962, 4, 1, long(width)),
        (40963, 4, 1, long(height)),
    ]
    gps_at = exif_at + len(directory(exif_at, details))
    place = [(1, 2, 2, b"N\x00"), (2, 5, 3, ratio(48) + ratio(8) + ratio(14))]
    second_at = gps_at + len(directory(gps_at, place))
    thumbnail_at = second_at + len(directory(second_at, [(513, 4, 1, b"1234"), (514, 4, 1, b"1234")]))
    second = [(513, 4, 1, long(thumbnail_at)), (514, 4, 1, long(len(THUMBNAIL)))]
    header = (b"II*\x00" if order == "<" else b"MM\x00*") + long(8)
    return (
        header
        + main(exif_at, gps_at, second_at)
        + directory(exif_at, details)
        + directory(gps_at, place)
        + directory(second_at, second)
        + THUMBNAIL
    )


def encoded(image: Image.Image, container: str, **settings: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, container, **settings)
    return stream.getvalue()


def chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def png(array: np.ndarray, *extra: bytes, colour_type: int | None = None) -> bytes:
    """A PNG of uint8 or uint16 samples, H×W[×C], with further chunks behind its header."""
    array = array if array.ndim == 3 else array[:, :, None]
    height, width, channels = array.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels] if colour_type is None else colour_type
    rows = array.astype(array.dtype.newbyteorder(">"))
    body = b"".join(b"\x00" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, 8 * array.dtype.itemsize, kind, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(body)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def jpeg_with(segment: bytes, picture: bytes) -> bytes:
    """A JPEG with one more segment (marker, length and payload) right behind its start."""
    return picture[:2] + segment + picture[2:]


def written(photo: Photo, container: str, **settings: int) -> bytes:
    """The file that `photo` becomes."""
    stream = io.BytesIO()
    photos.write(photo, stream, format=container, **settings)
    return stream.getvalue()


def opened(data: bytes) -> Image.Image:
    """By Pillow, as another program would read it."""
    import pillow_heif

    pillow_heif.register_heif_opener()
    image = Image.open(io.BytesIO(data))
    image.load()
    return image
