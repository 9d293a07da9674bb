"""What a benchmark found: a table to read, a CSV file with a row an image, a JSON file with all that decides it."""

from __future__ import annotations

import csv
import io
import json
import math
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deblur_cli.evaluation.benchmark import DATA_RANGE, BenchmarkResult, Summary, summarise
from deblur_cli.media.files import replacing

if TYPE_CHECKING:
    from rich.table import Table

    from deblur_cli.evaluation.datasets import Dataset, Pair
    from deblur_cli.evaluation.metrics import Scores
    from deblur_cli.restoration.restorer import Restorer
    from models.registry import Score

_SSIM_KINDS = {"cw": "complex wavelet", "": "SSIM of unknown kind"}


@dataclass(frozen=True)
class ModelReport:
    """One network's benchmark, and what it ran as."""

    label: str
    """Tells this network from the others of the report."""
    network: str
    """Its name in the registry."""
    options: Mapping[str, Any]
    weights: str | None
    """Name of the file of weights; None for an untrained network."""
    sha256: str | None
    published: tuple[Score, ...]
    device: str
    hardware: str
    threads: int
    precision: str
    tile: str
    """As asked for: `auto`, 0 for whole images, or the side in pixels."""
    overlap: int | None
    """As asked for, in pixels; None for the network's own."""
    result: BenchmarkResult
    notes: tuple[str, ...] = ()
    """What the restorer had to say."""


@dataclass(frozen=True)
class Report:
    """Networks side by side over one dataset."""

    dataset: Dataset
    rounding: bool
    """Whether restored values were rounded to 8 bits before scoring."""
    models: tuple[ModelReport, ...]

    @property
    def blurred_scores(self) -> dict[Pair, Scores]:
        """Scores of the blurred pictures that at least one network was scored on."""
        return {image.pair: image.blurred for model in self.models for image in model.result.images}

    @property
    def published_known(self) -> bool:
        """Whether published figures belong beside ours: it is GOPRO's test split, and a network has some."""
        ours = self.dataset.name == "GOPRO" and self.dataset.split == "test"
        return ours and any(gopro_scores(model.published) for model in self.models)


def describe(
    restorer: Restorer,
    result: BenchmarkResult,
    *,
    label: str,
    tile: str | int,
    overlap: int | None,
    notes: Sequence[str] = (),
) -> ModelReport:
    """`result` with what `restorer` is and ran as; the precision is the one that it ended with."""
    import torch

    model = restorer.model
    on_gpu = restorer.device.type == "cuda"
    return ModelReport(
        label=label,
        network=model.info.name,
        options=model.options,
        weights=model.path.name if model.path else None,
        sha256=model.sha256,
        published=model.info.published,
        device=str(restorer.device),
        hardware=torch.cuda.get_device_name(restorer.device) if on_gpu else platform.machine(),
        threads=torch.get_num_threads(),
        precision=restorer.precision,
        tile=str(tile),
        overlap=overlap,
        result=result,
        notes=tuple(notes),
    )


def gopro_scores(published: Sequence[Score]) -> list[Score]:
    """Those of a network's published figures that were taken on GOPRO."""
    return [score for score in published if score.dataset.upper().startswith("GOPRO")]


def build_table(report: Report) -> Table:
    """A row for the blurred input, then one for each network; published figures in a column of their own."""
    from rich.table import Table

    table = Table()
    table.add_column("")
    for heading in ("PSNR dB", "ssim", "ssim_matlab", "gain dB", "ms/image", "worst gain dB"):
        table.add_column(heading, justify="right", no_wrap=True)
    if report.published_known:
        table.add_column("published, not measured here")
    table.add_row("blurred input", *_summary_cells(summarise(report.blurred_scores.values())))
    for model in report.models:
        result = model.result
        cells = [*_summary_cells(result.restored), _number(result.gain, "+.2f"), _number(result.milliseconds, ".1f")]
        cells.append(_number(result.worst.gain, "+.2f") if result.worst else _number(math.nan, ""))
        if report.published_known:
            cells.append("\n".join(map(_published, gopro_scores(model.published))))
        table.add_row(model.label, *cells)
    return table


def build_notes(report: Report) -> list[str]:
    """The protocol in a line, what each network ran as, and all that a reader of the table has to know; a line each."""
    return [_protocol(report), *map(_conditions, report.models), *_remarks(report)]


def write_csv(report: Report, path: Path) -> None:
    """A row for each image and network; an image that failed has its reason in the last column and no scores.

    Raises:
        OSError: the file cannot be written.
    """
    metrics = ("psnr", "ssim", "ssim_matlab")
    with io.StringIO(newline="") as text:
        writer = csv.writer(text, lineterminator="\n")
        scored = [*metrics, *(f"blurred_{metric}" for metric in metrics), "gain", "seconds"]
        writer.writerow(["model", "sequence", "name", "width", "height", *scored, "error"])
        for model in report.models:
            for image in model.result.images:
                values = [*asdict(image.restored).values(), *asdict(image.blurred).values(), image.gain, image.seconds]
                writer.writerow([model.label, *_pair_cells(image.pair), *values, ""])
            for failure in model.result.failures:
                writer.writerow([model.label, *_pair_cells(failure.pair), *[""] * len(scored), failure.reason])
        _write(path, text.getvalue())


def write_json(report: Report, path: Path) -> None:
    """Everything that decides the numbers, the means, and every image. An infinite PSNR is the text `inf`.

    Raises:
        OSError: the file cannot be written.
    """
    _write(path, json.dumps(_plain(_document(report)), indent=2, allow_nan=False) + "\n")


def _write(path: Path, text: str) -> None:
    with replacing(path) as stream:
        # Names of files may hold bytes that are no text; they come back as they were.
        stream.write(text.encode("utf-8", "surrogateescape"))


def _summary_cells(summary: Summary) -> list[str]:
    return [_number(summary.psnr, ".2f"), _number(summary.ssim, ".4f"), _number(summary.ssim_matlab, ".4f")]


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def _published(score: Score) -> str:
    if score.ssim is None:
        return f"{score.psnr:.2f} dB"
    return f"{score.psnr:.2f} dB, {score.ssim:.4f} ({_SSIM_KINDS.get(score.ssim_kind, score.ssim_kind)})"


def _protocol(report: Report) -> str:
    import torch

    dataset = report.dataset
    sizes = {pair.size for pair in dataset.pairs}
    parts = [
        " ".join(filter(None, (dataset.name, dataset.split))),
        f"variant {dataset.variant}" if dataset.variant else "",
        f"{dataset.coverage} pairs",
        "×".join(map(str, sizes.pop())) if len(sizes) == 1 else "various sizes",
        "rounded to 8 bits before scoring" if report.rounding else "not rounded (--float)",
        "means over images",
        f"torch {torch.__version__}",
    ]
    return "protocol: " + ", ".join(filter(None, parts))


def _conditions(model: ModelReport) -> str:
    weights = f"weights {model.weights} sha256 {model.sha256[:12]}" if model.sha256 else "untrained"
    overlap = "" if model.overlap is None else f", overlap {model.overlap}"
    timed = len(model.result.images) - model.result.warm_up
    return (
        f"{model.label}: network {model.network}, {weights}, device {model.device} ({model.hardware}), "
        f"{model.threads} threads, precision {model.precision}, tile {model.tile}{overlap}, "
        f"median time of {timed} images after {model.result.warm_up} to warm up"
    )


def _remarks(report: Report) -> Iterator[str]:
    dataset = report.dataset
    for note in dataset.notes:
        yield f"note: {note}"
    if not dataset.whole and dataset.expected:
        yield f"note: not the whole of {dataset.name}, so not comparable with figures published for it"
    if dataset.left_out:
        yield f"note: left out, as they do not pair: {len(dataset.left_out)}, such as: {dataset.left_out[0]}"
    identical = summarise(report.blurred_scores.values()).identical
    if identical:
        yield f"note: blurred input identical to the sharp image: {identical}, PSNR inf, kept out of the mean"
    for model in report.models:
        result = model.result
        if result.restored.identical:
            yield (
                f"note: {model.label}: restored identical to the sharp image: {result.restored.identical}, "
                "PSNR inf, kept out of the mean"
            )
        if result.worst is not None:
            name = "/".join(filter(None, (result.worst.pair.sequence, result.worst.pair.name)))
            yield f"{model.label}: worst is {name} with {result.worst.gain:+.2f} dB"
        for note in model.notes:
            yield f"note: {model.label}: {note}"
        if result.failures:
            yield f"note: {model.label}: failed and in no mean: {len(result.failures)}"
    if report.published_known:
        yield "note: published figures are their authors', for all 1,111 test pairs of GOPRO"
        if any(score.ssim_kind == "cw" for model in report.models for score in gopro_scores(model.published)):
            yield "note: an SSIM of the complex wavelet kind compares with no column here"


def _pair_cells(pair: Pair) -> list[str | int]:
    return [pair.sequence, pair.name, *pair.size]


def _document(report: Report) -> dict[str, Any]:
    import torch

    from deblur_cli import __version__

    dataset = report.dataset
    return {
        "dataset": {
            "name": dataset.name,
            "split": dataset.split,
            "variant": dataset.variant,
            "folders": [str(folder) for folder in dataset.folders],
            "coverage": dataset.coverage,
            "pairs": len(dataset.pairs),
            "expected": dataset.expected,
            "whole": dataset.whole,
            "left_out": dataset.left_out,
            "notes": dataset.notes,
        },
        "protocol": {
            "rounded_to_8_bits": report.rounding,
            "data_range": DATA_RANGE,
            "psnr": "one MSE over all pixels and channels of an image, mean over images, infinite values left out",
            "ssim": "11×11 Gaussian, sigma 1.5, per channel, valid region, mean of channels",
            "ssim_matlab": "11×11×11 Gaussian, sigma 1.5, over height, width and channel, replicated borders",
            "time": "batch 1, weights resident, synchronised, decoding apart, median after the warm-up",
        },
        "versions": {"deblur": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "blurred": asdict(summarise(report.blurred_scores.values())),
        "models": [_model_document(model) for model in report.models],
    }


def _model_document(model: ModelReport) -> dict[str, Any]:
    result = model.result
    facts = {key: value for key, value in vars(model).items() if key not in ("result", "published")}
    return {
        **facts,
        "published": [asdict(score) for score in model.published],
        "restored": asdict(result.restored),
        "blurred": asdict(result.blurred),
        "gain": result.gain,
        "milliseconds": result.milliseconds,
        "warm_up_images": result.warm_up,
        "images": [
            {
                "sequence": image.pair.sequence,
                "name": image.pair.name,
                "size": image.pair.size,
                "restored": asdict(image.restored),
                "blurred": asdict(image.blurred),
                "gain": image.gain,
                "seconds": image.seconds,
            }
            for image in result.images
        ],
        "failures": [
            {"sequence": failure.pair.sequence, "name": failure.pair.name, "reason": failure.reason}
            for failure in result.failures
        ],
    }


def _plain(value: Any) -> Any:
    """`value` as JSON can hold it: what is not finite becomes text, what was not measured null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
