"""How fast and how frugal the engine is: our path against plain eager float32, at 1280×720 and 24 megapixels.

    python benchmarks/engine.py
    python benchmarks/engine.py --model nafnet --size 1280x720 --runs 1

Every measurement has a process to itself, so that its peak memory is its own. Times are medians after one warm-up, from
8-bit pixels to 8-bit pixels, the device synchronised on both sides. On a busy machine read the ratios, not the times.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a source tree that is not installed

if TYPE_CHECKING:
    import numpy as np

    from models import LoadedModel

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

Model = Annotated[str, typer.Option(help="A network's name or a file with weights; untrained where none are shipped.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Precision = Annotated[str, typer.Option(help="Of the engine: auto, fp32, bf16 or fp16. The eager path is float32.")]
Tile = Annotated[str, typer.Option(help="Of the engine: auto, 0 (whole) or pixels. The eager path is whole.")]
Runs = Annotated[int, typer.Option(min=1, help="Timed runs of each.")]


@app.callback(invoke_without_command=True)
def compare(
    context: typer.Context,
    model: Model = "lite",
    device: Device = "auto",
    precision: Precision = "auto",
    tile: Tile = "auto",
    runs: Runs = 3,
    size: Annotated[list[str] | None, typer.Option(help="WIDTHxHEIGHT; give it several times for several.")] = None,
) -> None:
    """Measure each size on each path and print a table."""
    if context.invoked_subcommand:
        return
    from rich.console import Console
    from rich.table import Table

    rows = []
    for dimensions in size or ["1280x720", "6000x4000"]:
        for path in ("eager", "engine"):
            print(f"measuring {path} at {dimensions}", file=sys.stderr)
            child = [sys.executable, __file__, "measure", path, dimensions, "--model", model, "--device", device]
            child += ["--precision", precision, "--tile", tile, "--runs", str(runs)]
            rows.append(json.loads(subprocess.run(child, check=True, stdout=subprocess.PIPE).stdout))
    table = Table(title=f"{rows[0]['model']} on {rows[0]['device']}, torch {rows[0]['torch']}")
    for heading in ("size", "path", "precision", "ms a frame", "MP/s", "speed-up", "peak RSS, MB", "of that at rest"):
        table.add_column(heading, justify="left" if heading in ("size", "path", "precision") else "right")
    for row in rows:
        eager = next(other for other in rows if other["size"] == row["size"] and other["path"] == "eager")
        table.add_row(
            row["size"],
            row["path"],
            row["precision"],
            f"{row['seconds'] * 1000:.0f}",
            f"{row['megapixels'] / row['seconds']:.2f}",
            f"{eager['seconds'] / row['seconds']:.2f}",
            f"{row['peak_bytes'] / 1e6:.0f}",
            f"{row['rest_bytes'] / 1e6:.0f}",
        )
    Console(width=110).print(table)


@app.command(hidden=True)
def measure(
    path: str,
    dimensions: str,
    model: Model = "lite",
    device: Device = "auto",
    precision: Precision = "auto",
    tile: Tile = "auto",
    runs: Runs = 3,
) -> None:
    """Measure one path at one size in this process and print the figures as JSON."""
    import numpy as np
    import torch

    from deblur_cli.restoration.device import resolve_device, synchronize
    from deblur_cli.restoration.restorer import Restorer

    width, height = (int(number) for number in dimensions.split("x"))
    loaded, chosen = _load(model), resolve_device(device)
    rest = _resident("VmRSS")
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    if path == "engine":
        restorer = Restorer(loaded, device=device, precision=precision, tile=tile)
        precision, restore = restorer.precision, restorer.restore
    else:
        network = loaded.network.to(chosen)
        precision, restore = "fp32", lambda pixels: _restore_plainly(network, pixels, chosen)
    seconds = []
    for _ in range(runs + 1):
        synchronize(chosen)
        begun = time.perf_counter()
        restore(pixels)
        synchronize(chosen)
        seconds.append(time.perf_counter() - begun)
    figures: dict[str, Any] = {
        "model": loaded.label,
        "device": str(chosen),
        "torch": torch.__version__,
        "size": f"{width}×{height}",
        "path": path,
        "precision": precision,
        "seconds": statistics.median(seconds[1:]),
        "megapixels": width * height / 1e6,
        "peak_bytes": _resident("VmHWM"),
        "rest_bytes": rest,
    }
    print(json.dumps(figures))


def _load(name: str) -> LoadedModel:
    from models import LoadedModel, ModelError, create_model, list_models, load_model, model_info

    try:
        return load_model(name)
    except ModelError:
        if name not in list_models(hidden=True):
            raise
    return LoadedModel(create_model(name).eval(), model_info(name), {}, None, None, {})


def _restore_plainly(network: Any, pixels: np.ndarray, device: Any) -> np.ndarray:
    """What a short script does: the whole image, float32, channels first, nothing tuned; sizes that fit the network."""
    import torch

    with torch.no_grad():
        blurred = torch.from_numpy(pixels).to(device).permute(2, 0, 1)[None].contiguous().float() / 255
        restored = network(blurred).clamp(0, 1).mul(255).round().byte()
        return restored[0].permute(1, 2, 0).contiguous().cpu().numpy()


def _resident(field: str) -> int:
    """Bytes of RAM of this process now (VmRSS) or at most (VmHWM); the latter for both where there is no /proc."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith(f"{field}:"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    app()
