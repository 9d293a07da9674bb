"""The frames of a video as a folder of numbered pictures, in and out."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from deblur_cli.errors import PhotoError, UsageError, VideoError
from deblur_cli.media import picture_chunks
from deblur_cli.media.files import replacing
from deblur_cli.media.formats import SUFFIXES
from deblur_cli.media.materials import VIDEOS
from deblur_cli.media.pixel_formats import planar
from deblur_cli.media.video import GAP, Colour, Frame, PixelFormat, VideoFormat, as_meant

if TYPE_CHECKING:
    from deblur_cli.media.photo import Photo

TIMESTAMPS = "timestamps.txt"
"""The file beside the pictures that says when each is shown: mkvmerge's timestamp format 2, a line a frame."""
_HEADER = "# timestamp format v2"
_HEADERS = (_HEADER, "# timecode format v2")
"""The second is how mkvmerge called it first, and most other programs still do."""
_DEFAULT_RATE = Fraction(25)
_TICK = Fraction(1, 1_000_000)
_MILLISECONDS = re.compile(r"\d{1,12}(\.\d*)?", re.ASCII)
_NUMBERED = re.compile(r"(?P<before>.*?)(?P<number>\d+)(?P<after>\D*)", re.DOTALL)


def numbered_pictures(folder: Path) -> list[Path]:
    """The pictures of `folder` in the order of their numbers; empty where it is no folder of numbered pictures.

    They are called alike but for their last number, there are at least two of them, and no other pictures. A folder
    with videos in it is none, such as a camera's, or the videos would be passed over.
    """
    shown = [path for path in folder.iterdir() if not path.name.startswith(".")]
    if any(path.suffix.lower() in VIDEOS.formats and path.is_file() for path in shown):
        return []
    pictures = [path for path in shown if path.suffix.lower() in SUFFIXES]
    found = [(match, path) for path in pictures if (match := _numbered(path))]
    names = {(match["before"], match["after"], path.suffix) for match, path in found}
    if len(pictures) < 2 or len(found) < len(pictures) or len(names) > 1:
        return []
    return [path for _, path in sorted(found, key=lambda pair: (int(pair[0]["number"]), pair[1]))]


def _numbered(picture: Path) -> re.Match[str] | None:
    return _NUMBERED.fullmatch(picture.name.removesuffix(picture.suffix))


def why_no_frames(path: Path) -> str:
    """What keeps the pictures of the folder `path` from being the frames of a video, to be put behind a sentence;
    empty: nothing, or there are no pictures there."""
    found = sorted(path.iterdir()) if path.is_dir() else []
    pictures = [each for each in found if each.suffix.lower() in SUFFIXES and not each.name.startswith(".")]
    alike: dict[tuple[str, str, str] | None, str] = {}
    for each in pictures:
        match = _numbered(each)
        alike.setdefault(match and (match["before"], match["after"], each.suffix), each.name)
    if None in alike:
        why = f"'{alike[None]}' has no number"
    elif len(alike) > 1:
        why = "'{}' and '{}' differ in more".format(*alike.values())
    elif len(pictures) == 1:
        why = "here is one alone"
    else:
        return ""
    return f"; pictures are the frames of a video where all of a folder differ in a number alone, and {why}"


def is_frame_folder(path: Path) -> bool:
    """Whether `path` is a folder whose pictures are the frames of a video."""
    try:
        return path.is_dir() and bool(numbered_pictures(path))
    except OSError:
        return False


def is_replaceable(folder: Path) -> bool:
    """Whether `folder` holds nothing but what `FrameFolderWriter` may have written."""
    return all(re.fullmatch(r"\d{6,}\.png", path.name) or path.name == TIMESTAMPS for path in folder.iterdir())


class FrameFolderReader:
    """The frames of a folder of numbered pictures, in the order of their numbers; iterating again reads them again.

    A picture that cannot be read is replaced by the one before, and counted. Frames are RGB or grey, of 8 or 16 bits,
    with alpha where the first has it; the first says what the colours are, and the shape of a pixel. Attributes are
    those of `VideoReader`, and `sample_aspect`; `info` is None.

    Args:
        path: the folder.
        rate: frames a second; by default its file `timestamps.txt` says when each is shown, or else it is 25.
        start: seconds after the first frame; frames shown earlier are left out.
        end: seconds after the first frame; frames shown then or later are left out.

    Raises:
        VideoError: no such folder, or its first picture or its `timestamps.txt` cannot be read.
        UsageError: `start` is negative, or not before `end`.
    """

    info = None

    def __init__(
        self, path: Path, *, rate: Fraction | None = None, start: float | None = None, end: float | None = None
    ) -> None:
        if (start or 0) < 0 or (end is not None and end <= (start or 0)):
            raise UsageError(f"there is nothing between second {start or 0:g} and second {end or 0:g}")
        pictures = numbered_pictures(path) if path.is_dir() else []
        if not pictures:
            raise VideoError(f"{path}: no folder of numbered pictures")
        try:
            photo = _photo(pictures[0])
        except PhotoError as error:
            raise VideoError(str(error)) from error
        stamps = None if rate else _timestamps(path)
        tick = _TICK if stamps else 1 / (rate or _DEFAULT_RATE)
        if stamps is not None and len(stamps) != len(pictures):
            raise VideoError(f"{path}: {TIMESTAMPS} is of {len(stamps)} frames, and there are {len(pictures)} pictures")
        first = _pixels(photo)
        height, width = first.shape[:2]
        pixels = _pixel_format(first)
        matrix = "gbr" if pixels.kind == "rgb" else "bt709"
        colour = Colour(matrix, True, *picture_chunks.primaries_and_transfer(photo))
        self.path = path
        self.video = VideoFormat(width, height, pixels, colour, tick)
        """The format of the frames that come."""
        aspect, sure = picture_chunks.pixel_aspect(photo)
        self.sample_aspect = aspect if sure else None
        """Width of a pixel over its height; None: not said, or not for certain."""
        self.warnings: list[str] = []
        if not sure:
            self.warnings.append(
                "the pictures say that their pixels are not square, which some programs write the wrong way round: "
                "they are taken for square (--ffmpeg-args '-aspect 16:9' says what shape the picture has)"
            )
        self.damaged: str | None = None
        self.undecodable = 0
        """How many pictures could not be read."""
        low, high = (None if time is None else as_meant(time) / tick for time in (start, end))
        # The end of the last one is among them: it is shown for as long as the one before.
        self._times = [*stamps, 2 * stamps[-1] - stamps[-2]] if stamps else range(len(pictures) + 1)
        self._high = high
        self._frames = [
            (pts, picture)
            for pts, picture in zip(self._times, pictures, strict=False)
            if (low is None or pts >= low) and (high is None or pts < high)
        ]
        shown = next(iter(self._frames), (self._times[-1], None))[0]
        if stamps and low is not None and stamps[0] < low and shown > low + GAP / tick:
            # What is on the screen at the start comes first, as in `VideoReader`.
            self._frames.insert(0, (math.ceil(low), pictures[sum(pts < low for pts in stamps) - 1]))

    @property
    def count(self) -> int:
        """How many frames come."""
        return len(self._frames)

    @property
    def seconds(self) -> Fraction:
        """How long all pictures of the folder are shown."""
        return self._times[-1] * self.video.time_base

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing stays open between frames."""

    def __iter__(self) -> Iterator[Frame]:
        self.undecodable = 0
        planes: tuple[np.ndarray, ...] | None = None
        for pts, picture in self._frames:
            repeated = False
            try:
                planes = self._planes(picture)
            except PhotoError:
                self.undecodable += 1
                if planes is None:
                    continue
                repeated = True
            yield Frame(planes, pts, repeated)

    def until(self, last: int) -> int:
        """The tick until which the picture at tick `last`, the last one to come, is shown."""
        end = next(time for time in self._times if time > last)
        return end if self._high is None else max(last + 1, min(end, math.floor(self._high)))

    def _planes(self, picture: Path) -> tuple[np.ndarray, ...]:
        pixels = _pixels(_photo(picture))
        video = self.video
        if pixels.shape[:2] != (video.height, video.width):
            height, width = pixels.shape[:2]
            raise VideoError(f"{picture}: {width}×{height} pixels, where the first has {video.width}×{video.height}")
        white = np.iinfo(pixels.dtype).max
        if pixels.dtype != video.pixels.dtype:
            pixels = (pixels // 257).astype(np.uint8) if white > 255 else pixels.astype(np.uint16) * 257
        grey, alpha = pixels.shape[2] < 3, pixels.shape[2] % 2 == 0
        colours = [pixels[:, :, 0]] * 3 if grey else [pixels[:, :, channel] for channel in (1, 2, 0)]
        if video.pixels.kind == "grey":
            colours = colours[:1]
        opaque = np.full(pixels.shape[:2], np.iinfo(video.pixels.dtype).max, video.pixels.dtype)
        transparency = ([pixels[:, :, -1] if alpha else opaque]) if video.pixels.alpha else []
        return tuple(np.ascontiguousarray(plane) for plane in (*colours, *transparency))


class FrameFolderWriter:
    """Writes frames as PNG pictures `000001.png`, `000002.png` …, of 8 or 16 bits.

    Args:
        folder: made where it is not there.
        first: the number of the first picture, from 0: it is called one more.
        chunks: what each says beside its pixels (see `picture_chunks`).
    """

    def __init__(self, folder: Path, first: int = 0, chunks: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self.folder = folder
        self.frames = 0
        """How many were written."""
        self.size = 0
        """Bytes of what was written."""
        self._first, self._chunks = first, chunks
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, pixels: np.ndarray) -> None:
        """Write H×W×3 RGB or H×W×4 RGB and alpha, uint8 or uint16.

        Raises:
            OSError: the folder cannot be written, or the disk is full.
        """
        from deblur_cli.media.pixels import encode_with_opencv
        from deblur_cli.media.png import with_chunks

        encoded = with_chunks(encode_with_opencv(".png", np.ascontiguousarray(pixels)), self._chunks)
        self._path(self.frames).write_bytes(encoded)
        self.frames += 1
        self.size += len(encoded)

    def synchronise(self) -> None:
        """Let all that was written be on the disk, whenever the power goes.

        Raises:
            OSError: a picture is gone, or there was no room for it after all.
        """
        for number in range(self.frames):
            with self._path(number).open("r+b") as written:
                os.fsync(written.fileno())

    def _path(self, number: int) -> Path:
        """Of a picture, counted from 0 at the first that is written here."""
        return self.folder / f"{self._first + number + 1:06d}.png"


def write_timestamps(folder: Path, seconds: list[Fraction]) -> None:
    """Write when each picture of `folder` is shown, in one step.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    lines = [_HEADER, *(f"{float(each * 1000):.6f}" for each in seconds)]
    with replacing(folder / TIMESTAMPS) as stream:
        stream.write(("\n".join(lines) + "\n").encode("ascii"))


def _timestamps(folder: Path) -> list[int] | None:
    """What `write_timestamps` wrote, in millionths of a second; None where there is no such file."""
    path = folder / TIMESTAMPS
    if not path.is_file():
        return None
    header, *lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines() or [""]
    times = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if strange := next((time for time in times if not _MILLISECONDS.fullmatch(time)), None):
        raise VideoError(f"{path}: '{strange}' is no time in milliseconds from zero on")
    stamps = [round(Fraction(time) / 1000 / _TICK) for time in times]
    if header.strip() not in _HEADERS or any(one >= other for one, other in pairwise(stamps)):
        raise VideoError(f"{path}: not of the timestamp format 2, or times that do not increase")
    return stamps


def _photo(picture: Path) -> Photo:
    """A picture with what it says beside its pixels.

    Raises:
        PhotoError: it cannot be read.
    """
    from deblur_cli.media import photos

    return photos.read(picture)


def _pixels(photo: Photo) -> np.ndarray:
    """H×W×C, grey, grey and alpha, RGB, or RGB and alpha; uint8 or uint16."""
    from deblur_cli.media.pixels import joined, to_depth

    pixels = joined(photo.pixels, photo.alpha)
    pixels = to_depth(pixels, "uint16") if pixels.dtype.kind == "f" else pixels
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def _pixel_format(pixels: np.ndarray) -> PixelFormat:
    """The planar format that holds pixels as `_pixels` gives them; there is none of grey with alpha."""
    channels = pixels.shape[2]
    name = {1: "gray", 2: "gbrap", 3: "gbrp", 4: "gbrap"}[channels] + ("16le" if pixels.dtype == np.uint16 else "")
    found = planar(name)
    assert found is not None
    return found
