"""The page, read as a browser would: its numbers, marks and sliders, and that it loads and runs nothing foreign."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deblur_cli.evaluation.benchmark import BenchmarkResult, ImageResult
from deblur_cli.evaluation.datasets import Dataset, Pair
from deblur_cli.evaluation.gallery import Views
from deblur_cli.evaluation.html_report import _ticks, build_page, write_html
from deblur_cli.evaluation.metrics import Scores
from deblur_cli.evaluation.report import ModelReport, Report, build_notes, build_table

VOID = {"meta", "img", "input", "br"}
NASTY = "\"><script>alert('1')</script>&amp;\u202e\udcff\x1b\n"


@dataclass
class Element:
    """One element of a page, with the text within it."""

    tag: str
    attributes: dict[str, str | None]
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def all(self, tag: str, **attributes: str) -> list[Element]:
        """Elements below this one of a tag and of these attributes' values (`kind` stands for a class)."""
        kind = attributes.pop("kind", None)
        found = [self] if self.tag == tag and attributes.items() <= self.attributes.items() else []
        found = [one for one in found if kind is None or kind in (one.attributes.get("class") or "").split()]
        return found + [deeper for child in self.children for deeper in child.all(tag, **attributes, **_kind(kind))]


def _kind(kind: str | None) -> dict[str, str]:
    return {} if kind is None else {"kind": kind}


class Reader(HTMLParser):
    """Builds the tree, and complains where an element is closed that is not open."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.root = Element("", {})
        self._open = [self.root]
        self.feed(page)
        self.close()
        assert self._open == [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs))
        self._open[-1].children.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open[-1].children.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data


def image(number: int, blurred: float, restored: float, name: str = "") -> ImageResult:
    pair = Pair("GOPR0410_11_00", name or f"{number:06}", Path("b.png"), Path("s.png"), (1280, 720))
    return ImageResult(pair, Scores(restored, 0.9, 0.91), Scores(blurred, 0.8, 0.81), 0.02)


def model(label: str, images: list[ImageResult]) -> ModelReport:
    facts: dict[str, Any] = {"network": "lite", "options": {}, "weights": None, "sha256": None, "published": ()}
    facts |= {"device": "cpu", "hardware": "x", "threads": 1, "precision": "fp32", "tile": "auto", "overlap": None}
    return ModelReport(label=label, result=BenchmarkResult(tuple(images), ()), **facts)


def report(*models: ModelReport) -> Report:
    pairs = {one.pair: None for found in models for one in found.result.images}
    return Report(Dataset("GOPRO", "test", "blur", tuple(pairs), (Path("data"),), 1111), True, models)


IMAGES = [image(number, 25 + number % 7, 25 + number % 7 + (number - 8) / 10) for number in range(25)]
VIEWS = {one.pair: Views(b"before %d" % number, b"after %d" % number) for number, one in enumerate(IMAGES)}


def read(found: Report, views: dict[str, Any] | None = None) -> Element:
    return Reader(build_page(found, views or {})).root


def test_the_table_and_the_conditions_are_those_of_the_terminal() -> None:
    found = report(model("one", IMAGES), model("two", IMAGES[:3]))
    table = read(found).all("table")[0]
    rows = [[cell.text for cell in row.children] for row in table.all("tr")]
    columns = build_table(found).columns
    assert rows[0] == [column.header for column in columns]
    assert rows[1:] == [list(row) for row in zip(*(column.cells for column in columns), strict=True)]
    assert [row[0] for row in rows] == ["", "blurred input", "one", "two"]
    notes = [item.text for item in read(found).all("ul", kind="notes")[0].all("li")]
    assert notes[:-1] == build_notes(found)
    assert re.fullmatch(r"written \d{4}-\d\d-\d\d \d\d:\d\d[+-]\d\d:\d\d", notes[-1])


def test_a_single_image_is_no_several() -> None:
    page = build_page(report(model("one", IMAGES[:1])), {})
    assert "The image of most gain" in page and "Scatter of 1 image:" in page and "1 images" not in page
    notes = "\n".join(build_notes(report(model("one", IMAGES[:1]))))
    assert "1/1111 pairs" in notes and ", 1 thread, " in notes and "median time of 1 image after" in notes


def test_the_scatter_has_a_mark_for_each_image_in_its_place() -> None:
    chart = read(report(model("one", IMAGES), model("two", IMAGES[:3]))).all("svg", role="img")[0]
    first, second = chart.all("circle", kind="series-0"), chart.all("circle", kind="series-1")
    assert (len(first), len(second)) == (25, 3)
    assert first[0].text == "one: GOPR0410_11_00/000000, 25.00 → 24.20 dB, gain -0.80 dB"
    across = [float(mark.attributes["cx"] or "") for mark in first]
    down = [float(mark.attributes["cy"] or "") for mark in first]
    zero = float(chart.all("line", kind="zero")[0].attributes["y1"] or "")
    for one, other in ((0, 1), (3, 9), (20, 2)):
        assert (across[one] < across[other]) == (IMAGES[one].blurred.psnr < IMAGES[other].blurred.psnr)
        assert (down[one] > down[other]) == (IMAGES[one].gain < IMAGES[other].gain)
    for mark, result in zip(down, IMAGES, strict=True):
        assert (mark < zero - 0.01) == (result.gain > 1e-9)
    # Equal steps of gain are equal steps on the page.
    assert down[0] - down[1] == pytest.approx(down[20] - down[21], abs=0.11)


def test_infinite_scores_are_left_out_of_the_scatter_and_that_is_said() -> None:
    found = [image(0, 30, 31), image(1, 30, math.inf), image(2, math.inf, 40)]
    page = read(report(model("one", found)))
    assert len(page.all("svg", role="img")[0].all("circle")) == 1
    assert "Not shown, as their PSNR is infinite: 2." in page.text
    assert "no image of finite PSNR" in read(report(model("one", found[1:]))).text


def test_marks_of_many_networks_differ() -> None:
    page = read(report(*(model(f"n{number}", IMAGES[:1]) for number in range(7))))
    marks = page.all("ul", kind="legend")[0].all("svg")
    kinds = [(mark.children[0].tag, mark.children[0].attributes["class"]) for mark in marks]
    assert len(set(kinds)) == 7


def test_the_ten_best_and_worst_have_sliders_with_their_pictures() -> None:
    page = read(report(model("one", IMAGES)), {"one": VIEWS})
    best, worst = page.all("div", kind="gallery")
    captions = [figure.all("strong")[0].text for figure in (*best.all("figure"), *worst.all("figure"))]
    numbers = [*range(24, 14, -1), *range(10)]
    assert captions == [f"GOPR0410_11_00/{number:06}" for number in numbers]
    for number, figure in zip(numbers, (*best.all("figure"), *worst.all("figure")), strict=True):
        sources = [one.attributes["src"] for one in figure.all("img")]
        encoded = [base64.b64encode(view).decode() for view in VIEWS[IMAGES[number].pair]]
        assert sources == [f"data:image/webp;base64,{one}" for one in encoded]
        assert [one.attributes["alt"] for one in figure.all("img")] == [
            f"GOPR0410_11_00/{number:06}, {kind}" for kind in ("blurred", "restored")
        ]
        (slider,) = figure.all("input", type="range", min="0", max="100")
        assert f"{number:06}" in (slider.attributes["aria-label"] or "")
    assert f"{IMAGES[24].gain:+.2f} dB" in best.all("figure")[0].text


def test_an_image_without_pictures_keeps_its_scores() -> None:
    page = read(report(model("one", IMAGES)))
    assert len(page.all("figure")) == 20 and not page.all("img") and not page.all("input")
    assert "25.00 → 24.20 dB, gain -0.80 dB (scored in another run; no picture was kept)" in page.text
    assert "No image was scored." in read(report(model("one", []))).text


def test_names_from_the_disk_are_text_and_nothing_else() -> None:
    nasty = image(0, 30, 31, name=NASTY)
    page = build_page(report(model(NASTY, [nasty])), {NASTY: {nasty.pair: Views(b"1", b"2")}})
    root = Reader(page).root
    assert len(root.all("script")) == 1 and "alert('1')" not in root.all("script")[0].text
    assert "\"><script>alert('1')</script>&amp;\\u202e\\udcff\\x1b\\n" in root.all("figcaption")[0].text
    assert not set("\u202e\udcff\x1b") & set(page)
    assert {one.tag for one in root.all("figure")[0].children[0].children} == {"img", "span", "input"}


def test_the_page_may_load_nothing_and_run_only_its_own_script() -> None:
    root = read(report(model("one", IMAGES)), {"one": VIEWS})
    policy = next(one.attributes["content"] or "" for one in root.all("meta") if "http-equiv" in one.attributes)
    assert policy.startswith("default-src 'none'; img-src data:; ")
    for tag in ("style", "script"):
        (element,) = root.all(tag)
        digest = base64.b64encode(hashlib.sha256(element.text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    every = [one for tag in ("img", "link", "script", "a", "iframe") for one in root.all(tag)]
    references = [one.attributes.get(name) for one in every for name in ("src", "href")]
    assert all(reference is None or reference.startswith("data:image/webp;base64,") for reference in references)
    assert not re.search(r"url\(|@import|https?:", root.all("style")[0].text + root.all("script")[0].text)


def test_the_file_is_the_page(tmp_path: Path) -> None:
    found = report(model("one", IMAGES))
    write_html(found, {}, tmp_path / "page.html")
    written = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert written.splitlines()[0] == "<!doctype html>"
    assert len(Reader(written).root.all("figure")) == 20


@given(st.lists(st.floats(-60, 60), min_size=1, max_size=20))
@example([0.0, 5e-324])
def test_ticks_are_even_round_and_reach_around_the_values(values: list[float]) -> None:
    ticks = _ticks(values)
    assert ticks[0] <= min(values) + 1e-9 and ticks[-1] >= max(values) - 1e-9
    assert 2 <= len(ticks) <= 8
    steps = [after - before for before, after in pairwise(ticks)]
    assert min(steps) > 1e-3
    assert steps == pytest.approx([steps[0]] * len(steps), rel=1e-6, abs=1e-9)
