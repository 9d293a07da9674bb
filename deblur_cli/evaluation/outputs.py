"""Where an evaluation writes: looked at before anything is scored, so that nothing is lost to a wrong name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from deblur_cli.errors import UsageError
from deblur_cli.evaluation.benchmark import saved_path
from deblur_cli.evaluation.datasets import Dataset
from deblur_cli.evaluation.elsewhere import RestoredPictures


def check_files(files: Mapping[str, Path | None], save: Path | None) -> None:
    """Raise UsageError unless each file can be made, and none of them is another or is in the way of `save`.

    Args:
        files: by the option that names it; None where it was not given.
        save: the folder of `--save`.
    """
    taken: dict[Path, str] = {}
    for option, path in files.items():
        if path is None:
            continue
        if str(path) == "-":
            raise UsageError(f"{option} takes a file; the table goes to standard output already")
        if path.is_dir():
            raise UsageError(f"'{path}' is a folder; name a file to write")
        if not path.parent.is_dir():
            raise UsageError(f"'{path}' has no folder to lie in; make '{path.parent}' first")
        resolved = path.resolve()
        if resolved in taken:
            raise UsageError(f"{taken[resolved]} and {option} are both '{path}'; name two files")
        if save is not None and save.resolve().is_relative_to(resolved):
            raise UsageError(f"{option} '{path}' is in the way of --save '{save}', which takes a folder")
        taken[resolved] = option


def check_inputs(
    files: Mapping[str, Path | None],
    dataset: Dataset,
    restored: Iterable[RestoredPictures] = (),
    weights: Iterable[Path] = (),
) -> None:
    """Raise UsageError where one of the `files` of `check_files` is one that is read: a picture of `dataset`, one that
    was `restored` elsewhere, or the `weights` of a network."""
    there = {path.resolve(): option for option, path in files.items() if path is not None and path.exists()}
    if not there:
        return
    for path in _scored(dataset, restored) | {path.resolve() for path in weights}:
        if option := there.get(path):
            raise UsageError(f"{option} would write over '{files[option]}', which is read; name another file")


def check_save(save: Path, dataset: Dataset) -> None:
    """Raise UsageError unless `save` can be a folder, and is none of those that are scored."""
    if save.exists() and not save.is_dir():
        raise UsageError(f"'{save}' is a file; --save takes a folder")
    for folder in dataset.folders:
        if save.resolve().is_relative_to(folder):
            raise UsageError(f"--save cannot be inside the pictures that are scored, '{folder}'")


def folders_for(
    save: Path,
    labels: Sequence[str],
    dataset: Dataset,
    files: Mapping[str, Path | None],
    restored: Iterable[RestoredPictures] = (),
) -> dict[str, Path]:
    """The folder of each network's pictures, by its label: no two are one, and no picture is a file that is scored,
    be it of `dataset` or of those that were `restored` elsewhere.

    Raises:
        UsageError: a picture that is scored, or a file of `check_files`, would be written over.
    """
    folders: dict[str, Path] = {}
    taken: set[str] = set()
    for label in sorted(labels):  # the same ones, in whatever order the networks were named
        plain = name = re.sub(r"[^\w.+-]", "-", label)
        number = 1
        while name.casefold() in taken:  # there are file systems that know no capitals
            number += 1
            name = f"{plain}-{number}"
        taken.add(name.casefold())
        folders[label] = save / name
    scored = _scored(dataset, restored)
    options = {path.resolve(): option for option, path in files.items() if path is not None}
    for folder in folders.values():
        if option := options.get(folder.resolve()):
            raise UsageError(f"{option} '{folder}' is in the way of --save, which makes a folder there")
        for target in (saved_path(folder, pair) for pair in dataset.pairs):
            if target.resolve() in scored:
                raise UsageError(f"--save {save} would write over '{target}', which is scored; name another folder")
            if option := options.get(target.resolve()):
                raise UsageError(f"{option} and --save would both write '{target}'; name another file")
    return folders


def _scored(dataset: Dataset, restored: Iterable[RestoredPictures]) -> set[Path]:
    """The files of the pictures that are scored, resolved."""
    files = {file.resolve() for pair in dataset.pairs for file in (pair.blurred, pair.sharp, *pair.frames)}
    return files | {file.resolve() for one in restored for file in one.files}
