"""The journal of a video: what it keeps, what it refuses, and what it leaves behind."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur_cli.errors import DeblurError, UsageError
from deblur_cli.restoration import journal as journals
from deblur_cli.restoration.journal import Journal, Segment, fingerprint, working_folder
from deblur_cli.restoration.states import SequenceState

IDENTITY: dict[str, Any] = {"source": {"size": 3, "sha256": "abc"}, "options": {"crf": 17, "model": "lite"}}


def segment(journal: Journal, number: int, frames: int = 5) -> Segment:
    name = f"{number:06d}.mp4"
    (journal.folder / name).write_bytes(b"x" * 10)
    return Segment(name, frames, last=number * 100, digest="d" * 64, size=10)


def begun(target: Path, count: int = 2) -> list[Segment]:
    """A journal with some segments, whose run has ended."""
    journal = Journal(target, IDENTITY)
    for number in range(count):
        journal.damaged, journal.precision = "a part is missing", "fp16"
        journal.add(segment(journal, number), SequenceState(last_look=torch.full((2, 3), float(number))))
    journal.leave()
    return journal.segments


def test_segments_and_the_state_after_the_last_are_there_again(tmp_path: Path) -> None:
    made = begun(tmp_path / "a.mp4")
    journal = Journal(tmp_path / "a.mp4", IDENTITY)
    assert journal.segments == made and journal.frames == 10
    assert (journal.damaged, journal.precision) == ("a part is missing", "fp16")
    look = journal.state(torch.device("cpu")).last_look
    assert look is not None and torch.equal(look, torch.ones(2, 3))
    assert len(list(journal.folder.glob("state-*"))) == 1, "the state before is of no use any more"
    journal.remove()
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_where_nothing_was_done(tmp_path: Path) -> None:
    Journal(tmp_path / "a.mp4", IDENTITY).leave()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("identity", "reason"),
    [
        (IDENTITY | {"options": {"crf": 30, "model": "lite", "preset": "fast"}}, r"other options \(crf, preset\)"),
        (IDENTITY | {"source": {"size": 4, "sha256": "abc"}}, "another source"),
    ],
)
def test_the_beginning_of_another_restoration_is_refused_or_thrown_away(
    tmp_path: Path, identity: dict[str, Any], reason: str
) -> None:
    target = tmp_path / "a.mp4"
    made = begun(target)
    with pytest.raises(UsageError, match=reason):
        Journal(target, identity)
    again = Journal(target, IDENTITY, overwrite=True)
    assert again.segments == made, "refusing has changed nothing, and --overwrite goes on with its own beginning"
    again.leave()
    afresh = Journal(target, identity, overwrite=True)
    assert afresh.segments == [] and {path.name for path in afresh.folder.iterdir()} <= {"lock"}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"identity": null}', b'{"identity": {"version": 4}}'])
def test_a_damaged_journal_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    begun(tmp_path / "a.mp4")
    (working_folder(tmp_path / "a.mp4") / "journal.json").write_bytes(content)
    with pytest.raises(UsageError, match="cannot be read"):
        Journal(tmp_path / "a.mp4", IDENTITY)
    assert Journal(tmp_path / "a.mp4", IDENTITY, overwrite=True).segments == []


def test_what_a_kill_left_half_written_is_removed(tmp_path: Path) -> None:
    begun(tmp_path / "a.mp4")
    half = working_folder(tmp_path / "a.mp4") / ".000002.mp4.0123abcd.part"
    half.write_bytes(b"x")
    assert Journal(tmp_path / "a.mp4", IDENTITY).frames == 10
    assert not half.exists()


def test_a_segment_that_is_missing_means_to_start_afresh_and_say_so(tmp_path: Path) -> None:
    begun(tmp_path / "a.mp4")
    (working_folder(tmp_path / "a.mp4") / "000000.mp4").unlink()
    journal = Journal(tmp_path / "a.mp4", IDENTITY)
    assert journal.segments == []
    assert journal.lost is not None and "000000.mp4" in journal.lost


def test_a_segment_of_another_length_means_to_start_afresh_and_say_so(tmp_path: Path) -> None:
    begun(tmp_path / "a.mp4")
    (working_folder(tmp_path / "a.mp4") / "000001.mp4").write_bytes(b"x" * 7)
    journal = Journal(tmp_path / "a.mp4", IDENTITY)
    assert journal.segments == []
    assert journal.lost is not None and "000001.mp4' is damaged (7 bytes, where 10 were written)" in journal.lost


def test_a_state_that_is_damaged_is_said_with_what_to_do(tmp_path: Path) -> None:
    begun(tmp_path / "a.mp4")
    folder = working_folder(tmp_path / "a.mp4")
    state = folder / "state-000001.safetensors"
    state.write_bytes(state.read_bytes()[:-4])
    journal = Journal(tmp_path / "a.mp4", IDENTITY)
    with pytest.raises(DeblurError, match=rf"a\.mp4: the saved state .+; remove '{folder}' to start afresh"):
        journal.state(torch.device("cpu"))


def test_without_what_lies_with_every_segment_they_are_of_no_use(tmp_path: Path) -> None:
    made = begun(tmp_path / "a")
    (working_folder(tmp_path / "a") / "pictures").mkdir()
    journal = Journal(tmp_path / "a", IDENTITY, needed=["pictures"])
    assert journal.segments == made and journal.lost is None
    journal.leave()
    (journal.folder / "pictures").rmdir()
    journal = Journal(tmp_path / "a", IDENTITY, needed=["pictures"])
    assert journal.segments == []
    assert journal.lost is not None and "pictures" in journal.lost
    journal.remove()
    assert Journal(tmp_path / "a", IDENTITY, needed=["pictures"]).lost is None, "nothing was there to be lost"


def test_what_a_kill_leaves_of_a_removal_is_the_beginning_of_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(tmp_path / "a.mp4")
    journal = Journal(tmp_path / "a.mp4", IDENTITY)
    (journal.folder / "replaced").mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", lambda *_, **__: None)
        journal.remove()
    assert (journal.folder / "000000.mp4").exists()
    other = Journal(tmp_path / "a.mp4", IDENTITY | {"options": {"crf": 30}})
    assert (other.segments, other.lost) == ([], None)
    assert {path.name for path in other.folder.iterdir()} <= {"lock"}
    other.leave()
    assert list(tmp_path.iterdir()) == []


def test_the_size_of_the_state_is_known_also_of_one_that_did_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    begun(tmp_path / "a.mp4")
    journal = Journal(tmp_path / "a.mp4", IDENTITY)
    assert journal.state_size == next(journal.folder.glob("state-*")).stat().st_size
    monkeypatch.setattr(journals, "replacing", full)
    with pytest.raises(OSError, match="No space"):
        journal.add(segment(journal, 2), SequenceState(last_look=torch.zeros(1000)))
    assert journal.state_size > 4000 and journal.frames == 10


@pytest.mark.skipif(os.name == "nt", reason="no such locks")
def test_two_runs_do_not_work_on_one_target(tmp_path: Path) -> None:
    first = Journal(tmp_path / "a.mp4", IDENTITY)
    with pytest.raises(DeblurError, match="another run"):
        Journal(tmp_path / "a.mp4", IDENTITY)
    first.add(segment(first, 0), SequenceState())
    first.leave()
    assert Journal(tmp_path / "a.mp4", IDENTITY).frames == 5


def test_the_longest_name_has_a_working_folder(tmp_path: Path) -> None:
    target = tmp_path / ("ü" * 125 + ".mp4")
    journal = Journal(target, IDENTITY)
    assert journal.folder.is_dir() and journal.folder.name.startswith(".")


@settings(max_examples=30)
@given(data=st.binary(min_size=1, max_size=200), place=st.integers(min_value=0), change=st.integers(1, 255))
def test_a_byte_makes_another_source(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, place: int, change: int
) -> None:
    path = tmp_path_factory.mktemp("source") / "a.mp4"
    path.write_bytes(data)
    before = fingerprint(path)
    assert fingerprint(path) == before
    changed = bytearray(data)
    changed[place % len(data)] ^= change
    path.write_bytes(changed)
    assert fingerprint(path) != before


@pytest.mark.parametrize("place", [0, -1, 65535, -65536])
def test_of_a_long_source_beginning_and_end_are_looked_at(tmp_path: Path, place: int) -> None:
    data = bytearray(3 << 20)
    (tmp_path / "a.mp4").write_bytes(data)
    before = fingerprint(tmp_path / "a.mp4")
    data[place] = 1
    (tmp_path / "a.mp4").write_bytes(data)
    assert fingerprint(tmp_path / "a.mp4") != before


def _frames(folder: Path) -> Path:
    """Three numbered pictures, and when they are shown."""
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes(b"x" * number)
    (folder / "timestamps.txt").write_text("0")
    return folder


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", "report.json", ".0.png.0123abcd.part"])
def test_what_is_not_read_of_a_folder_of_pictures_does_not_make_another_source(tmp_path: Path, name: str) -> None:
    folder = _frames(tmp_path / "frames")
    before = fingerprint(folder)
    (folder / name).write_bytes(b"x")
    assert fingerprint(folder) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "3.png").write_bytes(b"x"),
        lambda folder: (folder / "2.png").unlink(),
        lambda folder: (folder / "2.png").rename(folder / "7.png"),
        lambda folder: (folder / "1.png").write_bytes(b"xx"),
        lambda folder: (folder / "timestamps.txt").write_text("40"),
        lambda folder: (folder / "timestamps.txt").unlink(),
    ],
)
def test_other_pictures_or_times_make_another_source(tmp_path: Path, change: Callable[[Path], object]) -> None:
    folder = _frames(tmp_path / "frames")
    before = fingerprint(folder)
    change(folder)
    assert fingerprint(folder) != before


def test_a_lock_in_a_folder_that_was_removed_meanwhile_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that opens the lock while the one before is removing the folder must not work where there is none."""
    tried, real = [], journals.lock

    def lock_late(descriptor: int) -> bool:
        if not tried:
            shutil.rmtree(working_folder(tmp_path / "a.mp4"))
        tried.append(descriptor)
        return real(descriptor)

    monkeypatch.setattr(journals, "lock", lock_late)
    journal = Journal(tmp_path / "a.mp4", IDENTITY)
    assert len(tried) == 2
    journal.add(segment(journal, 0), SequenceState())
    journal.leave()
    assert Journal(tmp_path / "a.mp4", IDENTITY).frames == 5
