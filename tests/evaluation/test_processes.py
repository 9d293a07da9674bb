"""Several processes: what `accelerate launch` makes of an evaluation is what one process finds, to the last digit."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from deblur_cli.evaluation.datasets import find_pairs
from deblur_cli.restoration.processes import Processes
from tests.conftest import Result
from tests.evaluation.pictures import gopro
from tests.launching import launch_forked

# As many as each of the processes that are launched has.
pytestmark = pytest.mark.usefixtures("one_thread")

Run = Callable[[list[str]], Result]

DIES = """
import os, sys
from deblur_cli.__main__ import main
from deblur_cli.evaluation import benchmark

if os.environ["RANK"] == "1":
    benchmark.score_images = lambda *anything: os._exit(9)
sys.exit(main(sys.argv[1:]))
"""


def dataset(folder: Path) -> Path:
    for number, sequence in enumerate(("GOPR0384_11_00", "GOPR0385_11_01", "GOPR0410_11_00")):
        gopro(folder, count=2 + number, sequence=sequence)
    return folder


def test_two_processes_write_what_one_writes_and_one_of_them_speaks(tmp_path: Path, run: Run) -> None:
    folder = dataset(tmp_path / "data")
    broken = folder / "test/GOPR0385_11_01/blur/000001.png"
    broken.write_bytes(broken.read_bytes()[:200])
    done: dict[str, Result] = {}
    for name in ("one", "two"):
        files = [part for kind in ("csv", "json", "html") for part in (f"--{kind}", tmp_path / f"{name}.{kind}")]
        networks = "-m", "test-tiny-recurrent", "-m", "test-tiny"
        arguments = "eval", folder, *networks, "--device", "cpu", *files, "--save", tmp_path / name
        if name == "one":
            done[name] = run([*map(str, arguments)])
        else:
            together = launch_forked("-m", "deblur_cli", *arguments)
            done[name] = Result(together.returncode, together.stdout, together.stderr)
        assert done[name].stdout.count("blurred input") == 2, done[name].stderr  # the table, and that of sequences
    assert done["one"].code == 1  # as a picture failed
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()
    assert "GOPR0385_11_01,000001,20,16" in (tmp_path / "one.csv").read_text()
    one, two = (json.loads((tmp_path / f"{name}.json").read_text())["models"] for name in ("one", "two"))
    for ours, theirs in zip(one, two, strict=True):
        assert [ours[key] for key in ("restored", "sequences", "flicker", "state")] == [
            theirs[key] for key in ("restored", "sequences", "flicker", "state")
        ]
    pages = [re.findall("<figure.*?</figure>", (tmp_path / f"{name}.html").read_text(), re.DOTALL) for name in done]
    assert len(pages[0]) == 2 * 8
    assert pages[0] == pages[1]
    assert [line[:5] for line in done["two"].stderr.splitlines() if "] test-tiny: " in line] == [
        f"[{number}/6]" for number in range(1, 7)
    ], "the progress of one of them"
    saved = [sorted(path.relative_to(tmp_path / name) for path in (tmp_path / name).rglob("*.png")) for name in done]
    assert len(saved[0]) == 16
    assert saved[0] == saved[1]


def test_a_process_that_dies_is_said_and_what_was_scored_is_kept(tmp_path: Path, run: Run) -> None:
    folder, journal = dataset(tmp_path / "data"), tmp_path / "journal"
    (tmp_path / "dies.py").write_text(DIES)
    arguments = "eval", folder, "-m", "test-tiny", "--device", "cpu", "--journal", journal
    died = launch_forked(tmp_path / "dies.py", *arguments)
    assert died.returncode != 0
    assert "blurred input" not in died.stdout
    assert "exitcode" in died.stderr
    whole = run([*map(str, arguments)])
    assert whole.code == 0, whole.stderr
    assert "9/1111 pairs" in whole.stdout


def test_shares_are_whole_sequences_of_about_the_same_length_and_leave_nothing_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = find_pairs(dataset(tmp_path))
    processes = Processes()
    assert (processes.count, processes.is_first) == (1, True)
    assert processes.share(found.groups()) == list(found.pairs)
    shares = []
    for index in range(2):
        monkeypatch.setattr(processes, "count", 2)
        monkeypatch.setattr(processes, "index", index)
        shares.append(processes.share(found.groups()))
    assert sorted(pair.label for share in shares for pair in share) == sorted(pair.label for pair in found.pairs)
    assert not {pair.sequence for pair in shares[0]} & {pair.sequence for pair in shares[1]}
    assert [len(share) for share in shares] == [6, 3]
