"""Do tiles show? Each network's restoration of a picture in tiles, against that of the whole picture.

    python -m benchmarks.tiles
    python -m benchmarks.tiles -m msrn -m runs/lite/best.safetensors --tile 128

The picture is a mosaic of this project's own photos with motion blur and noise, twice as wide and one and a half times
as high as a tile with its context, so that no tile sees all of it. A recurrent network restores three frames of it with
its state, each moved by four pixels, and all three are compared. Weights are those shipped; networks without any have
random ones, in which parameters that begin as zeros (with which a network may give its input back) are drawn as well.
`change` is the mean of what the whole restoration alters and `clipped` the share of it that is black or white, without
which the comparison would say nothing. Levels are of 255, precision is fp32. Exits with 1 if a network differs by more
than 0.5 on the mean or by more than 3 anywhere, alters the picture by less than ten times the difference, or clips more
than half of it.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from deblur_cli.evaluation.speed import load_or_create
from deblur_cli.restoration.restorer import Restorer
from deblur_cli.restoration.states import FrameState
from deblur_cli.training.data import load_photos
from models import LoadedModel, list_models

PHOTOS = Path(__file__).parents[1] / "sample_media" / "sharp"
PATCH = 300
"""Side in pixels of the pieces of the mosaic: the smallest photo's."""
FRAMES, STEP, NOISE = 3, 4, 4 / 255


def mosaic(height: int, width: int) -> Tensor:
    """1×3×height×width in [0, 1], always the same: photos side by side, all moved along 9 pixels to the right."""
    photos = load_photos(sorted(PHOTOS.glob("*.png")), PATCH)
    corners = [corner for photo in photos for corner in (photo[:, :PATCH, :PATCH], photo[:, -PATCH:, -PATCH:])]
    rows, columns = math.ceil(height / PATCH), math.ceil(width / PATCH)
    strips = [torch.cat([corners[(3 * row + n) % len(corners)] for n in range(columns)], 2) for row in range(rows)]
    sharp = torch.cat(strips, 1)[None, :, :height, :width].float() / 255
    return functional.avg_pool2d(functional.pad(sharp, (4, 4, 0, 0), mode="replicate"), (1, 9), stride=1)


def sequence(height: int, width: int, count: int) -> list[Tensor]:
    """Frames of the mosaic, each moved on and with noise of its own."""
    picture, generator = mosaic(height + STEP * count, width + STEP * count), torch.Generator().manual_seed(0)
    frames = [picture[:, :, n : n + height, n : n + width] for n in range(0, STEP * count, STEP)]
    return [(frame + NOISE * torch.randn(frame.shape, generator=generator)).clamp(0, 1) for frame in frames]


def stirred(model: LoadedModel) -> LoadedModel:
    """The same network; where it is untrained, its tensors of zeros are random, deviation 0.03."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.network.parameters() if model.path is None else ():
        if not parameter.any():
            nn.init.normal_(parameter, 0.0, 0.03, generator)
    return model


def restored(restorer: Restorer, frames: Sequence[Tensor]) -> Tensor:
    """The frames of one sequence restored, as a batch."""
    results: list[Tensor] = []
    state: FrameState | None = None
    for frame in frames:
        result, state = restorer.restore_frame(frame, state)
        results.append(result)
    return torch.cat(results)


def compare(name: str, tile: int, device: str) -> tuple[str, bool]:
    """The row of the table, and whether tiles agree with the whole."""
    start = time.monotonic()
    model = stirred(load_or_create(name))
    context = model.info.tile_overlap
    height, width = 3 * (tile + 2 * context) // 2, 2 * (tile + 2 * context)
    frames = sequence(height, width, FRAMES if model.info.recurrent else 1)
    whole, tiled = (restored(Restorer(model, device=device, precision="fp32", tile=side), frames) for side in (0, tile))
    difference = 255 * (whole - tiled).abs()
    mean, largest = float(difference.mean()), float(difference.max())
    change = 255 * float((whole.cpu() - torch.cat(frames)).abs().mean())
    clipped = float(((whole == 0) | (whole == 1)).float().mean())
    agrees = mean <= 0.5 and largest <= 3 and mean <= change / 10 and clipped <= 0.5
    weights = "random" if model.path is None else "trained"
    figures = f"{change:.1f} | {100 * clipped:.0f} % | {mean:.1e} | {largest:.1e}"
    minutes = (time.monotonic() - start) / 60
    return f"{weights} | {width}×{height} | {context} | {figures} | {'yes' if agrees else 'NO'} | {minutes:.1f}", agrees


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", action="append", help="name or file; again for more [default: all]")
    parser.add_argument("--tile", type=int, default=256, help="side of a tile without context (default: %(default)s)")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    agree = []
    print("| network | weights | picture | context | change | clipped | mean | largest | agrees | minutes |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in arguments.model or list_models():
        row, agrees = compare(name, arguments.tile, arguments.device)
        print(f"| `{name}` | {row} |", flush=True)
        agree.append(agrees)
    return 0 if all(agree) else 1


if __name__ == "__main__":
    sys.exit(main())
