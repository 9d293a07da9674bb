"""TensorBoard's file of a run, where TensorBoard is installed."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)


class Board:
    """Numbers over steps, for TensorBoard; what goes wrong with its file is said once and costs no training."""

    def __init__(self, folder: Path) -> None:
        self._writer: Any = None
        self._hook = threading.excepthook
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        threading.excepthook = self._heard
        try:
            self._writer = SummaryWriter(str(folder))
        except OSError as error:
            self._give_up(error)

    def add(self, name: str, value: float, step: int) -> None:
        """Note a number."""
        if self._writer is not None:
            try:
                self._writer.add_scalar(name, value, step)
            except OSError as error:
                self._give_up(error)

    def close(self) -> None:
        """Write what is not yet on the disk."""
        if self._writer is not None:
            try:
                self._writer.close()
            except OSError as error:
                self._give_up(error)
        threading.excepthook = self._hook

    def _give_up(self, error: OSError) -> None:
        self._writer = None
        _log.warning("TensorBoard's file cannot be written: %s; the run does without it", error.strerror or error)

    def _heard(self, failed: threading.ExceptHookArgs) -> None:
        # The thread that writes the file keeps what it failed with for the next that is added.
        if not (issubclass(failed.exc_type, OSError) and type(failed.thread).__name__ == "_AsyncWriterThread"):
            self._hook(failed)
