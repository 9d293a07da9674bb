"""What a benchmark found, as files: CSV with a row an image, and JSON with all that decides the numbers."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deblur_cli import documents
from deblur_cli.evaluation import perceptual
from deblur_cli.evaluation.benchmark import DATA_RANGE
from deblur_cli.evaluation.datasets import Pair
from deblur_cli.evaluation.report import PROTOCOLS, ModelReport, Report
from deblur_cli.evaluation.summaries import mean_of_known, means_of_sequences, summarise_pairs
from deblur_cli.media.files import replacing


def write_csv(report: Report, path: Path) -> None:
    """A row for each image and network; an image that failed has its reason in the last column and no scores.

    There are no times in it, so that the same scores always make the same file.

    Raises:
        OSError: the file cannot be written.
    """
    metrics = ("psnr", "ssim", "ssim_matlab", *(["ms_ssim"] if report.multiscale else []))
    with io.StringIO(newline="") as text:
        writer = csv.writer(text, lineterminator="\n")
        scored = [*metrics, *(f"blurred_{metric}" for metric in metrics), "gain", "flicker", "blurred_flicker"]
        scored += [perceptual.NAME, f"blurred_{perceptual.NAME}"] if report.lpips else []
        writer.writerow(["model", "sequence", "name", "width", "height", *scored, "error"])
        for model in report.models:
            for image in model.result.images:
                values = [getattr(scores, metric) for scores in (image.restored, image.blurred) for metric in metrics]
                values.append(image.gain)
                values += [image.flicker, image.blurred_flicker]
                values += [image.lpips, image.blurred_lpips] if report.lpips else []
                writer.writerow([model.label, *_pair_cells(image.pair), *values, ""])
            for failure in model.result.failures:
                writer.writerow([model.label, *_pair_cells(failure.pair), *[""] * len(scored), failure.reason])
        with replacing(path) as stream:
            # Names of files may hold bytes that are no text; they come back as they were.
            stream.write(text.getvalue().encode("utf-8", "surrogateescape"))


def write_json(report: Report, path: Path) -> None:
    """Everything that decides the numbers, the means, and every image. An infinite PSNR is the text `inf`.

    Raises:
        OSError: the file cannot be written.
    """
    documents.write_json(_plain(_document(report)), path)


def _pair_cells(pair: Pair) -> list[str | int]:
    return [pair.sequence, pair.name, *pair.size]


def _document(report: Report) -> dict[str, Any]:
    dataset = report.dataset
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "dataset": {
            "name": dataset.name,
            "split": dataset.split,
            "variant": dataset.variant,
            "folders": [str(folder) for folder in dataset.folders],
            "coverage": dataset.coverage,
            "pairs": len(dataset.pairs),
            "expected": dataset.expected,
            "whole": dataset.whole,
            "missing": dataset.missing,
            "video": dataset.video,
            "left_out": dataset.left_out,
            "notes": dataset.notes,
        },
        "protocol": {
            "rounded_to_8_bits": report.rounding,
            "data_range": DATA_RANGE,
            "name": dataset.protocol,
            "description": PROTOCOLS[dataset.protocol],
            "psnr": "one MSE over all pixels and channels of an image, mean over pairs of finite ones",
            "ssim": "11×11 Gaussian, sigma 1.5, per channel, valid region, mean of channels",
            "ssim_matlab": "11×11×11 Gaussian, sigma 1.5, over height, width and channel, replicated borders",
            "ms_ssim": "luminance, five scales, 9/7 low-pass; None but in Köhler's protocol",
            "flicker": "mean |(restored_t - restored_t-1) - (sharp_t - sharp_t-1)|, grey levels of 8 bits, of videos",
            "lpips": report.lpips,
            "time": "batch 1, weights resident, synchronised, decoding apart, median after the warm-up",
        },
        "versions": documents.versions(),
        "blurred": asdict(report.blurred),
        "blurred_over_sequences": asdict(means_of_sequences(report.blurred_scores, report.infinite)),
        "blurred_flicker": report.blurred_flicker,
        "blurred_lpips": report.blurred_lpips,
        "models": [_model_document(report, model) for model in report.models],
    }


def _model_document(report: Report, model: ModelReport) -> dict[str, Any]:
    result, apart = model.result, report.infinite
    facts = {key: value for key, value in vars(model).items() if key not in ("result", "published", "pictures")}
    return {
        **facts,
        "pictures": None if model.pictures is None else str(model.pictures),
        "published": [asdict(score) for score in model.published],
        "restored": asdict(report.restored(model)),
        "blurred": asdict(summarise_pairs(result.blurred_scores, apart)),
        "over_sequences": asdict(means_of_sequences(result.restored_scores, apart)),
        "flicker": result.flicker,
        "lpips": result.lpips,
        "gain": result.gain_without(apart),
        "milliseconds": result.milliseconds,
        "warm_up_images": result.warm_up,
        "sequences": [
            {
                "sequence": name,
                "images": len(images),
                "restored": asdict(summarise_pairs({image.pair: image.restored for image in images}, apart)),
                "blurred": asdict(summarise_pairs({image.pair: image.blurred for image in images}, apart)),
                "flicker": mean_of_known(image.flicker for image in images),
                "blurred_flicker": mean_of_known(image.blurred_flicker for image in images),
            }
            for name, images in result.sequences.items()
        ],
        "images": [
            {
                "sequence": image.pair.sequence,
                "name": image.pair.name,
                "size": image.pair.size,
                "restored": asdict(image.restored),
                "blurred": asdict(image.blurred),
                "gain": image.gain,
                "flicker": image.flicker,
                "blurred_flicker": image.blurred_flicker,
                "lpips": image.lpips,
                "blurred_lpips": image.blurred_lpips,
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
