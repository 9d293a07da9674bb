"""Is it seeing the blur that is hard to learn, or undoing it? `lite` trained for the same time, told more or less.

    python -m benchmarks.blindness --photos photos --minutes 4

Straight motion of 3 to 16 pixels on photos, as in the first stage of recipes/lite.toml, crops of 128 pixels. `told` is
given the transfer function measured with the sharp image, which nobody has who wants to restore; `estimated` is the
network as it is; `blind` is given zeros in its place. Scored on held-out photos, by the moving average of the weights.
"""

from __future__ import annotations

import argparse
import dataclasses
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
from deblur_cli.training.recipe import Recipe, load_recipe
from models.transfer import measured_transfer

CROP = 128
KINDS = ("blind", "estimated", "told")
HELD_OUT_CROPS = 64


class Told:
    """Stands in for what a network estimates, as a forward hook: with zeros, or with what was measured."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.sharp: Tensor | None = None

    def __call__(self, estimator: torch.nn.Module, images: tuple[Tensor], estimate: Tensor) -> Tensor | None:
        if self.kind == "blind":
            return torch.zeros_like(estimate)
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


def run(kind: str, recipe: Recipe, photos: list[Tensor], minutes: float) -> tuple[int, list[float]]:
    """Steps done, and the gain at each quarter of the time."""
    stage = dataclasses.replace(recipe.stages[0], clips=0.0, until=1.0, transfer_weight=float(kind == "estimated"))
    learner = Learner(dataclasses.replace(recipe, stages=(stage,), ema=0.99), default_accelerator("cpu"))
    told: Any = Told(kind)
    for network in (learner.network, learner.average):
        network.transfer.register_forward_hook(told)
    training, held_out = [photo for n, photo in enumerate(photos) if n % HELD_OUT], photos[::HELD_OUT]

    def mixture(step: int) -> tuple[dict[str, float], Any]:
        return stage.weights, stage.blur

    device = torch.device("cpu")
    pool = Pool([PhotoSource(training)], PoolSettings(pairs=256, size=192), recipe.batch, 1, device, mixture)
    blurred, sharp = PhotoSource(held_out).draw(HELD_OUT_CROPS, CROP, stage.blur, Dice.seeded(device, "held out"))
    pool.batch(0, CROP)  # fills it
    gains: list[float] = []
    start, step = time.monotonic(), 0
    while (progress := (time.monotonic() - start) / (60 * minutes)) < 1:
        batch = pool.batch(step, CROP)
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
    options = parser.parse_args()
    photos = load_photos(find_files(photos=options.photos).photos, 2 * CROP)
    print("| the blur is | steps | gain after a quarter, half, three quarters and all of the time, dB |\n|---|---|---|")
    for kind in KINDS:
        steps, gains = run(kind, load_recipe("lite"), photos, options.minutes)
        print(f"| {kind} | {steps} | {', '.join(f'{one:+.2f}' for one in gains)} |", flush=True)


if __name__ == "__main__":
    main()
