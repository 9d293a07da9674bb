"""`deblur bench` as a user meets it."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deblur_cli.evaluation import speed as module
from deblur_cli.evaluation.speed import Speed, Timing
from models import create_model
from models.weights import load_model, save_weights
from tests.forked import MAIN, forked

Run = Callable[[list[str]], Any]


def stand_in(monkeypatch: pytest.MonkeyPatch, engine: Timing | None) -> list[tuple[str, int, int]]:
    """Times nothing; returns what was asked for."""
    asked = []

    def compare(name: str, width: int, height: int, **options: object) -> Speed:
        asked.append((name, width, height))
        timing = Timing("fp32", (0.02,), 10**8, 10**7, 1e9)
        return Speed(name, name, None, width, height, 10**6, "cpu", "x", 1, "auto", timing, engine)

    monkeypatch.setattr(module, "compare", compare)
    return asked


def test_both_paths_are_timed_in_processes_of_their_own(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "speed.json"
    arguments = ["bench", "-m", "test-tiny", "--size", "24x16", "--device", "cpu", "--precision", "fp32"]
    result = run([*arguments, "--runs", "2", "--json", str(file)])
    assert result.code == 0, result.stderr
    assert "plain eager" in result.stdout and "24×16" in result.stdout
    assert "note: test-tiny: no weights are shipped, timed with random ones" in result.stdout
    assert result.stderr == "timing test-tiny at 24×16\n"
    (found,) = json.loads(file.read_text(encoding="utf-8"))["speeds"]
    assert len(found["eager"]["seconds"]) == len(found["engine"]["seconds"]) == 2


def test_each_network_is_timed_at_each_size(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = stand_in(monkeypatch, Timing("fp32", (0.01,), None, None, 1e9))
    sizes = ["--size", "32x16", "--size", "64X48", "--size", "32x16"]
    result = run(["bench", "-m", "lite", "-m", "test-tiny", *sizes])
    assert result.code == 0
    assert asked == [(name, *size) for name in ("lite", "test-tiny") for size in ((32, 16), (64, 48))]


def test_the_times_are_not_written_over_the_weights(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stand_in(monkeypatch, Timing("fp32", (0.01,), None, None, 1e9))
    weights = tmp_path / "own.safetensors"
    save_weights(create_model("test-tiny"), weights, name="test-tiny", options={"width": 8}, card={})
    result = run(["bench", "-m", str(weights), "--size", "32x16", "--json", str(weights)])
    assert result.code == 2 and "would write over" in result.stderr
    assert load_model(weights).info.name == "test-tiny"


def test_a_frame_that_does_not_fit_is_a_failure(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, None)
    result = run(["bench", "-m", "test-tiny"])
    assert result.code == 1
    assert "out of memory" in result.stdout


@pytest.mark.parametrize(
    "arguments, problem",
    [
        (["--size", "1280"], "'1280' is no size; write it like 1280x720"),
        (["--size", "0x720"], "is no size"),
        (["--size", "-5x5"], "is no size"),
        (["--runs", "0"], "--runs"),
        (["-m", "nafnte"], "did you mean nafnet?"),
        (["-m", "test-tiny", "--device", "tpu"], "unknown device 'tpu'"),
        (["-m", "test-tiny", "--device", "cpu", "--precision", "fp16"], "does not compute in fp16"),
        (["-m", "test-tiny", "--json", "nowhere/speed.json"], "its folder is not there"),
    ],
)
def test_wrong_usage_is_one_line(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], problem: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(["bench", *arguments])
    assert result.code == 2
    assert result.stdout == ""
    assert problem in result.stderr.splitlines()[-1]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="asks Linux for the children of a process")
def test_a_wrong_option_is_known_before_anything_is_timed(run) -> None:  # type: ignore[no-untyped-def]
    for option, value in (("--tile", "16"), ("--precision", "fp8"), ("--device", "tpu")):
        result = run(["bench", "-m", "test-tiny", "--size", "32x32", option, value])
        assert result.code == 2 and "timing" not in result.stderr and value in result.stderr


def test_a_killed_command_leaves_no_process_that_measures() -> None:
    # Left alone it would go on for a minute at least, and on two cores for several.
    arguments = "bench", "-m", "deblurgan", "--size", "1920x1080", "--runs", "1000", "--device", "cpu"

    def measures(pid: str) -> bool:
        try:
            return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()  # empty where it has ended
        except OSError:
            return False

    def comes(condition: Callable[[], bool], seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not condition() and time.monotonic() < end:
            time.sleep(0.1)
        return condition()

    with forked(MAIN, *arguments) as bench:

        def measuring() -> list[str]:
            children = Path(f"/proc/{bench.pid}/task/{bench.pid}/children").read_text().split()
            return [pid for pid in children if measures(pid)]

        assert comes(lambda: bool(measuring()), 60)
        left = measuring()
        bench.send_signal(signal.SIGKILL)
        assert bench.wait() == -signal.SIGKILL
    assert comes(lambda: not any(map(measures, left)), 45)  # a loaded machine takes its time to import torch
