"""What verbs share in speaking to the user: progress on standard error, names shown safely, one line a thing."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bar


def shown(text: object) -> str:
    """`text` (a path, a message) on one line: characters that cannot be printed, as names may hold, are escaped."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in str(text)
    )


def say(text: str) -> None:
    """One line to standard error."""
    sys.stderr.write(f"{shown(text)}\n")
    sys.stderr.flush()


class Progress:
    """Counts finished things on standard error: a bar with the time left on a terminal, else one plain line each.

    Where several processes work together, one is `visible`; from the others only what `say` is given is heard.

    with Progress(total=12, unit="photos") as progress:
        progress.advance("a.jpg restored")
        progress.say("smaller tiles are used")
    """

    def __init__(self, total: int, unit: str, *, visible: bool = True) -> None:
        self.total = total
        self.unit = unit
        self.visible = visible
        self._count = 0
        self._bar: Bar | None = None

    def __enter__(self) -> Progress:
        if self.visible and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
            )
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
            self._bar.add_task(self.unit, total=self.total)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, line: str) -> None:
        """Count one more; without a terminal `line` is written, with its number."""
        self._count += 1
        if self._bar is not None:
            self._bar.advance(self._bar.task_ids[0])
        elif self.visible:
            say(f"[{self._count}/{self.total}] {line}")

    def say(self, text: str) -> None:
        """Something the user should hear of now, written above the bar."""
        if self._bar is not None:
            self._bar.console.print(shown(text), markup=False, highlight=False, soft_wrap=True)
        else:
            say(text)
