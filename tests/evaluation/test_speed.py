"""What a timing says: figures worked out by hand, both paths of a small network, and what happens without memory."""

from __future__ import annotations

import json
import math
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from deblur_cli.errors import OutOfMemoryError, UsageError
from deblur_cli.evaluation import speed as module
from deblur_cli.evaluation.speed import Speed, Timing, compare, measure
from deblur_cli.evaluation.speed_report import build_notes, build_table, write_json
from models import ModelError
from models.tiny import TinyRecurrent

EAGER = Timing("fp32", (0.2, 0.4, 0.3), 500_000_000, 200_000_000, 2e9)
ENGINE = Timing("bf16", (0.1, 0.1, 0.5), 300_000_000, 200_000_000, 8e9, ("it was <cold>",))


def speed(**changes: Any) -> Speed:
    """1000×500 pixels at 0.12 GFLOP."""
    facts: dict[str, Any] = {"label": "net", "network": "net", "sha256": None, "width": 1000, "height": 500}
    facts |= {"macs": 60_000_000, "device": "cpu", "hardware": "x", "threads": 1, "tile": "auto"}
    return Speed(**(facts | {"eager": EAGER, "engine": ENGINE} | changes))


def text(*speeds: Speed) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(build_table(speeds))
    return capture.get()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small matrix, and both paths in this process, which stands for the new ones."""
    monkeypatch.setitem(module._MATRIX_SIDE, "cpu", 32)
    monkeypatch.setattr(module, "ProcessPoolExecutor", InThisProcess)


class InThisProcess:
    """An executor that is none."""

    def __init__(self, *arguments: object, **options: object) -> None: ...

    def __enter__(self) -> InThisProcess:
        return self

    def __exit__(self, *error: object) -> None: ...

    def submit(self, function: Any, *arguments: Any) -> InThisProcess:
        self.result = lambda: function(*arguments)
        return self


def test_figures_follow_from_the_median() -> None:
    found = speed()
    assert EAGER.milliseconds == 300 and ENGINE.milliseconds == 100
    assert found.speed_up == pytest.approx(3)
    assert found.megapixels_per_second(EAGER) == pytest.approx(0.5 / 0.3)
    assert found.matrix_share(EAGER) == pytest.approx(0.12e9 / 0.3 / 2e9)
    assert found.matrix_share(ENGINE) == pytest.approx(0.12e9 / 0.1 / 8e9)


def test_the_table_has_a_row_for_each_path() -> None:
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text(speed()).splitlines() if "│" in line]
    assert rows == [
        ["net", "1000×500", "plain eager", "fp32", "300.0", "1.67", "1.00", "500", "20.0"],
        ["net", "1000×500", "deblur", "bf16", "100.0", "5.00", "3.00", "300", "15.0"],
    ]


def test_what_does_not_fit_is_said_and_compared_with_nothing() -> None:
    found = speed(eager=None)
    assert found.speed_up is None
    eager, ours = (line for line in text(found).splitlines() if "│" in line)
    assert "out of memory" in eager
    assert "100.0" in ours and "out of memory" not in ours


def test_notes_name_the_conditions_once() -> None:
    notes = build_notes([speed(), speed(width=10)])
    assert len(notes) == len(set(notes))
    assert sum("timed with random ones" in note for note in notes) == 1
    assert sum("it was <cold>" in note for note in notes) == 2
    assert any("net at 1000×500: tile auto, 0.1 GFLOP a frame" in note for note in notes)
    assert not any("random" in note for note in build_notes([speed(sha256="ab" * 32)]))


def test_json_holds_every_time(tmp_path: Path) -> None:
    write_json([speed(), speed(engine=None)], tmp_path / "speed.json")
    whole, half = json.loads((tmp_path / "speed.json").read_text(encoding="utf-8"))["speeds"]
    assert whole["eager"]["seconds"] == [0.2, 0.4, 0.3]
    assert whole["engine"]["milliseconds"] == 100
    assert whole["speed_up"] == pytest.approx(3)
    assert half["engine"] is None and half["speed_up"] is None


@pytest.mark.parametrize("path, precision", [("eager", "fp32"), ("engine", "bf16")])
def test_a_path_is_timed_as_often_as_asked(quick: None, path: Any, precision: str) -> None:
    timing = measure(path, "test-tiny", 21, 18, "cpu", "bf16", "auto", 4)
    assert timing.precision == precision
    assert len(timing.seconds) == 4 and min(timing.seconds) > 0
    assert timing.matrix_flops > 0
    if timing.peak_bytes is not None and timing.rest_bytes is not None:
        assert timing.peak_bytes >= timing.rest_bytes > 1e6


def test_slow_frames_are_timed_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 8))  # each look at it 8 seconds after the one before
    monkeypatch.setattr(module.time, "perf_counter", lambda: float(next(clock)))
    assert module._timed(lambda: None, torch.device("cpu"), 20, least=3) == [8, 8, 8]
    assert module._timed(lambda: None, torch.device("cpu"), 20, least=5) == [8] * 5
    assert module._timed(lambda: None, torch.device("cpu"), 2, least=3) == [8, 8]


@pytest.mark.parametrize("path", ["eager", "engine"])
def test_a_recurrent_network_is_timed_with_its_state(quick: None, monkeypatch: pytest.MonkeyPatch, path: Any) -> None:
    states: list[object] = []
    forward = TinyRecurrent.forward

    def watched(self: TinyRecurrent, blurred: torch.Tensor, state: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        states.append(state)
        return forward(self, blurred, state)

    monkeypatch.setattr(TinyRecurrent, "forward", watched)
    measure(path, "test-tiny-recurrent", 16, 16, "cpu", "fp32", "0", 3)
    timed = states[-8:]  # 5 to warm up, 3 timed
    assert timed[0] is None
    assert all(isinstance(state, torch.Tensor) for state in timed[1:])


def test_a_network_is_compared_at_its_padded_size(quick: None) -> None:
    found = compare("test-tiny", 21, 18, device="cpu", precision="fp32", runs=2)
    assert (found.label, found.sha256, found.device) == ("test-tiny", None, "cpu")
    assert found.macs == 2 * 8 * 3 * 9 * 24 * 20  # two convolutions, 3→8 and 8→3, at the next multiples of 4
    assert found.eager and found.engine
    assert len(found.eager.seconds) == len(found.engine.seconds) == 2


def test_a_network_without_weights_is_timed_with_random_ones() -> None:
    model, again = module.load_or_create("nafnet"), module.load_or_create("nafnet")
    assert model.path is None and model.sha256 is None and not model.network.training
    for one, other in zip(model.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(ModelError, match="nafnet"):
        module.load_or_create("nafnte")


@pytest.mark.parametrize("error", [OutOfMemoryError("full"), BrokenProcessPool("killed")])
def test_a_path_that_runs_out_of_memory_leaves_the_other(
    quick: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def fail(path: str, *asked: object) -> Timing:
        if path == "eager":
            raise error
        return ENGINE

    monkeypatch.setattr(module, "measure", fail)
    found = compare("test-tiny", 16, 16, device="cpu")
    assert found.eager is None and found.engine is ENGINE
    assert ("was ended" in caplog.text) == isinstance(error, BrokenProcessPool)


def test_an_allocation_that_fails_is_out_of_memory(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(module, "_timed", fail)
    with pytest.raises(OutOfMemoryError, match="16×20"):
        measure("eager", "test-tiny", 16, 20, "cpu", "fp32", "auto", 1)


@pytest.mark.parametrize("width, height, runs", [(0, 5, 1), (5, 0, 1), (5, 5, 0)])
def test_nothing_to_time_is_wrong_usage(width: int, height: int, runs: int) -> None:
    with pytest.raises(UsageError, match="start at 1"):
        compare("test-tiny", width, height, device="cpu", runs=runs)


def test_the_matrix_peak_is_of_the_fastest_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module._MATRIX_SIDE, "cpu", 10)
    times = iter([[9.0], [4.0, 2.0, 8.0]])
    monkeypatch.setattr(module, "_timed", lambda *arguments, **options: next(times))
    assert math.isclose(module.matrix_flops(torch.device("cpu"), "fp32"), 2 * 10**3 / 2.0)
