"""The one step of planning that looks at the file system: inputs as the user wrote them → the files they stand for.

What is found is put into an order that does not depend on the order in which the file system lists it.
"""

from __future__ import annotations

import glob
import itertools
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from deblur_cli.errors import UsageError
from deblur_cli.media.files import is_temporary
from deblur_cli.media.frame_folders import is_frame_folder
from deblur_cli.media.materials import PHOTOS, VIDEOS, Material

HIDDEN = "hidden"
TEMPORARY = "unfinished output of an earlier run"
NOT_A_PHOTO = PHOTOS.not_one
LINKED_FOLDER = "linked folder, not followed"
GIVEN_TWICE = "given more than once"
OUTPUT_FOLDER = "the output folder"


@dataclass(frozen=True)
class Found:
    """A file that an input stands for."""

    path: Path
    """As the user would write it: the input itself, or the input and what lies below it."""
    relative: PurePath
    """Its place below an output folder: the file's name, after the folders between it and the input folder."""
    real: Path
    """The absolute path with every link among its folders resolved; the last part is left as it is."""
    identity: tuple[int, int] | None = None
    """Device and inode of what is there in the end; the same for a file, its links and its other spellings."""
    named: bool = False
    """Whether the user named this very file (or a pattern that the shell expanded did)."""
    refusal: str = ""
    """Why it cannot be restored, where that is known without opening it."""


@dataclass(frozen=True)
class Gathered:
    """Everything that the inputs stand for, in order; and what was passed over, as kind → number of files."""

    files: tuple[Found, ...]
    ignored: Mapping[str, int] = field(default_factory=dict)
    empty: tuple[Path, ...] = ()
    """Input folders in which nothing was found."""
    folders: tuple[Path, ...] = ()
    """The input folders themselves, as given, but those that are one input each (numbered pictures of a video)."""
    material: Material = PHOTOS
    """What was looked for."""


@dataclass(frozen=True)
class Entry:
    """What lies at a path: device and inode behind all links (a dangling link's own), and whether it is a folder."""

    identity: tuple[int, int]
    is_folder: bool = False


class Disk:
    """The file system, as far as a plan needs to ask it; tests put an imaginary one in its place."""

    def entry(self, path: Path) -> Entry | None:
        """What lies at `path`, or None."""
        try:
            return _entry(path.stat())
        except OSError:
            # Nothing there, a link that leads nowhere, or a path that cannot be (too long, a file among its folders).
            # In the last case writing will fail, and say so.
            try:
                return _entry(path.lstat())
            except OSError:
                return None

    def is_writable(self, folder: Path) -> bool:
        """Whether files can be put into `folder`, or, where it does not exist, whether it can be made."""
        existing = next((each for each in (folder, *folder.parents) if self.entry(each)), folder)
        return os.access(existing, os.W_OK | os.X_OK)

    def resolve(self, folder: Path) -> Path:
        """The absolute path of `folder`, which need not exist, with all links resolved."""
        return Path(os.path.realpath(folder))


def natural_key(path: PurePath) -> tuple[tuple[list[str | int], str], ...]:
    """Sorting key under which `a2` comes before `a10`, and a capital beside its small letter."""
    return tuple((_natural(part), part) for part in path.parts)


def gather_photos(inputs: Sequence[str], *, output: Path | None = None) -> Gathered:
    """Find the photos that `inputs` stand for: files, folders (searched whole, the tree is kept) and glob patterns.

    Files named in the inputs are taken whatever their suffix; in folders and behind patterns the suffix decides
    (`formats.SUFFIXES`). Hidden files, temporary files and the folder `output`, if it lies inside an input, is matched
    by a pattern or is one of several inputs, are passed over and counted; linked folders inside an input are not
    followed, so that a loop of links cannot hang the search. A file reached twice is taken once. Where several inputs
    are folders, each keeps its name below an output folder.

    Raises:
        UsageError: an input does not exist, a pattern matches nothing, a folder cannot be opened.
    """
    return _gather(inputs, output, PHOTOS)


def gather_videos(inputs: Sequence[str], *, output: Path | None = None) -> Gathered:
    """Find the videos that `inputs` stand for, as `gather_photos` does; a folder of numbered pictures is one, too.

    Raises:
        UsageError: as `gather_photos`.
    """
    return _gather(inputs, output, VIDEOS)


def _gather(inputs: Sequence[str], output: Path | None, material: Material) -> Gathered:
    search = _Search(None if output is None else Path(os.path.realpath(output)), material)
    expanded = [match for text in inputs for match in _expand(text)]
    sequences = {path for path, _, _ in expanded if material.sequences and is_frame_folder(path)}
    outputs = {
        path for path, _, _ in expanded if path not in sequences and _leads_to_folder(path) and search.is_output(path)
    }
    if all(path in outputs for path, _, _ in expanded):  # nothing else is asked for
        outputs = set()
    folders = [path for path, _, _ in expanded if _leads_to_folder(path) and path not in sequences | outputs]
    for path, relative, matched in expanded:
        if path in sequences:
            whole = _with_a_name(path)
            search.take_file(whole, PurePath(whole.name), named=True, is_whole=True)
        elif path in outputs or search.lies_in_output(path, matched):
            search.ignored[OUTPUT_FOLDER] += 1
        elif _leads_to_folder(path):
            search.take_folder(path, keep_name=len(folders) > 1)
        elif not matched:
            search.take_file(path, relative, named=True)
        elif search.looks_right(path):
            search.take_file(path, relative, refusal=search.refusal(path))
    return Gathered(tuple(search.files), dict(search.ignored), tuple(search.empty), tuple(folders), material)


def _expand(text: str) -> list[tuple[Path, PurePath, int]]:
    """The paths that one input stands for, each with its place below an output folder and how many of its last parts a
    pattern matched: 0 where it was named."""
    path = Path(text)
    if os.path.lexists(path):  # before any thought of patterns: `IMG[1].jpg` is a file name
        return [(path, PurePath(path.name), 0)]
    if not glob.has_magic(text):
        raise UsageError(f"there is no file or folder '{text}'")
    # Not Path.glob, which takes no pattern that begins at the root.
    matches = sorted((Path(match) for match in glob.glob(text, recursive=True)), key=natural_key)  # noqa: PTH207
    if not matches:
        raise UsageError(f"nothing matches '{text}'")
    fixed = len(list(itertools.takewhile(lambda part: not glob.has_magic(part), path.parts)))
    if "**" not in path.parts:
        return [(match, PurePath(match.name), len(match.parts) - fixed) for match in matches]
    # Folders match `**` too, but so does all that is in them; the tree below the fixed part of the pattern is kept.
    found = [(match, PurePath(*match.parts[fixed:])) for match in matches if not _leads_to_folder(match)]
    return [(match, relative, len(relative.parts)) for match, relative in found]


def _with_a_name(folder: Path) -> Path:
    """The folder as written, or, where that ends in no name (`.`, `..`), its resolved path."""
    return folder if folder.name not in {"", ".."} else Path(os.path.realpath(folder))


class _Search:
    def __init__(self, output: Path | None, material: Material) -> None:
        self.output = output
        self.material = material
        self.files: list[Found] = []
        self.ignored: Counter[str] = Counter()
        self.empty: list[Path] = []
        self._seen: set[Path] = set()

    def is_output(self, folder: Path) -> bool:
        """Whether `folder` is the output folder, however it is written."""
        return self.output is not None and Path(os.path.realpath(folder)) == self.output

    def lies_in_output(self, path: Path, matched: int) -> bool:
        """Whether a folder among the last `matched` parts of `path` is the output folder."""
        return any(map(self.is_output, itertools.islice(path.parents, max(0, matched - 1))))

    def take_folder(self, root: Path, *, keep_name: bool) -> None:
        real_root = Path(os.path.realpath(root))
        prefix = PurePath(real_root.name) if keep_name else PurePath()
        before = len(self.files) + self.ignored[GIVEN_TWICE]
        found = sorted(self._walk(root, real_root), key=lambda pair: natural_key(pair[0]))
        for relative, refusal in found:
            self.take_file(root / relative, prefix / relative, refusal=refusal)
        if len(self.files) + self.ignored[GIVEN_TWICE] == before:
            self.empty.append(root)

    def take_file(
        self, path: Path, relative: PurePath, *, named: bool = False, refusal: str = "", is_whole: bool = False
    ) -> None:
        """Take a file, or (`is_whole`) a folder that stands for one."""
        if is_temporary(path):
            self.ignored[TEMPORARY] += 1
            return
        real = Path(os.path.realpath(path.parent)) / path.name
        if real in self._seen:
            self.ignored[GIVEN_TWICE] += 1
            return
        self._seen.add(real)
        entry = Disk().entry(path)
        if not refusal and not is_whole:
            refusal = self._no_file(path)
        identity = entry.identity if entry else None
        self.files.append(Found(path, relative, real, identity, named, refusal))

    def _no_file(self, path: Path) -> str:
        """Why what lies at `path` cannot be read as a file; empty: it can."""
        try:
            regular = stat.S_ISREG(path.stat().st_mode)
        except PermissionError as error:
            return f"cannot be reached: {error.strerror}"
        except OSError as error:
            return "is a link that leads nowhere" if path.is_symlink() else f"is gone: {error.strerror}"
        stream = "; use - to read a stream" if self.material is PHOTOS else ""
        return "" if regular else f"is no regular file{stream}"

    def looks_right(self, path: Path) -> bool:
        """Whether a file that nobody named is taken; the others are counted."""
        suffix = path.suffix.lower()
        if is_temporary(path):
            self.ignored[TEMPORARY] += 1
        elif path.name.startswith("."):
            self.ignored[HIDDEN] += 1
        elif suffix not in self.material.formats and suffix not in self.material.unreadable:
            self.ignored[self.material.not_one] += 1
        else:
            return True
        return False

    def refusal(self, path: PurePath) -> str:
        """Why a file that nobody named is refused; empty: it is not."""
        suffix = path.suffix.lower()
        return "" if suffix in self.material.formats else f"{suffix[1:].upper()} is not a format that can be read"

    def _walk(self, root: Path, real_root: Path) -> Iterator[tuple[PurePath, str]]:
        """The files below `root`, relative to it, each with the reason why it is refused or nothing."""
        waiting = [PurePath()]
        while waiting:
            relative = waiting.pop()
            try:
                with os.scandir(root / relative) as listing:
                    entries = list(listing)
            except OSError as error:
                problem = f"cannot be opened: {error.strerror or error}"
                if relative == PurePath():
                    raise UsageError(f"the folder '{root}' {problem}") from error
                yield relative, problem
                continue
            for entry in entries:
                below = relative / entry.name
                if not _is_folder(entry):
                    if self.looks_right(Path(entry.path)):
                        yield below, self.refusal(below)
                elif entry.name.startswith("."):
                    self.ignored[HIDDEN] += 1
                elif entry.is_symlink():
                    self.ignored[LINKED_FOLDER] += 1
                elif real_root / below == self.output:
                    self.ignored[OUTPUT_FOLDER] += 1
                else:
                    waiting.append(below)


def _entry(status: os.stat_result) -> Entry:
    return Entry((status.st_dev, status.st_ino), stat.S_ISDIR(status.st_mode))


def _leads_to_folder(path: Path) -> bool:
    entry = Disk().entry(path)  # which raises nothing where a link leads to where nobody may look
    return entry is not None and entry.is_folder


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _natural(text: str) -> list[str | int]:
    # Splitting by a group puts the digits at the odd places, so that numbers only ever meet numbers.
    return [int(part) if place % 2 else part for place, part in enumerate(re.split(r"([0-9]+)", text.casefold()))]
