"""What has been scored so far, on disk, so that a run that ended early goes on where it was.

A journal is a file of JSON lines. The first holds the conditions of the run, all others an image each, or something
that the restorer had to say. Lines are only ever added, each in one write, so that several processes can share a
journal; a line that was cut short, by a full disk or a power cut, is passed over and its image scored again.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from deblur_cli.errors import DeblurError, UsageError
from deblur_cli.evaluation.benchmark import ImageResult
from deblur_cli.evaluation.datasets import Pair
from deblur_cli.evaluation.metrics import Scores

_SYNC_SECONDS = 5.0
_VERSION = 1
RAN_AS = "device and precision"
"""The condition that holds what `auto` came to mean; journals from before it do not have it, and count as before."""


class Journal:
    """The results of a run, kept in a file.

        with Journal(path, conditions) as journal:
            done = journal.results("lite", dataset.pairs)
            journal.add("lite", result)

    Args:
        path: the file; made where there is none.
        conditions: all that decides a score, as JSON can hold it.

    Raises:
        UsageError: the file is no journal, or one of a run under other conditions.
        OSError: it cannot be read or written.
        DeblurError: what was written is not on the disk for sure, at the end of the block.
    """

    def __init__(self, path: Path, conditions: Mapping[str, Any]) -> None:
        self.path = path
        self._synced = time.monotonic()
        self._files: dict[Pair, list[list[int]] | None] = {}
        first = json.dumps({"journal": _VERSION, "conditions": conditions}, ensure_ascii=True)
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise UsageError(f"the journal '{path}' is no regular file; take another name")
        lines = _lines(path)
        if lines:
            _check(path, lines[0], json.loads(first))
        self._entries = [entry for line in lines[1:] if (entry := _parsed(line)) is not None]
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        if not lines:
            self._write(first)
        elif not lines[-1].endswith(b"\n"):
            os.write(self._descriptor, b"\n")  # ends what was cut short

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            os.fsync(self._descriptor)
        except OSError as failed:  # network drives say only here that there is no room
            if error is None:
                raise DeblurError(
                    f"'{self.path}' cannot be written: {failed.strerror or failed}; the same command goes on"
                ) from failed
        finally:
            os.close(self._descriptor)

    def results(self, model: str, pairs: Iterable[Pair]) -> dict[Pair, ImageResult]:
        """What an earlier run found for these pairs, whose files are as they were, and the network of this label."""
        by_name: dict[tuple[Any, Any], Pair] = {(pair.sequence, pair.name): pair for pair in pairs}
        for pair in by_name.values():
            self._state_of(pair)  # before they are read
        found: dict[Pair, ImageResult] = {}
        for entry in self._entries:
            known = by_name.get((entry.get("sequence"), entry.get("name")))
            if known is None or entry.get("model") != model or (result := _result(known, entry)) is None:
                continue
            # Entries of older journals know nothing of the files.
            if entry.get("files") in (None, self._state_of(known)):
                found[known] = result
        return found

    def notes(self, model: str) -> list[str]:
        """What the restorer had to say in an earlier run."""
        noted = [entry["note"] for entry in self._entries if entry.get("model") == model and "note" in entry]
        return list(dict.fromkeys(noted))

    def add(self, model: str, result: ImageResult) -> None:
        """Keep the result of an image; on the disk for sure after a few seconds, and at the end."""
        values = {key: value for key, value in asdict(result).items() if key != "pair"}
        of_pair = {"sequence": result.pair.sequence, "name": result.pair.name, "files": self._state_of(result.pair)}
        entry = {"model": model, **of_pair, **values}
        self._write(json.dumps(_plain(entry), allow_nan=False))

    def note(self, model: str, text: str) -> None:
        """Keep what the restorer had to say."""
        self._write(json.dumps({"model": model, "note": text}))

    def _state_of(self, pair: Pair) -> list[list[int]] | None:
        """Size and time of change of a pair's files, as first asked: a file that changes later is scored once more."""
        if pair not in self._files:
            self._files[pair] = _state(pair)
        return self._files[pair]

    def _write(self, line: str) -> None:
        os.write(self._descriptor, f"{line}\n".encode())
        if time.monotonic() - self._synced > _SYNC_SECONDS:
            os.fsync(self._descriptor)
            self._synced = time.monotonic()


def _state(pair: Pair) -> list[list[int]] | None:
    """Size and time of change, in nanoseconds, of each file; None where one cannot be looked at."""
    files = dict.fromkeys((pair.blurred, pair.sharp, *pair.frames))
    try:
        return [[found.st_size, found.st_mtime_ns] for found in (file.stat() for file in files)]
    except OSError:
        return None


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True) if path.exists() else []


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _check(path: Path, line: bytes, expected: Mapping[str, Any]) -> None:
    """Raise UsageError unless `line` is the first one of a journal of the expected conditions."""
    first = _parsed(line)
    if first is None or first.get("journal") != _VERSION or not isinstance(first.get("conditions"), dict):
        raise UsageError(f"'{path}' is no journal of deblur eval; name another file")
    before, now = first["conditions"], expected["conditions"]
    compared = [key for key in now if key != RAN_AS or key in before]
    different = [key for key in compared if before.get(key) != now[key]]
    if different:
        raise UsageError(
            f"'{path}' is the journal of a run under other conditions ({', '.join(different)}); "
            "repeat that run's command, or name another file"
        )


def _result(pair: Pair, entry: Mapping[str, Any]) -> ImageResult | None:
    """The result in an entry; None where it holds none."""
    try:
        restored, blurred = (_scores(entry[side]) for side in ("restored", "blurred"))
        others = {key: entry[key] for key in ("flicker", "blurred_flicker", "lpips", "blurred_lpips")}
        return ImageResult(pair, restored, blurred, float(entry["seconds"]), **others)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _scores(entry: Mapping[str, Any]) -> Scores:
    values: dict[str, Any] = {key: value if value is None else float(value) for key, value in entry.items()}
    return Scores(**values)


def _plain(value: Any) -> Any:
    """`value` with infinite numbers as text, which `float` reads."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return str(value) if isinstance(value, float) and value in (float("inf"), float("-inf")) else value
