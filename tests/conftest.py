"""What tests of several rooms share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

if (workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))) > 1:
    # Processes that share the tests share the cores; torch reads this once, when it is imported.
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // workers))


@dataclass(frozen=True)
class Result:
    """What a run of the command left behind."""

    code: int
    stdout: str
    stderr: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[[list[str]], Result]:
    """Runs `deblur` with the given arguments in this process."""

    from deblur_cli.__main__ import main

    def run_command(arguments: list[str]) -> Result:
        capsys.readouterr()
        code = main(arguments)
        return Result(code, *capsys.readouterr())

    return run_command


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Small images gain nothing from threads that wait for each other on a busy machine."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def shared_data() -> Path:
    """The folder of larger test material beside the repository; a test that needs it is skipped where there is none."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the larger test material is not on this machine")
    return folder


@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders of the name `locked` cannot be listed, also by root."""
    real = os.scandir

    def scandir(path: str) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
