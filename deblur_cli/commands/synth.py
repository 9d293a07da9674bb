"""`deblur synth`: make blurred and sharp pairs from sharp photos or high-speed clips."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deblur_cli.errors import EXIT_SOME_FAILED, DeblurError, DiskFullError, UsageError
from deblur_cli.words import counted

if TYPE_CHECKING:
    from torch import Tensor

SHOWN = 8
"""Pairs in the picture that --sheet writes."""
_STILLS = "photos"
"""The sequence that is none: pairs made of photos."""


def synth(
    inputs: Annotated[
        list[str], typer.Argument(metavar="PHOTOS_OR_CLIPS...", help="Files or folders of sharp material.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the pairs, in GOPRO's layout.")],
    count: Annotated[int, typer.Option("--count", min=1, help="Pairs to make of each photo.")] = 1,
    seed: Annotated[int, typer.Option("--seed", help="Another seed, other blur; the same seed, the same pairs.")] = 1,
    length: Annotated[
        tuple[float, float], typer.Option("--length", help="Shortest and longest path of the camera, in pixels.")
    ] = (2.0, 40.0),
    frames: Annotated[int, typer.Option("--frames", min=3, help="Frames of a clip averaged to one picture; odd.")] = 11,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", metavar="FILE.png", help="Also write a picture of the first pairs.")
    ] = None,
    clean: Annotated[
        bool, typer.Option("--clean", help="Motion blur alone: no defocus, noise or compression.")
    ] = False,
) -> None:
    """Make pairs as OUTPUT/train/SEQUENCE/{blur,sharp}/NAME.png.

    Photos are blurred by drawn camera shake; clips of 100 frames/s and more are averaged, as GOPRO was made. What was
    interrupted goes on when the same command is given again.
    """
    if not 0 < length[0] <= length[1]:
        raise UsageError(f"--length wants a shorter and a longer path above 0, not {length[0]} {length[1]}")
    if frames % 2 == 0:
        raise UsageError(f"--frames must be odd, so that there is a middle frame; {frames} is not")

    # The output folder is made when the first pair is written.
    if sheet and (
        sheet.suffix.lower() != ".png" or not (sheet.parent.is_dir() or sheet.parent.resolve() == output.resolve())
    ):
        raise UsageError(f"--sheet {sheet}: name a .png in a folder that is there")

    from dataclasses import replace

    from deblur_cli.commands.console import say
    from deblur_cli.media import clips as clip_files
    from deblur_cli.media.files import is_disk_full
    from deblur_cli.media.gather import gather_photos
    from deblur_cli.training.blur import BlurSettings
    from deblur_cli.training.pictures import contact_sheet, write_png
    from deblur_cli.training.synth import PairFolder, synthesise_clip, synthesise_photo

    # No foreground: the sharp picture of a pair is to be the photo that was given.
    blur = BlurSettings(length=length, foreground=0.0)
    if clean:
        blur = replace(blur, defocus=0.0, noise=0.0, jpeg=0.0)
    given = [Path(text) for text in inputs]
    clips = [path for path in given if path.suffix.lower() in clip_files.SUFFIXES]
    for folder in (path for path in given if path.is_dir()):
        clips += clip_files.clips_below(folder)
    stills = [text for text, path in zip(inputs, given, strict=True) if path not in clips]
    clips = list({path.resolve(): path for path in clips}.values())  # each once, however often it is named
    gathered = gather_photos(stills) if stills else None
    photos = [file.path for file in gathered.files] if gathered else []
    pairs = (output / "train").resolve()
    for source in gathered.folders if gathered else ():
        if pairs.is_relative_to(source.resolve()):
            raise UsageError(
                f"{output} lies in {source}, where the pairs would be taken for sharp photos the next time; "
                "take another folder"
            )
    if not photos and not clips:
        raise UsageError(f"there is no photo or video in {', '.join(inputs)}")
    if sheet and sheet.resolve() in {photo.resolve() for photo in photos}:
        raise UsageError(f"--sheet {sheet} would write over a photo that is given; name another file")
    names = set[str]()
    named = {_unused(photo.stem, names): photo for photo in photos}
    taken = {_STILLS}
    stills_folder = PairFolder(
        output / "train" / _STILLS,
        {
            "photos": {name: str(photo.absolute()) for name, photo in named.items()},
            "count": count,
            "seed": seed,
            "length": length,
            "clean": clean,
        },
    )
    clip_folders = [
        PairFolder(output / "train" / _unused(clip.stem, taken), {"clip": str(clip.absolute()), "frames": frames})
        for clip in clips
    ]
    folders = [*([stills_folder] if photos else []), *clip_folders]
    for each in folders:
        each.check()
    made = before = failed = 0
    shown: list[tuple[Tensor, Tensor]] = []

    def keep(make: Callable[[], tuple[Tensor, Tensor]], folder: PairFolder, name: str) -> None:
        nonlocal made, before
        there = folder.has(name)
        if not there or (sheet and len(shown) < SHOWN):
            pair = make()
            if not there:
                folder.write(*pair, name)
            if sheet and len(shown) < SHOWN:
                shown.append(pair)
        made += 1
        before += there

    @contextmanager
    def one_of_several() -> Iterator[None]:
        nonlocal failed
        try:
            yield
        except DeblurError as error:
            if len(photos) + len(clips) == 1:
                raise
            failed += 1
            say(f"failed: {error}")

    def make_all() -> None:
        for name, photo in named.items():
            with one_of_several():
                for number in range(count):
                    # Names that ended in numbers would say that one is the next frame of the other.
                    make = partial(synthesise_photo, photo, blur, seed, number)
                    keep(make, stills_folder, f"{name}_{number:03d}_still")
        for clip, folder in zip(clips, clip_folders, strict=True):
            with one_of_several():
                for number, pair in enumerate(synthesise_clip(clip, frames, say)):
                    keep(lambda pair=pair: pair, folder, f"{number:06d}")  # type: ignore[misc]

    try:
        make_all()
    except KeyboardInterrupt:
        if made:
            say(f"{counted(made, 'pair')} kept: the same command goes on")
        raise
    except OSError as error:
        if made and is_disk_full(error):
            raise DiskFullError(
                f"{error.filename}: {error.strerror}; {counted(made, 'pair')} kept: make room, and the same command "
                "goes on"
            ) from error
        raise
    if not failed:
        for each in folders:
            each.finish()
    if not made and not failed:
        raise UsageError(f"no clip has the {frames} frames that make a picture")
    if sheet and shown:
        write_png(sheet, contact_sheet(list(zip(*shown, strict=True))))
    of_before = f", {before} of them before" if before else ""
    failures = f", {counted(failed, 'file')} failed" if failed else ""
    typer.echo(f"{output}: {counted(made, 'pair')}{of_before}{failures}")
    if failed:
        raise typer.Exit(EXIT_SOME_FAILED)


def _unused(name: str, taken: set[str]) -> str:
    """`name`, or `name~2` and so on where files from other folders are called so, or differ in capitals only."""
    found = next(
        each
        for each in itertools.chain([name], (f"{name}~{number}" for number in itertools.count(2)))
        if each.lower() not in taken
    )
    taken.add(found.lower())
    return found
