"""An ffmpeg at work: what it says is heard in time, to its last word, and no key that is pressed ends it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from deblur_cli.media import ffmpeg

SAYS = """#!/bin/sh
for number in 1 2 3 4 5 6 7 8 9; do
    echo "message $number" >&2
    echo $number
done
printf "last words" >&2
"""


def stand_in(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program in the place of ffmpeg."""
    program = folder / "stand-in"
    program.write_text(script)
    program.chmod(0o755)
    monkeypatch.setattr(ffmpeg, "executable", lambda: str(program))


@pytest.fixture
def talkative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the place of ffmpeg a program that says something ahead of each line that it writes."""
    stand_in(tmp_path, SAYS, monkeypatch)


@pytest.mark.skipif(sys.platform == "win32", reason="runs a script")
def test_an_ffmpeg_that_is_run_to_its_end_has_a_session_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, f"#!{sys.executable}\nimport os\nprint(os.getpid(), os.getsid(0))\n", monkeypatch)
    process, session = ffmpeg.run([]).stdout.split()
    assert process == session and int(session) != os.getsid(0)


@pytest.mark.skipif(sys.platform == "win32", reason="runs a shell script")
@pytest.mark.usefixtures("talkative")
def test_what_was_said_before_something_was_written_is_heard_once_and_in_order() -> None:
    for _ in range(20):
        heard: list[str] = []
        process = ffmpeg.Process([], stdout=True, listener=heard.append)
        for line in process.stdout:
            process.hear()
            assert heard[int(line) - 1] == f"message {int(line)}"
        assert process.wait() == 0
        process.hear()
        assert heard == list(process.messages) == [*(f"message {n}" for n in range(1, 10)), "last words"]
