"""LPIPS through a package that stands in for its authors': what it is given, what is said of it, what is missing."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deblur_cli.errors import DatasetError, UsageError
from deblur_cli.evaluation.perceptual import LEAST, Lpips
from tests.evaluation.pictures import gopro, kohler, write_pair

CPU = torch.device("cpu")


class HalfDistance(nn.Module):
    """Mean absolute difference of values in [-1, 1], half of that in [0, 1] times four; refuses other ranges."""

    made: list[dict[str, Any]] = []  # noqa: RUF012

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.made.append(options)

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        assert one.dtype == other.dtype == torch.float32
        assert min(one.min(), other.min()) >= -1 and max(one.max(), other.max()) <= 1
        return (one - other).abs().mean().view(1, 1, 1, 1)


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A package `lpips` 0.1.4 that can be imported."""
    module = ModuleType("lpips")
    module.LPIPS = HalfDistance  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lpips", module)
    monkeypatch.setattr(HalfDistance, "made", [])
    version = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "0.1.4" if name == "lpips" else version(name))
    return module


@pytest.fixture
def evaluate(run: Callable[[list[str]], Any], tmp_path: Path) -> Callable[..., Any]:
    """Runs `deblur eval --metric lpips` on three pairs that differ by 8 grey levels everywhere."""
    for number in range(3):
        write_pair(tmp_path / f"a/{number}.png", tmp_path / f"b/{number}.png", seed=number, height=40, width=36)
    folders = ["--blurred", str(tmp_path / "a"), "--sharp", str(tmp_path / "b")]

    def run_eval(*more: object) -> Any:
        return run(["eval", *folders, "--device", "cpu", "-m", "test-tiny", "--metric", "lpips", *map(str, more)])

    return run_eval


def test_images_are_given_in_the_range_the_network_was_trained_on(package: ModuleType) -> None:
    lpips = Lpips(CPU)
    dark, bright = torch.zeros(1, 3, LEAST, LEAST), torch.full((1, 3, LEAST, LEAST), 255.0)
    assert lpips(dark, bright) == 2
    assert lpips(bright.to(torch.uint8), bright.to(torch.uint8)) == 0
    assert lpips(dark + 51, dark.double()) == pytest.approx(0.4)
    assert HalfDistance.made == [{"net": "alex", "version": "0.1", "verbose": False}]
    assert "net alex, version 0.1, computed by the package lpips 0.1.4" in lpips.description


def test_an_image_that_is_too_small_is_said(package: ModuleType) -> None:
    image = torch.zeros(1, 3, LEAST, LEAST - 1)
    with pytest.raises(DatasetError, match="at least 31×31 pixels"):
        Lpips(CPU)(image, image)


def test_every_report_has_the_distance_under_the_name_of_its_net(
    package: ModuleType, evaluate: Callable[..., Any], tmp_path: Path
) -> None:
    table, document, page = (tmp_path / f"scores.{kind}" for kind in ("csv", "json", "html"))
    result = evaluate("-m", "test-tiny-recurrent", "--csv", table, "--json", document, "--html", page)
    assert result.code == 0, result.stderr
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    for row in rows:
        assert float(row["lpips_alex_0.1"]) == float(row["blurred_lpips_alex_0.1"]) == pytest.approx(16 / 255)
    facts = json.loads(document.read_text())
    assert "package lpips 0.1.4" in facts["protocol"]["lpips"]
    assert facts["models"][0]["lpips"] == facts["blurred_lpips"] == pytest.approx(16 / 255)
    assert facts["models"][1]["images"][2]["lpips"] == pytest.approx(16 / 255)
    for text in (result.stdout, page.read_text(encoding="utf-8")):
        assert "lpips_alex_0.1" in text and "0.0627" in text
        assert "net alex, version 0.1, computed by the package lpips 0.1.4; less is better" in text


def test_a_journal_keeps_the_distance_and_is_not_one_of_a_run_without(
    package: ModuleType, evaluate: Callable[..., Any], tmp_path: Path, run: Callable[[list[str]], Any]
) -> None:
    journal, first, second = tmp_path / "journal", tmp_path / "1.csv", tmp_path / "2.csv"
    assert evaluate("--journal", journal, "--csv", first, "--limit", 2).code == 0
    resumed = evaluate("--journal", journal, "--csv", second)
    assert "2 of 3 images are in the journal already" in resumed.stderr
    assert second.read_text().startswith(first.read_text())
    folders = ["--blurred", str(tmp_path / "a"), "--sharp", str(tmp_path / "b")]
    other = run(["eval", *folders, "--device", "cpu", "-m", "test-tiny", "--journal", str(journal)])
    assert other.code == 2
    assert "other conditions (--metric)" in other.stderr


def test_a_picture_that_is_too_small_fails_alone(
    package: ModuleType, evaluate: Callable[..., Any], tmp_path: Path
) -> None:
    write_pair(tmp_path / "a/9.png", tmp_path / "b/9.png")
    result = evaluate()
    assert result.code == 1
    assert "LPIPS needs images of at least 31×31 pixels" in result.stderr
    assert "failed and in no mean: 1" in result.stdout


@pytest.mark.parametrize(
    ("fault", "advice"),
    [
        (ImportError("No module named 'lpips'"), "pip install lpips"),
        (RuntimeError("operator does not exist"), f"a torchvision that was built for this torch, {torch.__version__}"),
    ],
)
def test_what_to_install_is_said_in_one_line_before_the_work(
    evaluate: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, fault: Exception, advice: str
) -> None:
    class Broken:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "lpips":
                raise fault

    monkeypatch.delitem(sys.modules, "lpips", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    result = evaluate()
    assert (result.code, result.stdout) == (2, "")
    assert advice in result.stderr and str(fault) in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_weights_that_cannot_be_fetched_are_said(package: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(**_: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(package, "LPIPS", offline)
    with pytest.raises(UsageError, match="cannot be fetched: no route to host"):
        Lpips(CPU)


def test_protocols_that_align_pictures_refuse_it(
    package: ModuleType, run: Callable[[list[str]], Any], tmp_path: Path
) -> None:
    kohler(tmp_path, {(1, 1): 2})
    result = run(["eval", str(tmp_path), "-m", "test-tiny", "--device", "cpu", "--metric", "lpips"])
    assert result.code == 2
    assert "compares pixel by pixel, and Köhler's protocol does not" in result.stderr
    result = run(["eval", str(gopro(tmp_path / "gopro")), "-m", "test-tiny", "--metric", "lpips", "--align"])
    assert result.code == 2
    assert "compares pixel by pixel, and --align does not" in result.stderr
