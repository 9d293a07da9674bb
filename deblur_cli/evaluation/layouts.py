"""Where published datasets keep their pictures: GOPRO in four layouts, REDS, RealBlur, HIDE, Köhler; each as two maps.

A layout maps the same keys, `SEQUENCE/NAME`, to blurred and to sharp pictures. Nothing is opened here but lists.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from deblur_cli.errors import DatasetError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".tif", ".tiff", ".webp"})
"""Files with these endings are pictures of a dataset; all others, and hidden ones, are passed over."""

SPLITS = ("test", "train")
REDS_SPLITS = ("val", "train", "test")
"""Those of REDS (Nah et al., CVPR workshops 2019), the one that is scored first."""

_VARIANTS = ("blur", "blur_gamma")
# Folder of sharp pictures, and the folders of blurred ones that may stand beside it.
_FLAT = (("sharp", _VARIANTS), ("gt", _VARIANTS), ("target", ("input",)))
_HIDE_PARTS = ("test-close-ups", "test-long-shot")
_KOHLER_BLURRED = re.compile(r"Blurry(\d+)_(\d+)")
_KOHLER_SHARP = re.compile(r"GroundTruth(\d+)_(\d+)_(\d+)")
# The authors' script passes over these two of trajectory 3 of the first scene.
_KOHLER_UNUSED = frozenset({(1, 3, 30), (1, 3, 199)})
_Key = TypeVar("_Key", str, int)
_REAL_BLUR_FOLDER = re.compile(r"RealBlur-[JR]_.*")


@dataclass(frozen=True)
class Layout:
    """The pictures of a dataset by key."""

    name: str
    """Of the published set where the layout itself tells, else the folder's."""
    split: str
    variant: str
    base: Path
    """Folder that holds all of them."""
    blurred: Mapping[str, Path]
    sharp: Mapping[str, Path]
    trajectories: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    """All sharp pictures of a key, for Köhler."""


def find_layout(folder: Path, split: str | None, variant: str | None) -> Layout:
    """The first layout that `folder` is in.

    Raises:
        DatasetError: it is in none, or has no such split or variant.
    """
    found = _kohler(folder) or _real_blur(folder, split) or _hide(folder, split) or _reds(folder, split)
    if found is None:
        return _gopro(folder, split, variant)
    if variant:
        raise DatasetError(f"{found.name} has one kind of blurred pictures; --variant belongs to GOPRO")
    if split and split != found.split:
        raise DatasetError(f"'{folder}' has no split '{split}'" + (f", only '{found.split}'" if found.split else ""))
    return found


def pictures(folder: Path) -> dict[str, Path]:
    """Pictures below `folder` by their relative path without its ending; with it, where that would name two files.

    Raises:
        DatasetError: a folder cannot be opened, whose pictures would be missing without a word.
    """
    found: dict[str, list[Path]] = {}
    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
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


def _refuse(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):  # layouts ask for folders that may not be there
        raise DatasetError(f"the folder '{error.filename}' cannot be opened: {error.strerror}") from error


def _kohler(folder: Path) -> Layout | None:
    """`Blurry1_1.png`, in `BlurryImages` or beside `Image1/Kernel1/GroundTruth1_1_1.png` and its successors."""
    places = [place for place in (folder, folder / "BlurryImages") if place.is_dir()]
    if not any(_KOHLER_BLURRED.fullmatch(path.stem) for place in places for path in place.iterdir()):
        return None
    blurred: dict[str, Path] = {}
    frames: dict[str, dict[int, Path]] = {}
    for path in pictures(folder).values():
        if match := _KOHLER_BLURRED.fullmatch(path.stem):
            _put(blurred, f"Image{match[1]}/Kernel{match[2]}", path)
        elif match := _KOHLER_SHARP.fullmatch(path.stem):
            scene, trajectory, number = map(int, match.groups())
            if (scene, trajectory, number) not in _KOHLER_UNUSED:
                _put(frames.setdefault(f"Image{scene}/Kernel{trajectory}", {}), number, path)
    trajectories = {key: tuple(own[number] for number in sorted(own)) for key, own in frames.items()}
    # One of them stands for all where a single sharp picture is shown: that of the middle of the exposure.
    middle = {key: own[len(own) // 2] for key, own in trajectories.items()}
    return Layout("Köhler", "", "", folder, blurred, middle, trajectories)


def _put(pictures: dict[_Key, Path], key: _Key, path: Path) -> None:
    if key in pictures:  # which of them is the set's own?
        raise DatasetError(f"'{pictures[key]}' and '{path}' are the same picture of Köhler's; move one out of the set")
    pictures[key] = path


def _real_blur(folder: Path, split: str | None) -> Layout | None:
    """`RealBlur-J_…/scene001/{blur/blur_1.png,gt/gt_1.png}` and `RealBlur_J_test_list.txt`, a pair a line, sharp first.

    The list may lie in `folder` or beside it.
    """
    wanted = split or SPLITS[0]
    around = folder.parent if _REAL_BLUR_FOLDER.fullmatch(folder.name) else folder
    letters = [folder.name[9]] if around != folder else ["J", "R"]
    lists = [path for letter in letters if (path := around / f"RealBlur_{letter}_{wanted}_list.txt").is_file()]
    if not lists:
        return None
    if len(lists) > 1:
        raise DatasetError(f"'{folder}' holds RealBlur-J and RealBlur-R; name the folder of one, RealBlur-J_… or -R_…")
    blurred: dict[str, Path] = {}
    sharp: dict[str, Path] = {}
    base = folder
    for line in lists[0].read_text(encoding="utf-8").splitlines():
        words = line.split()
        if len(words) < 2:
            continue
        scene = Path(words[1]).parts[-3] if len(Path(words[1]).parts) > 2 else ""
        key = f"{scene}/{Path(words[1]).stem.removeprefix('blur_')}"
        sharp[key], blurred[key] = around / words[0], around / words[1]
        base = around / Path(words[1]).parts[0]
    return Layout(f"RealBlur-{lists[0].name[9]}", wanted, "", base, blurred, sharp)


def _hide(folder: Path, split: str | None) -> Layout | None:
    """`test/{test-close-ups,test-long-shot}/NAME.png` and `train/NAME.png`; the sharp ones of both splits in `GT`."""
    if folder.name in SPLITS and split in (None, folder.name):
        folder, split = folder.parent, folder.name
    wanted = split or SPLITS[0]
    base, sharp = folder / wanted, pictures(folder / "GT")
    parts = [base / name for name in _HIDE_PARTS] if wanted == "test" else [base]
    if not sharp or not all(part.is_dir() for part in parts):
        return None
    blurred = pictures(base)
    # Those of the other split are no lack of this one.
    own = {key: sharp[name] for key in blurred if (name := key.rpartition("/")[2]) in sharp}
    return Layout("HIDE", wanted, "", folder, blurred, own)


def _reds(folder: Path, split: str | None) -> Layout | None:
    """`val/val_blur/000/00000000.png` and `val/val_sharp/…`, or the same without the outer `val`."""
    for wanted in (split,) if split else REDS_SPLITS:
        if folders := reds_folders(folder, wanted):
            blurred, sharp = folders
            return Layout("REDS", wanted, "", blurred.parent, pictures(blurred), pictures(sharp))
    return None


def reds_folders(folder: Path, split: str) -> tuple[Path, Path] | None:
    """The folders of blurred and of sharp pictures of a split of REDS, `SPLIT_blur` and `SPLIT_sharp`.

    They lie in `folder`, or in `SPLIT` there, as the set unpacks; None where they do not.
    """
    for base in (folder, folder / split):
        blurred, sharp = base / f"{split}_blur", base / f"{split}_sharp"
        if blurred.is_dir() and sharp.is_dir():
            return blurred, sharp
    return None


def _gopro(folder: Path, split: str | None, variant: str | None) -> Layout:
    base, resolved = _split_folder(folder, split)
    name = folder.parent.name if folder.name in SPLITS else folder.name
    return Layout(name, resolved, *(_flat_layout(base, variant) or _sequence_layout(base, variant)))


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


def _flat_layout(base: Path, variant: str | None) -> tuple[str, Path, dict[str, Path], dict[str, Path]] | None:
    for sharp, candidates in _FLAT:
        there = [name for name in candidates if (base / name).is_dir()]
        if there and (base / sharp).is_dir():
            resolved = _variant(base, there, variant)
            return resolved, base, pictures(base / resolved), pictures(base / sharp)
    return None


def _sequence_layout(base: Path, variant: str | None) -> tuple[str, Path, dict[str, Path], dict[str, Path]]:
    parts = ("sharp", *_VARIANTS)
    sequences = [entry for entry in sorted(base.iterdir()) if any((entry / part).is_dir() for part in parts)]
    there = [name for name in _VARIANTS if any((sequence / name).is_dir() for sequence in sequences)]
    if not there:
        raise DatasetError(
            f"'{base}' holds no pairs in a layout of GOPRO (SEQUENCE/{{blur,sharp}}, {{input,target}}, {{blur,sharp}} "
            "or {blur,gt}), REDS, RealBlur, HIDE or Köhler; name any two folders by --blurred DIR --sharp DIR"
        )
    resolved = _variant(base, there, variant)
    blurred: dict[str, Path] = {}
    sharp: dict[str, Path] = {}
    for sequence in sequences:
        for found, part in ((blurred, resolved), (sharp, "sharp")):
            found.update({f"{sequence.name}/{key}": path for key, path in pictures(sequence / part).items()})
    return resolved, base, blurred, sharp


def _variant(base: Path, there: list[str], wanted: str | None) -> str:
    if there == ["input"] and wanted != "blur_gamma":
        return "input"
    resolved = wanted or "blur"
    if resolved not in there:
        raise DatasetError(f"'{base}' has no pictures '{resolved}', only '{there[0]}'; say which by --variant")
    return resolved
