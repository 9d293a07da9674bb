"""`deblur eval` where the disk is full or a run was killed: the file, how to go on, exit codes, leftovers."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import NoReturn

from PIL import Image

from deblur_cli.evaluation import journal
from tests.evaluation.pictures import gopro


def full(*_: object, **__: object) -> NoReturn:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_picture_that_there_is_no_room_for_is_named(run, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    arguments = ["eval", str(gopro(tmp_path / "data")), "-m", "test-tiny", "--save", str(tmp_path / "saved")]
    picture = tmp_path / "saved" / "test-tiny" / "GOPR0410_11_00" / "000000.png"
    for more, way_on in (
        ([], "with --journal FILE, a run goes on where it stopped"),
        (["--journal", str(tmp_path / "journal")], "the same command goes on"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(Image.Image, "save", full)
            result = run([*arguments, *more])
        assert result.code == 1 and result.stdout == ""
        told = result.stderr.splitlines()[-1]
        assert told == f"deblur: '{picture}' cannot be written: No space left on device; {way_on}"
    assert run([*arguments, "--journal", str(tmp_path / "journal")]).code == 0


def test_a_journal_that_there_is_no_room_for_is_named(run, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(journal.Journal, "add", full)
    result = run(["eval", str(gopro(tmp_path / "data")), "-m", "test-tiny", "--journal", str(tmp_path / "journal")])
    assert result.code == 1
    assert f"'{tmp_path / 'journal'}' cannot be written: No space left" in result.stderr


def test_a_journal_of_which_the_disk_says_only_at_the_end_that_it_is_full_is_named(  # type: ignore[no-untyped-def]
    run, tmp_path: Path, monkeypatch
) -> None:
    arguments = ["eval", str(gopro(tmp_path / "data")), "-m", "test-tiny", "--journal", str(tmp_path / "journal")]
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        result = run(arguments)
    assert result.code == 1
    told = result.stderr.splitlines()[-1]
    full_at_the_end = "cannot be written: No space left on device; the same command goes on"
    assert told == f"deblur: '{tmp_path / 'journal'}' {full_at_the_end}"
    assert "in the journal already" in run(arguments).stderr


def test_what_a_killed_run_left_half_written_is_removed(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    pictures = tmp_path / "saved" / "test-tiny" / "GOPR0410_11_00"
    pictures.mkdir(parents=True)
    leftovers = [tmp_path / ".scores.csv.0123abcd.part", pictures / ".000000.png.0123abcd.part"]
    foreign = pictures / ".another.png.0123abcd.part"
    for path in (*leftovers, foreign):
        path.touch()
    arguments = ["eval", str(gopro(tmp_path / "data")), "-m", "test-tiny", "--save", str(tmp_path / "saved")]
    assert run([*arguments, "--csv", str(tmp_path / "scores.csv")]).code == 0
    assert [path.exists() for path in (*leftovers, foreign)] == [False, False, True]
