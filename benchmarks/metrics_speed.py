"""How many pairs of images a second do the metrics score?

    python -m benchmarks.metrics_speed

Prints pairs a second at 1280×720 (median of the repeats) and processor time a pair, which other programs disturb less,
for each metric alone and for all three together, as `deblur eval` takes them; and how far float32 lies from float64.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from deblur_cli.evaluation import metrics
from deblur_cli.restoration.device import synchronize


def make_pair(width: int, height: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """A smooth random picture and a noisy copy, 1×3×H×W uint8."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, height // 16 + 1, width // 16 + 1, generator=generator)
    sharp = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")
    restored = sharp + 0.03 * torch.randn(sharp.shape, generator=generator)
    return metrics.round_to_uint8(restored).to(device), metrics.round_to_uint8(sharp).to(device)


def measure(metric: Callable[[], object], device: torch.device, repeats: int) -> tuple[float, float]:
    """Median seconds of `repeats` calls, by the clock and of the processor, after two to warm up."""
    elapsed, processor = [], []
    for _ in range(repeats + 2):
        synchronize(device)
        started = time.perf_counter(), time.process_time()
        metric()
        synchronize(device)
        elapsed.append(time.perf_counter() - started[0])
        processor.append(time.process_time() - started[1])
    return statistics.median(elapsed[2:]), statistics.median(processor[2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="1280x720", help="width and height (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=15, help="timed calls of each metric (default: %(default)s)")
    options = parser.parse_args()
    width, height = (int(side) for side in options.size.split("x"))
    device = torch.device(options.device)
    restored, sharp = make_pair(width, height, device)

    print(f"{width}×{height}, {device}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for name in ("psnr", "ssim", "ssim_matlab", "score"):
        metric = getattr(metrics, name)
        elapsed, processor = measure(
            lambda metric=metric: metric(restored, sharp, data_range=255), device, options.repeats
        )
        label = "all three" if name == "score" else name
        print(f"{label:12} {1 / elapsed:8.1f} pairs/s {1000 * processor:8.1f} ms of processor a pair")
    fast = metrics.score(restored, sharp, data_range=255)[0]
    exact = metrics.score(restored.cpu().double(), sharp.cpu().double(), data_range=255)[0]
    for name in ("psnr", "ssim", "ssim_matlab"):
        value = getattr(fast, name)
        print(f"{name:12} {value:.6f}, {abs(value - getattr(exact, name)):.1e} from float64")


if __name__ == "__main__":
    main()
