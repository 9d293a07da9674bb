"""Commands of this project in processes of their own, one thread each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


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
