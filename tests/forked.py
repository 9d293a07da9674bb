"""Programs in real processes that a server forks once it has loaded torch, which would take each of them seconds.

For what a signal does to them: they are processes like any other, with the exit code and the files that they leave.
"""

from __future__ import annotations

import atexit
import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TextIO
from unittest import mock

ROOT = Path(__file__).parents[1]
MAIN = "import sys; from deblur_cli.__main__ import main; sys.exit(main(sys.argv[1:]))"
"""The command, whose arguments are those of the program."""
_LONGEST = 240.0
"""Seconds after which a process is killed, whatever it does."""
_PRELOADED = ["deblur_cli.edge", "deblur_cli.restoration.restorer", "deblur_cli.training.trainer"]


class Forked:
    """A process that runs Python code; `stderr` is what it says."""

    def __init__(self, process: multiprocessing.process.BaseProcess, stderr: TextIO) -> None:
        self.stderr = stderr
        self._process = process

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float = 60) -> int:
        """The exit code: that of the program, or the negative number of the signal that ended it."""
        self._process.join(timeout)
        assert self._process.exitcode is not None, "it goes on and on"
        return self._process.exitcode


@contextmanager
def forked(code: str, *arguments: str | Path) -> Iterator[Forked]:
    """Run `python -c CODE ARGUMENTS` on one thread, in the project's root. It is killed where the test leaves it."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(_PRELOADED)
    reader, writer = server.Pipe(duplex=False)
    process = server.Process(target=_run, args=(code, [*map(str, arguments)], environment, writer))
    with mock.patch.dict(os.environ, environment):
        process.start()  # and with the first one the server
    writer.close()
    too_long = threading.Timer(_LONGEST, process.kill)  # or who waits for a word from it would wait for ever
    too_long.start()
    with os.fdopen(os.dup(reader.fileno()), encoding="utf-8") as stderr:
        reader.close()
        try:
            yield Forked(process, stderr)
        finally:
            too_long.cancel()
            process.kill()
            process.join()


def _run(code: str, arguments: list[str], environment: dict[str, str], stderr: Connection) -> None:
    os.environ.clear()  # of what there was when the server began
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as in the foreground, also where the tests are not
    os.chdir(ROOT)
    os.dup2(stderr.fileno(), 2)
    stderr.close()
    faulthandler.enable(2)  # so that a crash has last words
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.close(nothing)
    sys.argv = ["-c", *arguments]
    try:
        exec(code, {"__name__": "__main__"})
    finally:
        atexit._run_exitfuncs()  # as at the end of a process that was not forked
