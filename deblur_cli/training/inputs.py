"""What a user points at (folders of photos, of clips, a dataset) → sources to draw from and sets to validate on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from deblur_cli.errors import DatasetError
from deblur_cli.evaluation.datasets import Dataset, find_pairs, pair_folders
from deblur_cli.media import clips
from deblur_cli.media.gather import gather_photos
from deblur_cli.restoration.device import available_memory
from deblur_cli.training.data import ClipSource, PairSource, PhotoSource, PoolSettings, Source, load_clips, load_photos
from deblur_cli.training.recipe import Recipe
from deblur_cli.training.validation import ValidationSet, Validator, paired_set, synthetic_set
from models import model_info

HELD_OUT = 20
"""Every 20th photo, by sorted name, is validated on and never trained on."""
REDS_SPLITS = {"train": "train", "test": "val"}
"""What REDS calls the splits that are trained and validated on (Nah et al., CVPR workshops 2019)."""


@dataclass(frozen=True)
class TrainingFiles:
    """The files of a run."""

    photos: tuple[Path, ...] = ()
    clips: tuple[Path, ...] = ()
    pairs: tuple[tuple[Path, Path], ...] = ()
    """Blurred and sharp."""
    validation: tuple[tuple[Path, Path], ...] = ()
    """Blurred and sharp, never trained on."""


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
    files = TrainingFiles(
        photos=tuple(sorted(found_photos)),
        clips=_clips_below(clips_folder) if clips_folder else (),
        pairs=_pairs_of(data, "train") if data else (),
        validation=_pairs_of(validation, "test") if validation else (),
    )
    if set(files.pairs) & set(files.validation):
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
    sequences; `tell` hears of photos that cannot be read.

    Raises:
        DatasetError: a file cannot be used, or no pairs follow each other as frames of a sequence do.
    """
    sources: list[Source] = []
    fast, stills = load_clips(files.clips, frames, pool.averaged_from)
    training = [file for number, file in enumerate(files.photos) if number % HELD_OUT]
    fast, stills = ([one for one in several if min(one.shape[-2:]) >= pool.size] for several in (fast, stills))
    if files.clips and not (fast or stills):
        raise DatasetError(f"no clip of at least {pool.size} pixels to train on")
    pictures = [*(load_photos(training, pool.size, tell=tell) if training else []), *stills]
    if sum(one.numel() for one in (*fast, *pictures)) < available_memory(device) // 4:
        fast, pictures = ([one.to(device) for one in several] for several in (fast, pictures))
    if fast:
        sources.append(ClipSource(fast))
    if pictures:
        sources.append(PhotoSource(pictures))
    if files.pairs:
        pairs = PairSource(files.pairs)
        pairs.sequences(frames)  # or the run would find out when it draws the first
        sources.append(pairs)
    return sources


def load_validator(
    files: TrainingFiles, recipe: Recipe, device: torch.device, tell: Callable[[str], None] = lambda line: None
) -> Validator | None:
    """The sets that a run is validated on, or None where there are none; held-out photos get its last stage's blur."""
    sets: list[ValidationSet] = []
    if files.photos:
        held_out = PhotoSource(
            load_photos(files.photos[::HELD_OUT], 256, "validate on (every 20th by name is held out)", tell)
        )
        sets.append(synthetic_set(held_out, recipe.stages[-1].blur, frames=recipe.frames))
    if files.validation:
        sets.append(paired_set("pairs", files.validation, recipe.frames))
    multiple_of = model_info(recipe.model).for_options(recipe.options).multiple_of
    return Validator(sets, device, multiple_of) if sets else None


def _clips_below(folder: Path) -> tuple[Path, ...]:
    if folder.is_file():
        return (folder,)
    if not folder.is_dir():
        raise DatasetError(f"there is no folder {folder}")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in clips.SUFFIXES)
    if not found:
        raise DatasetError(f"there is no video in {folder}")
    return tuple(found)


def _pairs_of(folder: Path, split: str) -> tuple[tuple[Path, Path], ...]:
    return tuple((pair.blurred, pair.sharp) for pair in _dataset(folder, split).pairs)


def _dataset(folder: Path, split: str) -> Dataset:
    """The pairs of a dataset; REDS has `train_blur/000/00000000.png` and `train_sharp/…`, in `train/` as it unpacks."""
    name = REDS_SPLITS[split]
    for base in (folder, folder / name):
        blurred, sharp = base / f"{name}_blur", base / f"{name}_sharp"
        if blurred.is_dir() and sharp.is_dir():
            return pair_folders(blurred, sharp)
    return find_pairs(folder, split=split)
