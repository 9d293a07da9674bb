"""Which numbers the fields of a recipe may have, in one table."""

from __future__ import annotations

import math
from dataclasses import dataclass

from deblur_cli.errors import UsageError


@dataclass(frozen=True)
class Range:
    """Finite numbers from `least` to `most`."""

    least: float
    most: float = math.inf
    open_below: bool = False
    """Whether `least` itself is left out."""
    open_above: bool = False
    """Whether `most` itself is left out."""

    def holds(self, number: float) -> bool:
        """Whether the number lies within; one that is not finite (or none at all, NaN) never does."""
        above = number > self.least if self.open_below else number >= self.least
        below = number < self.most if self.open_above else number <= self.most
        return above and below and number < math.inf

    def __str__(self) -> str:
        """In words that go on from "must be"."""
        least = f"above {self.least}" if self.open_below else f"at least {self.least}"
        if math.isinf(self.most):
            return least if self.least == 1 else f"finite and {least}"  # what is counted from 1 is finite anyway
        return f"{least} and {'below' if self.open_above else 'at most'} {self.most}"


_COUNT = Range(1)
_NOT_NEGATIVE = Range(0)
_POSITIVE = Range(0, open_below=True)
_SHARE = Range(0, 1)
_BELOW_ONE = Range(0, 1, open_above=True)
_ABOVE_ZERO_TO_ONE = Range(0, 1, open_below=True)

RANGES: dict[str, dict[str, Range]] = {
    "recipe": {
        **dict.fromkeys(["steps", "validate_every", "save_every"], _COUNT),
        # Crops of a batch are gathered one by one, and would fill any memory before it is found that it is too small.
        **dict.fromkeys(["batch", "frames"], Range(1, 10**4)),
        "rate": _POSITIVE,
        **dict.fromkeys(["final_rate", "warmup", "weight_decay", "gradient_norm"], _NOT_NEGATIVE),
        "betas": _BELOW_ONE,
        "ema": _SHARE,
        "seed": Range(-(2**63), 2**63 - 1),
    },
    "stage": {
        "until": _ABOVE_ZERO_TO_ONE,
        "crop": _COUNT,
        **dict.fromkeys(["content_weight", "perceptual_weight"], _NOT_NEGATIVE),
        **dict.fromkeys(["adversarial_weight", "transfer_weight"], _NOT_NEGATIVE),
        **dict.fromkeys(["photos", "clips", "stills", "pairs"], _NOT_NEGATIVE),
    },
    # What is larger is more than torch can address, and not only more than a machine has.
    "pool": {
        "pairs": Range(1, 10**9),
        "size": Range(1, 10**4),
        "chunk": Range(1, 10**4),
        "reuse": _COUNT,
        "averaged_from": _NOT_NEGATIVE,
    },
    "blur": {
        "length": Range(0, 10**4, open_below=True),
        **dict.fromkeys(["straight", "foreground", "braced", "linear", "saturation"], _SHARE),
        **dict.fromkeys(["defocus", "noise", "jpeg"], _SHARE),
        "roll": _NOT_NEGATIVE,
        "spacing": _POSITIVE,
    },
    "schedule": {
        "start": _BELOW_ONE,
        "power": _NOT_NEGATIVE,
        "milestones": _SHARE,
        "factor": _ABOVE_ZERO_TO_ONE,
        **dict.fromkeys(["epoch", "patience"], _COUNT),
    },
    "adversarial": {"critic_steps": _COUNT, "critic_rate": _NOT_NEGATIVE},
}
"""By part of a recipe and field; of a field that holds several numbers, what each of them may be."""


def require_in_range(settings: object, part: str) -> None:
    """Check the numbers of a dataclass that is the `part` of a recipe.

    Raises:
        UsageError: one is not in its range; the message names the field and the range.
    """
    for field, allowed in RANGES[part].items():
        value = getattr(settings, field)
        for number in value if isinstance(value, tuple) else (value,):
            if not allowed.holds(number):
                raise UsageError(f"{part}.{field} must be {allowed}, not {number}")
