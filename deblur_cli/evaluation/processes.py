"""Several processes, as `accelerate launch` starts them, score a dataset together: each has a share of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

from deblur_cli.errors import DeblurError
from deblur_cli.evaluation.benchmark import BenchmarkResult
from deblur_cli.evaluation.datasets import Dataset, Pair

_Item = TypeVar("_Item")

_Value = TypeVar("_Value")

_PATIENCE = timedelta(days=7)
"""How long one waits for the others; those that die end its wait at once."""


class Processes:
    """The processes of this run, of which this is one.

    Args:
        device: as for `Restorer`.

    Attributes:
        count: how many there are; 1 where nothing else was asked for.
        index: which this is, from 0.
        device: that of this process: each takes its own GPU.
    """

    def __init__(self, device: str = "auto") -> None:
        self.count, self.index, self.device = int(os.environ.get("WORLD_SIZE", "1")), 0, device
        self._state: Any = None
        if self.count > 1:
            from accelerate import PartialState

            from deblur_cli.restoration.device import resolve_device

            on_processor = resolve_device(device).type == "cpu"
            self._state = PartialState(cpu=on_processor, timeout=_PATIENCE)
            self.index = self._state.process_index
            self.device = "cpu" if on_processor else str(self._state.device)

    @property
    def is_first(self) -> bool:
        """Whether this is the one that speaks and writes the reports."""
        return self.index == 0

    @contextmanager
    def first_before_others(self) -> Iterator[None]:
        """What is inside is done by the first process, and only then by the others."""
        if self._state is None:
            yield
        else:
            with self._state.main_process_first():
                yield

    def share(self, dataset: Dataset) -> list[Pair]:
        """The pairs that this process scores: whole groups of the dataset, about as many in each process."""
        shares: list[list[Pair]] = [[] for _ in range(self.count)]
        for group in dataset.groups():
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
            raise DeblurError(
                "another process of this run ended before its share was scored; with --journal FILE, the same command "
                "goes on from what there is"
            ) from error
        return values

    def close(self) -> None:
        """Part from the others."""
        if self._state is not None:
            self._state.destroy_process_group()


def merge(dataset: Dataset, shares: Iterable[BenchmarkResult]) -> BenchmarkResult:
    """The results of all shares of a dataset, in its order."""
    shares = list(shares)
    place = {pair: number for number, pair in enumerate(dataset.pairs)}
    images = [image for share in shares for image in share.images]
    failures = [failure for share in shares for failure in share.failures]
    return BenchmarkResult(
        images=tuple(sorted(images, key=lambda image: place[image.pair])),
        failures=tuple(sorted(failures, key=lambda failure: place[failure.pair])),
    )
