"""`accelerate launch … deblur_cli image`: two processes do what one does and tell it once; one that dies is said."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deblur_cli.media.gather import gather_photos
from deblur_cli.media.plan import plan_photos
from deblur_cli.restoration.photo_batch import share_of
from deblur_cli.restoration.processes import Processes
from tests.conftest import Result
from tests.launching import launch, launch_forked

Run = Callable[[list[str]], Result]
ENGINE = ["-m", "test-tiny", "--device", "cpu", "--precision", "fp32"]
# The second process is killed in the middle of its third file, when the first, which gets slow, is in that of one too.
KILLED = """
import os, signal, sys, time
from pathlib import Path
out = Path(sys.argv[sys.argv.index("-o") + 1])
real, written = os.fsync, 0
def fsync(descriptor):
    global written
    written += 1
    if written > 2:
        if os.environ["RANK"] == "1":
            while len(list(out.glob("[!.]*"))) < 4:
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(3)
    real(descriptor)
os.fsync = fsync
from deblur_cli.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten photos `0.png` to `9.png`, which the untrained network gives back as they are."""
    (tmp_path / "in").mkdir()
    for number in range(10):
        Image.fromarray(picture(number)).save(tmp_path / "in" / f"{number}.png")
    return tmp_path / "in"


def without_seconds(report: Path) -> dict[str, Any]:
    facts = json.loads(report.read_text())
    for entry in facts["files"]:
        del entry["seconds"]
    return facts


def statuses(stdout: str) -> list[list[str]]:
    """The rows of the summary, and the failures below."""
    return [line.split()[:2] for line in stdout.splitlines() if line.startswith(("restored", "skipped", "failed"))]


def assert_whole(out: Path, names: set[str]) -> None:
    assert {path.name for path in out.iterdir()} == names
    for name in names:
        assert np.array_equal(np.asarray(Image.open(out / name)), picture(int(Path(name).stem)))


def test_two_processes_write_and_report_what_one_does(folder: Path, run: Run) -> None:
    (folder / "5.png").write_bytes((folder / "5.png").read_bytes()[:200])
    out, reports, told = folder.parent / "out", {}, {}
    for name in ("one", "two"):
        out.mkdir()
        (out / "3.png").write_bytes((folder / "3.png").read_bytes())
        report = folder.parent / f"{name}.json"
        command = ["image", str(folder), "-o", str(out), "--report", str(report), *ENGINE]
        if name == "one":
            alone = run(command)
            told[name] = alone.code, alone.stdout, alone.stderr
        else:
            together = launch("-m", "deblur_cli", *command)
            told[name] = together.returncode, together.stdout, together.stderr
        assert_whole(out, {f"{number}.png" for number in range(10) if number != 5})
        out.rename(folder.parent / name)
        reports[name] = without_seconds(report)
    assert reports["one"] == reports["two"]
    assert reports["one"]["counts"] == {"restored": 8, "skipped": 1, "failed": 1}
    for code, stdout, stderr in told.values():
        assert code == 1, stderr
        counts = [["restored", "8"], ["skipped", "1"], ["failed", "1"]]
        assert statuses(stdout) == [*counts, ["failed:", f"{folder / '5.png'}:"]]
    # The first of the two shows its own progress, the second none; what became of all stands in the summary.
    progress = re.findall(r"^\[(\d/\d)\]", stderr, flags=re.MULTILINE)
    assert progress == ["1/5", "2/5", "3/5", "4/5", "5/5"]
    assert "2 processes share 9 photos" in stderr


def test_a_process_that_is_killed_is_said_and_what_is_written_is_whole(folder: Path, run: Run) -> None:
    out, report = folder.parent / "out", folder.parent / "report.json"
    (folder.parent / "killed.py").write_text(KILLED)
    command = ["image", str(folder), "-o", str(out), "--report", str(report), *ENGINE]
    died = launch_forked(folder.parent / "killed.py", *command)
    assert died.returncode != 0
    assert "another process of this run ended before its share was done" in died.stderr
    assert "SIGKILL" in died.stderr
    whole = {path.name for path in out.glob("[!.]*")}
    assert 4 <= len(whole) < 10
    assert len(list(out.glob(".*"))) <= 2, "only those half-written that the killed process was writing"
    facts = json.loads(report.read_text())
    assert facts["interrupted"]
    assert facts["counts"]["restored"] + facts["counts"]["not done"] == 10
    before = {name: (out / name).stat().st_mtime_ns for name in whole}
    assert run(command).code == 0
    assert_whole(out, {f"{number}.png" for number in range(10)})
    assert {name: (out / name).stat().st_mtime_ns for name in whole} == before


def test_a_scheduler_that_speaks_of_other_processes_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "9"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert Processes("cpu").count == 1


def test_shares_hold_every_photo_once_and_the_first_the_rest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "raw.cr2").write_bytes(b"x")
    (folder / "2_deblurred.png").write_bytes(b"x")
    plan = plan_photos(gather_photos([str(folder)]))
    processes = Processes()
    assert set(share_of(plan, processes).items) == set(plan.items)
    monkeypatch.setattr(processes, "count", 2)
    shares = []
    for index in range(2):
        monkeypatch.setattr(processes, "index", index)
        shares.append(share_of(plan, processes))
    assert sorted(item.source for share in shares for item in share.items) == sorted(item.source for item in plan.items)
    assert [len(share.having("restore")) for share in shares] == [5, 4]
    assert {item.action for item in shares[1].items} == {"restore"}
