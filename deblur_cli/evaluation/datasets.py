"""Pairs of blurred and sharp pictures: GOPRO in each layout it is passed around in, REDS, RealBlur, HIDE, Köhler, or
any two folders.

Pairs are matched by relative name and never by position, so that a missing file cannot shift all that follow it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Literal

from deblur_cli.errors import DatasetError, PhotoError
from deblur_cli.evaluation.layouts import Layout, find_layout, pictures
from deblur_cli.evaluation.metrics import WINDOW
from deblur_cli.evaluation.pictures import read_size
from deblur_cli.media.gather import natural_key
from deblur_cli.words import counted

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
REDS_COUNTS = {"train": 24000, "val": 3000, "test": 3000}
"""Pairs in REDS (Nah et al., CVPR workshops 2019): sequences of 100, called 000, 001 and on."""
REAL_BLUR_COUNTS = {"train": 3758, "test": 980}
"""Pairs in RealBlur-J, and in RealBlur-R (Rim et al. 2020)."""
HIDE_COUNTS = {"train": 6397, "test": 2025}
"""Pairs in HIDE (Shen et al., ICCV 2019): 1,063 close-ups and 962 long shots to test on."""
KOHLER_COUNT = 48
"""Blurred pictures of Köhler et al. 2012: 4 scenes by 12 trajectories."""
# 199 sharp frames but for these; of trajectory 3 of the first scene the authors' script uses 197.
_KOHLER_FRAMES = {
    **{f"Image{scene}/Kernel{trajectory}": 199 for scene in range(1, 5) for trajectory in range(1, 13)},
    **dict.fromkeys(["Image1/Kernel10", "Image1/Kernel12", "Image2/Kernel10", "Image3/Kernel7"], 198),
    **dict.fromkeys(["Image3/Kernel12", "Image4/Kernel12"], 198),
    "Image1/Kernel3": 197,
    "Image2/Kernel11": 200,
}

_GOPRO_SEQUENCE = re.compile(r"GOPR\d{4}_\d\d_\d\d")
# Flattened copies carry the sequence in the file's name: GOPR0384_11_00-000001.png.
_FLATTENED = re.compile(rf"(?P<sequence>{_GOPRO_SEQUENCE.pattern})[-_](?P<name>.+)")
_REAL_BLUR = re.compile(r"real[-_ ]?blur[-_ ]?([jr])", re.IGNORECASE)
_LISTED = 10

Protocol = Literal["pixelwise", "Köhler", "RealBlur", "aligned"]
"""How a restored picture is compared with its sharp one: see `deblur_cli.evaluation.alignment`. `aligned` is what
RealBlur's does, for pairs of other sets."""


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
    frames: tuple[Path, ...] = ()
    """For Köhler, all sharp pictures of the camera's trajectory, `sharp` among them."""

    @property
    def label(self) -> str:
        """Sequence and name."""
        return f"{self.sequence}/{self.name}" if self.sequence else self.name

    def follows(self, other: Pair) -> bool:
        """Whether this is the frame after `other` in a video: the next number of its sequence, of the same size."""
        before, own = re.search(r"\d+$", other.name), re.search(r"\d+$", self.name)
        if not before or not own or not self.sequence:
            return False
        return (self.sequence, self.size, int(own[0])) == (other.sequence, other.size, int(before[0]) + 1)


@dataclass(frozen=True)
class Dataset:
    """Pairs in a fixed order, and what is known of the set they are from."""

    name: str
    """`GOPRO`, `REDS`, `RealBlur-J`, `RealBlur-R`, `HIDE` or `Köhler` where names of files and folders say so, else
    the folder's name."""
    split: str
    """`test`, `train` or `val`, or empty for two folders and for Köhler."""
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
    protocol: Protocol = "pixelwise"
    """How its scores are taken: as published ones are, unless it is `aligned`."""

    @property
    def coverage(self) -> str:
        """Pairs here of pairs in the whole set, such as `10/1111`; the pairs alone where the whole is not known."""
        return f"{len(self.pairs)}/{self.expected}" if self.expected else str(len(self.pairs))

    @property
    def whole(self) -> bool:
        """Whether nothing was left out, and nothing is missing as far as that is known."""
        return not self.left_out and not self.missing

    @property
    def missing(self) -> tuple[str, ...]:
        """Sequences of a known set with another number of pairs here, a few words each; or the set as a whole."""
        if self.expected is None:
            return ()
        counts = Counter(pair.sequence for pair in self.pairs)
        known = _sequences(self.name, self.split)
        if known is None:
            return () if len(self.pairs) == self.expected else (f"{len(self.pairs)} of {self.expected} pairs",)
        different = [name for name in sorted({*known, *counts}) if counts[name] != known.get(name, 0)]
        short = [f"{name} has {counts[name]} of {known.get(name, 0)} pairs" for name in different]
        return (*short, *(_short_trajectories(self.pairs) if self.protocol == "Köhler" else ()))

    @cached_property
    def video(self) -> bool:
        """Whether the pictures are frames of videos: in their sequences, more than half follow the one before."""
        neighbours = [(before, after) for before, after in pairwise(self.pairs) if before.sequence == after.sequence]
        following = sum(after.follows(before) for before, after in neighbours)
        return self.protocol in ("pixelwise", "aligned") and 2 * following > len(neighbours)

    def groups(self) -> list[tuple[Pair, ...]]:
        """The pairs in parts that can be scored apart: the sequences of a video, else each pair for itself."""
        if not self.video:
            return [(pair,) for pair in self.pairs]
        sequences: dict[str, list[Pair]] = {}
        for pair in self.pairs:
            sequences.setdefault(pair.sequence, []).append(pair)
        return [tuple(pairs) for pairs in sequences.values()]

    def first(self, count: int) -> Dataset:
        """The same set with only its first `count` pairs."""
        return replace(self, pairs=self.pairs[:count])

    def only(self, sequences: Sequence[str]) -> Dataset:
        """The same set with only these sequences.

        Raises:
            DatasetError: there is no sequence of one of the names; the message lists those there are.
        """
        there = list(dict.fromkeys(pair.sequence for pair in self.pairs))
        for name in sequences:
            if name not in there:
                known = ", ".join(filter(None, there)) or "none"
                raise DatasetError(f"{self.name} has no sequence '{name}'; its sequences: {known}")
        return replace(self, pairs=tuple(pair for pair in self.pairs if pair.sequence in sequences))

    def aligned(self) -> Dataset:
        """The same set with each picture laid on its sharp one before the two are compared.

        Raises:
            DatasetError: it is Köhler's, which is aligned in its own way.
        """
        if self.protocol == "Köhler":
            raise DatasetError("Köhler's pictures are aligned by their own protocol already; leave --align out")
        return self if self.protocol == "RealBlur" else replace(self, protocol="aligned")

    def require_whole(self) -> None:
        """Raise `DatasetError`, which names the first sequences that are not, unless the set is `whole`."""
        if not self.whole:
            what = f"{self.name} {self.split}".strip()
            left = f", {len(self.left_out)} left out" if self.left_out else ""
            raise DatasetError(
                f"{what} is not complete: {counted(self.coverage, 'pair')}{left}{listed(self.missing, ': ')}"
            )


def find_pairs(
    folder: Path, *, split: str | None = None, variant: str | None = None, allow_partial: bool = False
) -> Dataset:
    """The pairs of a dataset in a layout of GOPRO, or in that of REDS, RealBlur, HIDE or Köhler.

    Accepted below `folder/<split>`, or below `folder` itself, for GOPRO: `<sequence>/{blur,blur_gamma,sharp}` (the
    original), `{input,target}`, `{blur,blur_gamma,sharp}` and `{blur,blur_gamma,gt}`, the last three with pictures at
    any depth. REDS has `<split>_blur` and `<split>_sharp` there. RealBlur is `RealBlur-J_…` (or R) beside the list of
    its split, or `{input,target}` in a folder called RealBlur_J. HIDE has `test/test-close-ups` and `GT`, or
    `{input,target}` in a folder called HIDE. Köhler has `Blurry1_1.png` and
    `Image1/Kernel1/GroundTruth1_1_1.png`.

    Args:
        folder: the dataset's folder, or that of one split.
        split: `test`, `train` or `val`; None takes what `folder` is called, else `test`, and `val` for REDS.
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
    layout = find_layout(folder, split, variant)
    found = Dataset(layout.name, layout.split, layout.variant, (), (layout.base,))
    return _recognised(_pair_up(found, layout.blurred, layout.sharp, allow_partial=allow_partial), layout)


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
    return _pair_up(dataset, pictures(blurred), pictures(sharp), allow_partial=allow_partial)


def _recognised(dataset: Dataset, layout: Layout) -> Dataset:
    """`dataset` under the name of the published set that it is, with that set's size and protocol."""
    if layout.name == "Köhler":
        pairs = tuple(replace(pair, frames=layout.trajectories[pair.label]) for pair in dataset.pairs)
        return replace(dataset, pairs=pairs, expected=KOHLER_COUNT, protocol="Köhler")
    if layout.name == "REDS":
        return replace(dataset, expected=REDS_COUNTS[dataset.split])
    if layout.name.casefold() == "hide" and dataset.split in HIDE_COUNTS:
        return replace(dataset, name="HIDE", expected=HIDE_COUNTS[dataset.split])
    real = _REAL_BLUR.fullmatch(layout.name)
    if real and dataset.split in REAL_BLUR_COUNTS:
        name = f"RealBlur-{real[1].upper()}"
        return replace(dataset, name=name, expected=REAL_BLUR_COUNTS[dataset.split], protocol="RealBlur")
    return _recognised_gopro(dataset)


def _recognised_gopro(dataset: Dataset) -> Dataset:
    """`dataset` as GOPRO, where all of its sequences are called so."""
    sequences = {pair.sequence for pair in dataset.pairs}
    if dataset.split not in GOPRO_COUNTS or not all(_GOPRO_SEQUENCE.fullmatch(sequence) for sequence in sequences):
        return dataset
    foreign = sorted(sequences - GOPRO_TEST.keys() if dataset.split == "test" else sequences & GOPRO_TEST.keys())
    notes: tuple[str, ...] = ()
    if foreign:
        where = "are not in" if dataset.split == "test" else "belong to"
        notes = (f"these sequences {where} GOPRO's test split: {', '.join(foreign)}",)
    return replace(dataset, name="GOPRO", expected=GOPRO_COUNTS[dataset.split], notes=notes)


def _sequences(name: str, split: str) -> Mapping[str, int] | None:
    """The sequences of a known set and the pairs in each, where that is known."""
    if name == "GOPRO" and split == "test":
        return GOPRO_TEST
    if name == "REDS":
        return {f"{number:03}": 100 for number in range(REDS_COUNTS[split] // 100)}
    if name == "Köhler":
        return {f"Image{scene}": KOHLER_COUNT // 4 for scene in range(1, 5)}
    return None


def _short_trajectories(pairs: Iterable[Pair]) -> list[str]:
    """Pairs of Köhler with another number of sharp frames than published, a few words each."""
    return [
        f"{pair.label} has {len(pair.frames)} of {_KOHLER_FRAMES.get(pair.label, 0)} sharp frames"
        for pair in pairs
        if len(pair.frames) != _KOHLER_FRAMES.get(pair.label)
    ]


def _pair_up(
    dataset: Dataset, blurred: Mapping[str, Path], sharp: Mapping[str, Path], *, allow_partial: bool
) -> Dataset:
    """`dataset` with the pairs of both maps in order of their keys; raises DatasetError for what does not pair."""
    pairs: list[Pair] = []
    problems: list[str] = []
    # In the order of frames, also where their numbers have no leading zeros.
    for key in sorted(blurred.keys() | sharp.keys(), key=lambda key: (natural_key(PurePosixPath(key)), key)):
        if key not in blurred or key not in sharp:
            problems.append(f"{key} has no {'blurred' if key not in blurred else 'sharp'} picture")
            continue
        try:
            sizes = read_size(blurred[key]), read_size(sharp[key])
        except PhotoError as error:
            problems.append(f"{key} {error}")
            continue
        if sizes[0] != sizes[1]:
            problems.append(f"{key} is {size_text(sizes[0])} blurred and {size_text(sizes[1])} sharp")
        elif min(sizes[0]) < WINDOW:
            problems.append(f"{key} is {size_text(sizes[0])}, too small for SSIM's {WINDOW}×{WINDOW} window")
        else:
            pairs.append(Pair(*sequence_and_name(key), blurred[key], sharp[key], sizes[0]))
    place = " and ".join(f"'{folder}'" for folder in dataset.folders)
    if problems and not (allow_partial and pairs):
        rest = " (--allow-partial scores the rest)" if pairs else ""
        count, do = ("1 picture", "does") if len(problems) == 1 else (f"{len(problems)} pictures", "do")
        raise DatasetError(f"{count} in {place} {do} not pair{rest}{listed(problems, ': ')}")
    if not pairs:
        raise DatasetError(f"there are no pictures in {place}")
    return replace(dataset, pairs=tuple(pairs), left_out=tuple(problems))


def listed(items: Sequence[str], before: str) -> str:
    """`before` and the first ten, or nothing where there are none."""
    more = f"; and {len(items) - _LISTED} more" if len(items) > _LISTED else ""
    return f"{before}{'; '.join(items[:_LISTED])}{more}" if items else ""


def sequence_and_name(key: str) -> tuple[str, str]:
    """A pair's sequence and name from a relative path without its ending, or from a flattened copy's name."""
    sequence, _, name = key.rpartition("/")
    flattened = _FLATTENED.fullmatch(name)
    return (flattened["sequence"], flattened["name"]) if flattened and not sequence else (sequence, name)


def size_text(size: Iterable[int]) -> str:
    """Such as 1280×720."""
    return "×".join(map(str, size))
