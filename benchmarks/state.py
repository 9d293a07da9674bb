"""What a recurrent network's memory is worth: the same weights with the state carried on, and with it reset each frame.

    python -m benchmarks.state -m runs/srn/best.safetensors --photos photos --clips held_out.mp4

Sequences are cut from every 20th photo, which training never sees, moved along a trajectory, and from the clips given,
which must be others than those trained on. Compared are the frames from the second on. Sequences are independent of
each other and frames are not, so the standard error is that of the sequences' means. Flicker is the mean absolute
difference between how the restored sequence changes from frame to frame and how the sharp one does, in levels of 255.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from deblur_cli.evaluation.metrics import psnr
from deblur_cli.training.data import ClipSource, Dice, PhotoSource, Source, load_clips, load_photos
from deblur_cli.training.inputs import HELD_OUT, find_files
from deblur_cli.training.recipe import load_recipe
from deblur_cli.training.unrolled import Unrolled, full_size
from models import LoadedModel, load_model

BATCH = 8
"""Sequences at a time."""


@torch.inference_mode()
def restore(model: LoadedModel, blurred: Tensor, *, carry: bool) -> Tensor:
    """N×frames×3×H×W to the same in [0, 1], the state going from frame to frame or not."""
    network = Unrolled(model.network, recurrent=True)
    restored = full_size(network(blurred.flatten(0, 1), blurred.shape[1] if carry else 1))
    return restored.clamp(0, 1).view_as(blurred)


def mean_psnr(images: Tensor, sharp: Tensor) -> Tensor:
    """N×frames×3×H×W each to the mean PSNR of each sequence's frames from the second on, N."""
    values = psnr(images[:, 1:].flatten(0, 1), sharp[:, 1:].flatten(0, 1), data_range=1.0)
    return values.unflatten(0, (len(images), -1)).mean(dim=1)


def flicker(images: Tensor, sharp: Tensor) -> Tensor:
    """N×frames×3×H×W each to the flicker of each sequence, N."""
    error = images - sharp
    return 255 * (error[:, 1:] - error[:, :-1]).abs().mean(dim=(1, 2, 3, 4))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", required=True, help="weights of a recurrent network")
    parser.add_argument("--photos", type=Path, help="the folder of photos that it was trained on")
    parser.add_argument("--clips", type=Path, help="high-speed clips that it was not trained on")
    parser.add_argument("--recipe", default="srn-brief", help="whose blur is taken (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=4, help="of a sequence (default: %(default)s)")
    parser.add_argument("--size", type=int, default=64, help="of its crops (default: %(default)s)")
    parser.add_argument("--sequences", type=int, default=64, help="of each kind (default: %(default)s)")
    options = parser.parse_args()

    files = find_files(photos=options.photos, clips_folder=options.clips)
    sources: dict[str, Source] = {}
    if files.photos:
        sources["photos"] = PhotoSource(load_photos(files.photos[::HELD_OUT], options.size))
    if files.clips:
        sources["clips"] = ClipSource(load_clips(files.clips, options.frames)[0])
    model, blur = load_model(options.model), load_recipe(options.recipe).stages[-1].blur
    modes: dict[str, Callable[[Tensor], Tensor]] = {
        "blurred": lambda blurred: blurred,
        "reset": partial(restore, model, carry=False),
        "state": partial(restore, model, carry=True),
    }
    print("| sequences | | PSNR, dB | flicker |\n|---|---|---|---|")
    for kind, source in sources.items():
        scores: dict[str, list[Tensor]] = {mode: [] for mode in modes}
        for number in range(options.sequences // BATCH):
            dice = Dice.seeded(torch.device("cpu"), "state", kind, number)
            blurred, sharp = source.draw(BATCH, options.size, blur, dice, options.frames)
            for mode, apply in modes.items():
                images = apply(blurred)
                scores[mode].append(torch.stack([mean_psnr(images, sharp), flicker(images, sharp)]))
        found = {mode: torch.cat(parts, dim=1) for mode, parts in scores.items()}
        for mode, values in found.items():
            print(f"| {kind} | {mode} | {values[0].mean():.3f} | {values[1].mean():.4f} |")
        gain = found["state"] - found["reset"]
        spread = gain.std(dim=1) / gain.shape[1] ** 0.5
        pairs = [f"{mean:+.4f} ± {error:.4f}" for mean, error in zip(gain.mean(dim=1), spread, strict=True)]
        print(f"| {kind} | **state − reset** | {pairs[0]} | {pairs[1]} |")


if __name__ == "__main__":
    main()
