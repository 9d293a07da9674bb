"""TIFF: tifffile reads tags and deep pixels, Pillow the 8-bit kinds, opencv deep pixels in other compressions.

Tifffile writes the pixels; the first directory is then written anew at the file's end with everything kept from the
source, the EXIF and GPS directories among it, which tifffile cannot write. Tags after TIFF 6.0 (Adobe 1992).
"""

from __future__ import annotations

import functools
import io
import logging
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from deblur_cli.errors import PhotoError
from deblur_cli.media import bigtiff, colour, exif, keeping, photoshop, xmp
from deblur_cli.media.photo import JpegFacts, Photo, TiffFacts
from deblur_cli.media.pixels import check_size, decode_deep, joined, open_image, turn, unpack, unpremultiplied

if TYPE_CHECKING:
    from PIL import Image

_STRIPS = 273
_XMP, _ICC, _LAYERS, _DNG, _CHILDREN, _CREDENTIALS = 700, 34675, 37724, 50706, 330, 52545
# How the pixels are stored: true of the source's pixels and not of ours.
_STRUCTURE = frozenset(
    (
        *(*range(254, 260), 262, 263, 264, 265, 266, 273, 277, 278, 279, 280, 281, 284, *range(288, 294), 297, 301),
        *(317, *range(320, 326), 330, 332, 333, 334, *range(336, 344), 347, *range(512, 522), *range(529, 533)),
        *(559, 32997, 32998, 33421, 33422, _XMP, _ICC, _LAYERS, _CREDENTIALS),
    )
)
# What of it is kept where the pixels that are written are of the same kind.
_TRANSFER, _INKS = 301, 333
_OF_PIXELS = {
    _TRANSFER: "the transfer function",
    _INKS: "the list of inks",
    337: "the name of the printer that the inks are for",
}
# What belongs in an EXIF block wherever it travels; the rest stays with TIFF (IPTC, Photoshop, GeoTIFF and others).
_EXIF_TAGS = frozenset(
    (
        *(269, 270, 271, 272, exif.ORIENTATION, 282, 283, 285, 296, 305, 306, 315, 316, 318, 319),
        *(18246, 18249, 33432, exif.EXIF_DIRECTORY, exif.GPS_DIRECTORY, *range(40091, 40096)),
    )
)
# What tifffile undoes by itself: none, deflate (two numbers), PackBits, LZMA; with no or integer prediction.
_OWN_COMPRESSIONS = (1, 8, 32946, 32773, 34925)
# What opencv undoes beside (LZW), and Pillow up to 8 bits (fax, two kinds of JPEG, ThunderScan, Zstandard).
_DEEP_COMPRESSIONS = (*_OWN_COMPRESSIONS, 5)
_SHALLOW_COMPRESSIONS = (*_DEEP_COMPRESSIONS, 2, 3, 4, 6, 7, 32771, 32809, 50000)
# Channels of colour by photometric interpretation, where there is more than one: RGB, CMYK, YCbCr, CIELab.
_COLOURS = {2: 3, 5: 4, 6: 3, 8: 3}


@functools.cache
def _library() -> Any:
    import tifffile

    # A damaged tag is reported through logging; what matters of it is said in our own error.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)
    return tifffile


def _refuse_pages(pages: Any) -> list[str]:
    """Raise PhotoError for more than one page; pages that are reductions of the first are only mentioned."""
    count = len(pages)
    if count == 1 and _CHILDREN not in pages[0].tags:
        return []
    for index in range(1, count):
        page = pages.get(index)
        if not (page.subfiletype & 0b101):
            raise PhotoError(f"a TIFF of {count} pages; this takes single photos only, split it first")
    return ["the smaller copies or masks in the file are not kept"]


def _refuse_raw(page: Any) -> None:
    if _DNG in page.tags or int(page.photometric) in (32803, 34892):
        raise PhotoError("a camera's raw file; develop it to TIFF or JPEG first")
    if page.subfiletype & 1 and _CHILDREN in page.tags:
        raise PhotoError("a raw file or pyramid whose first picture is a thumbnail; export the full picture first")


def _refuse_kind(page: Any, bits: int, *, deep: bool) -> None:
    """Raise PhotoError for what nothing here reads; `deep`: what Pillow does not, or not whole."""
    kind = int(page.sampleformat)
    if page.imagedepth > 1:
        raise PhotoError(f"a TIFF of {page.imagedepth} slices in depth; this takes single photos only, split it first")
    if deep and not ((kind == 1 and bits in (8, 16)) or (kind == 3 and bits in (16, 32, 64))):
        name = {1: "unsigned", 2: "signed", 3: "float"}.get(kind, "unknown")
        raise PhotoError(f"a TIFF of {bits}-bit {name} samples; convert it to 8 or 16 bits or 32-bit float")
    if deep and int(page.photometric) not in (0, 1, 2):
        name = getattr(page.photometric, "name", str(page.photometric))
        raise PhotoError(f"a TIFF of {bits}-bit {name} colours; convert it to RGB{' or to 8 bits' * (bits > 8)}")
    if int(page.compression) not in (_DEEP_COMPRESSIONS if deep else _SHALLOW_COMPRESSIONS):
        name = getattr(page.compression, "name", str(page.compression))
        raise PhotoError(f"a TIFF in the compression {name}, which cannot be read here; save it with deflate")


def _uncompressed(page: Any, number: int) -> Iterator[int]:
    """Bytes that the pixels of each of `number` strips or tiles need uncompressed."""
    bits = page.bitspersample if isinstance(page.bitspersample, int) else max(page.bitspersample)
    samples = 1 if int(page.planarconfig) == 2 else page.samplesperpixel
    row = -(-(page.tilewidth if page.is_tiled else page.imagewidth) * samples * bits // 8)
    rows = page.tilelength if page.is_tiled else min(page.rowsperstrip, page.imagelength)
    down = -(-page.imagelength // max(1, rows))
    for index in range(number):
        last = not page.is_tiled and index % down == down - 1
        yield row * (page.imagelength - rows * (down - 1) if last else rows)


def _refuse_damage(page: Any, length: int) -> None:
    """Raise PhotoError where strips or tiles are missing or lie behind the file's end."""
    offsets, counts = page.dataoffsets, page.databytecounts
    if not offsets or len(offsets) != len(counts) or not any(counts):
        raise PhotoError("truncated or corrupt TIFF (its table of strips is damaged)")
    if int(page.compression) == 1:
        # Some programs state any number of bytes here, and readers need none.
        counts = list(map(min, counts, _uncompressed(page, len(counts))))
    if any(offset + count > length for offset, count in zip(offsets, counts, strict=True)):
        raise PhotoError("truncated TIFF: pixels lie behind the end of the file")


def _bits(page: Any) -> int:
    bits = page.bitspersample
    if not isinstance(bits, int):
        if len(set(bits)) != 1:
            raise PhotoError(f"a TIFF of mixed depths {tuple(bits)}; convert it to 8 or 16 bits")
        bits = bits[0]
    return int(bits)


def _read_deep(page: Any, data: bytes, bits: int, notes: list[str]) -> tuple[np.ndarray, np.ndarray | None]:
    """Pixels and alpha of a page of grey or RGB, as uint8, uint16 or float32, in the file's orientation."""
    kind = int(page.sampleformat)
    photometric = int(page.photometric)
    if int(page.compression) in _OWN_COMPRESSIONS and int(page.predictor) in (1, 2):
        array = page.asarray()
        if page.axes.startswith("S"):
            array = np.moveaxis(array, 0, -1)
    elif int(page.planarconfig) == 1:
        try:
            array = decode_deep(_as_it_lies(page, data))
        except ValueError as error:
            raise PhotoError("a TIFF that is damaged, or of a kind not read here; save it uncompressed") from error
    else:
        raise PhotoError("a TIFF of separate planes in a compression that cannot be read here; save it with deflate")
    array = array.reshape(page.imagelength, page.imagewidth, -1)
    if array.shape[2] != page.samplesperpixel or array.dtype.itemsize * 8 != bits:
        raise PhotoError("a kind of deep TIFF that cannot be read whole here; save it with deflate or uncompressed")
    if kind == 3:
        array = _checked_floats(array, notes)
    base = 3 if photometric == 2 else 1
    pixels = np.ascontiguousarray(array[:, :, :base] if base == 3 else array[:, :, 0])
    if photometric == 0:
        pixels = (np.float32(1) if kind == 3 else pixels.dtype.type(np.iinfo(pixels.dtype).max)) - pixels
    if array.shape[2] <= base or not _first_may_be_alpha(page):
        return pixels, None
    alpha = np.ascontiguousarray(array[:, :, base])
    if tuple(page.extrasamples)[:1] == (1,):
        pixels = unpremultiplied(pixels, alpha)
    return pixels, alpha


def _as_it_lies(page: Any, data: bytes) -> bytes:
    """The file without its orientation, which opencv would apply, and we would once more."""
    tag = page.tags.get(exif.ORIENTATION)
    if tag is None:
        return data
    edited = bytearray(data)
    edited[tag.valueoffset : tag.valueoffset + tag.valuebytecount] = (1).to_bytes(
        tag.valuebytecount, "little" if page.parent.byteorder == "<" else "big"
    )
    return bytes(edited)


def _checked_floats(array: np.ndarray, notes: list[str]) -> np.ndarray:
    least, most = float(array.min()), float(array.max())
    if np.isnan(least):
        raise PhotoError("float pixels of which some are no numbers (NaN), where [0, 1] is expected")
    if not (least >= 0.0 and most <= 1.0):
        raise PhotoError(f"float pixels from {least:g} to {most:g}, where [0, 1] is expected; scale them first")
    if array.dtype == np.float64:
        notes.append("64-bit floats are rounded to 32 bits")
    return array.astype(np.float32)


def _tags(data: bytes) -> tuple[str, exif.Directory, exif.Directory, bytes, bytes]:
    """Byte order, tags for EXIF, tags for TIFF alone, ICC and XMP."""
    order, directory = (bigtiff if exif.byte_order(data) is None else exif).parse(data)
    single = {tag: item for tag, item in directory.items() if isinstance(item, exif.Entry)}
    icc = single[_ICC].value if _ICC in single else b""
    packet = xmp.normalised(single[_XMP].value) if _XMP in single else b""
    block = {tag: item for tag, item in directory.items() if tag in _EXIF_TAGS}
    rest: exif.Directory = {
        tag: item
        for tag, item in directory.items()
        if tag in _OF_PIXELS or (tag not in _EXIF_TAGS and tag not in _STRUCTURE)
    }
    resources = rest.get(photoshop.TAG)
    if isinstance(resources, exif.Entry) and (kept := photoshop.without_thumbnail(resources.value)) != resources.value:
        del rest[photoshop.TAG]
        if kept:
            rest[photoshop.TAG] = exif.Entry(1, len(kept), kept)
    return order, block, rest, icc, packet


def _block(data: bytes, order: str, directory: exif.Directory, notes: list[str]) -> bytes:
    """The EXIF of a file; makers' notes stand as far from its beginning as from the file's, or a line in `notes` says
    that they do not, for their own offsets count from there."""
    block = exif.block_of(order, directory)
    if exif.notes_at(block) is None:
        return block
    at = exif.notes_at(data)
    if at and 8 <= at <= exif.LONGEST and len(kept := exif.block_of(order, directory, at)) <= exif.LONGEST:
        return kept
    notes.append("the camera maker's notes had to move: programs may not find all that is in them")
    return block


def read(data: bytes) -> Photo:
    """Read a TIFF of one page: 1 to 8 bits as uint8, 16 as uint16, float as float32 (in [0, 1]). Upright.

    Raises:
        PhotoError: several pages, a raw file, truncated, a kind of samples that cannot be kept.
        Exception: a library's, for a corrupt file.
    """
    with _library().TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        check_size(page.imagewidth, page.imagelength, len(data), page.samplesperpixel)
        _refuse_raw(page)
        _refuse_damage(page, len(data))
        notes = _refuse_pages(file.pages)
        order, directory, rest, icc, packet = _tags(data)
        block = _block(data, order, directory, notes)
        orientation = exif.orientation(block) or xmp.orientation(packet) or 1
        bits = _bits(page)
        is_cmyk = int(page.photometric) == 5
        image = None if bits > 8 or int(page.sampleformat) != 1 else _opened(page, data)
        _refuse_kind(page, bits, deep=image is None)
        inks = None
        if image is None:
            pixels, alpha = _read_deep(page, data, bits, notes)
            pixels = turn(pixels, orientation)
            alpha = None if alpha is None else turn(alpha, orientation)
        else:
            image.info["xmp"] = packet  # from UTF-16 Pillow takes no orientation
            pixels, alpha = _read_shallow(image, page, icc, notes)
            inks = np.array(image) if image.mode == "CMYK" else None
            alpha = alpha if _first_may_be_alpha(page) else None
        _note_channels(page, alpha is not None, notes)
        if _LAYERS in page.tags:
            notes.append("Photoshop's layers are not kept, the flat picture is")
        if _CREDENTIALS in page.tags:
            notes.append(keeping.NO_CREDENTIALS)
        compressed = int(page.compression) != 1
    if colour.profile_space(icc) == "Lab":
        icc = b""
    height, width = pixels.shape[:2]
    block = exif.upright(block, orientation, (width, height))
    return Photo(
        pixels,
        "TIFF",
        alpha,
        exif=block,
        icc=icc,
        xmp=xmp.upright(packet, orientation, (width, height)),
        dpi=exif.resolution(block),
        cmyk=is_cmyk,
        inks=inks,
        depth=max(bits, 8),
        facts=TiffFacts(order, compressed, {tag: item for tag, item in rest.items() if isinstance(item, exif.Entry)}),
        warnings=notes,
    )


def _opened(page: Any, data: bytes) -> Image.Image | None:
    """A page of up to 8 bits by Pillow; None where it knows no such kind: most that have further channels."""
    photometric = int(page.photometric)
    extra = int(page.samplesperpixel) - _COLOURS.get(photometric, 1)
    if extra and int(page.planarconfig) == 2 and photometric != 5:  # of planes, those behind the inks do it no harm
        return None
    try:
        return open_image(data, "TIFF")
    except PhotoError:
        return None


def _read_shallow(image: Image.Image, page: Any, icc: bytes, notes: list[str]) -> tuple[np.ndarray, np.ndarray | None]:
    """Pixels and alpha of up to 8 bits by Pillow, which applies the orientation of a TIFF in loading it."""
    image.load()
    if image.mode in ("P", "PA") and page.colormap is not None and page.colormap.max() < 256:
        # Old programs write 8 bits an entry where 16 belong.
        image.putpalette(page.colormap.T.astype(np.uint8).tobytes())
    if image.mode in ("CMYK", "LAB"):
        if image.mode == "LAB":
            notes.append("Lab colours become sRGB")
        image = colour.to_srgb(image, icc)
    return unpack(image)


def _first_may_be_alpha(page: Any) -> bool:
    """Whether the first channel behind the colours is their alpha (ExtraSamples 1 and 2; 0 is anything else, in
    Photoshop's files a saved selection), or the only one and nothing is said of it."""
    said = tuple(page.extrasamples)[:1]
    return said in ((1,), (2,)) or (not said and page.samplesperpixel == _COLOURS.get(int(page.photometric), 1) + 1)


def _note_channels(page: Any, alpha: bool, notes: list[str]) -> None:
    """Say how many channels there are beside the colours and the `alpha` that is kept."""
    left = int(page.samplesperpixel) - _COLOURS.get(int(page.photometric), 1) - alpha
    if left > 0:
        what = "a further channel (such as a saved selection) is" if left == 1 else f"{left} further channels are"
        notes.append(f"{what} not kept")


def write(photo: Photo, quality: int | None, notes: list[str]) -> bytes:
    """A TIFF of `photo`, deflated unless the source was an uncompressed TIFF; lossless, `quality` changes nothing."""
    facts = photo.facts if isinstance(photo.facts, TiffFacts) else None
    block = exif.parse(photo.exif) if photo.exif else (facts.order if facts else "<", {})
    order, directory = block
    settings: dict[str, Any] = {"photometric": "minisblack" if photo.pixels.ndim == 2 else "rgb"}
    array = joined(photo.pixels, photo.alpha)
    if photo.cmyk:
        settings["photometric"] = "separated"
        array = np.asarray(colour.to_cmyk(photo.pixels, photo.icc, photo.inks))
    if photo.alpha is not None:
        settings |= {"extrasamples": ["unassalpha"], "planarconfig": "contig"}
    if not facts or facts.compressed:
        settings |= {"compression": "zlib", "predictor": array.dtype != np.float32}
    stream = io.BytesIO()
    _library().imwrite(stream, array, byteorder=order, metadata=None, bigtiff=False, **settings)
    return _with_tags(stream.getvalue(), order, directory, photo, notes)


def _fitting(photo: Photo, notes: list[str]) -> exif.Directory:
    """The tags of a photo that was a TIFF, but for those that its pixels do not fit any more; `notes` says so."""
    assert isinstance(photo.facts, TiffFacts)
    tags: exif.Directory = dict(photo.facts.tags)
    levels = 1 << 8 * photo.pixels.itemsize
    for tag, words in _OF_PIXELS.items():
        if tag not in tags:
            continue
        entry = photo.facts.tags[tag]
        if tag == _TRANSFER:
            # One curve for all channels, or three; a value for each level.
            fits = entry.number in (levels, 3 * levels)
        else:
            fits = photo.cmyk and (tag != _INKS or entry.value.rstrip(b"\0").count(b"\0") == 3)
        if not fits:
            del tags[tag]
            notes.append(f"{words} does not fit the pixels that are written and is not kept")
    return tags


def _moved(offsets: exif.Entry | exif.Directory, order: str, distance: int) -> exif.Entry:
    """The offsets of strips that stand so many bytes further on; there are as many 32-bit numbers as strips."""
    assert isinstance(offsets, exif.Entry) and offsets.type == 4
    layout = f"{order}{offsets.number}I"
    moved = (offset + distance for offset in struct.unpack(layout, offsets.value))
    return exif.Entry(4, offsets.number, struct.pack(layout, *moved))


def _with_tags(written: bytes, order: str, directory: exif.Directory, photo: Photo, notes: list[str]) -> bytes:
    """The file with a new first directory: what describes the pixels from `written`, everything else from the photo.

    Makers' notes have offsets that count from the beginning of the EXIF: with some, that stands before the pixels.
    """
    _, merged = exif.parse(written)
    pointers = exif.in_place(photo.exif)
    front = photo.exif[8:] + bytes(len(photo.exif) % 2) if pointers else b""
    merged[_STRIPS] = _moved(merged[_STRIPS], order, len(front))
    for tag in (270, 305, 306, exif.RESOLUTION_X, exif.RESOLUTION_Y, exif.RESOLUTION_UNIT):
        merged.pop(tag, None)
    if isinstance(photo.facts, TiffFacts) and photo.facts.order == order:
        merged.update(_fitting(photo, notes))
    elif isinstance(photo.facts, JpegFacts):
        merged.update(photoshop.tags(photoshop.of_segments(photo.facts.segments)))
    merged.update({tag: item for tag, item in directory.items() if tag not in _STRUCTURE})
    if resolution := keeping.own_resolution(photo):
        for tag, dots in zip((exif.RESOLUTION_X, exif.RESOLUTION_Y), resolution, strict=True):
            above = min(0xFFFFFFFF, max(1, round(dots * 10000)))
            merged[tag] = exif.Entry(5, 1, struct.pack(order + "II", above, 10000))
        merged[exif.RESOLUTION_UNIT] = exif.Entry(3, 1, struct.pack(order + "H", 2))
    if photo.icc:
        merged[_ICC] = exif.Entry(7, len(photo.icc), photo.icc)
    if photo.xmp:
        merged[_XMP] = exif.Entry(1, len(photo.xmp), photo.xmp)
    merged |= pointers
    start = len(written) + len(front)
    start += start % 2
    header = written[:4] + struct.pack(order + "I", start)
    return (header + front + written[8:]).ljust(start, b"\x00") + exif.assemble(order, merged, start)
