"""A benchmark as one page of HTML that needs nothing else: table, conditions, scatter, best and worst with sliders.

The page loads nothing, and by its own policy may not: pictures are data in it, its style and script are named by their
hashes. Everything that comes from the user's disk is escaped.
"""

from __future__ import annotations

import base64
import hashlib
import html
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from deblur_cli.evaluation.benchmark import ImageResult
from deblur_cli.evaluation.datasets import Pair
from deblur_cli.evaluation.gallery import MEDIA_TYPE, Views, best_and_worst
from deblur_cli.evaluation.report import ModelReport, Report, build_notes, build_sequence_table, build_table
from deblur_cli.media.files import replacing
from deblur_cli.words import counted

if TYPE_CHECKING:
    from rich.table import Table

_WIDTH, _HEIGHT = 640, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 16, 16, 64
_LEAST_SPAN = 0.05
"""In dB; what differs by less is not drawn any larger."""
_SERIES = 5
"""Colours there are; with each round of them the shape of the marks changes."""
_SHAPES = (
    ("circle", 'cx="{x:.1f}" cy="{y:.1f}" r="4.5"'),
    ("rect", 'x="{left:.1f}" y="{top:.1f}" width="8" height="8"'),
    ("path", 'd="M{x:.1f} {top:.1f}l5 9h-10z"'),
)


def write_html(report: Report, views: Mapping[str, Mapping[Pair, Views]], path: Path) -> None:
    """Write `report` as a page to `path`.

    Args:
        report: what was scored.
        views: for each network's label, pictures of its best and worst images (`Gallery.views`); an image without any
            is listed by its scores alone.

    Raises:
        OSError: the file cannot be written.
    """
    with replacing(path) as stream:
        stream.write(build_page(report, views).encode("utf-8"))


def build_page(report: Report, views: Mapping[str, Mapping[Pair, Views]]) -> str:
    """The page that `write_html` writes; the arguments are the same."""
    style, script = (_resource(f"html_report.{kind}") for kind in ("css", "js"))
    title = f"{' '.join(filter(None, (report.dataset.name, report.dataset.split)))}: deblurring scores"
    parts = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        f"style-src '{_digest(style)}'; script-src '{_digest(script)}'\">",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_text(title)}</title>",
        f"<style>{style}</style>",
        "</head>",
        "<body>",
        f"<h1>{_text(title)}</h1>",
        *_scores_and_notes(report),
        *_scatter(report),
        *(line for model in report.models for line in _galleries(model, views.get(model.label, {}))),
        f"<script>{script}</script>",
        "</body>",
        "</html>",
    ]
    return "\n".join(parts) + "\n"


def _table(table: Table, label: str) -> Iterator[str]:
    """A table of the terminal as one of the page; its first column names the rows."""
    columns = table.columns
    kinds = ["number" if column.justify == "right" else "" for column in columns]
    headings = [_cell("th", str(one.header), kind, "col") for one, kind in zip(columns, kinds, strict=True)]
    yield f'<div class="wide" role="region" aria-label="{label}" tabindex="0">'
    yield "<table>"
    yield f"<thead><tr>{''.join(headings)}</tr></thead>"
    yield "<tbody>"
    for name, *cells in zip(*(column.cells for column in columns), strict=True):
        values = "".join(_cell("td", str(cell), kind) for cell, kind in zip(cells, kinds[1:], strict=True))
        yield f"<tr>{_cell('th', str(name), '', 'row')}{values}</tr>"
    yield "</tbody></table></div>"


def _scores_and_notes(report: Report) -> Iterator[str]:
    """What the terminal shows: the table, all that decides its numbers, and the sequences where there are some."""
    yield from _table(build_table(report), "Scores")
    yield '<ul class="notes">'
    written = datetime.now().astimezone().isoformat(sep=" ", timespec="minutes")
    for note in (*build_notes(report), f"written {written}"):
        yield f"<li>{_text(note)}</li>"
    yield "</ul>"
    sequences = build_sequence_table(report)
    if sequences is not None:
        yield "<h2>Sequences</h2>"
        yield from _table(sequences, "PSNR of each sequence")


def _cell(tag: str, text: str, kind: str, scope: str = "") -> str:
    attributes = (f' class="{kind}"' if kind else "") + (f' scope="{scope}"' if scope else "")
    return f"<{tag}{attributes}>{'<br>'.join(map(_text, text.splitlines()))}</{tag}>"


def _scatter(report: Report) -> Iterator[str]:
    """Gain against the PSNR of the blurred picture, a mark for each image."""
    points = [
        (number, image)
        for number, model in enumerate(report.models)
        for image in model.result.images
        if math.isfinite(image.blurred.psnr) and math.isfinite(image.gain)
    ]
    yield "<h2>Gain against the blurred picture's PSNR</h2>"
    if not points:
        yield '<p class="quiet">There is no image of finite PSNR to show.</p>'
        return
    yield '<ul class="legend">'
    for number, model in enumerate(report.models):
        mark = _mark(number, 6.0, 6.0)
        yield f'<li><svg viewBox="0 0 12 12" aria-hidden="true">{mark}</svg>{_text(model.label)}</li>'
    yield "</ul>"
    across = _ticks([image.blurred.psnr for _, image in points])
    up = _ticks([0.0, *(image.gain for _, image in points)])
    scattered = counted(len(points), "image")
    label = f"Scatter of {scattered}: gain in dB, {up[0]:g} to {up[-1]:g}, against PSNR of the blurred picture"
    yield f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">'
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    for value in across:
        x = _along(value, across, _LEFT, right)
        yield f'<line class="axis" x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{bottom}"/>'
        yield f'<text x="{x:.1f}" y="{bottom + 22}" text-anchor="middle">{value:g}</text>'
    for value in up:
        y = _along(value, up, bottom, _TOP)
        kind = "axis" if value else "zero"
        yield f'<line class="{kind}" x1="{_LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>'
        yield f'<text x="{_LEFT - 8}" y="{y + 5:.1f}" text-anchor="end">{value:g}</text>'
    center, middle = (_LEFT + right) / 2, (_TOP + bottom) / 2
    yield f'<text x="{center}" y="{_HEIGHT - 10}" text-anchor="middle">PSNR of the blurred picture, dB</text>'
    yield f'<text x="18" y="{middle}" text-anchor="middle" transform="rotate(-90 18 {middle})">gain, dB</text>'
    for number, image in points:
        x, y = _along(image.blurred.psnr, across, _LEFT, right), _along(image.gain, up, bottom, _TOP)
        told = f"{report.models[number].label}: {image.pair.label}, {_scores(image)}"
        yield _mark(number, x, y, told)
    yield "</svg>"
    left_out = sum(len(model.result.images) for model in report.models) - len(points)
    if left_out:
        yield f'<p class="quiet">Not shown, as their PSNR is infinite: {left_out}.</p>'


def _mark(number: int, x: float, y: float, told: str = "") -> str:
    """The mark of the network of this number at a place; a browser shows `told` where the pointer rests on it."""
    tag, place = _SHAPES[number // _SERIES % len(_SHAPES)]
    title = f"<title>{_text(told)}</title>" if told else ""
    kind = f"mark series-{number % _SERIES}"
    return f'<{tag} class="{kind}" {place.format(x=x, y=y, left=x - 4, top=y - 4)}>{title}</{tag}>'


def _ticks(values: Sequence[float]) -> list[float]:
    """Round numbers at even distances, the first at most the least value and the last at least the greatest."""
    rough = max(max(values) - min(values), _LEAST_SPAN) / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    first = math.floor(min(values) / step)
    last = max(first + 1, math.ceil(max(values) / step))
    return [round(number * step, 10) for number in range(first, last + 1)]


def _along(value: float, ticks: Sequence[float], start: float, stop: float) -> float:
    """Where `value` lies from `start`, the first of the ticks, to `stop`, the last."""
    return start + (stop - start) * (value - ticks[0]) / (ticks[-1] - ticks[0])


def _galleries(model: ModelReport, views: Mapping[Pair, Views]) -> Iterator[str]:
    best, worst = best_and_worst(model.result.images)
    yield f"<h2>{_text(model.label)}</h2>"
    if not best:
        yield '<p class="quiet">No image was scored.</p>'
    elif views:
        yield '<p class="quiet">Drag across a picture, or tab to it and use the arrow keys.</p>'
    for heading, images in (("of most gain", best), ("of least gain", worst)):
        if images:
            several = f"{len(images)} images" if len(images) > 1 else "image"
            yield f"<h3>The {several} {heading}</h3>"
            yield '<div class="gallery">'
            for image in images:
                yield from _figure(image, views.get(image.pair))
            yield "</div>"


def _figure(image: ImageResult, views: Views | None) -> Iterator[str]:
    name = _text(image.pair.label)
    yield "<figure>"
    if views is not None:
        width, height = image.pair.size
        size = f'width="{width}" height="{height}" loading="lazy" decoding="async"'
        yield '<div class="compare">'
        yield f'<img {size} alt="{name}, blurred" src="{_data(views.blurred)}">'
        yield f'<img {size} class="restored" alt="{name}, restored" src="{_data(views.restored)}">'
        yield '<span class="label left">blurred</span><span class="label right">restored</span>'
        yield '<span class="handle" aria-hidden="true">↔</span>'
        yield f'<input type="range" min="0" max="100" value="50" aria-label="{name}: share that is shown blurred">'
        yield "</div>"
    said = "" if views is not None else " (scored in another run; no picture was kept)"
    yield f"<figcaption><strong>{name}</strong> {_scores(image)}{said}</figcaption>"
    yield "</figure>"


def _scores(image: ImageResult) -> str:
    return f"{image.blurred.psnr:.2f} → {image.restored.psnr:.2f} dB, gain {image.gain:+.2f} dB"


def _text(text: str) -> str:
    """`text` for HTML: markup escaped, and characters that cannot be printed, as names may hold, spelt out."""
    return html.escape("".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text))


def _data(picture: bytes) -> str:
    return f"data:{MEDIA_TYPE};base64,{base64.b64encode(picture).decode()}"


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _resource(name: str) -> str:
    return resources.files("deblur_cli.evaluation").joinpath(name).read_text(encoding="utf-8")
