"""Can each recipe learn at all? Trains its network on one fixed batch and says how well it restores that batch.

    python -m benchmarks.overfit --recipe cnn --recipe dscgan-short --steps 300

Four crops of this project's own photos, blurred once, are all there is to learn, so a network that does not come to
restore them better than they were has a fault in its layers, losses or recipe. Losses, optimiser and stages are the
recipe's, squeezed into the steps: a tenth of them warms up, and an adversarial stage has the last of them. The batch is
these crops; the nine-layer critic sees 256 pixels around their middles, which the network has not learned by heart. One
row a recipe: PSNR in dB of the blurred crops, of the restored ones after the content losses, and at the end where a
critic came after; least and largest value of each part of the loss; whether all were finite; minutes. Exits with 1 if a
recipe was not finite or gained nothing.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from deblur_cli.evaluation.metrics import psnr
from deblur_cli.training.accelerator import default_accelerator
from deblur_cli.training.blur import BlurSettings
from deblur_cli.training.data import Dice, PhotoSource, load_photos
from deblur_cli.training.learner import Learner, load_start
from deblur_cli.training.recipe import Recipe, load_recipe, shipped_recipes
from deblur_cli.training.schedules import Plateau

PHOTOS = Path(__file__).parents[1] / "sample_media" / "sharp"
SHARP_BLUR = BlurSettings(
    length=(4, 10), straight=1.0, foreground=0, linear=0, saturation=0, defocus=0, noise=0, jpeg=0
)

BEFORE_CRITIC = 0.97
"""Share of the steps before an adversarial stage."""


def fixed_batch(recipe: Recipe, crop: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Blurred and sharp, 4×3×crop×crop, or 4×frames×3×crop×crop for a recipe of sequences; always the same."""
    source = PhotoSource(load_photos(sorted(PHOTOS.glob("*.png")), crop))
    blurred, sharp = source.draw(4, crop, SHARP_BLUR, Dice.seeded(torch.device("cpu"), "overfit"), recipe.frames)
    return blurred.to(device), sharp.to(device)


def centre(images: Tensor, side: int) -> Tensor:
    """The side×side middle of images of …×H×W."""
    top, left = ((size - side) // 2 for size in images.shape[-2:])
    return images[..., top : top + side, left : left + side]


def overfit(recipe: Recipe, steps: int, crop: int, vgg: Path | None, device: str) -> tuple[str, bool]:
    """Train on the fixed batch; the row of the table, and whether the network learned."""
    # The running average would lag behind so short a run.
    recipe = replace(recipe, batch=4, steps=steps, ema=0.0, warmup=steps // 10)
    content_first = len(recipe.stages) > 1
    if content_first:  # what a critic asks for is not PSNR: it has the last steps, to show that it trains
        recipe = replace(recipe, stages=(replace(recipe.stages[0], until=BEFORE_CRITIC), recipe.stages[-1]))
    nine_layer = recipe.adversarial.critic == "nine-layer"  # judges 256×256, sixteen times dearer than the middle of it
    accelerator = default_accelerator(device)
    start_with = load_start(recipe.start, recipe) if recipe.start else None
    learner = Learner(recipe, accelerator, start=start_with, vgg=vgg)
    wide = fixed_batch(recipe, max(crop, 256) if nine_layer else crop, accelerator.device)
    batch = centre(wide[0], crop), centre(wide[1], crop)
    blurred, sharp = (images.flatten(0, -4) for images in batch)

    def score() -> float:
        with torch.inference_mode():
            restored = learner.scored(blurred).clamp(0, 1)
        return float(psnr(restored, sharp, data_range=1.0).mean())

    before, content = float(psnr(blurred, sharp, data_range=1.0).mean()), None
    plateau, seen, start = Plateau(), dict[str, list[float]](), time.monotonic()
    for step in range(steps):
        progress = step / steps
        stage = recipe.stage_at(progress)
        if content_first and stage.adversarial_weight and content is None:
            content = score()
        images = wide if nine_layer and stage.adversarial_weight else batch
        losses = learner.learn(stage, images, step, recipe.rate_at(step, progress, plateau.factor))
        for name, loss in losses.items():
            seen.setdefault(name, []).append(float(loss))
        learner.update(step)
        plateau = plateau.after(float(losses["loss"]), recipe.schedule)
    end = score()
    after = end if content is None else content
    finite = all(map(math.isfinite, [end, *(value for values in seen.values() for value in values)]))
    ranges = ", ".join(f"{name} {min(values):.3g} to {max(values):.3g}" for name, values in seen.items())
    minutes = (time.monotonic() - start) / 60
    scores = f"{before:.2f} | {after:.2f} | {after - before:+.2f} | {'–' if content is None else f'{end:.2f}'}"
    return f"{scores} | {ranges} | {'yes' if finite else 'NO'} | {minutes:.1f}", finite and after > before


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", action="append", help="which; again for more [default: all that are shipped]")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--crop", type=int, default=64, help="side of the crops")
    parser.add_argument("--rate", type=float, help="highest learning rate, instead of the recipe's")
    parser.add_argument("--vgg", type=Path, help="VGG19's weights, for recipes with a perceptual loss")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    names: Iterable[str] = arguments.recipe or shipped_recipes()
    learned = []
    print("| recipe | blurred, dB | restored, dB | gain | after the critic, dB | losses | finite | minutes |")
    print("|---|---|---|---|---|---|---|---|")
    for name in names:
        recipe = load_recipe(name)
        recipe = replace(recipe, rate=arguments.rate) if arguments.rate else recipe
        row, good = overfit(recipe, arguments.steps, arguments.crop, arguments.vgg, arguments.device)
        print(f"| `{name}` | {row} |", flush=True)
        learned.append(good)
    return 0 if all(learned) else 1


if __name__ == "__main__":
    sys.exit(main())
