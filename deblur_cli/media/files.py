"""Files that are whole or not there: a temporary beside the target, synchronised to the disk, then renamed."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from deblur_cli.errors import DiskFullError

_END = ".part"


def temporary_name(target: Path) -> Path:
    """A new name beside `target` for what is being written: `.NAME.xxxxxxxx.part`, recognised by `is_temporary`."""
    return target.with_name(f".{_shortened(target.name)}.{secrets.token_hex(4)}{_END}")


def is_temporary(path: Path, target: Path | None = None) -> bool:
    """Whether `path` is a temporary of ours that a killed run left behind; with `target`, one of that target's."""
    stem, _, token = path.name.removesuffix(_END).rpartition(".")
    ours = (
        path.name.startswith(".")
        and path.name.endswith(_END)
        and len(stem) > 1
        and len(token) == 8
        and all(digit in "0123456789abcdef" for digit in token)
    )
    if target is None or not ours:
        return ours
    return path.parent == target.parent and stem[1:] == _shortened(target.name)


def remove_stale(targets: Iterable[Path]) -> int:
    """Remove what a killed run left half-written for these targets; returns how many files that were.

    What is being written by `replacing`, by whatever process, is left alone, and so are the temporary files of other
    targets in the same folders.
    """
    by_folder: dict[Path, list[Path]] = {}
    for target in targets:
        by_folder.setdefault(target.parent, []).append(target)
    removed = 0
    for folder, expected in by_folder.items():
        try:
            leftovers = [path for path in folder.iterdir() if is_temporary(path)]
        except OSError:  # no such folder, or none that may be listed
            continue
        for path in leftovers:
            # Whoever was writing it has finished meanwhile, or it is another user's.
            with suppress(FileNotFoundError, PermissionError):
                if any(is_temporary(path, target) for target in expected) and not _is_being_written(path):
                    path.unlink()
                    removed += 1
    return removed


def lock(descriptor: int) -> bool:
    """Lock an open file until it is closed, or its process gone; whether nobody else had done so.

    Nobody has where the system, or the file system (some network drives), knows no such locks.
    """
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN)
    return True


def _is_being_written(path: Path) -> bool:
    with path.open("rb") as stream:
        return not lock(stream.fileno())


def _shortened(name: str) -> str:
    """The end of `name` that leaves room for ours: most file systems allow 255 bytes, and a temporary adds 15."""
    while len(os.fsencode(name)) > 255 - 15:
        name = name[1:]
    return name


def is_disk_full(error: BaseException | None) -> bool:
    """Whether a full disk, or a quota used up, is the error or the cause of it."""
    while error is not None:
        if isinstance(error, DiskFullError) or (
            isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        ):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def replacing(target: Path) -> Iterator[BinaryIO]:
    """A binary stream whose content becomes `target` in one step when the block ends without an error.

    The stream goes to a temporary beside the target, which is synchronised to the disk and renamed over the target.
    On any error, an interruption among them, the temporary is removed and the target is as it was. Permissions
    follow the umask. The folder must exist. What is no regular file (`/dev/null`, `/dev/stdout`, a named pipe) is
    written to as it is.

    Raises:
        OSError: the folder cannot be written, or the disk is full; it names `target`.
    """
    if target.exists() and not target.is_file():
        with target.open("wb") as stream:
            yield stream
        return
    temporary = temporary_name(target)
    try:
        with temporary.open("xb") as stream:
            lock(stream.fileno())  # which tells it from what a killed run left behind
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            if os.name != "nt":  # while it is locked, or it might be taken for a leftover
                temporary.replace(target)
        if os.name == "nt":  # where no open file is renamed
            temporary.replace(target)
    except BaseException as error:
        with suppress(OSError):  # of a disk that may be written no more, of which `error` tells
            temporary.unlink()
        # What a stream raises names no file, and what opening and renaming raise one that the user does not know.
        if isinstance(error, OSError) and error.errno and error.filename in (None, str(temporary)):
            error.filename, error.filename2 = str(target), None
        raise
