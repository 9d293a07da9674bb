"""Whether a file is as long as it says: what containers tell of their parts' lengths, beside what ffmpeg complains of.

A decoder that is given the pictures alone never gets to what is missing of the sound, and some demuxers take the end of
the file for the end of the film without a word.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

# Boxes at the top of QuickTime and MP4 files. What else lies there is a camera's own, or no box at all.
_BOXES = frozenset(
    {b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"uuid", b"meta", b"udta"}
    | {b"sidx", b"ssix", b"mfra", b"emsg", b"prft", b"pdin"}
)
_UNFINISHED = (0, 0xFFFFFFFF)
"""What AVI files have in place of a length while they are written."""
_CUT_OFF = "the file is cut off"
_FILLING = b"\x00\r\n"
_FLV_TAGS = frozenset({8, 9, 18})
_OGG_PAGE = 27 + 255 + 255 * 255
"""The most bytes of a page of Ogg's."""
_DV_FRAME = b"\x1f\x07"
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
_ASF_BROADCAST = 1
_MXF_HEADER = bytes.fromhex("060e2b34020501010d0102010102")
_MXF_RUN_IN = 65536
"""The most bytes that may lie ahead of an MXF file's first key."""


def shortfall(path: Path, container: str) -> str | None:
    """What is missing of a file by the lengths in it; None: nothing, or nothing tells.

    Args:
        path: the file.
        container: ffmpeg's names of its container, separated by commas.
    """
    checks = {"mov": _quicktime, "avi": _avi, "flv": _flv, "ogg": _ogg, "dv": _dv, "asf": _asf, "mxf": _mxf}
    check = next((checks[name] for name in container.split(",") if name in checks), None)
    if check is None:
        return None
    try:
        with _opened(path) as file:
            return check(file, file.seek(0, os.SEEK_END))
    except (OSError, struct.error):  # no longer there, or no longer the same
        return None


def _missing(count: int) -> str | None:
    return f"the file is cut off: {count} bytes are missing at its end" if count > 0 else None


def top_box(path: Path, kind: bytes) -> bytes:
    """The first box of a kind at the top of a QuickTime or MP4 file, without its header; empty: none can be read."""
    with suppress(OSError), _opened(path) as file:
        for at, length, found in _boxes(file, file.seek(0, os.SEEK_END)):
            if found == kind:
                return _read(file, at + 8, max(0, length - 8))
    return b""


def _opened(path: Path) -> IO[bytes]:
    """A file to be read; a pipe, which may wait for ever, is none."""
    if not path.is_file():
        raise FileNotFoundError(path)
    return path.open("rb")


def _quicktime(file: IO[bytes], size: int) -> str | None:
    end, fragments = 0, False
    for at, length, kind in _boxes(file, size):
        if kind not in _BOXES:
            lost = fragments and _goes_on(file, at)  # else something lies behind the film
            return "a part in the middle is missing, or damaged" if lost else None
        if length < 8:  # 0: till the end of the file
            return None
        end, fragments = at + length, fragments or kind == b"moof"
    behind = _read(file, end, 8).strip(_FILLING) if fragments else b""
    return _CUT_OFF if behind else _missing(end - size)


def _boxes(file: IO[bytes], size: int) -> Iterator[tuple[int, int, bytes]]:
    """Where each box at the top of a file lies, how long it says to be, and its kind."""
    at, length = 0, 8
    while length >= 8 and at + 8 <= size:
        length, kind = struct.unpack(">I4s", _read(file, at, 8))
        if length == 1 and at + 16 <= size:
            (length,) = struct.unpack(">Q", _read(file, at + 8, 8))
        yield at, length, kind
        at += length


def _avi(file: IO[bytes], size: int) -> str | None:
    at = 0
    while at + 8 <= size:
        kind, length = struct.unpack("<4sI", _read(file, at, 8))
        if kind != b"RIFF" or length in _UNFINISHED:
            return None
        at += 8 + length
    # Some programs count the eight bytes ahead of the length too.
    return _missing(at - size) if at > size + 8 else None


def _flv(file: IO[bytes], size: int) -> str | None:
    (at,) = struct.unpack(">I", _read(file, 5, 4))
    at += 4  # each tag has the length of the one before ahead of it
    while at < size:
        head = _read(file, at, 4)
        if head[0] & 0x1F not in _FLV_TAGS:
            return None
        if at + 11 > size:
            return _CUT_OFF
        at += 11 + int.from_bytes(head[1:]) + 4
    whole = at in {size, size + 4}  # some leave out the last length
    return None if whole else _missing(at - 4 - size) or _CUT_OFF


def _ogg(file: IO[bytes], size: int) -> str | None:
    # That the last page does not say it is the last tells nothing: those of a recorded broadcast never do.
    begin = max(0, size - _OGG_PAGE)
    tail = _read(file, begin, _OGG_PAGE)
    page = tail[max(0, tail.rfind(b"OggS")) :]
    if not page.startswith(b"OggS\0"):
        return None
    count = page[26] if len(page) > 26 else 0
    if len(page) < 27 + count:
        return _CUT_OFF
    return _missing(27 + count + sum(page[27 : 27 + count]) - len(page))


def _dv(file: IO[bytes], size: int) -> str | None:
    head = _read(file, 0, 4)
    frame = 144_000 if head[3:] >= b"\x80" else 120_000  # those of more bits a second are as long as several
    rest = size % frame
    # What begins otherwise lies behind the film.
    started = head.startswith(_DV_FRAME) and _read(file, size - rest, min(rest, 2)) == _DV_FRAME
    return _missing(frame - rest) if started else None


def _asf(file: IO[bytes], size: int) -> str | None:
    (at,) = struct.unpack("<Q", _read(file, 16, 8))
    if at > size:  # it is a stream's, in pieces
        return None
    header = _read(file, 0, at)
    properties = header.find(_ASF_PROPERTIES) + 24
    if properties < 24 or _read(file, at, 16) != _ASF_DATA:
        return None
    packets, flags, least, most = struct.unpack("<Q24xIII", header[properties + 32 : properties + 76])
    (count,) = struct.unpack("<Q", _read(file, at + 40, 8))
    if flags & _ASF_BROADCAST or least != most or packets != count:  # one of them was not written at the end
        return None
    return _missing(at + 50 + packets * most - size)


def _mxf(file: IO[bytes], size: int) -> str | None:
    head = _read(file, 0, _MXF_RUN_IN + 128)
    key = head.find(_MXF_HEADER)
    if key < 0:
        return None
    length = head[key + 16 : key + 17]
    values = key + 17 + (length[0] & 0x7F if length >= b"\x80" else 0)
    (footer,) = struct.unpack(">Q", head[values + 24 : values + 32])  # zero in a file that was never finished
    return _CUT_OFF if footer and key + footer >= size else None


def _goes_on(file: IO[bytes], at: int) -> bool:
    """Whether another fragment, or the table of them, comes after a position."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(b"moof", at) >= 0 or content.find(b"mfra", at) >= 0


def _read(file: IO[bytes], at: int, count: int) -> bytes:
    file.seek(at)
    return file.read(count)
