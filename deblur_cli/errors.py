"""The few errors that a user sees, each shown at the edge as one line.

Library code raises them with a message that says what is wrong and what to do; `deblur_cli.edge` prints the
message and turns the class into an exit code. Anything else that escapes is a fault of ours and keeps its traceback.
"""

from __future__ import annotations

import sys

EXIT_OK = 0
EXIT_SOME_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
INTERRUPTED = "deblur: interrupted; nothing is left half-written"
"""What is said then."""


def other_models(error: ImportError) -> str:
    """What to say where another package `models` stands ahead of ours, whose import raised `error`; else empty."""
    if (error.name or "").partition(".")[0] != "models":
        return ""
    found = sys.modules.get("models")
    where = getattr(found, "__file__", None) or next(iter(getattr(found, "__path__", ())), None)
    if where is None:
        return "the package 'models', which belongs to deblur, is not there; install deblur again"
    return (
        f"'{where}' is found where deblur's own package 'models' should be; "
        "start the command deblur from elsewhere, or rename the other"
    )


class DeblurError(Exception):
    """Something a user can act on. The message is one line."""

    exit_code = EXIT_SOME_FAILED


class UsageError(DeblurError):
    """The command was asked for something that cannot be done as written (a missing folder, a contradiction)."""

    exit_code = EXIT_USAGE


class PhotoError(DeblurError):
    """A photo file that cannot be read or written: truncated, corrupt, animated, too large, an unknown format."""


class VideoError(DeblurError):
    """A video file that cannot be read or written: not a video, undecodable, no encoder for it."""


class DiskFullError(DeblurError):
    """There is no room for what is to be written, or a quota is used up; how much is needed is said where known."""


class OutOfMemoryError(DeblurError):
    """Even the smallest tile does not fit into memory."""


class DatasetError(DeblurError):
    """A dataset whose files are missing, unpaired or of different sizes."""

    exit_code = EXIT_USAGE


class TrainingError(DeblurError):
    """A training run that cannot go on: a loss that is not finite, memory that runs out, a checkpoint of another
    recipe."""


class NoRunError(TrainingError):
    """A folder in which there is no training run, or none that has saved anything."""

    exit_code = EXIT_USAGE
