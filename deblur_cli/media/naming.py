"""How outputs are called, and which format a name stands for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deblur_cli.errors import UsageError
from deblur_cli.media.formats import SUFFIXES, WRITABLE
from deblur_cli.media.gather import Found
from deblur_cli.media.materials import PHOTOS

RESTORED_SUFFIX = "_deblurred"
COMPARED_SUFFIX = "_compared"

Convert = Callable[[str], tuple[str, str | None]]
"""From a source's extension: its output's extension, and the format to write there (None: what the source's is)."""


@dataclass(frozen=True)
class Naming:
    """How targets are called: where they lie, what is put behind their names, and which extension they get."""

    folder: Path | None
    """The output folder; None: beside each source."""
    suffix: str
    convert: Convert

    def target(self, source: Found, *, whole_name: bool = False) -> tuple[Path, str | None]:
        """The target of `source`, and the format to write; `whole_name`: with the source's extension in the name."""
        extension, written = self.convert(source.path.suffix)
        stem = source.path.name if whole_name else source.path.stem
        parent = source.path.parent if self.folder is None else self.folder / source.relative.parent
        return parent / f"{stem}{self.suffix}{extension}", written


def photo_extension(forced: tuple[str | None, str | None]) -> Convert:
    """Photos keep their extension where their format can be written and no other (name, extension) is asked for."""
    written, extension = forced

    def convert(own: str) -> tuple[str, str | None]:
        known = SUFFIXES.get(own.lower())
        if written is None and known is not None and known not in WRITABLE:
            return ".png", "PNG"
        return (extension if extension is not None and known != written else own), written

    return convert


def parse_format(text: str) -> tuple[str, str]:
    """The name of a writable format and its extension, from what a user calls it (`jpg`, `.tif`, `PNG`).

    Raises:
        UsageError: there is no such format, or it cannot be written.
    """
    extension = "." + text.lower().lstrip(".")
    name = SUFFIXES.get(extension)
    if name not in WRITABLE:
        known = ", ".join(sorted(name.lower() for name in WRITABLE))
        raise UsageError(f"no photo can be written as '{text}'; the formats are {known}")
    return name, extension


def output_format(target: Path | None, format_name: str | None) -> str | None:
    """The format to write to the file `target` (None: a stream) where `--format` is `format_name`.

    The suffix of `target` says it otherwise; None: it says nothing, and the format is the source's own.

    Raises:
        UsageError: that format cannot be written, or the two contradict each other.
    """
    forced = parse_format(format_name)[0] if format_name else None
    suffix = "" if target is None else target.suffix.lower()
    named = SUFFIXES.get(suffix)
    if suffix in PHOTOS.unreadable or (named and named not in WRITABLE):
        parse_format(suffix)
    if forced and named and named != forced:
        raise UsageError(f"--format says {forced}, but --output '{target}' is {named}")
    return forced or named
