"""How fast a network restores frames: our engine against the same network in plain eager float32, a process for each.

A time runs from a frame on the device, float32 in [0, 1], to the restored frame there, with the device synchronised on
both sides: the clock of `benchmark`. Reading and writing of files are no part of it.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from deblur_cli.errors import OutOfMemoryError, UsageError
from deblur_cli.restoration.device import PRECISIONS, hardware_name, resolve_device, resolve_precision, synchronize
from deblur_cli.restoration.memory import is_out_of_memory
from deblur_cli.restoration.restorer import Restorer
from deblur_cli.restoration.tiling import pad
from models import LoadedModel, ModelError, create_model, list_models, load_model
from models.measure import macs
from models.weights import untrained_model

_log = logging.getLogger(__name__)

_WARM_UP = 5
_LEAST_RUNS = 3
_MOST_SECONDS = 20.0
_SEED = 0
_MATRIX_RUNS = 5
# A product of 2·side³ operations: milliseconds on a GPU, some tenths of a second on a core.
_MATRIX_SIDE = {"cuda": 8192, "mps": 4096, "cpu": 2048}


@dataclass(frozen=True)
class Timing:
    """One path: the frames that were timed, and what they took."""

    precision: str
    """The one that it ended with."""
    seconds: tuple[float, ...]
    """Of each timed frame, in order."""
    peak_bytes: int | None
    """Most memory while frames were restored: CUDA's own counter; on a processor, resident memory of the process; on an
    Apple GPU what torch had taken by the end. None where the system does not say."""
    rest_bytes: int | None
    """The same just before the first frame: the weights, and on a processor Python and torch as well."""
    matrix_flops: float
    """Operations a second of a large matrix product in this precision, measured in the same process."""
    notes: tuple[str, ...] = ()
    """What the restorer had to say."""

    @property
    def milliseconds(self) -> float:
        """Median time of a frame."""
        return 1000 * statistics.median(self.seconds)


@dataclass(frozen=True)
class Speed:
    """A network at a size of frame, on both paths."""

    label: str
    network: str
    sha256: str | None
    """Of its weights; None where they are random."""
    width: int
    height: int
    macs: int
    """Multiply-accumulates of a frame, padded to the network's multiple; what tiles compute twice is not counted."""
    device: str
    hardware: str
    threads: int
    tile: str
    """As asked for."""
    eager: Timing | None
    """Plain float32, channels first, the whole frame; None where memory ran out."""
    engine: Timing | None
    """Ours, as asked for; None where memory ran out."""

    @property
    def speed_up(self) -> float | None:
        """Median time of the eager path over ours."""
        return self.eager.milliseconds / self.engine.milliseconds if self.eager and self.engine else None

    def megapixels_per_second(self, timing: Timing) -> float:
        """Of restored frames."""
        return self.width * self.height / 1e3 / timing.milliseconds

    def matrix_share(self, timing: Timing) -> float:
        """Operations a second of the network over those of the matrix product, 1 where they are as many."""
        return 2 * self.macs / (timing.milliseconds / 1000) / timing.matrix_flops


def load_or_create(name_or_path: str) -> LoadedModel:
    """The network with its weights, or with random ones where none are shipped for a registered name.

    Raises:
        ModelError: neither a network's name nor a file of weights.
    """
    try:
        return load_model(name_or_path)
    except ModelError:
        if name_or_path not in list_models(hidden=True):
            raise
        return untrained_model(name_or_path)


def compare(
    name_or_path: str,
    width: int,
    height: int,
    *,
    device: str = "auto",
    precision: str = "auto",
    tile: str | int = "auto",
    runs: int = 20,
) -> Speed:
    """Time both paths one after the other, each in a new process, so that its peak memory is its own.

    Args:
        name_or_path: as of `load_or_create`.
        width, height: of the frame in pixels.
        device, precision, tile: as of `Restorer`; the eager path takes only the device.
        runs: most timed frames of each path; fewer, but at least 3, where they take longer than 20 seconds. As many as
            5 frames go before to warm up, under the same bound.

    Raises:
        UsageError: an option out of its range, or a device or precision that is not to be had.
        ModelError: no such network, or weights that cannot be loaded.
        DeblurError: the network's output is not finite.
    """
    if min(width, height, runs) < 1:
        raise UsageError(f"{runs} frames of {width}×{height} cannot be timed; all three numbers start at 1")
    place = resolve_device(device)
    model = load_or_create(name_or_path)
    resolve_precision(precision, place, model.info.half_precision)  # complains before anything has taken long
    asked = (name_or_path, width, height, str(place), precision, tile, runs)
    return Speed(
        label=model.label,
        network=model.info.name,
        sha256=model.sha256,
        width=width,
        height=height,
        macs=_macs(model, width, height),
        device=str(place),
        hardware=hardware_name(place),
        threads=torch.get_num_threads(),
        tile=str(tile),
        eager=_measure_apart("eager", *asked),
        engine=_measure_apart("engine", *asked),
    )


def measure(
    path: Literal["eager", "engine"],
    name_or_path: str,
    width: int,
    height: int,
    device: str,
    precision: str,
    tile: str | int,
    runs: int,
) -> Timing:
    """Time one path in this process, on one frame of noise again and again; a recurrent network gets its last state.

    Arguments as of `compare`.

    Raises:
        OutOfMemoryError: the frame does not fit.
        UsageError, ModelError, DeblurError: as `compare`.
    """
    model, place = load_or_create(name_or_path), resolve_device(device)
    notes: list[str] = []
    try:
        frame = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(_SEED)).to(place)
        restorer = None
        if path == "engine":
            restorer = Restorer(model, device=device, precision=precision, tile=tile, notify=notes.append)
        step = _eager(model, frame) if restorer is None else _with_state(frame, restorer.restore_frame)
        if place.type == "cuda":
            torch.cuda.reset_peak_memory_stats(place)
        rest = _memory(place, peak=False)
        _timed(step, place, _WARM_UP, least=1)
        seconds = _timed(step, place, runs, least=_LEAST_RUNS)
        peak = _memory(place, peak=True)
        precision = "fp32" if restorer is None else restorer.precision
        flops = matrix_flops(place, precision)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(f"a frame of {width}×{height} does not fit into memory") from error
    return Timing(precision, tuple(seconds), peak, rest, flops, tuple(notes))


def matrix_flops(device: torch.device, precision: str) -> float:
    """Operations a second of a large square matrix product on `device`: the best of five, after one to warm up.

    On a GPU that may take TF32 for convolutions in fp32, as torch does by itself, the product takes it as well.
    """
    side = _MATRIX_SIDE[device.type]
    matrix = torch.rand(side, side, device=device, dtype=PRECISIONS[precision])
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda" and torch.backends.cudnn.allow_tf32:
        torch.set_float32_matmul_precision("high")
    try:
        _timed(lambda: matrix @ matrix, device, 1, least=1)
        best = min(_timed(lambda: matrix @ matrix, device, _MATRIX_RUNS, least=1))
    finally:
        torch.set_float32_matmul_precision(before)
    return 2 * side**3 / best


def _measure_apart(path: Literal["eager", "engine"], *asked: Any) -> Timing | None:
    """`measure` in a process that is started for it; None where memory ran out."""
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawning, initializer=_end_with_parent) as process:
        try:
            return process.submit(measure, path, *asked).result()
        except OutOfMemoryError:
            return None
        except BrokenProcessPool:
            _log.warning("a process that measured was ended, most often for want of memory, which it counts as")
            return None


def _end_with_parent() -> None:
    """What a process that measures does first: whatever ends the one that asked ends it, too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C goes to both; that one is enough to speak of it
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _eager(model: LoadedModel, frame: Tensor) -> Callable[[], object]:
    """A step of the network as a short script runs it: float32, channels first, the whole frame, nothing tuned."""
    network = model.network.to(frame.device)
    multiple = model.info.multiple_of
    frame = pad(frame, -frame.shape[2] % multiple, -frame.shape[3] % multiple)

    def run(blurred: Tensor, state: Any) -> tuple[Tensor, Any]:
        with torch.no_grad():
            return network(blurred, state) if model.info.recurrent else (network(blurred), None)

    return _with_state(frame, run)


def _with_state(frame: Tensor, run: Callable[[Tensor, Any], tuple[Tensor, Any]]) -> Callable[[], object]:
    """A step that gives `run` the frame and the state that the step before has left."""
    state: Any = None

    def step() -> None:
        nonlocal state
        state = run(frame, state)[1]

    return step


def _timed(step: Callable[[], object], device: torch.device, most: int, *, least: int) -> list[float]:
    """Seconds of each of `most` steps; of fewer, but at least `least`, where they would take too long."""
    seconds: list[float] = []
    while len(seconds) < most and (len(seconds) < least or sum(seconds) < _MOST_SECONDS):
        synchronize(device)
        started = time.perf_counter()
        step()
        synchronize(device)
        seconds.append(time.perf_counter() - started)
    return seconds


def _memory(device: torch.device, *, peak: bool) -> int | None:
    """Bytes taken now, or at most so far: on a GPU by torch, on a processor by this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) if peak else torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()  # there is no peak, but torch keeps what it has taken
    status = Path("/proc/self/status")
    if status.exists():
        field = "VmHWM:" if peak else "VmRSS:"
        line = next(line for line in status.read_text().splitlines() if line.startswith(field))
        return int(line.split()[1]) * 1024
    if sys.platform == "win32" or not peak:
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _macs(model: LoadedModel, width: int, height: int) -> int:
    with torch.device("meta"):
        network = create_model(model.info.name, **model.options).eval()
    return macs(network, model.info.padded(height), model.info.padded(width))
