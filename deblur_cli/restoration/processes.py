"""Several processes, as `accelerate launch` starts them on one machine or many, do a piece of work together."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

from deblur_cli.errors import DeblurError

_Item = TypeVar("_Item")
_Value = TypeVar("_Value")

_PATIENCE = timedelta(days=7)
"""How long one waits for the others; those that die end its wait at once."""


class Processes:
    """The processes of this run, of which this is one.

    Args:
        device: as for `Restorer`.
        advice: what the user can do where one of them is lost; ends the sentence that says so.

    Attributes:
        count: how many there are; 1 where nothing else was asked for.
        index: which this is, from 0.
        device: that of this process: each takes its own GPU.
    """

    def __init__(self, device: str = "auto", *, advice: str = "start it again") -> None:
        # Without a rank on this machine no launcher has started us: schedulers set the first variable for whole jobs.
        together = "LOCAL_RANK" in os.environ
        self.count, self.index, self.device = int(os.environ.get("WORLD_SIZE", "1")) if together else 1, 0, device
        self._advice = advice
        self._state: Any = None
        if self.count > 1:
            from accelerate import PartialState

            from deblur_cli.restoration.device import resolve_device

            on_processor = resolve_device(device).type == "cpu"
            # Python objects are all that is exchanged: gloo does it on any machine, and is told at once of a lost peer.
            self._state = PartialState(cpu=on_processor, backend="gloo", timeout=_PATIENCE)
            self.index = self._state.process_index
            self.device = "cpu" if on_processor else str(self._state.device)

    @property
    def is_first(self) -> bool:
        """Whether this is the one that speaks and writes the reports."""
        return self.index == 0

    @contextmanager
    def first_before_others(self) -> Iterator[None]:
        """What is inside is done by the first process, and only then by the others.

        Raises:
            DeblurError: a process is gone.
        """
        if not self.is_first:
            self.gather(None)
        yield
        if self.is_first:
            self.gather(None)

    def share(self, groups: Iterable[Sequence[_Item]]) -> list[_Item]:
        """What this process has to do: whole groups of what there is, about as many items in each process."""
        shares: list[list[_Item]] = [[] for _ in range(self.count)]
        for group in groups:
            min(shares, key=len).extend(group)
        return shares[self.index]

    def gather(self, own: _Value) -> list[_Value]:
        """What every process has in the place of `own`, in their order. All of them must call this.

        Raises:
            DeblurError: a process is gone.
        """
        if self._state is None:
            return [own]
        from torch import distributed

        values: list[Any] = [None] * self.count
        try:
            distributed.all_gather_object(values, own)
        except RuntimeError as error:
            raise DeblurError(f"another process of this run ended before its share was done; {self._advice}") from error
        return values

    def close(self) -> None:
        """Part from the others."""
        if self._state is not None:
            self._state.destroy_process_group()
