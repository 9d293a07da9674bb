"""The pool of pairs that batches are cut from, and what it holds for how long."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from deblur_cli.errors import DatasetError
from deblur_cli.restoration.device import worker
from deblur_cli.training.blur import BlurSettings
from deblur_cli.training.data import HIGH_SPEED, Dice, Source, in_frames, random_window
from deblur_cli.training.ranges import require_in_range


@dataclass(frozen=True)
class PoolSettings:
    """How far pairs are reused. On a GPU making a pair is nearly free and `reuse` is 1; on a processor it is not."""

    pairs: int = 512
    """How many pairs are held; a batch is drawn from all of them. Each frame of a sequence counts as a pair, so that
    sequences of any length take the same memory: 64 of 8 frames for 512."""
    size: int = 192
    """Side of a held pair in pixels; crops are cut from it at random places."""
    chunk: int = 16
    """Pairs made at a time, again counted in frames; at least one sequence."""
    reuse: int = 8
    """Crops cut for each pair made, on average."""
    averaged_from: float = HIGH_SPEED
    """Frames a second from which clips are averaged; lower where they are known to move by a few pixels a frame. Slower
    clips give a sharp picture a second."""

    def __post_init__(self) -> None:
        require_in_range(self, "pool")


class Pool:
    """Holds the newest pairs and cuts batches from them, each crop flipped and turned at random.

    Chunk c of pairs depends on (seed, c) and the batch of step s on (seed, s) and the chunks held then, so a pool built
    anew at step s gives the same batches as one that was there from the start.

    What is read from disk is read while the steps before are trained, so that no step waits for it.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        settings: PoolSettings,
        batch: int,
        seed: int,
        device: torch.device,
        mixture: Callable[[int], tuple[dict[str, float], BlurSettings]],
        frames: int = 1,
    ) -> None:
        """`mixture(step)` gives the weight of each kind of source and the blur that stage of the run draws; more than
        1 of `frames` makes each pair one of sequences."""
        self.sources, self.settings, self.batch_size, self.seed, self.device = sources, settings, batch, seed, device
        self.mixture, self.frames = mixture, frames
        self._chunk = max(1, settings.chunk // frames)
        self._slots = max(1, settings.pairs // (self._chunk * frames))
        shape = (self._slots * self._chunk, 2, frames, 3, settings.size, settings.size)
        self._pairs = torch.empty(shape, dtype=torch.uint8, device=device)
        self._made = -1
        self._reader = worker("pairs") if any(source.is_read for source in sources) else None
        self._ahead: dict[int, Future[tuple[Tensor, Tensor]]] = {}

    def batch(self, step: int, crop: int) -> tuple[Tensor, Tensor]:
        """Blurred and sharp of one step, each batch×3×crop×crop in [0, 1], or batch×frames×3×crop×crop where `frames`
        is more than 1: the frames of a sequence are cut, flipped and turned alike."""
        self._fill(step)
        dice = Dice.seeded(self.device, self.seed, "batch", step)
        crops = []
        for _ in range(self.batch_size):
            pair = self._pairs[dice.host.randrange(len(self._pairs))]
            pair = pair[:, :, *random_window(pair.shape[3:], crop, dice)]
            dims = [dim for dim in (3, 4) if dice.host.random() < 0.5]
            pair = pair.flip(dims) if dims else pair
            crops.append(pair.transpose(3, 4) if dice.host.random() < 0.5 else pair)
        return in_frames(torch.stack(crops).flatten(1, 2).float() / 255, self.frames)

    def close(self) -> None:
        """Wait for what is being read, and read nothing more."""
        if self._reader:
            self._reader.shutdown(cancel_futures=True)

    def _fill(self, step: int) -> None:
        """Make the chunks that are due at `step` and not there: all of them at the start, then now and then one."""
        newest = self._newest(step)
        for chunk in range(max(self._made + 1, newest - self._slots + 1), newest + 1):
            start = chunk % self._slots * self._chunk
            for position, images in enumerate(self._make(chunk)):
                held = self._pairs[start : start + self._chunk, position]
                held.copy_((images * 255).round().clamp(0, 255).to(torch.uint8).view_as(held))
        if self._reader and newest > self._made:
            for chunk in range(newest + 1, max(newest + 1, self._newest(step + 1)) + 1):
                source, draw = self._drawing(chunk)
                if source.is_read:
                    self._ahead[chunk] = self._reader.submit(draw)
        self._made = newest

    def _newest(self, step: int) -> int:
        """The last chunk that is to be there at `step`."""
        return self._slots - 1 + step * self.batch_size // (self._chunk * self.settings.reuse)

    def _make(self, chunk: int) -> tuple[Tensor, Tensor]:
        """Blurred and sharp of a chunk, as its source draws them: before, or now."""
        if chunk in self._ahead:
            return self._ahead.pop(chunk).result()
        _, draw = self._drawing(chunk)
        return draw()

    def _drawing(self, chunk: int) -> tuple[Source, Callable[[], tuple[Tensor, Tensor]]]:
        """The source of a chunk, and what draws the chunk from it."""
        # The first fill belongs to step 0, each later chunk to the step that asks for it.
        due = max(0, -(-(chunk - self._slots + 1) * self._chunk * self.settings.reuse // self.batch_size))
        dice = Dice.seeded(self.device, self.seed, "chunk", chunk)
        weights, blur = self.mixture(due)
        require_sources(self.sources, weights)
        shares = [weights.get(source.kind, 0.0) for source in self.sources]
        (source,) = dice.host.choices(self.sources, shares)
        return source, partial(source.draw, self._chunk, self.settings.size, blur, dice, self.frames)


def pool_device(device: torch.device) -> torch.device:
    """Where pairs are made for training on `device`: there, but for Apple's GPUs, on which no bicubic sampling runs."""
    return torch.device("cpu") if device.type == "mps" else device


def require_sources(sources: Sequence[Source], weights: Mapping[str, float]) -> None:
    """Raise `DatasetError` unless there is a source of a kind that has a weight."""
    wanted = [kind for kind, weight in weights.items() if weight > 0]
    if not any(source.kind in wanted for source in sources):
        raise DatasetError(
            f"a stage of this recipe draws from {' and '.join(wanted)} alone, and none of these was given"
        )
