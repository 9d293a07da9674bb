"""Programs of this project in two processes that work together, one thread each."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import NoReturn

from tests.forked import forked

ROOT = Path(__file__).parents[1]
# --multi_gpu on processors too: it is what makes accelerate start more than one process on a machine; --cpu does not.
_TWO = ["--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]


def launch(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `accelerate launch` with `arguments`, in the project's root; what it printed is kept as text."""
    return subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", *_TWO, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )


def launch_forked(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The same, but all three processes are forked from one that has torch, instead of loading it for seconds each."""
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "stdout"), Path(folder, "stderr")
        with forked("from tests.launching import run_launcher; run_launcher()", *files, *_TWO, *arguments) as launcher:
            code = launcher.wait(240)
        stdout, stderr = (file.read_text(encoding="utf-8") for file in files)
        return subprocess.CompletedProcess([*arguments], code, stdout, stderr)


def run_launcher() -> None:
    """What `accelerate launch` does, with processes that wait already in place of those that it would start.

    What it prints, and they, goes to the two files that are its first arguments.
    """
    from accelerate.commands.launch import main
    from torch.distributed.elastic.multiprocessing.subprocess_handler import SubprocessHandler

    for descriptor in (1, 2):
        file = os.open(sys.argv.pop(1), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, descriptor)
        os.close(file)
    waiting = [_Waiting(), _Waiting()]
    SubprocessHandler._popen = lambda handler, command, environment: waiting.pop(0).begin(command, environment)
    main()


class _Waiting:
    """A process that is forked before the launcher has threads, and begins when it is told with what.

    From then on it is to the launcher what a `subprocess.Popen` is.
    """

    def __init__(self) -> None:
        reader, self._told = os.pipe()
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._told)
            os.setsid()
            with os.fdopen(reader) as told:
                _be(*json.loads(told.readline()))
        os.close(reader)

    def begin(self, command: tuple[str, ...], environment: dict[str, str]) -> _Waiting:
        with os.fdopen(self._told, "w") as told:
            told.write(json.dumps([command, environment]) + "\n")
        return self

    def poll(self) -> int | None:
        if self.returncode is None and (ended := os.waitpid(self.pid, os.WNOHANG))[0]:
            self.returncode = os.waitstatus_to_exitcode(ended[1])
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        end = time.monotonic() + (timeout or 60)
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 60)
            time.sleep(0.02)
        assert self.returncode is not None
        return self.returncode


def _be(command: list[str], environment: dict[str, str]) -> NoReturn:
    """Become `python -u SCRIPT ARGUMENTS` or `python -u -m MODULE ARGUMENTS`, to the end of this process."""
    os.environ.clear()
    os.environ.update(environment)
    code = 1
    try:
        if command[2] == "-m":
            sys.argv = command[3:]
            runpy.run_module(command[3], run_name="__main__", alter_sys=True)
        else:
            sys.argv = command[2:]
            runpy.run_path(command[2], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception:  # noqa: BLE001
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
