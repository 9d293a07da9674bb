"""A recipe: everything that decides a training run, in a frozen dataclass that a TOML file fills."""

from __future__ import annotations

import dataclasses
import difflib
import io
import tomllib
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from deblur_cli.errors import UsageError
from deblur_cli.training.adversarial import AdversarialSettings
from deblur_cli.training.blur import BlurSettings
from deblur_cli.training.losses import multi_scale
from deblur_cli.training.pool import PoolSettings
from deblur_cli.training.ranges import require_in_range
from deblur_cli.training.schedules import Schedule


def belongs(parameter: str, parts: Iterable[str]) -> bool:
    """Whether the parameter of that name is one of `parts` of its network, or of a module that is."""
    return any(f"{parameter}.".startswith(f"{part}.") for part in parts)


@dataclass(frozen=True)
class Stage:
    """A part of the run: what is drawn, how large the crops are, which losses count."""

    until: float = 1.0
    """Share of the run at which the stage ends; the last stage's is 1."""
    crop: int = 128
    """Side of the training crops in pixels, at most the pool's `size`."""
    loss: str = ""
    """Content loss of this stage; empty is the recipe's."""
    content_weight: float = 1.0
    """Weight of the content loss."""
    perceptual_weight: float = 0.0
    """Weight of the perceptual loss, between VGG19's features of the images; at 0 VGG19 is not asked."""
    adversarial_weight: float = 0.0
    """Weight of the adversarial loss; at 0 the critic rests."""
    transfer_weight: float = 0.0
    """Weight of the loss of a network's estimates of the blur's transfer function, one at each of its scales, for a
    network that has them."""
    taught: tuple[str, ...] = ()
    """Parts of the network that learn, modules or parameters by their names; none named is all of it."""
    photos: float = 1.0
    """Weight of sharp photos blurred on the fly."""
    clips: float = 1.0
    """Weight of averages of high-speed clips."""
    stills: float = 0.0
    """Weight of single frames of those clips, blurred on the fly as photos are: sharp pictures of the camera whose blur
    is to be undone."""
    pairs: float = 1.0
    """Weight of pairs from disk (GOPRO)."""
    blur: BlurSettings = field(default_factory=BlurSettings)
    """What blur photos get."""

    def __post_init__(self) -> None:
        require_in_range(self, "stage")

    def teaches(self, parameter: str) -> bool:
        """Whether the parameter of that name learns."""
        return not self.taught or belongs(parameter, self.taught)

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each kind of source."""
        return {"photos": self.photos, "clips": self.clips, "stills": self.stills, "pairs": self.pairs}

    @property
    def loss_weights(self) -> dict[str, float]:
        """The weight of each part of the loss."""
        return {
            "content": self.content_weight,
            "perceptual": self.perceptual_weight,
            "adversarial": self.adversarial_weight,
            "transfer": self.transfer_weight,
        }

    @property
    def restores(self) -> bool:
        """Whether what the network restores counts; where only the estimate of the blur does, nothing else is run."""
        return any(weight > 0 for part, weight in self.loss_weights.items() if part != "transfer")

    @property
    def objective(self) -> tuple[str, dict[str, float]]:
        """What is minimised; stages that differ in it have gradients of different sizes."""
        return self.loss, self.loss_weights


@dataclass(frozen=True)
class Recipe:
    """A training run. Every field has a default but the network's name."""

    model: str
    """Name of the network in the registry."""
    name: str = "unnamed"
    """What the recipe is called; stands in checkpoints and cards."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the network, see `deblur models NAME`."""
    start: str = ""
    """Weights to begin with where a run is given no others, as `models.load_model` takes them; empty is random ones."""
    source: str = ""
    """Where the values come from: a paper, or measurements of ours."""
    loss: str = "charbonnier"
    """Content loss, see losses.py."""
    scales: str = "last"
    """How the content losses of a multi-scale network's scales are put together: `last` (full size alone), `sum`, or
    `normalised` (half their mean); see losses.py."""
    adversarial: AdversarialSettings = field(default_factory=AdversarialSettings)
    """The critic of stages that have an adversarial loss."""
    steps: int = 100_000
    """Optimiser steps of the whole run; the schedule ends there, or at `--max-time` if that comes first."""
    batch: int = 8
    """Crops (or sequences of them) a step, over all processes together."""
    frames: int = 1
    """Consecutive frames that a recurrent network is unrolled over."""
    optimizer: str = "adamw"
    """`adam`, `adamw`, or `muon` for the inner layers and AdamW for the rest, see optimizers.py."""
    rate: float = 3e-4
    """Highest learning rate."""
    final_rate: float = 1e-6
    """Learning rate that the schedule ends at, but for one in steps, whose factors say where it ends."""
    schedule: Schedule = field(default_factory=Schedule)
    """How it falls from the one to the other."""
    warmup: int = 500
    """Steps over which the learning rate rises from zero."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Adam's decay rates of the first and second moment."""
    weight_decay: float = 0.0
    """Weight decay, decoupled but with `adam`."""
    gradient_norm: float = 0.5
    """Gradients are scaled down to this global norm; 0 leaves them as they are."""
    clipped: str = ""
    """Only the gradients of parameters with this in their names count and are scaled; empty is all."""
    ema: float = 0.999
    """Decay of the moving average of the weights, which is what is validated and exported; 0 averages nothing."""
    seed: int = 1
    """Of weights, data and order."""
    validate_every: int = 2000
    """Steps between validations."""
    save_every: int = 1000
    """Steps between checkpoints."""
    pool: PoolSettings = field(default_factory=PoolSettings)
    """How pairs are kept and reused."""
    stages: tuple[Stage, ...] = (Stage(),)
    """Stages in order."""

    def __post_init__(self) -> None:
        require_in_range(self, "recipe")
        if self.schedule.kind != "steps" and self.final_rate > self.rate:
            raise UsageError(f"recipe.final_rate must be at most the rate of {self.rate}, not {self.final_rate}")
        ends = [stage.until for stage in self.stages]
        if not ends or ends != sorted(set(ends)) or ends[-1] != 1.0:
            raise UsageError(f"recipe '{self.name}': the stages' `until` must rise to 1, not {ends}")
        largest = max(stage.crop for stage in self.stages)
        if largest > self.pool.size:
            raise UsageError(f"recipe '{self.name}': crops of {largest} pixels from pairs of {self.pool.size}")
        if self.pool.pairs % self.pool.chunk:
            raise UsageError(f"recipe '{self.name}': the pool's pairs must be a multiple of its chunk")
        if not all(any(weight > 0 for weight in stage.loss_weights.values()) for stage in self.stages):
            raise UsageError(f"recipe '{self.name}': a stage in which no loss has a weight")
        if not all(any(weight > 0 for weight in stage.weights.values()) for stage in self.stages):
            kinds = ", ".join(self.stages[0].weights)
            raise UsageError(f"recipe '{self.name}': a stage in which nothing that is drawn ({kinds}) has a weight")
        for stage in self.stages:
            multi_scale(stage.loss or self.loss, self.scales)

    def stage_at(self, progress: float) -> Stage:
        """The stage at a progress of 0 to 1."""
        return next(stage for stage in self.stages if progress < stage.until or stage.until == 1.0)

    def rate_at(self, step: int, progress: float, lowered: float = 1.0) -> float:
        """The learning rate: linear warm-up, then from `rate` as the schedule falls over the progress of 0 to 1.

        `lowered` is what the `plateau` schedule has come to (`Plateau.factor`).
        """
        rate = self.schedule.rate(self.rate, self.final_rate, progress, lowered)
        return rate * min(1.0, (step + 1) / max(1, self.warmup))

    @property
    def losses(self) -> list[str]:
        """Parts of the loss that some stage gives a weight: of those in `Stage.loss_weights`."""
        return [part for part in Stage().loss_weights if any(stage.loss_weights[part] > 0 for stage in self.stages)]

    @property
    def curves(self) -> list[str]:
        """Losses worth a curve beside their weighted sum: its parts, where there are several, and the critic's own."""
        critic = ["critic"] if "adversarial" in self.losses else []
        return [*self.losses, *critic] if len(self.losses) > 1 or critic else []


def shipped_recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = resources.files("deblur_cli.training") / "recipes"
    return sorted(Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_recipe(name_or_file: str) -> Recipe:
    """A shipped recipe by name, or one from a TOML file.

    Raises:
        UsageError: there is none of that name, it is no TOML, or a field is unknown, of the wrong type or out of range.
    """
    path = Path(name_or_file)
    if path.suffix == ".toml":
        if not path.is_file():
            raise UsageError(f"there is no recipe file {path}")
        content = path.read_bytes()
    elif name_or_file in shipped_recipes():
        content = (resources.files("deblur_cli.training") / "recipes" / f"{name_or_file}.toml").read_bytes()
    else:
        close = difflib.get_close_matches(name_or_file, shipped_recipes(), n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(shipped_recipes())}"
        raise UsageError(f"no recipe is called '{name_or_file}'; {hint}")
    try:
        return recipe_from({"name": path.stem, **tomllib.load(io.BytesIO(content))})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{name_or_file}: not valid TOML: {error}") from error


def recipe_from(table: Mapping[str, Any]) -> Recipe:
    """A recipe from the table that a TOML file or a checkpoint holds.

    Raises:
        UsageError: a field is unknown, of the wrong type or out of range.
    """
    recipe: Recipe = _fill(Recipe, table, "recipe")
    return recipe


def recipe_table(recipe: Recipe) -> dict[str, Any]:
    """The inverse of `recipe_from`: plain dictionaries, lists, numbers and strings."""
    return dataclasses.asdict(recipe)


def _fill(cls: Any, table: Mapping[str, Any], where: str) -> Any:
    hints = typing.get_type_hints(cls)
    for key in table:
        if key not in hints:
            close = difflib.get_close_matches(key, hints, n=1)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            raise UsageError(f"{where}: there is no field '{key}'{hint}")
    required = [entry.name for entry in dataclasses.fields(cls) if _has_no_default(entry) and entry.name not in table]
    if required:
        raise UsageError(f"{where}: the field '{required[0]}' is missing")
    return cls(**{key: _convert(hints[key], value, f"{where}.{key}") for key, value in table.items()})


def _has_no_default(entry: dataclasses.Field[Any]) -> bool:
    return entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return _fill(hint, value, where)
    if origin is tuple and isinstance(value, list | tuple):
        if arguments[-1] is not Ellipsis and len(arguments) != len(value):
            raise UsageError(f"{where}: {len(arguments)} values are wanted, not {len(value)}")
        return tuple(_convert(arguments[0], item, f"{where}[{number}]") for number, item in enumerate(value))
    if origin is dict and isinstance(value, Mapping):
        return dict(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is hint:
        return value
    raise UsageError(f"{where}: {value!r} is not of the type {getattr(hint, '__name__', hint)}")
