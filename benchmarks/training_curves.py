"""Does each recipe train on photos? A short run of each, and the curves of all as one picture.

    python -m benchmarks.training_curves --photos DIR -o runs/curves cnn-short:3000 dscgan-short:600

Recipes are given as NAME:STEPS and are what they are but for three things cut to what a processor does in minutes:
crops, batches, and the blur, which is the easiest that `lite` begins with. Every stage has its share of the steps. The
folder keeps a JSON file a run; the picture `curves.png` is drawn of all that are there (this needs matplotlib). Left,
the parts of the loss; right, PSNR on held-out photos less that of their blurred input, for the averaged weights.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean

import torch

from deblur_cli.training.curves import Report
from deblur_cli.training.data import PhotoSource, load_photos
from deblur_cli.training.inputs import HELD_OUT
from deblur_cli.training.pool import PoolSettings
from deblur_cli.training.recipe import Recipe, load_recipe
from deblur_cli.training.trainer import train
from deblur_cli.training.validation import Validator, synthetic_set

CROP, BATCH = 96, 4
VALIDATIONS = 8
POINTS = 60
"""Points of a loss curve, each the mean of the steps since the one before."""


def shortened(recipe: Recipe, steps: int) -> Recipe:
    """The recipe with small crops and batches and easy blur; only the nine-layer critic gets the 256×256 it judges."""
    blur = load_recipe("lite").stages[0].blur
    whole = recipe.adversarial.critic == "nine-layer"
    stages = tuple(
        replace(stage, crop=256 if whole and stage.adversarial_weight else CROP, blur=blur) for stage in recipe.stages
    )
    return replace(
        recipe,
        steps=steps,
        batch=2 if whole else BATCH,
        stages=stages,
        pool=PoolSettings(pairs=64, size=max(stage.crop for stage in stages), reuse=16),
        ema=0.98,
        validate_every=max(1, steps // VALIDATIONS),
    )


def run(recipe: Recipe, photos: list[Path], folder: Path, vgg: Path | None) -> list[Report]:
    """Train, and return what the loop told step by step."""
    training = [path for number, path in enumerate(photos) if number % HELD_OUT]
    held_out = PhotoSource(load_photos(photos[::HELD_OUT], 128))
    reports: list[Report] = []
    train(
        recipe,
        [PhotoSource(load_photos(training, recipe.pool.size))],
        folder,
        validator=Validator([synthetic_set(held_out, recipe.stages[0].blur, count=16, size=128)], torch.device("cpu")),
        vgg=vgg,
        tell=reports.append,
    )
    return reports


def draw(runs: dict[str, list[Report]], path: Path) -> None:
    """Two panels a run: parts of the loss (symmetrical logarithm), and gain in dB."""
    from matplotlib import pyplot

    figure, rows = pyplot.subplots(len(runs), 2, figsize=(12, 2.2 * len(runs)), squeeze=False, layout="constrained")
    for (name, reports), (left, right) in zip(runs.items(), rows, strict=True):
        every = max(1, len(reports) // POINTS)
        for part in dict.fromkeys(part for report in reports for part in report.parts):
            told = [(report.step, report.parts[part]) for report in reports if part in report.parts]
            groups = [told[start : start + every] for start in range(0, len(told), every)]
            left.plot([group[-1][0] for group in groups], [fmean(v for _, v in group) for group in groups], label=part)
        left.set_yscale("symlog", linthresh=1e-3)
        left.set_title(f"{name}, {reports[-1].elapsed / 60:.1f} minutes: losses", fontsize=9)
        left.legend(fontsize=7)
        scored = [(report.step, report.scores["mean"]) for report in reports if report.scores]
        right.plot(*zip(*scored, strict=True), marker="o", color="black")
        right.axhline(0, color="grey", linewidth=0.5)
        right.set_title(f"{name}: gain over the blurred input, dB; at the end {scored[-1][1]:+.2f}", fontsize=9)
    figure.savefig(path, dpi=75)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", metavar="NAME:STEPS")
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--vgg", type=Path, help="VGG19's weights, for recipes with a perceptual loss")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    photos = sorted(path for path in arguments.photos.iterdir() if path.suffix in (".png", ".jpg", ".webp"))
    for wanted in arguments.recipes:
        name, _, steps = wanted.partition(":")
        reports = run(shortened(load_recipe(name), int(steps)), photos, arguments.output / name, arguments.vgg)
        (arguments.output / f"{name}.json").write_text(json.dumps([asdict(report) for report in reports]))
        print(f"{name}: {reports[-1].elapsed / 60:.1f} minutes, {reports[-1].scores}", flush=True)
    files = sorted(arguments.output.glob("*.json"))
    draw(
        {file.stem: [Report(**told) for told in json.loads(file.read_text())] for file in files},
        arguments.output / "curves.png",
    )


if __name__ == "__main__":
    main()
