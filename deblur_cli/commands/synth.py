"""`deblur synth`: make blurred and sharp pairs from sharp photos or high-speed clips."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deblur_cli.errors import EXIT_SOME_FAILED, DiskFullError, UsageError
from deblur_cli.words import counted

SHOWN = 8
"""Pairs in the picture that --sheet writes."""


def synth(
    inputs: Annotated[
        list[str], typer.Argument(metavar="PHOTOS_OR_CLIPS...", help="Files or folders of sharp material.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the pairs, in GOPRO's layout.")],
    count: Annotated[int, typer.Option("--count", min=1, help="Pairs to make of each photo.")] = 1,
    seed: Annotated[
        int,
        typer.Option(
            "--seed", help="The same seed, the same pairs. Give each split another: photos of one name get one blur."
        ),
    ] = 1,
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
    from deblur_cli.media.files import is_disk_full
    from deblur_cli.training.blur import BlurSettings
    from deblur_cli.training.pictures import contact_sheet, write_png
    from deblur_cli.training.synth import Material, Tally, make_pairs

    # No foreground: the sharp picture of a pair is to be the photo that was given.
    blur = BlurSettings(length=length, foreground=0.0)
    if clean:
        blur = replace(blur, defocus=0.0, noise=0.0, jpeg=0.0)
    photos, clips = _gathered(inputs, output)
    if sheet and sheet.resolve() in {photo.resolve() for photo in photos}:
        raise UsageError(f"--sheet {sheet} would write over a photo that is given; name another file")
    tally = Tally()
    try:
        material = Material(photos, clips, blur, count, seed, frames)
        make_pairs(material, output, tally, pictured=SHOWN if sheet else 0, tell=say)
    except KeyboardInterrupt:
        if tally.made:
            say(f"{counted(tally.made, 'pair')} kept: the same command goes on")
        raise
    except OSError as error:
        if tally.made and is_disk_full(error):
            raise DiskFullError(
                f"{error.filename}: {error.strerror}; {counted(tally.made, 'pair')} kept: make room, and the same "
                "command goes on"
            ) from error
        raise
    if not tally.made and not tally.failed:
        raise UsageError(f"no clip has the {frames} frames that make a picture")
    if sheet and tally.pictured:
        write_png(sheet, contact_sheet(list(zip(*tally.pictured, strict=True))))
    of_before = f", {tally.before} of them before" if tally.before else ""
    failures = f", {counted(tally.failed, 'file')} failed" if tally.failed else ""
    typer.echo(f"{output}: {counted(tally.made, 'pair')}{of_before}{failures}")
    if tally.failed:
        raise typer.Exit(EXIT_SOME_FAILED)


def _gathered(inputs: list[str], output: Path) -> tuple[list[Path], list[Path]]:
    """The photos and the clips that are given, in folders or by name, each once.

    Raises:
        UsageError: there are none, or the pairs would be put among them.
    """
    from deblur_cli.media import clips as clip_files
    from deblur_cli.media.gather import gather_photos

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
    return photos, clips
