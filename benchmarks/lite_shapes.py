"""Which shape should `lite` have? Trains candidates for the same time on one core each and scores them.

    python -m benchmarks.lite_shapes --photos DIR --clips DIR --pairs GOPRO_DIR --minutes 6 --only NAME -o runs/shapes

Each run appends a row to `shapes.csv` in the output folder: parameters, seconds for a 1280×720 frame, training steps
done, and PSNR in dB on the held-out sets. Time is counted in processor seconds, so a busy machine does not matter.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import torch
from torch import Tensor, nn

import models
from deblur_cli.training.accelerator import default_accelerator
from deblur_cli.training.blur import BlurSettings
from deblur_cli.training.data import ClipSource, PhotoSource, load_clips, load_photos
from deblur_cli.training.recipe import Recipe, Stage
from deblur_cli.training.trainer import Limits, train
from deblur_cli.training.validation import Validator, paired_set, synthetic_set
from models import measure
from models.lite import PlainBlock, ResidualBlock, UnshuffledUNet

EASY = BlurSettings(
    length=(3, 16), straight=1.0, roll=0, foreground=0, linear=0, saturation=0, defocus=0, noise=0, jpeg=0
)


class GatedBlock(nn.Module):
    """NAFNet's block without its pooled attention, whose global mean would cost tiles their agreement."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(1, channels), nn.GroupNorm(1, channels)
        self.expand = nn.Conv2d(channels, 2 * channels, 1)
        self.depthwise = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels)
        self.project = nn.Conv2d(channels, channels, 1)
        self.widen = nn.Conv2d(channels, 2 * channels, 1)
        self.narrow = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.depthwise(self.expand(self.norm1(x))).chunk(2, dim=1)
        x = x + self.project(gate * value)
        gate, value = self.widen(self.norm2(x)).chunk(2, dim=1)
        return x + self.narrow(gate * value)


# unshuffle, widths, encoder blocks, decoder blocks, block
SHAPES = {
    "u2-plain": (2, (24, 48, 96, 160), (2, 2, 2, 4), (2, 2, 2), PlainBlock),
    "u2-residual": (2, (24, 48, 96, 144), (1, 1, 2, 3), (1, 1, 2), ResidualBlock),
    "u4-residual": (4, (48, 96, 160), (1, 2, 4), (1, 2), ResidualBlock),
    "u2-gated": (2, (32, 64, 128), (1, 2, 4), (1, 2), GatedBlock),
}


@models.register_model("shape", "a candidate for lite", multiple_of=16, hidden=True)
def shape(name: str = "u4-residual") -> nn.Module:
    unshuffle, widths, encoder_blocks, decoder_blocks, block = SHAPES[name]
    return UnshuffledUNet(unshuffle, widths, encoder_blocks, decoder_blocks, [block] * len(widths))


def seconds_per_frame(network: nn.Module) -> float:
    """Of four frames of 1280×720 the fastest."""
    frame = torch.rand(1, 3, 720, 1280).contiguous(memory_format=torch.channels_last)
    times = []
    with torch.inference_mode():
        for _ in range(4):
            start = time.perf_counter()
            network(frame)
            times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, required=True, help="a folder of */blur/*.png and */sharp/*.png")
    parser.add_argument("--minutes", type=float, default=6)
    parser.add_argument("--only", choices=SHAPES, action="append")
    parser.add_argument("--loss", default="charbonnier")
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    files = sorted(arguments.photos.glob("*.webp"))
    fast, stills = load_clips(sorted(arguments.clips.glob("[AB]*.mp4")) + sorted(arguments.clips.glob("gopro*.mp4")))
    pictures = load_photos([file for number, file in enumerate(files) if number % 20], 256)
    sources = [PhotoSource([*pictures, *stills]), ClipSource(fast)]
    blurred = sorted(arguments.pairs.glob("*/blur/*.png"))
    validator = Validator(
        [
            synthetic_set(PhotoSource(load_photos(files[::20], 256)), BlurSettings()),
            paired_set("gopro", [(file, file.parents[1] / "sharp" / file.name) for file in blurred]),
        ],
        torch.device("cpu"),
        multiple_of=16,
    )
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name in arguments.only or SHAPES:
        recipe = Recipe(
            model="shape",
            options={"name": name},
            loss=arguments.loss,
            rate=arguments.rate,
            steps=10**6,
            warmup=50,
            optimizer="muon",
            validate_every=10**6,
            stages=(Stage(until=0.35, blur=EASY, clips=0.0), Stage(clips=0.6)),
        )
        limits = Limits(seconds=60 * arguments.minutes, clock=time.process_time)
        folder = arguments.output / f"{name}-{arguments.loss}-{arguments.rate}"
        done = train(
            recipe, sources, folder, validator=validator, limits=limits, accelerator=default_accelerator("cpu")
        )
        network = models.create_model("shape", name=name).to(memory_format=torch.channels_last)
        with (folder / "curves.csv").open(newline="") as curves:
            scores = list(csv.reader(curves))[-5:]
        row = [
            name, arguments.loss, arguments.rate, measure.parameters(network),
            round(seconds_per_frame(network), 3), done.step, round(done.elapsed),
            *(f"{entry[-2]}={entry[-1]}" for entry in scores),
        ]  # fmt: skip
        print(*row)
        with (arguments.output / "shapes.csv").open("a", newline="") as table:
            csv.writer(table).writerow(row)


if __name__ == "__main__":
    main()
