"""`deblur video --rate`: for folders of pictures, and refused where there is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import Result

Run = Callable[[list[str]], Result]


@pytest.fixture
def inputs(tmp_path: Path) -> list[str]:
    """A folder of numbered pictures, and something called like a video."""
    (tmp_path / "shots").mkdir()
    for number in (1, 2):
        Image.new("RGB", (8, 6)).save(tmp_path / "shots" / f"{number}.png")
    (tmp_path / "a.mp4").write_bytes(b"x")
    return [str(tmp_path / "shots"), str(tmp_path / "a.mp4")]


@pytest.mark.parametrize("frames", [False, True])
def test_a_rate_of_videos_alone_is_refused_before_any_work(
    frames: bool, inputs: list[str], tmp_path: Path, run: Run
) -> None:
    target = ["--frames", str(tmp_path / "frames")] if frames else ["-o", str(tmp_path / "out.mp4")]
    result = run(["video", inputs[1], "--rate", "10", *target, "-m", "test-tiny"])
    assert result.code == 2 and result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert "--rate is for folders of pictures" in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "shots"]


def test_a_rate_is_taken_where_there_is_a_folder_of_pictures(inputs: list[str], run: Run) -> None:
    assert run(["video", *inputs, "--rate", "10", "--dry-run", "-m", "test-tiny"]).code == 0
