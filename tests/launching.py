"""Commands of this project in processes of their own, one thread each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
ONE: list[str] = []
"""Launches one process."""
# --multi_gpu on processors too: it is what makes accelerate start more than one process on a machine; --cpu does not.
TWO = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
"""Launches two that work together."""


def launch(launcher: list[str], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run python with `launcher` and `arguments` in the project's root; what it printed is kept as text."""
    return subprocess.run(
        [sys.executable, *launcher, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
