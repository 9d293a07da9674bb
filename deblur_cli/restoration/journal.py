"""What is done of a video, on the disk: finished segments, and all that is needed to go on behind the last of them.

Segments and journal lie in a working folder `.NAME.deblur` beside the target NAME, until the target is whole. The
journal is replaced in one step after each segment, so that whenever the power goes, it speaks of whole segments only.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from deblur_cli.errors import DeblurError, UsageError
from deblur_cli.media.files import lock, remove_stale, replacing
from deblur_cli.media.frame_folders import TIMESTAMPS, numbered_pictures
from deblur_cli.restoration.states import SequenceState, load_state, save_state

_VERSION = 4
_JOURNAL = "journal.json"
_LOCK = "lock"
_PIECES = 32
_PIECE_BYTES = 1 << 16


@dataclass(frozen=True)
class Segment:
    """A run of frames that is finished."""

    name: str
    """Of its file (or its list of times) in the working folder."""
    frames: int
    last: int
    """Timestamp of its last frame, in ticks of the source."""
    digest: str
    """SHA-256 of that frame as it came from the source, by which it is found again."""
    size: int
    """Bytes of what was written for it."""
    repeated: int = 0
    """How many of its frames stand for ones that could not be decoded."""


class Journal:
    """The working folder of one target.

    Args:
        target: the file (or folder of pictures) that is being made.
        identity: the source and the options, as JSON can hold them; what is done counts for these alone.
        overwrite: whether the beginning of another restoration is thrown away; otherwise it is an error.
        needed: names of what holds the pictures of all segments, whose own files are lists of times then; without it
            none of them is of use.

    Attributes:
        folder: the working folder; it is made.
        segments: those that are finished, in their order.
        notes: what was remarked about the frames so far, one line each.
        undecodable: how many frames so far were damaged in the source.
        damaged: why a part of the source so far is missing, if that is so.
        precision: the one in force at the last of the segments; None before the first.
        lost: why nothing is left of what an earlier run did, if that is so.
        state_size: bytes of the state after the last of the segments, or of the one that there was no room for.

    Raises:
        UsageError: the folder holds the beginning of a restoration of another source, or with other options.
        DeblurError: another run is at work on the same target.
        OSError: the folder cannot be made.
    """

    def __init__(
        self, target: Path, identity: Mapping[str, Any], *, overwrite: bool = False, needed: Sequence[str] = ()
    ) -> None:
        self.folder = working_folder(target)
        self.segments: list[Segment] = []
        self.notes: list[str] = []
        self.undecodable = 0
        self.damaged: str | None = None
        self.precision: str | None = None
        self.lost: str | None = None
        self.state_size = 0
        self._needed = needed
        self._target = target
        self._identity = json.loads(json.dumps({"version": _VERSION, **identity}))
        self._state: str | None = None
        self._lock: int | None = _locked(self.folder, target)
        try:
            self._open(overwrite)
        except BaseException:
            self.leave()
            raise

    @property
    def frames(self) -> int:
        """How many frames are done."""
        return sum(segment.frames for segment in self.segments)

    def state(self, device: torch.device) -> SequenceState:
        """What a network remembers after the last of the segments.

        Raises:
            DeblurError: the file that holds it is damaged.
        """
        if self._state is None:
            return SequenceState()
        try:
            return load_state((self.folder / self._state).read_bytes(), device)
        except DeblurError as error:
            raise DeblurError(f"{self._target}: {error}; remove '{self.folder}' to start afresh") from error

    def add(self, segment: Segment, state: SequenceState) -> None:
        """Enter a segment that is on the disk, and the state after it.

        Raises:
            OSError: the disk is full; the journal is as it was.
        """
        before, after = self._state, None
        if state.frame is not None or state.last_look is not None:
            after = f"state-{len(self.segments):06d}.safetensors"
            saved = save_state(state)
            self.state_size = len(saved)
            with replacing(self.folder / after) as stream:
                stream.write(saved)
        self._write([*self.segments, segment], after)
        self.segments.append(segment)
        self._state = after
        if before is not None:
            (self.folder / before).unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the working folder: the target is whole."""
        # First of all, so that what a kill on the way leaves is the beginning of nothing, and a later run clears it up.
        with contextlib.suppress(OSError):
            (self.folder / _JOURNAL).unlink(missing_ok=True)
        _remove(self.folder, self._lock)
        self._lock = None

    def leave(self) -> None:
        """Let go of the working folder; it stays where there is something in it to go on from."""
        if not self.segments and not (self.folder / _JOURNAL).exists():
            self.remove()
        self._unlock()

    def _open(self, overwrite: bool) -> None:
        path = self.folder / _JOURNAL
        if path.exists():
            try:
                found = json.loads(path.read_bytes())
                mismatch = _mismatch(found["identity"], self._identity)
                if not mismatch:
                    self._take(found)
            except (ValueError, KeyError, TypeError, AttributeError):
                mismatch = "something that cannot be read"
            if mismatch and not overwrite:
                raise UsageError(
                    f"{self._target}: '{self.folder}' holds the beginning of {mismatch}; "
                    "--overwrite starts afresh, and so does removing it"
                )
        if not self.segments:
            path.unlink(missing_ok=True)
        kept = {_JOURNAL, _LOCK, self._state, *(segment.name for segment in self.segments)}
        for leftover in self.folder.iterdir():
            if leftover.is_dir() and not self.segments:
                shutil.rmtree(leftover)
            elif leftover.is_file() and leftover.name not in kept:
                leftover.unlink()

    def _take(self, found: dict[str, Any]) -> None:
        segments = [Segment(**entry) for entry in found["segments"]]
        names = [segment.name for segment in segments] + ([found["state"]] if found["state"] else [])
        missing = [name for name in self._needed if segments and not (self.folder / name).exists()]
        missing += [name for name in names if not (self.folder / name).is_file()]
        if missing:
            self.lost = f"'{self.folder / missing[0]}' is missing: starting afresh"
            return
        # As of a copy that broke off; joining would find it at the end of hours, and each time again.
        for segment in segments if not self._needed else []:
            if (size := (self.folder / segment.name).stat().st_size) != segment.size:
                damaged = f"'{self.folder / segment.name}' is damaged ({size} bytes, where {segment.size} were written)"
                self.lost = f"{damaged}: starting afresh"
                return
        self.segments, self.notes, self.undecodable = segments, list(found["notes"]), int(found["undecodable"])
        self.damaged, self.precision = found["damaged"], found["precision"]
        self._state = found["state"]
        self.state_size = (self.folder / self._state).stat().st_size if self._state else 0

    def _write(self, segments: list[Segment], state: str | None) -> None:
        content = {
            "identity": self._identity,
            "segments": [asdict(segment) for segment in segments],
            "state": state,
            "notes": self.notes,
            "undecodable": self.undecodable,
            "damaged": self.damaged,
            "precision": self.precision,
        }
        with replacing(self.folder / _JOURNAL) as stream:
            stream.write(json.dumps(content, indent=1).encode("ascii"))

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def working_folder(target: Path) -> Path:
    """Where what is done of `target` lies until it is whole: `.NAME.deblur` beside it."""
    name = target.name
    if len(os.fsencode(name)) > 240:  # most file systems allow 255 bytes
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return target.with_name(f".{name}.deblur")


def clear_up(targets: Sequence[Path]) -> None:
    """Remove what is left beside whole `targets` by runs that were killed when nothing was left to do but that.

    The beginning of another restoration of one stays, and so does what another run is at work on, where the drive knows
    locks.
    """
    for target in targets:
        folder = working_folder(target)
        if folder.is_dir() and not (folder / _JOURNAL).exists():
            with contextlib.suppress(DeblurError, OSError):
                _remove(folder, _locked(folder, target))
    with contextlib.suppress(OSError):  # where there is a folder still, another run may be writing the target
        remove_stale(target for target in targets if not working_folder(target).exists())


def fingerprint(source: Path) -> dict[str, Any]:
    """What tells a source from another: its size and a SHA-256 of it.

    Of a file larger than two megabytes 32 pieces are hashed, its beginning and its end among them; of a folder, names
    and sizes of the pictures that are its frames, and of the file with their times. What else comes there, such as a
    file manager's notes, changes nothing.

    Raises:
        OSError: it cannot be read.
    """
    if source.is_dir():
        read = [*numbered_pictures(source), source / TIMESTAMPS]
        entries = sorted((path.name, path.stat().st_size) for path in read if path.is_file())
        digest = hashlib.sha256(json.dumps(entries).encode()).hexdigest()
        return {"size": sum(size for _, size in entries), "sha256": digest}
    hashed = hashlib.sha256()
    size = source.stat().st_size
    with source.open("rb") as stream:
        if size <= _PIECES * _PIECE_BYTES:
            hashed.update(stream.read())
        else:
            for piece in range(_PIECES):
                stream.seek((size - _PIECE_BYTES) * piece // (_PIECES - 1))
                hashed.update(stream.read(_PIECE_BYTES))
    return {"size": size, "sha256": hashed.hexdigest()}


def _mismatch(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    """What another journal is the beginning of; empty: it is the same."""
    if found["version"] != wanted["version"]:
        return "a restoration by another version of deblur"
    if found["source"] != wanted["source"]:
        return "a restoration of another source, or of this one before it was changed"
    one, other = found["options"], wanted["options"]
    different = sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
    if different:
        return f"a restoration with other options ({', '.join(different)})"
    return "a restoration that is encoded otherwise" if found.get("encoding") != wanted.get("encoding") else ""


def _locked(folder: Path, target: Path) -> int:
    """An open file in `folder`, which is made, that no other process can lock while it is open."""
    path = folder / _LOCK
    for last in (False, False, True):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
        except (FileNotFoundError, FileExistsError):  # it is being removed by another run
            if last:
                raise
            continue
        if not lock(descriptor):
            os.close(descriptor)
            raise DeblurError(f"{target}: another run is at work on it")
        with contextlib.suppress(FileNotFoundError):
            if last or os.path.samestat(os.fstat(descriptor), path.stat()):  # some drives number files anew each time
                break
        os.close(descriptor)  # of a folder that whoever had it removed meanwhile
    return descriptor


def _remove(folder: Path, held: int | None) -> None:
    """Remove a working folder whose lock is `held`."""
    shutil.rmtree(folder, ignore_errors=True)
    if held is not None:
        os.close(held)
    with contextlib.suppress(OSError):
        folder.rmdir()  # network drives keep an open file, under another name, until it is closed
