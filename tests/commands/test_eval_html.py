"""`deblur eval --html`: the page of a run, of one that goes on, and what stands in the way of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.pictures import gopro

Run = Callable[[list[str]], Any]
SLIDER = '<input type="range"'


@pytest.fixture
def evaluate(run: Run, tmp_path: Path) -> Callable[..., Any]:
    """Runs `deblur eval` on four pairs with a page."""
    gopro(tmp_path / "data", count=4)

    def run_eval(*more: object) -> Any:
        page = ["--html", str(tmp_path / "page.html")]
        return run(["eval", str(tmp_path / "data"), "-m", "test-tiny", "--device", "cpu", *page, *map(str, more)])

    return run_eval


def page(folder: Path) -> str:
    return (folder / "page.html").read_text(encoding="utf-8")


def test_the_page_shows_the_numbers_of_the_terminal(evaluate: Callable[..., Any], tmp_path: Path) -> None:
    result = evaluate("-m", "test-tiny-recurrent")
    assert result.code == 0, result.stderr
    written = page(tmp_path)
    assert '<td class="number">30.07</td>' in written and "30.07" in result.stdout
    assert written.count(SLIDER) == 2 * 4
    for name in ("test-tiny", "test-tiny-recurrent"):
        assert f"<h2>{name}</h2>" in written
    protocol = next(line for line in result.stdout.splitlines() if line.startswith("protocol: "))
    assert f"<li>{protocol}</li>" in written


def test_a_run_that_goes_on_shows_what_it_has_seen_or_saved(evaluate: Callable[..., Any], tmp_path: Path) -> None:
    assert evaluate("--journal", tmp_path / "scores", "--save", tmp_path / "saved", "--limit", 2).code == 0
    saved = evaluate("--journal", tmp_path / "scores", "--save", tmp_path / "saved")
    assert saved.code == 0 and "lacks pictures" not in saved.stderr
    assert page(tmp_path).count(SLIDER) == 4
    bare = evaluate("--journal", tmp_path / "scores")
    assert bare.code == 0
    assert "lacks pictures of 4 images" in bare.stderr and "--save keeps them" in bare.stderr
    written = page(tmp_path)
    assert written.count(SLIDER) == 0
    assert len(re.findall("no picture was kept", written)) == 4


def test_images_that_failed_are_named(evaluate: Callable[..., Any], tmp_path: Path) -> None:
    broken = tmp_path / "data/test/GOPR0410_11_00/blur/000002.png"
    broken.write_bytes(broken.read_bytes()[:200])
    result = evaluate()
    assert result.code == 1
    for told in (result.stdout, page(tmp_path)):
        assert "failed and in no mean: 1: GOPR0410_11_00/000002" in told
        assert "4/1111 pairs (3 scored)" in told


def test_a_page_that_cannot_be_written_is_said_before_the_work(evaluate: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "page.html").mkdir()
    result = evaluate()
    assert result.code == 2 and result.stdout == ""
    assert "is a folder; name a file to write" in result.stderr
    assert len(result.stderr.splitlines()) == 1
