"""`deblur eval` where the disk is full: which file it is, how to go on, and the exit code of what is no wrong usage."""

from __future__ import annotations

import errno
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
