"""Learning-rate schedules: how the rate falls with the progress of a run, or with what its losses do."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from deblur_cli.errors import UsageError
from deblur_cli.training.ranges import require_in_range

SCHEDULES = ("cosine", "polynomial", "steps", "plateau")


@dataclass(frozen=True)
class Schedule:
    """How the learning rate falls from a recipe's `rate` to its `final_rate`, after the warm-up."""

    kind: str = "cosine"
    """`cosine`; `polynomial` (linear with a power of 1); `steps`, at milestones; or `plateau`, where an epoch's mean
    training loss stops falling."""
    start: float = 0.0
    """Share of the run over which `cosine` and `polynomial` stay at the highest rate before they fall."""
    power: float = 1.0
    """Exponent of `polynomial`."""
    milestones: tuple[float, ...] = ()
    """Shares of the run at which `steps` multiplies the rate by `factor`."""
    factor: float = 0.1
    """What `steps` and `plateau` multiply the rate by."""
    epoch: int = 1000
    """Steps whose mean loss `plateau` compares with that of the epochs before."""
    patience: int = 5
    """Epochs without a new least loss after which `plateau` multiplies the rate by `factor`."""

    def __post_init__(self) -> None:
        if self.kind not in SCHEDULES:
            raise UsageError(f"no schedule is called '{self.kind}'; there are {', '.join(SCHEDULES)}")
        require_in_range(self, "schedule")

    def rate(self, highest: float, lowest: float, progress: float, lowered: float) -> float:
        """The learning rate at a progress of 0 to 1; `lowered` is what `plateau` has come to (`Plateau.factor`)."""
        if self.kind == "steps":
            return highest * self.factor ** sum(progress >= milestone for milestone in self.milestones)
        if self.kind == "plateau":
            return max(lowest, highest * lowered)
        fallen = min(1.0, max(0.0, (progress - self.start) / (1 - self.start)))
        remaining = 0.5 * (1 + math.cos(math.pi * fallen)) if self.kind == "cosine" else (1 - fallen) ** self.power
        return lowest + (highest - lowest) * remaining


@dataclass(frozen=True)
class Plateau:
    """What the `plateau` schedule remembers; it stands in the checkpoint, so that a resumed run goes on with it."""

    total: float = 0.0
    """Sum of the losses of the epoch that is running."""
    steps: int = 0
    """Steps of that epoch so far."""
    best: float = math.inf
    """Least mean loss of an epoch."""
    waited: int = 0
    """Epochs since then, or since the rate was last lowered."""
    factor: float = 1.0
    """What the highest rate is multiplied by."""

    def after(self, loss: float, schedule: Schedule) -> Plateau:
        """The memory after one more step; schedules of other kinds leave it as it is."""
        if schedule.kind != "plateau":
            return self
        total, steps = self.total + loss, self.steps + 1
        if steps < schedule.epoch:
            return replace(self, total=total, steps=steps)
        if total / steps < self.best:
            return Plateau(best=total / steps, factor=self.factor)
        if self.waited + 1 < schedule.patience:
            return Plateau(best=self.best, waited=self.waited + 1, factor=self.factor)
        return Plateau(best=self.best, factor=self.factor * schedule.factor)
