"""A run whose TensorBoard file cannot be written does without it."""

import errno
import logging
import threading
from pathlib import Path
from typing import NoReturn

import pytest

from deblur_cli.training.board import Board

tensorboard = pytest.importorskip("tensorboard.summary.writer.record_writer")


def refused(*_: object) -> NoReturn:
    raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize("step", ["write", "flush", "close"])
def test_a_file_that_cannot_be_written_is_said_once_and_without_a_traceback(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    step: str,
) -> None:
    caplog.set_level(logging.WARNING)
    hook = threading.excepthook
    monkeypatch.setattr(tensorboard.RecordWriter, step, refused)
    board = Board(tmp_path)
    for number in range(3):
        board.add("loss", 0.5, number)
    board.close()
    said = [record.getMessage() for record in caplog.records]
    assert said == ["TensorBoard's file cannot be written: Input/output error; the run does without it"]
    assert capsys.readouterr().err == "" and threading.excepthook is hook
