"""What a user points at (folders of photos, of clips, a dataset) → sources to draw from and sets to validate on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from deblur_cli.errors import DatasetError, PhotoError
from deblur_cli.evaluation.datasets import Dataset, Pair, find_pairs, pair_folders
from deblur_cli.evaluation.layouts import reds_folders
from deblur_cli.media import clips
from deblur_cli.media.gather import gather_photos
from deblur_cli.restoration.memory import available_memory
from deblur_cli.training.data import (
    ClipSource,
    PhotoSource,
    Source,
    load_clips,
    load_photos,
    load_picture,
)
from deblur_cli.training.pairs import usable_pairs
from deblur_cli.training.pool import PoolSettings
from deblur_cli.training.recipe import Recipe
from deblur_cli.training.validation import ValidationSet, Validator, paired_set, synthetic_set
from models import model_info

HELD_OUT = 20
"""Every 20th photo, by sorted name, is validated on and never trained on; where none of them can be, the first that
can."""
_VALIDATED = 256
"""Shorter side in pixels that a photo needs to be validated on."""
_REDS_SPLITS = {"train": "train", "test": "val"}
"""What REDS calls the splits that are trained and validated on (Nah et al., CVPR workshops 2019)."""


@dataclass(frozen=True)
class TrainingFiles:
    """The files of a run."""

    photos: tuple[Path, ...] = ()
    held_out: tuple[Path, ...] = ()
    """Those of the photos that are validated on and never trained on."""
    clips: tuple[Path, ...] = ()
    pairs: tuple[Pair, ...] = ()
    validation: tuple[Pair, ...] = ()
    """Never trained on."""


def find_files(
    *,
    photos: Path | None = None,
    clips_folder: Path | None = None,
    data: Path | None = None,
    validation: Path | None = None,
) -> TrainingFiles:
    """Look up what the folders hold. `data` and `validation` are datasets in one of GOPRO's layouts or REDS's.

    Raises:
        DatasetError, UsageError: a folder is missing or holds nothing to train on.
    """
    if photos is None and clips_folder is None and data is None:
        raise DatasetError("nothing to train on: give --data GOPRO_DIR, --photos DIR or --clips DIR")
    found_photos = [file.path for file in gather_photos([str(photos)]).files] if photos else []
    if photos and not found_photos:
        raise DatasetError(f"there is no photo in {photos}")
    if len(found_photos) == 1 and data is None and clips_folder is None:
        raise DatasetError(f"the photo in {photos} would be held out to validate on; give at least two")
    sorted_photos = tuple(sorted(found_photos))
    files = TrainingFiles(
        photos=sorted_photos,
        held_out=_held_out(sorted_photos),
        clips=_clips_below(clips_folder) if clips_folder else (),
        pairs=_dataset(data, "train").pairs if data else (),
        validation=_dataset(validation, "test").pairs if validation else (),
    )
    if set(_paths(files.pairs)) & set(_paths(files.validation)):
        raise DatasetError(
            f"--data and --validation are the same pairs, of {data}, which has no splits; keep some apart"
        )
    return files


def load_sources(
    files: TrainingFiles,
    pool: PoolSettings,
    device: torch.device,
    frames: int = 1,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Source]:
    """Read what a run draws from into memory: the device's, where it takes a quarter of that at most, else the host's.

    Pairs from disk stay there until they are drawn. `pool` is what will draw from them, `frames` the length of the
    sequences; `tell` hears of what cannot be used and is left out.

    Raises:
        DatasetError: nothing is left of the photos, the clips or the pairs, or no pairs follow each other as frames of
            a sequence do.
    """
    sources: list[Source] = []
    fast, stills = load_clips(files.clips, frames, pool.averaged_from, tell)
    held_out = set(files.held_out)
    training = [file for file in files.photos if file not in held_out]
    fast, stills = ([one for one in several if min(one.shape[-2:]) >= pool.size] for several in (fast, stills))
    if files.clips and not (fast or stills):
        raise DatasetError(f"no clip of at least {pool.size} pixels to train on")
    pictures = [*(load_photos(training, pool.size, tell=tell) if training else []), *stills]
    if sum(one.numel() for one in (*fast, *pictures)) < available_memory(device) // 4:
        fast, pictures = ([one.to(device) for one in several] for several in (fast, pictures))
    if fast:
        sources += [ClipSource(fast), PhotoSource([frame for clip in fast for frame in clip], "stills")]
    if pictures:
        sources.append(PhotoSource(pictures))
    if files.pairs:
        sources.append(usable_pairs(files.pairs, pool.size, frames, tell))
    return sources


def load_validator(
    files: TrainingFiles, recipe: Recipe, device: torch.device, tell: Callable[[str], None] = lambda line: None
) -> Validator | None:
    """The sets that a run is validated on, or None where there are none; held-out photos get its last stage's blur."""
    sets: list[ValidationSet] = []
    if files.held_out:
        held_out = PhotoSource(
            load_photos(files.held_out, _VALIDATED, "validate on (every 20th by name is held out)", tell)
        )
        sets.append(synthetic_set(held_out, recipe.stages[-1].blur, frames=recipe.frames))
    if files.validation:
        sets.append(paired_set("pairs", _paths(files.validation), recipe.frames))
    multiple_of = model_info(recipe.model).for_options(recipe.options).multiple_of
    return Validator(sets, device, multiple_of) if sets else None


def _clips_below(folder: Path) -> tuple[Path, ...]:
    if folder.is_file():
        return (folder,)
    if not folder.is_dir():
        raise DatasetError(f"there is no folder {folder}")
    found = clips.clips_below(folder)
    if not found:
        raise DatasetError(f"there is no video in {folder}")
    return tuple(found)


def _held_out(photos: tuple[Path, ...]) -> tuple[Path, ...]:
    """The photos to validate on: every 20th, or the first that can be if none of these can."""
    regular = photos[::HELD_OUT]
    usable = next(filter(_can_be_validated_on, (*regular, *photos)), None)
    return regular if usable is None or usable in regular else (usable,)


def _can_be_validated_on(photo: Path) -> bool:
    try:
        return min(load_picture(photo).shape[1:]) >= _VALIDATED
    except PhotoError:
        return False


def _paths(pairs: Iterable[Pair]) -> list[tuple[Path, Path]]:
    return [(pair.blurred, pair.sharp) for pair in pairs]


def _dataset(folder: Path, split: str) -> Dataset:
    """The pairs of a split, `train` or `test`, of a dataset; of REDS, the split that stands for it."""
    if folders := reds_folders(folder, _REDS_SPLITS[split]):
        return pair_folders(*folders)
    return find_pairs(folder, split=split)
