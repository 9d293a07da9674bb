"""`deblur video` of folders of pictures that are not the frames of a video says why they are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Result

Run = Callable[[list[str]], Result]


@pytest.mark.parametrize("target", [[], ["-o", "out.mp4"], ["--frames", "frames"]])
@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["1.png", "2.png", "cover.jpg"], "'cover.jpg' has no number"),
        (["a1.png", "a2.png", "b1.png", "c1.png"], "'a1.png' and 'b1.png' differ in more"),
        (["1.png", "2.jpg"], "'1.png' and '2.jpg' differ in more"),
        (["1.png"], "here is one alone"),
    ],
)
def test_what_keeps_a_folder_from_being_frames_is_said(
    names: list[str], why: str, target: list[str], tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shots").mkdir()
    for name in names:
        (tmp_path / "shots" / name).write_bytes(b"")
    result = run(["video", "shots", *target, "-m", "test-tiny"])
    (line,) = result.stderr.splitlines()
    assert result.code == 2 and line.startswith(f"deblur: there are no videos in shots ({len(names)} not a video); ")
    assert line.endswith(f"differ in a number alone, and {why}")


def test_other_files_are_no_pictures(tmp_path: Path, run: Run) -> None:
    (tmp_path / "note.txt").write_bytes(b"")
    result = run(["video", str(tmp_path), "-m", "test-tiny"])
    assert result.stderr == f"deblur: there are no videos in {tmp_path} (1 not a video)\n"
