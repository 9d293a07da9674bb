"""Is it seeing the blur that is hard to learn, or undoing it? A network trained for the same time, told more or less.

    python -m benchmarks.blindness --photos photos --minutes 4
    python -m benchmarks.blindness --photos photos --recipe base-brief --stage 2 --crop 96 --kind told --minutes 2 \\
        --options '{"widths": [56, 80], "encoder_blocks": [2, 2], "decoder_blocks": [2]}'

Photos, blurred as in one stage of a recipe: by default straight motion of 3 to 16 pixels, the first of `base-brief`.
`told` is given the transfer function measured with the sharp image, which nobody has who wants to restore; `given` has
what the estimator of the shipped `base` says, which rests; `estimated` is the network as it is; `blind` is given zeros
in its place. Scored on held-out photos, by the moving average of the weights. What a shape can undo within minutes
shows when it is told, since what it sees then is not what it waits for.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

from deblur_cli.evaluation.metrics import psnr
from deblur_cli.training.accelerator import default_accelerator
from deblur_cli.training.data import Dice, PhotoSource, load_photos
from deblur_cli.training.inputs import HELD_OUT, find_files
from deblur_cli.training.learner import Learner
from deblur_cli.training.pool import Pool, PoolSettings
from deblur_cli.training.recipe import Recipe, Stage, load_recipe
from models import load_model
from models.transfer import measured_transfer

KINDS = ("blind", "estimated", "given", "told")
HELD_OUT_CROPS = 64


class Told:
    """Stands in for what a network estimates, as a forward hook: with zeros, or with what is said or was measured."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.shipped: Any = load_model("base").network.transfer
        self.sharp: Tensor | None = None

    def __call__(self, estimator: torch.nn.Module, images: tuple[Tensor], estimate: Tensor) -> Tensor | None:
        if self.kind == "blind":
            return torch.zeros_like(estimate)
        if self.kind == "given":
            with torch.no_grad():
                return self.shipped(images[0])
        if self.kind == "told":
            assert self.sharp is not None
            # A network of several scales asks at each of them.
            return measured_transfer(images[0], functional.adaptive_avg_pool2d(self.sharp, images[0].shape[2:]))[0]
        return None


def gain(learner: Learner, told: Told, blurred: Tensor, sharp: Tensor) -> float:
    """How many dB the average of the weights restores, mean over the crops."""
    told.sharp = sharp
    with torch.inference_mode(), learner.accelerator.autocast():
        restored = learner.average(blurred).float().clamp(0, 1)
    return float((psnr(restored, sharp, data_range=1.0) - psnr(blurred, sharp, data_range=1.0)).mean())


def run(kind: str, recipe: Recipe, stage: Stage, photos: list[Tensor], minutes: float) -> tuple[int, list[float]]:
    """Steps done, and the gain at each quarter of the time."""
    weight = float(kind == "estimated")
    # All of the network learns: a part that a stage names may be one that this shape does not have.
    stage = dataclasses.replace(stage, clips=0.0, stills=0.0, until=1.0, transfer_weight=weight, taught=())
    learner = Learner(dataclasses.replace(recipe, stages=(stage,), ema=0.99), default_accelerator("cpu"))
    told: Any = Told(kind)
    for network in (learner.network, learner.average):
        network.transfer.register_forward_hook(told)
    training, held_out = [photo for n, photo in enumerate(photos) if n % HELD_OUT], photos[::HELD_OUT]

    def mixture(step: int) -> tuple[dict[str, float], Any]:
        return stage.weights, stage.blur

    device = torch.device("cpu")
    settings = PoolSettings(pairs=256, size=3 * stage.crop // 2)
    pool = Pool([PhotoSource(training)], settings, recipe.batch, 1, device, mixture)
    blurred, sharp = PhotoSource(held_out).draw(HELD_OUT_CROPS, stage.crop, stage.blur, Dice.seeded(device, "held out"))
    pool.batch(0, stage.crop)  # fills it
    gains: list[float] = []
    start, step = time.monotonic(), 0
    while (progress := (time.monotonic() - start) / (60 * minutes)) < 1:
        batch = pool.batch(step, stage.crop)
        told.sharp = batch[1]
        learner.learn(stage, batch, step, recipe.rate * min(1.0, (step + 1) / 200) * (1 - progress))
        learner.update(step)
        step += 1
        if progress >= (len(gains) + 1) / 4:
            gains.append(gain(learner, told, blurred, sharp))
    return step, [*gains, gain(learner, told, blurred, sharp)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="sharp photos; every 20th is held out")
    parser.add_argument("--minutes", type=float, default=4.0, help="of training of each (default: %(default)s)")
    parser.add_argument("--recipe", default="base-brief", help="whose network and rate (default: %(default)s)")
    parser.add_argument("--stage", type=int, default=1, help="of the recipe, whose blur (default: %(default)s)")
    parser.add_argument("--crop", type=int, default=128, help="in pixels (default: %(default)s)")
    parser.add_argument("--kind", choices=KINDS, action="append", help="what to run, repeatable (default: all)")
    parser.add_argument("--options", type=json.loads, default={}, help="of the network, as JSON")
    given = parser.parse_args()
    recipe = load_recipe(given.recipe)
    recipe = dataclasses.replace(recipe, options={**recipe.options, **given.options})
    stage = dataclasses.replace(recipe.stages[given.stage - 1], crop=given.crop)
    photos = load_photos(find_files(photos=given.photos).photos, 2 * given.crop)
    print("| the blur is | steps | gain after a quarter, half, three quarters and all of the time, dB |\n|---|---|---|")
    for kind in given.kind or KINDS:
        steps, gains = run(kind, recipe, stage, photos, given.minutes)
        print(f"| {kind} | {steps} | {', '.join(f'{one:+.2f}' for one in gains)} |", flush=True)


if __name__ == "__main__":
    main()
