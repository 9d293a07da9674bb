"""What will be done, before anything is: files that were found → source, target and action for each.

Planning only asks `Disk` what lies where; it opens, makes and changes nothing, and the same question gets the same
answer. The rules by which targets are named:

1. Beside its source a target is called `NAME_deblurred.SUFFIX` (`NAME_compared.SUFFIX` for comparisons, or what
   `suffix` says); below an output folder it keeps its name, and the folders between it and the input folder.
2. A source that is in a format that can be read but not written (GIF) becomes a PNG; a video, an MKV.
3. Where several sources would get one name, the one that keeps its own extension has it, or else the first; every other
   keeps its whole name and gets the new extension behind it (`a.png` → `a.png`, `a.jpg` → `a.jpg.png`). Names that
   differ in capitals only count as one, because the output may lie on a file system to which they are one.
   Two sources of the very same name from different folders have no such way out: the later is refused. So is one that
   came to another by a later run, where what has its name may be the other's output.
4. No target is ever one of the sources: neither by name, nor through a link, nor as another name of the same file.
5. A file that is called like an output of another one that was found beside it is taken for that output, and not
   restored a second time. Where it was named by the user itself it is not overwritten either.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from deblur_cli.errors import UsageError
from deblur_cli.media.formats import SUFFIXES
from deblur_cli.media.frame_folders import is_replaceable
from deblur_cli.media.gather import Disk, Entry, Found, Gathered
from deblur_cli.media.materials import VIDEOS, video_extension
from deblur_cli.media.naming import (
    COMPARED_SUFFIX,
    RESTORED_SUFFIX,
    Convert,
    Naming,
    output_format,
    parse_format,
    photo_extension,
)

OWN_OUTPUT = "output of an earlier run"
EXISTS = "the output exists"

_LONGEST_NAME = 255
"""Bytes of a file's name that common file systems hold."""

Action = Literal["restore", "skip", "refuse"]


@dataclass(frozen=True)
class Item:
    """One source and what becomes of it."""

    source: Path
    target: Path | None
    """None where the source was refused before a target had been thought of."""
    action: Action
    reason: str = ""
    """Why it is skipped or refused."""
    format: str | None = None
    """The format to write (a name of `formats.WRITABLE`); None: the one that the source's content is in."""


@dataclass(frozen=True)
class Plan:
    """The items in the order of the inputs, naturally sorted within each; and what was passed over, kind → files."""

    items: tuple[Item, ...]
    ignored: Mapping[str, int] = field(default_factory=dict)
    empty: tuple[Path, ...] = ()
    """Input folders in which nothing was found."""

    def having(self, action: Action) -> list[Item]:
        """The items with this action."""
        return [item for item in self.items if item.action == action]


def plan_photos(
    gathered: Gathered,
    *,
    output: str | None = None,
    suffix: str | None = None,
    format_name: str | None = None,
    overwrite: bool = False,
    compare: bool = False,
    disk: Disk | None = None,
) -> Plan:
    """Give every photo that was found a target and an action, by the rules at the head of this module.

    Args:
        output: None (beside each source), a folder, or, for a single photo, a file. What does not exist yet is a file
            if it ends like a picture (`out.png`) and a folder otherwise; what ends in a slash is a folder.
        suffix: put behind the name of each target, before its extension.
        format_name: the format of all targets (`png`, `jpg`, ...); otherwise each keeps its own.
        overwrite: whether outputs that exist are made again; otherwise they are skipped.
        compare: whether the outputs are comparisons, which have another suffix by default.
        disk: the file system to ask.

    Raises:
        UsageError: the options contradict one another or the inputs.
    """
    disk = disk or Disk()
    forced = parse_format(format_name) if format_name else (None, None)
    convert = photo_extension(forced)
    if output is not None and _is_file(output, gathered, disk):
        return _single(gathered, output, suffix, output_format(Path(output), format_name), overwrite, disk)
    return _several(gathered, output, suffix, convert, overwrite, compare, disk)


def plan_videos(
    gathered: Gathered,
    *,
    output: str | None = None,
    suffix: str | None = None,
    codec: str = "auto",
    frames: Path | None = None,
    overwrite: bool = False,
    compare: bool = False,
    disk: Disk | None = None,
) -> Plan:
    """Give every video that was found a target and an action, by the rules at the head of this module.

    Args:
        output, suffix, overwrite, compare, disk: as for `plan_photos`.
        codec: `auto` or what is asked for: a source whose container does not hold it gets another.
        frames: the folder that the frames of the one video are written to as pictures, in place of a video.

    Raises:
        UsageError: the options contradict one another or the inputs.
    """
    disk = disk or Disk()
    if frames is not None:
        if output is not None or suffix is not None:
            raise UsageError("--frames names the folder of the pictures; --output and --suffix have nothing to do")
        if len(gathered.files) > 1:
            raise UsageError(f"--frames takes one video, and there are {len(gathered.files)}")
        items = [_frames_item(source, frames, overwrite, disk) for source in gathered.files]
        return Plan(tuple(items), gathered.ignored)
    if output is not None and not output.endswith(("/", "\\")) and not disk.entry(Path(output)):
        extension = Path(output).suffix
        if extension.lower() in SUFFIXES:
            raise UsageError(f"no video can be written as '{extension}'; pictures of its frames go to --frames DIR")
    if output is not None and _is_file(output, gathered, disk):
        extension = Path(output).suffix
        if video_extension(extension, codec) != extension:
            fitting = ", ".join(each for each in VIDEOS.formats if video_extension(each, codec) == each)
            of_codec = "" if codec == "auto" else f" with {codec} in it"
            raise UsageError(f"no video{of_codec} can be written as '{extension}'; take one of {fitting}")
        return _single(gathered, output, suffix, None, overwrite, disk)

    def convert(extension: str) -> tuple[str, str | None]:
        return video_extension(extension, codec), None

    return _several(gathered, output, suffix, convert, overwrite, compare, disk)


def _frames_item(source: Found, folder: Path, overwrite: bool, disk: Disk) -> Item:
    """What to do with the video `source` whose frames are to become pictures in `folder`."""
    entry, real = disk.entry(folder), disk.resolve(folder)
    if source.refusal:
        return Item(source.path, None, "refuse", source.refusal)
    if real == source.real or source.real in real.parents:
        return Item(source.path, folder, "refuse", f"the folder '{folder}' is the input, or lies in it")
    if entry and not entry.is_folder:
        return Item(source.path, folder, "refuse", f"'{folder}' is a file, not a folder for pictures")
    if entry and folder.is_mount():
        reason = f"'{folder}' is a mount point, which no other folder can take the place of; name a folder inside it"
        return Item(source.path, folder, "refuse", reason)
    if entry and any(folder.iterdir()):
        if not overwrite:
            return Item(source.path, folder, "skip", EXISTS)
        if not is_replaceable(folder):
            reason = f"the folder '{folder}' holds more than the frames of an earlier run"
            return Item(source.path, folder, "refuse", reason)
    if not disk.is_writable(folder.parent):
        return Item(source.path, folder, "refuse", f"the folder '{folder.parent}' cannot be written")
    return Item(source.path, folder, "restore")


def _single(
    gathered: Gathered, output: str, suffix: str | None, written: str | None, overwrite: bool, disk: Disk
) -> Plan:
    """The plan for one source and the file `output`."""
    if suffix:
        raise UsageError(f"--suffix has nothing to do where --output names a file ('{output}')")
    target, source = Path(output), gathered.files[0]
    single = _Assignment([source], [], Naming(target.parent, "", lambda own: (own, None)), overwrite, disk)
    return Plan((single.item(source, target, written),), gathered.ignored)


def _several(
    gathered: Gathered,
    output: str | None,
    suffix: str | None,
    convert: Convert,
    overwrite: bool,
    compare: bool,
    disk: Disk,
) -> Plan:
    """The plan for outputs beside their sources or below the folder `output`."""
    if suffix is not None and ("/" in suffix or "\\" in suffix or "\0" in suffix):
        raise UsageError(f"the suffix '{suffix}' holds a slash; use --output to name a folder")
    naming = _naming(output, suffix, convert, compare)
    shared = _shares_folder(gathered, naming, disk)
    if shared and not any(character.isalpha() for character in naming.suffix):
        raise UsageError(
            f"outputs beside the inputs need a suffix with a letter in it, not '{naming.suffix}'; "
            "give such a --suffix, or another folder as --output"
        )
    own_suffixes = {RESTORED_SUFFIX, COMPARED_SUFFIX} | ({naming.suffix} if shared else set())
    sources, outputs = _set_own_outputs_apart(gathered.files, own_suffixes)
    items = _Assignment(sources, outputs, naming, overwrite, disk).items()
    ignored = Counter(gathered.ignored)
    if outputs:
        ignored[OWN_OUTPUT] += len(outputs)
    return Plan(tuple(items), dict(ignored), gathered.empty)


def _naming(output: str | None, suffix: str | None, convert: Convert, compare: bool) -> Naming:
    if suffix is None:
        suffix = "" if output is not None else COMPARED_SUFFIX if compare else RESTORED_SUFFIX
    return Naming(None if output is None else Path(output), suffix, convert)


def _is_file(output: str, gathered: Gathered, disk: Disk) -> bool:
    """Whether `output` names a file; checks that it can be what it is."""
    path = Path(output)
    entry = disk.entry(path)
    if entry and entry.is_folder:
        return False
    for ancestor in path.parents:
        above = disk.entry(ancestor)
        if above:
            if not above.is_folder:
                raise UsageError(f"'{output}' cannot be made, because '{ancestor}' is a file")
            break
    material = gathered.material
    known = path.suffix.lower() in material.formats or path.suffix.lower() in material.unreadable
    if not entry and (output.endswith(("/", "\\")) or not known):
        return False
    if not gathered.files:  # which is for the caller to say
        return False
    if len(gathered.files) != 1 or gathered.folders:
        raise UsageError(
            f"'{output}' names a file, but the input is not a single {material.noun}; give a folder as --output"
        )
    return True


def _shares_folder(gathered: Gathered, naming: Naming, disk: Disk) -> bool:
    """Whether some outputs lie in the folder of their inputs."""
    if naming.folder is None:
        return True
    parents = {(naming.folder / found.relative.parent, found.real.parent) for found in gathered.files}
    return any(disk.resolve(target) == source for target, source in parents)


def _set_own_outputs_apart(files: Sequence[Found], suffixes: Iterable[str]) -> tuple[list[Found], list[Found]]:
    """Split into sources, and files called like an output of another file of the same folder."""
    names: set[tuple[Path, str]] = set()
    for found in files:
        if not found.refusal:
            names |= {(found.real.parent, found.real.stem), (found.real.parent, found.real.name)}

    def is_output(found: Found) -> bool:
        stem = found.real.stem
        return any(
            stem.endswith(suffix) and (found.real.parent, stem.removesuffix(suffix)) in names for suffix in suffixes
        )

    return [found for found in files if not is_output(found)], [found for found in files if is_output(found)]


class _Assignment:
    """Gives targets to sources so that no two share one and none is a source."""

    def __init__(
        self, sources: Sequence[Found], outputs: Sequence[Found], naming: Naming, overwrite: bool, disk: Disk
    ) -> None:
        self.sources = sources
        self.naming = naming
        self.overwrite = overwrite
        self.disk = disk
        self._folders: dict[Path, Path] = {}
        self._writable: dict[Path, bool] = {}
        self._source_names = {_folded(source.real) for source in sources}
        self._source_identities = {source.identity for source in sources if source.identity}
        self._named_outputs = {found.identity for found in outputs if found.named and found.identity}
        # Sources that differ in capitals only prove that capitals count where they lie, and so for outputs beside them.
        capitals_count = naming.folder is None and len(self._source_names) < len(sources)
        self._key: Callable[[Path], str] = str if capitals_count else _folded

    def items(self) -> list[Item]:
        """An item for each source, in their order."""
        owners: dict[str, Found] = {}
        items: dict[Path, Item] = {}
        wanting = [source for source in self.sources if not source.refusal]
        plain = {source.real: self.naming.target(source) for source in wanting}
        later = []
        # Sources that keep their extension come first; the sort keeps the order within both groups.
        for source in sorted(wanting, key=lambda source: plain[source.real][0].suffix != source.path.suffix):
            target, written = plain[source.real]
            if owners.setdefault(self._target_key(target), source) is source:
                items[source.real] = self.item(source, target, written)
            else:
                later.append(source)
        for source in later:
            owner = owners[self._target_key(plain[source.real][0])]
            target, written = self.naming.target(source, whole_name=True)
            if owner.path.name != source.path.name and self._target_key(target) not in owners:
                owners[self._target_key(target)] = source
                items[source.real] = self.item(source, target, written)
                if not self.disk.entry(target):
                    items[owner.real] = self._in_doubt(items[owner.real], source)
            else:
                reason = f"'{owner.path}' would be written to the same file; restore one of them to another folder"
                items[source.real] = Item(source.path, None, "refuse", reason)
        for source in self.sources:
            if source.refusal:
                items[source.real] = Item(source.path, None, "refuse", source.refusal)
        return [items[source.real] for source in self.sources]

    def _in_doubt(self, item: Item, other: Found) -> Item:
        """`item`, refused if its output is there: without one of `other` under its whole name, that may be of `other`,
        which has the plain name where it is alone."""
        if item.reason != EXISTS:
            return item
        reason = f"'{item.target}' may be of '{other.path.name}' by an earlier run; remove it, or give --overwrite"
        return Item(item.source, item.target, "refuse", reason)

    def item(self, source: Found, target: Path, written: str | None) -> Item:
        """What to do with `source`, given that `target` is its own and `written` the format to write."""
        if source.refusal:
            return Item(source.path, None, "refuse", source.refusal)
        entry = self.disk.entry(target)
        if self._is_source(target, entry):
            reason = f"its output '{target}' would be an input; give another --output or --suffix"
            return Item(source.path, None, "refuse", reason)
        if entry and entry.is_folder:
            return Item(source.path, target, "refuse", f"a folder is in the way of its output '{target}'")
        if entry and not self.overwrite:
            return Item(source.path, target, "skip", EXISTS)
        if entry and entry.identity in self._named_outputs:
            reason = f"its output '{target}' is named as an input itself; name the folder or the sources alone"
            return Item(source.path, target, "refuse", reason)
        if len(os.fsencode(target.name)) > _LONGEST_NAME:
            reason = f"the name of its output, '{target.name[:20]}…', would be too long; give another --output"
            return Item(source.path, target, "refuse", reason)
        if not self._is_writable(target.parent):
            return Item(source.path, target, "refuse", f"the folder '{target.parent}' cannot be written")
        return Item(source.path, target, "restore", format=written)

    def _is_source(self, target: Path, entry: Entry | None) -> bool:
        if entry and entry.identity in self._source_identities:
            return True
        return _folded(self._real(target)) in self._source_names

    def _is_writable(self, folder: Path) -> bool:
        if folder not in self._writable:
            self._writable[folder] = self.disk.is_writable(folder)
        return self._writable[folder]

    def _target_key(self, target: Path) -> str:
        return self._key(self._real(target))

    def _real(self, target: Path) -> Path:
        if target.parent not in self._folders:
            self._folders[target.parent] = self.disk.resolve(target.parent)
        return self._folders[target.parent] / target.name


def _folded(path: Path) -> str:
    """The path as a file system without a difference between capitals, or between ways to compose accents, sees it."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", str(path)).casefold())
