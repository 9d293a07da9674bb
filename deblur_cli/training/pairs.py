"""Pairs of blurred and sharp pictures on disk, read when they are drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from deblur_cli.errors import DatasetError, PhotoError
from deblur_cli.evaluation.datasets import Pair, listed, size_text
from deblur_cli.training.blur import BlurSettings
from deblur_cli.training.data import Dice, in_frames, load_picture, random_window
from deblur_cli.training.sequences import followers

_AT_A_TIME = 4
"""Sequences from disk in memory together: enough for several decoders, and of pictures of 24 megapixels under 1 GB."""


@dataclass(frozen=True)
class PairSource:
    """Blurred and sharp pictures on disk, read when they are drawn (GOPRO's 2,103 pairs take 11 GB uncompressed).

    Only then is it found that a picture cannot be decoded. In its place the next one that can be is taken, whatever was
    drawn before, so that all processes and resumed runs have the same.
    """

    pairs: Sequence[Pair]
    tell: Callable[[str], None] = lambda line: None
    """Hears once of each picture that cannot be used."""
    kind: str = "pairs"
    is_read: bool = True
    _told: set[str] = field(default_factory=set, init=False, repr=False, compare=False)
    _known: dict[int, list[list[Pair]]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.pairs)

    def draw(self, count: int, size: int, blur: BlurSettings, dice: Dice, frames: int = 1) -> tuple[Tensor, Tensor]:
        sequences = self.sequences(frames)
        chosen = dice.host.choices(range(len(sequences)), k=count)
        drawn = []
        with ThreadPoolExecutor() as readers:  # decoders let go of the interpreter's lock
            for start in range(0, count, _AT_A_TIME):
                some = chosen[start : start + _AT_A_TIME]
                being_read = [_start_to_read(sequences[number], readers) for number in some]
                for number, pictures in zip(some, being_read, strict=True):
                    both = self._stacked(sequences[number], pictures, size)
                    if both is None:
                        both = self._next_usable(sequences, number, readers, size)
                    window = random_window(both.shape[2:], size, dice)
                    drawn.append(both[:, *window].float() / 255)
        return in_frames(torch.stack(drawn), frames)

    def sequences(self, frames: int) -> list[list[Pair]]:
        """Each run of `frames` pairs of one size whose files are numbered without a gap; those of 1 are all pairs.

        Raises:
            DatasetError: there is none.
        """
        if frames not in self._known:
            self._known[frames] = self._runs(frames)
        return self._known[frames]

    def _runs(self, frames: int) -> list[list[Pair]]:
        """As `sequences`, which each step of a training asks for."""
        runs = [[number] for number in range(len(self.pairs))]
        for _ in range(frames - 1):
            runs = [
                [*run, after]
                for run in runs
                if (after := self._followers[run[-1]]) is not None and not self._differ(run[-1], after)
            ]
        if not runs:
            raise DatasetError(
                f"no {frames} of the {len(self.pairs)} pairs are of one size and numbered in a row, as a video's "
                "frames are"
            )
        return [[self.pairs[number] for number in run] for run in runs]

    @property
    def changes_of_size(self) -> list[str]:
        """The places where the next frame of a video is of another size, which no sequence goes across, in words."""
        return [
            f"{self.pairs[number].blurred} is {size_text(self.pairs[number].size)} and the frame after it "
            f"{size_text(self.pairs[after].size)}"
            for number, after in enumerate(self._followers)
            if after is not None and self._differ(number, after)
        ]

    def _differ(self, one: int, other: int) -> bool:
        return self.pairs[one].size != self.pairs[other].size

    @cached_property
    def _followers(self) -> list[int | None]:
        return followers([pair.blurred for pair in self.pairs])

    def _next_usable(self, sequences: Sequence[Sequence[Pair]], number: int, readers: Executor, size: int) -> Tensor:
        """The pictures of the first sequence behind that of this number, or from the beginning, that can be used.

        Raises:
            DatasetError: there is none.
        """
        for other in (*sequences[number + 1 :], *sequences[:number]):
            both = self._stacked(other, _start_to_read(other, readers), size)
            if both is not None:
                return both
        raise DatasetError(f"none of the {len(self)} pairs can be used{listed([*self._told], ': ')}")

    def _stacked(self, sequence: Sequence[Pair], pictures: Sequence[Future[Tensor]], size: int) -> Tensor | None:
        """The pictures of a sequence, the blurred ones first: 2·frames×3×H×W; None, and told, where that fails."""
        first = sequence[0].blurred
        try:
            read = [picture.result() for picture in pictures]
            # They may be turned by a tag, or be others by now than those that were listed.
            if len({picture.shape for picture in read}) > 1:
                raise PhotoError(f"{first}: the {len(read)} pictures of its sequence differ in size")
            if min(read[0].shape[1:]) < size:
                raise PhotoError(f"{first}: smaller than the {size} pixels that training cuts out")
        except PhotoError as error:
            reason = str(error)
            if reason not in self._told:
                self._told.add(reason)
                self.tell(f"left out: {reason}")
            return None
        return torch.stack(read)


def usable_pairs(
    pairs: Sequence[Pair], smallest: int, frames: int = 1, tell: Callable[[str], None] = lambda line: None
) -> PairSource:
    """The pairs whose shorter side is at least `smallest` pixels, to be drawn in sequences of `frames`.

    `tell` hears of those that are smaller, of sequences whose pictures differ in size, and of what cannot be decoded
    when it is drawn.

    Raises:
        DatasetError: no pair is left, or no sequence.
    """
    small = [pair for pair in pairs if min(pair.size) < smallest]
    if len(small) == len(pairs):
        raise DatasetError(f"no pair of at least {smallest} pixels to train on")
    if small:
        names = [f"{pair.blurred} is {size_text(pair.size)}" for pair in small]
        tell(f"left out, smaller than the {smallest} pixels that training cuts out{listed(names, ': ')}")
    source = PairSource([pair for pair in pairs if min(pair.size) >= smallest], tell)
    source.sequences(frames)  # or the run would find out when it draws the first
    if frames > 1 and source.changes_of_size:
        tell(f"left out, sequences whose pictures differ in size{listed(source.changes_of_size, ': ')}")
    return source


def _start_to_read(sequence: Sequence[Pair], readers: Executor) -> list[Future[Tensor]]:
    files: list[Path] = [*(pair.blurred for pair in sequence), *(pair.sharp for pair in sequence)]
    return [readers.submit(load_picture, file) for file in files]
