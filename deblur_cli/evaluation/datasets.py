"""Pairs of blurred and sharp pictures: GOPRO in each layout it is passed around in, or any two folders.

Pairs are matched by relative name and never by position, so that a missing file cannot shift all that follow it.
Pictures are 8 bits a channel, since that is what published scores are taken on.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deblur_cli.errors import DatasetError, PhotoError
from deblur_cli.evaluation.metrics import WINDOW

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".tif", ".tiff", ".webp"})
"""Files with these endings are pictures of a dataset; all others, and hidden ones, are passed over."""

SPLITS = ("test", "train")
GOPRO_COUNTS = {"test": 1111, "train": 2103}
"""Pairs in GOPRO_Large (Nah et al. 2017)."""
GOPRO_TEST = {
    "GOPR0384_11_00": 100,
    "GOPR0384_11_05": 100,
    "GOPR0385_11_01": 100,
    "GOPR0396_11_00": 100,
    "GOPR0410_11_00": 134,
    "GOPR0854_11_00": 100,
    "GOPR0862_11_00": 77,
    "GOPR0868_11_00": 100,
    "GOPR0869_11_00": 100,
    "GOPR0871_11_00": 100,
    "GOPR0881_11_01": 100,
}
"""Sequences of GOPRO's test split and the pairs in each."""

_VARIANTS = ("blur", "blur_gamma")
# Folder of sharp pictures, and the folders of blurred ones that may stand beside it.
_LAYOUTS = (("sharp", _VARIANTS), ("gt", _VARIANTS), ("target", ("input",)))
_GOPRO_SEQUENCE = re.compile(r"GOPR\d{4}_\d\d_\d\d")
# Flattened copies carry the sequence in the file's name: GOPR0384_11_00-000001.png.
_FLATTENED = re.compile(rf"(?P<sequence>{_GOPRO_SEQUENCE.pattern})[-_](?P<name>.+)")
_READABLE_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA"})
_LISTED = 10


@dataclass(frozen=True)
class Pair:
    """One blurred picture and its sharp one, of the same size."""

    sequence: str
    """Name of the sequence, empty where pictures stand alone."""
    name: str
    """Name within the sequence, without the file's ending."""
    blurred: Path
    sharp: Path
    size: tuple[int, int]
    """Width and height in pixels."""


@dataclass(frozen=True)
class Dataset:
    """Pairs in a fixed order, and what is known of the set they are from."""

    name: str
    """`GOPRO` where the sequences' names say so, else the folder's name."""
    split: str
    """`test` or `train`, or empty for two folders."""
    variant: str
    """Name of the folder of blurred pictures that was resolved: `blur`, `blur_gamma`, `input`, or empty."""
    pairs: tuple[Pair, ...]
    folders: tuple[Path, ...]
    """Where the pictures were looked for."""
    expected: int | None = None
    """Pairs in the whole published set, where it is known."""
    left_out: tuple[str, ...] = ()
    """What does not pair and is not scored, a line each."""
    notes: tuple[str, ...] = ()
    """What the reader of a score has to know of the set, a sentence each."""

    @property
    def coverage(self) -> str:
        """Pairs here of pairs in the whole set, such as `10/1111`; the pairs alone where the whole is not known."""
        return f"{len(self.pairs)}/{self.expected}" if self.expected else str(len(self.pairs))

    @property
    def whole(self) -> bool:
        """Whether nothing was left out, and nothing is missing as far as that is known."""
        if self.left_out or self.expected is None:
            return not self.left_out
        if self.split == "test":
            return Counter(pair.sequence for pair in self.pairs) == GOPRO_TEST
        return len(self.pairs) == self.expected

    def first(self, count: int) -> Dataset:
        """The same set with only its first `count` pairs."""
        return replace(self, pairs=self.pairs[:count])

    def require_whole(self) -> None:
        """Raise `DatasetError` unless the set is `whole`."""
        if not self.whole:
            what = f"{self.name} {self.split}".strip()
            left = f", {len(self.left_out)} left out" if self.left_out else ""
            raise DatasetError(f"{what} is not complete: {self.coverage} pairs{left}")


def find_pairs(
    folder: Path, *, split: str | None = None, variant: str | None = None, allow_partial: bool = False
) -> Dataset:
    """The pairs of a dataset in one of GOPRO's layouts.

    Accepted below `folder/<split>`, or below `folder` itself: `<sequence>/{blur,blur_gamma,sharp}` (the original),
    `{input,target}`, `{blur,blur_gamma,sharp}` and `{blur,blur_gamma,gt}`, the last three with pictures at any depth.

    Args:
        folder: the dataset's folder, or that of one split.
        split: `test` or `train`; None takes what `folder` is called, else `test`.
        variant: `blur` (plain mean of frames; the default) or `blur_gamma` (mean taken in linear light). The layout
            `{input,target}` does not say which it holds and has no `blur_gamma`.
        allow_partial: leave out what does not pair instead of raising.

    Raises:
        DatasetError: no such folder, layout, split or variant; or pictures without a partner, of another size than it,
            unreadable, ambiguous or too small for SSIM (a list of the first ten).
    """
    folder = folder.resolve()
    if not folder.is_dir():
        raise DatasetError(f"there is no folder '{folder}'")
    base, split = _split_folder(folder, split)
    blurred, sharp, resolved = _flat_layout(base, variant) or _sequence_layout(base, variant)
    name = folder.parent.name if folder.name in SPLITS else folder.name
    found = Dataset(name, split, resolved, (), (base,))
    return _recognised(_pair_up(found, blurred, sharp, allow_partial=allow_partial))


def pair_folders(blurred: Path, sharp: Path, *, allow_partial: bool = False) -> Dataset:
    """The pairs of any two folders: files of the same relative name, whatever their endings.

    Raises:
        DatasetError: a folder is missing, both are the same, or as for `find_pairs`.
    """
    blurred, sharp = blurred.resolve(), sharp.resolve()
    for folder in (blurred, sharp):
        if not folder.is_dir():
            raise DatasetError(f"there is no folder '{folder}'")
    if blurred == sharp:
        raise DatasetError(f"the blurred and the sharp pictures are the same folder, '{blurred}'")
    dataset = Dataset(f"{blurred.name} against {sharp.name}", "", "", (), (blurred, sharp))
    return _pair_up(dataset, _pictures(blurred), _pictures(sharp), allow_partial=allow_partial)


def read_picture(path: Path) -> np.ndarray:
    """The pixels as stored, H×W×3 uint8 RGB: grey is repeated, palettes are looked up, alpha is dropped.

    An orientation tag is not applied, as both pictures of a pair are compared as they are stored.

    Raises:
        PhotoError: the file is missing, truncated, corrupt, or holds anything but 8 bits a channel.
    """
    from PIL import Image

    try:
        with Image.open(path) as picture:
            _refuse_depth(picture)
            return np.array(picture.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise PhotoError(f"'{path}' cannot be read: {error}") from error


def _read_size(path: Path) -> tuple[int, int]:
    """Width and height from the file's header; raises PhotoError as `read_picture` does."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            _refuse_depth(picture)
            return picture.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise PhotoError(f"cannot be read: {error}") from error


def _refuse_depth(picture: Image.Image) -> None:
    """Pillow gives 16-bit RGB as 8 bits without a word; its decoder's arguments still tell."""
    deep = picture.mode not in _READABLE_MODES
    for tile in getattr(picture, "tile", []):
        arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        deep = deep or ";16" in str(arguments[0]) or (tile[0].startswith("ppm") and arguments[-1] > 255)
    if deep:
        raise ValueError("only pictures of 8 bits a channel, RGB or grey, are scored")


def _split_folder(folder: Path, split: str | None) -> tuple[Path, str]:
    wanted = split or (folder.name if folder.name in SPLITS else SPLITS[0])
    if (folder / wanted).is_dir():
        return folder / wanted, wanted
    if folder.name in SPLITS and folder.name != wanted:
        raise DatasetError(f"'{folder}' is the split '{folder.name}', but '{wanted}' was asked for")
    other = [name for name in SPLITS if (folder / name).is_dir()]
    if other:
        raise DatasetError(f"'{folder}' has no folder '{wanted}', only '{other[0]}' (--split {other[0]})")
    return folder, wanted


def _recognised(dataset: Dataset) -> Dataset:
    """`dataset` under the name GOPRO, with the size of the whole set, where all of its sequences are called so."""
    sequences = {pair.sequence for pair in dataset.pairs}
    if not all(_GOPRO_SEQUENCE.fullmatch(sequence) for sequence in sequences):
        return dataset
    foreign = sorted(sequences - GOPRO_TEST.keys() if dataset.split == "test" else sequences & GOPRO_TEST.keys())
    notes: tuple[str, ...] = ()
    if foreign:
        where = "are not in" if dataset.split == "test" else "belong to"
        notes = (f"these sequences {where} GOPRO's test split: {', '.join(foreign)}",)
    return replace(dataset, name="GOPRO", expected=GOPRO_COUNTS[dataset.split], notes=notes)


def _flat_layout(base: Path, variant: str | None) -> tuple[dict[str, Path], dict[str, Path], str] | None:
    for sharp, candidates in _LAYOUTS:
        there = [name for name in candidates if (base / name).is_dir()]
        if there and (base / sharp).is_dir():
            resolved = _variant(base, there, variant)
            return _pictures(base / resolved), _pictures(base / sharp), resolved
    return None


def _sequence_layout(base: Path, variant: str | None) -> tuple[dict[str, Path], dict[str, Path], str]:
    parts = ("sharp", *_VARIANTS)
    sequences = [entry for entry in sorted(base.iterdir()) if any((entry / part).is_dir() for part in parts)]
    there = [name for name in _VARIANTS if any((sequence / name).is_dir() for sequence in sequences)]
    if not there:
        raise DatasetError(
            f"'{base}' holds no pairs in a layout of GOPRO (SEQUENCE/{{blur,sharp}}, {{input,target}}, {{blur,sharp}} "
            "or {blur,gt}); name any two folders by --blurred DIR --sharp DIR"
        )
    resolved = _variant(base, there, variant)
    blurred: dict[str, Path] = {}
    sharp: dict[str, Path] = {}
    for sequence in sequences:
        for found, part in ((blurred, resolved), (sharp, "sharp")):
            found.update({f"{sequence.name}/{key}": path for key, path in _pictures(sequence / part).items()})
    return blurred, sharp, resolved


def _variant(base: Path, there: list[str], wanted: str | None) -> str:
    if there == ["input"] and wanted != "blur_gamma":
        return "input"
    resolved = wanted or "blur"
    if resolved not in there:
        raise DatasetError(f"'{base}' has no pictures '{resolved}', only '{there[0]}'; say which by --variant")
    return resolved


def _pictures(folder: Path) -> dict[str, Path]:
    """Pictures below `folder` by their relative path without its ending; with it, where that would name two files."""
    found: dict[str, list[Path]] = {}
    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:  # a link back to a folder above it
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = Path(parent, name)
            if path.suffix.lower() in SUFFIXES and not name.startswith("."):
                found.setdefault(path.relative_to(folder).with_suffix("").as_posix(), []).append(path)
    unique = {key: paths[0] for key, paths in found.items() if len(paths) == 1}
    double = {f"{key}{path.suffix}": path for key, paths in found.items() if len(paths) > 1 for path in paths}
    return unique | double


def _pair_up(
    dataset: Dataset, blurred: Mapping[str, Path], sharp: Mapping[str, Path], *, allow_partial: bool
) -> Dataset:
    """`dataset` with the pairs of both maps in order of their keys; raises DatasetError for what does not pair."""
    pairs: list[Pair] = []
    problems: list[str] = []
    for key in sorted(blurred.keys() | sharp.keys()):
        if key not in blurred or key not in sharp:
            problems.append(f"{key} has no {'blurred' if key not in blurred else 'sharp'} picture")
            continue
        try:
            sizes = _read_size(blurred[key]), _read_size(sharp[key])
        except PhotoError as error:
            problems.append(f"{key} {error}")
            continue
        if sizes[0] != sizes[1]:
            problems.append(f"{key} is {_size(sizes[0])} blurred and {_size(sizes[1])} sharp")
        elif min(sizes[0]) < WINDOW:
            problems.append(f"{key} is {_size(sizes[0])}, too small for SSIM's {WINDOW}×{WINDOW} window")
        else:
            pairs.append(Pair(*_sequence_and_name(key), blurred[key], sharp[key], sizes[0]))
    place = " and ".join(f"'{folder}'" for folder in dataset.folders)
    if problems and not (allow_partial and pairs):
        more = f"; and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
        rest = " (--allow-partial scores the rest)" if pairs else ""
        raise DatasetError(
            f"{len(problems)} pictures in {place} do not pair{rest}: {'; '.join(problems[:_LISTED])}{more}"
        )
    if not pairs:
        raise DatasetError(f"there are no pictures in {place}")
    return replace(dataset, pairs=tuple(pairs), left_out=tuple(problems))


def _sequence_and_name(key: str) -> tuple[str, str]:
    sequence, _, name = key.rpartition("/")
    flattened = _FLATTENED.fullmatch(name)
    return (flattened["sequence"], flattened["name"]) if flattened and not sequence else (sequence, name)


def _size(size: Iterable[int]) -> str:
    return "×".join(map(str, size))
