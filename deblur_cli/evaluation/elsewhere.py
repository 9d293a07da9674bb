"""Pictures that another program restored, scored in a network's place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from deblur_cli.errors import DatasetError, PhotoError
from deblur_cli.evaluation.datasets import Dataset, Pair, listed, sequence_and_name, size_text
from deblur_cli.evaluation.layouts import pictures
from deblur_cli.evaluation.pictures import read_picture, read_size


class RestoredPictures:
    """The pictures of a folder by the pairs of a dataset; gives them out as `FrameRestorer` gives what it restores.

    A picture belongs to a pair by its sequence and name (`GOPR0384_11_00/000001.png`, as `deblur eval --save` writes
    them, or flattened, `GOPR0384_11_00-000001.png`), by the blurred picture's path in its dataset (as `deblur image
    GOPRO_Large -o DIR` writes them), or by its file's name where no two have the same; whichever of these most pictures
    agree with, and for all of them.

    Args:
        folder: where they lie, at any depth and with any ending.
        dataset: what they are scored on.
        device: where they are scored.
        whole: the set that `dataset` is a part of, which may have the same names elsewhere; None: it is whole.

    Raises:
        DatasetError: no such folder, or pairs without a picture, of another size or unreadable; lists the first ten.
    """

    timed = False
    """How long it took to restore them is not known (see `FrameRestorer.timed`)."""

    def __init__(self, folder: Path, dataset: Dataset, device: torch.device, whole: Dataset | None = None) -> None:
        self.folder = folder.resolve()
        self.device = device
        if not self.folder.is_dir():
            raise DatasetError(f"there is no folder '{self.folder}'")
        self._files = _matched(pictures(self.folder), dataset, whole or dataset)
        self._next: Tensor | None = None
        problems = [problem for pair in dataset.pairs if (problem := _problem(pair, self._files.get(pair)))]
        if problems:
            raise DatasetError(
                f"of {len(dataset.pairs)} pictures {len(problems)} are missing in '{self.folder}' or do not fit"
                f"{listed(problems, ': ')}; --limit and --sequence score a part"
            )

    @property
    def files(self) -> Collection[Path]:
        """The pictures of the pairs."""
        return self._files.values()

    def prepare(self, pair: Pair, blurred: Tensor) -> None:
        """Read the restored picture of a pair.

        Raises:
            PhotoError, DatasetError: it can no longer be read, or has another size now.
        """
        file = self._files[pair]
        image = torch.from_numpy(read_picture(file)).permute(2, 0, 1).unsqueeze(0)
        if image.shape != blurred.shape:
            raise DatasetError(f"'{pair.blurred}' and '{file}' are no longer of one size")
        self._next = image

    def restore(self, image: Tensor) -> Tensor:
        """The picture that was read last, 1×3×H×W in [0, 1], whatever the blurred one is."""
        assert self._next is not None
        restored, self._next = self._next, None
        return restored.to(image.device).float().div_(255)

    def forget(self) -> None:
        """Nothing is remembered from picture to picture."""


def _matched(files: Mapping[str, Path], dataset: Dataset, whole: Dataset) -> dict[Pair, Path]:
    """The files of the pairs that have one, by that way of naming under which most of them do."""
    base = dataset.folders[0]
    ways: list[tuple[Callable[[str], str], Callable[[Pair], str]]] = [
        (lambda key: "/".join(filter(None, sequence_and_name(key))), lambda pair: pair.label),
        # The layout's folder may be that of a split, inside the one that was restored.
        *((str, partial(_path_in, folder)) for folder in (base, base.parent)),
        (lambda key: key.rpartition("/")[2], lambda pair: pair.blurred.stem),
    ]
    return max((_by_name(files, dataset, whole, *way) for way in ways), key=len)


def _by_name(
    files: Mapping[str, Path],
    dataset: Dataset,
    whole: Dataset,
    name_of: Callable[[str], str],
    wanted: Callable[[Pair], str],
) -> dict[Pair, Path]:
    """Pairs and files of one name, which no other file has, and no other pair of the whole set."""
    names, sought = Counter(map(name_of, files)), Counter(map(wanted, whole.pairs))
    by_name = {name_of(key): file for key, file in files.items()}
    return {pair: by_name[name] for pair in dataset.pairs if names[name := wanted(pair)] == 1 and sought[name] == 1}


def _path_in(folder: Path, pair: Pair) -> str:
    """Where a pair's blurred picture lies in a folder, without its ending; empty where it does not."""
    return pair.blurred.relative_to(folder).with_suffix("").as_posix() if pair.blurred.is_relative_to(folder) else ""


def _problem(pair: Pair, file: Path | None) -> str | None:
    """Why the file cannot be scored as that pair's, in a few words; None where it can."""
    if file is None:
        return f"{pair.label} is missing, or there are several of its name"
    try:
        size = read_size(file)
    except PhotoError as error:
        return f"{pair.label} {error}"
    return None if size == pair.size else f"{pair.label} is {size_text(size)} and not {size_text(pair.size)}"
