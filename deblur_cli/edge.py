"""The edge of the program: run the app, turn an error into one line and an exit code."""

from __future__ import annotations

import io
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

import typer

from deblur_cli import errors
from deblur_cli.app import LOGGED, app
from deblur_cli.commands.console import say

_MAY_BE_EMPTY = ("--suffix", "--preset", "--ffmpeg-args")
"""Options that say something, or nothing, with an empty word."""


def run(arguments: list[str]) -> int:
    """Run `deblur` with `arguments`; returns the exit code."""
    _open_streams()
    # Read when torch loads its OpenMP. Threads without work stay awake for 300,000 turns otherwise, some milliseconds,
    # in which a video's decoder and encoder could use the core. The network is as fast with fewer.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    with _logging_to_stderr():
        try:
            _refuse_empty(arguments)
            result = typer.main.get_command(app).main(args=arguments, prog_name="deblur", standalone_mode=False)
            sys.stdout.flush()  # here, where a reader that has gone can still be dealt with
        except BrokenPipeError:
            return _without_reader()
        except (KeyboardInterrupt, typer.Abort):
            result = errors.EXIT_INTERRUPTED
        except Exception as error:  # noqa: BLE001  (the one place where everything ends)
            return _explain(error)
        code = result if isinstance(result, int) else errors.EXIT_OK
        if code == errors.EXIT_INTERRUPTED:  # typer turns Ctrl-C into this code
            say(errors.INTERRUPTED)
        return code


def _open_streams() -> None:
    """Give the process the standard streams that it was started without, and let it print names in any encoding."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:  # closed, as some daemons leave it: else the next file that is opened would get its number
            nowhere = os.open(os.devnull, os.O_RDONLY if name == "stdin" else os.O_WRONLY)
            if nowhere != descriptor:
                os.dup2(nowhere, descriptor)
                os.close(nowhere)
            stream = open(descriptor, "r" if name == "stdin" else "w", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
        if name == "stdout" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if not isinstance(sys.stderr, _Unheard):
        sys.stderr = cast(TextIO, _Unheard(sys.stderr))


class _Unheard:
    """Standard error whose reader may go, or whose disk may fill up, while hours of work go on: what nobody hears then
    is lost, and nothing else."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _refuse_empty(arguments: list[str]) -> None:
    """Raise for an empty word where a name is wanted: it would stand for the folder that the user is in."""
    for before, word in zip(["", *arguments], arguments, strict=False):
        option, is_given, value = word.partition("=") if word.startswith("--") else (before, "=", word)
        if is_given and not value and option not in _MAY_BE_EMPTY:
            behind = f" behind '{option}'" if option else ""
            raise errors.UsageError(f"there is an empty word{behind}; is a variable of the shell not set?")


def _explain(error: Exception) -> int:
    """Say `error` in one line on standard error; returns the exit code that goes with it."""
    message, code = _message_and_code(error)
    if not message or logging.getLogger(LOGGED[0]).isEnabledFor(logging.INFO):
        traceback.print_exception(error)
    message = message or f"a fault in deblur itself ({type(error).__name__}); please report it"
    say(f"deblur: {' '.join(line.strip() for line in message.splitlines() if line.strip())}")
    return code


def _message_and_code(error: Exception) -> tuple[str, int]:
    """What the user can act on, empty for a fault of ours, and the exit code."""
    if isinstance(error, errors.DeblurError):
        return str(error), error.exit_code
    # By shape and name, not by class: from one version on typer carries a click of its own, and models/, which must not
    # be imported for every `deblur --help`, knows nothing of this package's errors.
    describe = getattr(error, "format_message", None)
    if describe is not None:
        context = getattr(error, "ctx", None)
        see = f" (see '{context.command_path} --help')" if context else ""
        return f"{describe()}{see}", errors.EXIT_USAGE
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "ModelError" in kinds:
        return str(error), errors.EXIT_SOME_FAILED if "FetchError" in kinds else errors.EXIT_USAGE
    if isinstance(error, ImportError) and (shadowed := errors.other_models(error)):
        return shadowed, errors.EXIT_SOME_FAILED
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror, errors.EXIT_SOME_FAILED
    return "", errors.EXIT_SOME_FAILED


def _without_reader() -> int:
    # `deblur models | head`: nobody reads on. What is still buffered goes nowhere, or Python would complain at exit.
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123  (devnull is no path to care for)
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    return errors.EXIT_SOME_FAILED


@contextmanager
def _logging_to_stderr() -> Iterator[None]:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        for package in LOGGED:  # which --verbose has changed
            logging.getLogger(package).setLevel(logging.NOTSET)
        logging.getLogger().removeHandler(handler)
