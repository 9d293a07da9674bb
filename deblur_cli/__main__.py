"""Where the process begins: what it takes to run is imported where Ctrl-C is already dealt with."""

from __future__ import annotations

import os
import signal
import sys

from deblur_cli.errors import EXIT_INTERRUPTED, INTERRUPTED


def main(arguments: list[str] | None = None) -> int:
    """Run `deblur` with `arguments` (the process's own by default); returns the exit code."""
    # Nothing is begun yet, and an exception would become another on its way through some imports.
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler and _is_main_thread()
    if ours:
        signal.signal(signal.SIGINT, _leave)
    from deblur_cli.edge import run

    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return run(sys.argv[1:] if arguments is None else arguments)


def _is_main_thread() -> bool:
    import threading

    return threading.current_thread() is threading.main_thread()


def _leave(*signal: object) -> None:
    if sys.stderr is not None:  # closed, as some daemons leave it
        sys.stderr.write(f"{INTERRUPTED}\n")
        sys.stderr.flush()
    os._exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
