"""What a run tells of itself: a report after each step, and the curves on disk."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deblur_cli.media.files import replacing
from deblur_cli.training.board import Board


@dataclass(frozen=True)
class Report:
    """What the loop tells after a step."""

    step: int
    """Steps done, this one among them."""
    steps: int
    """Of the whole run, by its recipe."""
    progress: float
    """Share of the run that was done before this step, by steps or by the clock."""
    loss: float
    """Weighted sum of the parts."""
    rate: float
    """Learning rate."""
    elapsed: float
    """Seconds of training so far, over all sessions of the run."""
    scores: dict[str, float] | None = None
    """Validation: PSNR in dB of each set and of its blurred input, where this step validated."""
    parts: dict[str, float] = field(default_factory=dict)
    """The parts that the loss is made of, before they are weighted, and the critic's loss, where there is one."""
    shut: float | None = None
    """Validation: share of the channels that the network's ReLUs give nothing of, where there are any."""


class Curves:
    """Losses and validation scores, to a CSV file always and to TensorBoard where it is installed.

    Args:
        path: the CSV file.
        from_step: what an earlier session wrote of the steps up to this one is kept.
        active: whether to write at all; of several processes only one does.
        parts: names of the parts of the loss that get a column each.
        every: steps from one loss to the next; validations are all written.
    """

    def __init__(self, path: Path, from_step: int, *, active: bool, parts: Sequence[str] = (), every: int = 50) -> None:
        self.path, self.from_step, self.active, self.parts, self.every = path, from_step, active, parts, every

    def __enter__(self) -> Curves:
        if not self.active:
            return self
        kept = _rows(self.path, self.from_step) if self.path.is_file() and self.from_step else []
        rows = [["step", "loss", "rate", "elapsed", "set", "psnr", *self.parts], *kept]
        text = io.StringIO(newline="")
        csv.writer(text).writerows(rows)
        with replacing(self.path) as stream:
            stream.write(text.getvalue().encode())
        self._file = self.path.open("a", newline="", encoding="utf-8")
        self._rows = csv.writer(self._file)
        self._board = Board(self.path.parent)
        return self

    def __exit__(self, *exception: object) -> None:
        if self.active:
            try:
                self._file.close()
            finally:
                self._board.close()

    def add(self, report: Report) -> None:
        """Note a step: each `every`th loss, each validation."""
        if not self.active:
            return
        row = [report.step, repr(report.loss), f"{report.rate:.3e}", f"{report.elapsed:.1f}"]
        if report.step % self.every == 0:
            self._rows.writerow([*row, "", "", *(report.parts.get(part, "") for part in self.parts)])
            self._board.add("loss", report.loss, report.step)
            for part in self.parts:
                if part in report.parts:
                    self._board.add(f"loss/{part}", report.parts[part], report.step)
        for name, psnr in (report.scores or {}).items():
            self._rows.writerow([*row, name, f"{psnr:.4f}"])
            self._board.add(f"psnr/{name}", psnr, report.step)
        if report.shut is not None:
            self._board.add("shut", report.shut, report.step)
        if report.scores or report.step % self.every == 0:
            self._file.flush()


def _rows(path: Path, last: int) -> list[list[str]]:
    """The rows of curves up to the step `last`; what a full disk or a power cut left of a row is passed over."""
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    lines = io.StringIO(whole.decode(errors="replace"), newline="")
    return [row for row in csv.reader(lines) if len(row) >= 6 and row[0].isdecimal() and int(row[0]) <= last]
