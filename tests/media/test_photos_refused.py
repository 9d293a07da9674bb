"""What cannot be read without loss is refused: one line that names the file, says why, and lets nothing else out."""

from __future__ import annotations

import functools
import io
import random
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deblur_cli.errors import PhotoError
from deblur_cli.media import exif, photos
from tests.media.photo_samples import chunk, encoded, exif_block, png, smooth, srgb


def refusal(data: bytes, tmp_path: Path, name: str = "photo.bin") -> str:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(PhotoError) as caught:
        photos.read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and "0x" not in message
    return message


@functools.cache
def samples() -> dict[str, bytes]:
    """A photo of every format and kind that is read."""
    noise = np.random.default_rng(5).integers(0, 256, (40, 50, 4), np.uint8)
    colour, image = noise[:, :, :3], Image.fromarray(noise[:, :, :3])
    deep = colour.astype(np.uint16) * 257
    beside = {"exif": exif.PREFIX + exif_block(6), "icc_profile": srgb()}
    found = {
        "jpeg": encoded(image, "JPEG", quality=90, **beside),
        "progressive": encoded(image, "JPEG", progressive=True),
        "grey": encoded(image.convert("L"), "JPEG"),
        "cmyk": encoded(image.convert("CMYK"), "JPEG"),
        "png": encoded(Image.fromarray(noise), "PNG", **beside),
        "palette": encoded(image.quantize(16), "PNG"),
        "deep png": png(deep),
        "webp": encoded(image, "WEBP", **beside),
        "lossless webp": encoded(Image.fromarray(noise), "WEBP", lossless=True),
        "avif": encoded(image, "AVIF", **beside),
        "bmp": encoded(image, "BMP"),
        "gif": encoded(image.quantize(16), "GIF"),
        "ppm": encoded(image, "PPM"),
        "deep ppm": b"P6 50 40 65535\n" + deep.astype(">u2").tobytes(),
        "tiff": encoded(image, "TIFF", **beside),
        "lzw tiff": encoded(image, "TIFF", compression="tiff_lzw"),
        "jpeg tiff": encoded(image, "TIFF", compression="jpeg"),
    }
    for name, settings_ in (
        ("deep tiff", {}),
        ("deflate tiff", {"compression": "zlib"}),
        ("tiles", {"tile": (16, 16)}),
    ):
        stream = io.BytesIO()
        tifffile.imwrite(stream, deep, photometric="rgb", **settings_)
        found[name] = stream.getvalue()
    from deblur_cli.media.photo import Photo

    stream = io.BytesIO()
    photos.write(Photo(colour, "PNG"), stream, format="HEIF")
    found["heic"] = stream.getvalue()
    return found


@pytest.mark.parametrize("kind", list(samples()))
def test_truncated_anywhere_is_refused(kind: str, tmp_path: Path) -> None:
    data = samples()[kind]
    assert photos.read(io.BytesIO(data)).pixels.shape[:2] in ((40, 50), (50, 40))
    for part in (0.1, 0.3, 0.5, 0.7, 0.85):
        refusal(data[: int(part * len(data))], tmp_path)


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(sorted(samples())), seed=st.integers(0, 10**9), hits=st.integers(1, 12), head=st.booleans())
def test_damage_is_a_photo_error_or_a_photo(kind: str, seed: int, hits: int, head: bool) -> None:
    data, chance = bytearray(samples()[kind]), random.Random(seed)
    for _ in range(hits):
        data[chance.randrange(min(len(data), 400) if head else len(data))] = chance.randrange(256)
    try:
        photo = photos.read(io.BytesIO(bytes(data)))
    except PhotoError as error:
        assert "\n" not in str(error)
    else:
        assert photo.pixels.dtype.name in ("uint8", "uint16", "float32")
        assert photo.pixels.shape[:2] == (photo.alpha.shape if photo.alpha is not None else photo.pixels.shape[:2])


@settings(max_examples=60, deadline=None)
@given(head=st.sampled_from(sorted(samples())), length=st.integers(1, 40), tail=st.binary(max_size=200))
def test_a_right_beginning_and_nonsense_after_it(head: str, length: int, tail: bytes) -> None:
    data = samples()[head][:length] + tail
    with pytest.raises(PhotoError):
        photos.read(io.BytesIO(data))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"This is no picture.\n" * 9, "a text"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"%PDF-1.7\n", "PDF"),
        (b"\x00\x00\x01\x00\x01\x00" + bytes(60), "icon"),
        (b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom" + bytes(60), "a video"),
        (bytes(100), "unknown"),
        (b"\x89PNG\r\r\n\x1a\n" + bytes(60), "damaged PNG"),
        (b"\xff\xd8\xff", "truncated"),
        (b"P7\nWIDTH 2\nHEIGHT 2\nDEPTH 1\nMAXVAL 255\nENDHDR\n1234", "PAM"),
        (b"PF\n1 1\n-1.0\n" + bytes(12), "PFM"),
        (b"P6 9 9 70000 " + bytes(600), "65535"),
        (b"P3 1 1 1023 5 5 5\n", "text"),
    ],
)
def test_what_is_no_photo_is_named(data: bytes, words: str, tmp_path: Path) -> None:
    assert words in refusal(data, tmp_path, "photo.jpg")


def test_folders_and_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match="a folder"):
        photos.read(tmp_path)
    with pytest.raises(PhotoError, match="no such file"):
        photos.read(tmp_path / "none.jpg")


def test_standard_input_is_named() -> None:
    with pytest.raises(PhotoError, match="standard input: an empty file"):
        photos.read(io.BytesIO(b""))


@pytest.mark.parametrize("container", ["GIF", "WEBP", "PNG", "AVIF"])
def test_animations_are_refused_and_single_frames_are_not(container: str, tmp_path: Path) -> None:
    frames = [Image.fromarray(np.roll(smooth(16, 16), shift, axis=1)) for shift in (0, 4, 8)]
    data = encoded(frames[0], container, save_all=True, append_images=frames[1:], duration=100)
    assert "animation of 3 frames" in refusal(data, tmp_path)
    single = encoded(frames[0], container, save_all=True)
    assert photos.read(io.BytesIO(single)).pixels.shape == (16, 16, 3)


def test_pages_are_refused_and_thumbnails_are_not(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as file:
        for _ in range(3):
            file.write(smooth(16, 16), photometric="rgb")
    assert "3 pages" in refusal(stream.getvalue(), tmp_path)
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as file:
        file.write(smooth(16, 16), photometric="rgb")
        file.write(smooth(4, 4), photometric="rgb", subfiletype=1)
    photo = photos.read(io.BytesIO(stream.getvalue()))
    assert photo.pixels.shape == (16, 16, 3) and "smaller copies" in photo.warnings[0]


@pytest.mark.parametrize("size", [(40_000, 40_000), (2**31 - 1, 2**31 - 1), (30_000, 30_000), (0, 5)])
@pytest.mark.parametrize("kind", ["png", "deep png", "ppm", "deep ppm", "bmp", "gif", "tiff", "webp", "jpeg"])
def test_bombs_are_refused_before_they_are_unfolded(kind: str, size: tuple[int, int], tmp_path: Path) -> None:
    width, height = size
    if kind == "gif" and not width:
        pytest.skip("the frame of a GIF counts, and its screen may be nothing")
    data = bytearray(samples()[kind])
    if kind.endswith("png"):
        data[16:24] = struct.pack(">II", width, height)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif kind.endswith("ppm"):
        data = bytearray(bytes(data).replace(b"50 40", f"{width} {height}".encode(), 1))
    elif kind == "bmp":
        data[18:26] = struct.pack("<ii", width, height)
    elif kind == "gif":
        data[6:10] = struct.pack("<HH", width & 0xFFFF, height & 0xFFFF)
    elif kind == "tiff":
        order, directory = exif.parse(bytes(data))
        for tag, value in ((256, width), (257, height)):
            directory[tag] = exif.Entry(4, 1, struct.pack("<I", value))
        start = len(data) + len(data) % 2
        head = bytes(data[:4]) + struct.pack("<I", start) + bytes(data[8:]).ljust(start - 8, b"\x00")
        data = bytearray(head + exif.assemble(order, directory, start))
    elif kind == "webp":
        at = data.index(b"VP8X") + 12
        data[at : at + 6] = (width - 1 & 0xFFFFFF).to_bytes(3, "little") + (height - 1 & 0xFFFFFF).to_bytes(3, "little")
    else:
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", height & 0xFFFF, width & 0xFFFF)
    refusal(bytes(data), tmp_path)


def test_a_bomb_of_samples_is_refused_as_one_of_pixels_is(tmp_path: Path) -> None:
    stream = io.BytesIO()
    tifffile.imwrite(stream, np.zeros((8, 8, 9), np.uint8), photometric="minisblack", planarconfig="contig")
    order, directory = exif.parse(stream.getvalue())
    for tag, value in ((256, 30_000), (257, 2_000), (277, 65_535)):
        directory[tag] = exif.Entry(4, 1, struct.pack("<I", value))
    words = refusal(exif.block_of(order, directory), tmp_path)
    assert "it declares 30000×2000 pixels of 65535 samples in" in words and "a decompression bomb" in words


@pytest.mark.parametrize(
    ("marker", "bits", "words"),
    [(0xC1, 12, "12 bits"), (0xC3, 8, "lossless"), (0xC5, 8, "hierarch"), (0xF7, 8, "JPEG-LS")],
)
def test_kinds_of_jpeg_that_nothing_here_reads(marker: int, bits: int, words: str, tmp_path: Path) -> None:
    data = bytearray(samples()["jpeg"])
    at = data.index(b"\xff\xc0")
    data[at + 1], data[at + 4] = marker, bits
    assert words in refusal(bytes(data), tmp_path)


def test_a_kind_that_is_not_read_is_not_called_damaged(tmp_path: Path) -> None:
    data = bytearray(samples()["bmp"])
    data[28:30] = struct.pack("<H", 64)
    words = refusal(bytes(data), tmp_path)
    assert "a kind of BMP not read here (Unsupported BMP pixel depth (64)); convert it to PNG" in words
    assert "corrupt" not in words


def test_depth_that_would_be_lost_is_said(tmp_path: Path) -> None:
    data = bytearray(samples()["avif"])
    at = data.index(b"av1C") + 4
    data[at + 2] |= 0x40
    assert "10-bit AVIF" in refusal(bytes(data), tmp_path)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.full((8, 8, 3), 1.5, np.float32), r"\[0, 1\]"),
        (np.full((8, 8, 3), np.nan, np.float32), r"\[0, 1\]"),
        (np.zeros((8, 8, 3), np.int16), "signed"),
        (np.zeros((8, 8, 3), np.uint32), "32-bit unsigned"),
    ],
)
def test_samples_that_cannot_be_kept_are_named(array: np.ndarray, words: str, tmp_path: Path) -> None:
    import re

    stream = io.BytesIO()
    tifffile.imwrite(stream, array, photometric="rgb")
    assert re.search(words, refusal(stream.getvalue(), tmp_path))


def test_raw_files_are_no_tiff_photos(tmp_path: Path) -> None:
    stream = io.BytesIO()
    tifffile.imwrite(stream, smooth(8, 8), photometric="rgb", extratags=[(50706, "B", 4, (1, 4, 0, 0), True)])
    assert "raw" in refusal(stream.getvalue(), tmp_path, "a.dng")


def test_a_text_chunk_that_unfolds_without_end_is_refused(tmp_path: Path) -> None:
    bomb = b"Comment\x00\x00" + zlib.compress(bytes(80_000_000), 9)
    refusal(png(smooth(4, 4), chunk(b"zTXt", bomb)), tmp_path)


def test_the_wrong_names_of_formats_and_qualities_are_said(tmp_path: Path) -> None:
    photo = photos.read(io.BytesIO(samples()["png"]))
    with pytest.raises(PhotoError, match="JPEG2000 is not a format"):
        photos.write(photo, tmp_path / "a.png", format="JPEG2000")
    with pytest.raises(PhotoError, match="suffix"):
        photos.write(photo, tmp_path / "a.xyz")
    with pytest.raises(PhotoError, match="quality 101"):
        photos.write(photo, tmp_path / "a.jpg", quality=101)
    with pytest.raises(PhotoError, match=r"none.*cannot be written"):
        photos.write(photo, tmp_path / "none" / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_24_megapixels_are_read_in_four_times_their_bytes(tmp_path: Path) -> None:
    image = Image.fromarray(smooth(400, 600)).resize((6000, 4000))
    image.save(tmp_path / "large.jpg", quality=90, exif=exif.PREFIX + exif_block(6))
    script = """
import resource, sys
from pathlib import Path
from deblur_cli.media import photos

def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

photos.read(Path(sys.argv[2]))
before = peak()
photo = photos.read(Path(sys.argv[1]))
print((peak() - before) / photo.pixels.nbytes)
"""
    Image.fromarray(smooth(8, 8)).save(tmp_path / "small.jpg")
    if sys.platform != "linux":
        pytest.skip("the peak is in other units elsewhere")
    command = [sys.executable, "-c", script, str(tmp_path / "large.jpg"), str(tmp_path / "small.jpg")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 4
