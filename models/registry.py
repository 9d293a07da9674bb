"""The one list of networks: a decorator that registers a builder, and the facts the engine reads from it.

The engine never asks which class a network is; everything it needs to know stands in `ModelInfo`.
The scheme is timm's (function names are network names) with spandrel's facts beside each. Which weights are shipped for
a network is not a fact of its code: `models.weights.shipped_weights` reads that from the folder they lie in.
"""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

DEFAULT_MODEL = "lite"
"""The network that is used where none is asked for."""

Builder = Callable[..., nn.Module]

Recogniser = Callable[[Mapping[str, Tensor]], dict[str, Any] | None]
"""Given the tensors of an unnamed weights file by name, the options with which they are this network's, or None."""

MultipleOf = int | Callable[[Mapping[str, Any]], int]
"""A number, or a function of the network's options where it depends on them (a depth that can be chosen)."""


class ModelError(Exception):
    """An unknown network, an option it does not have, or weights that do not fit. The message is one line."""


@dataclass(frozen=True)
class Score:
    """A figure published for a network; ours are measured and live in the cards of the weights."""

    dataset: str
    psnr: float
    """PSNR in dB."""
    ssim: float | None = None
    ssim_kind: str = ""
    """Which SSIM: `ssim` (skimage kind), `ssim_matlab` (3-D window), `cw` (complex wavelet), or empty if unknown."""
    source: str = ""


@dataclass(frozen=True)
class ModelInfo:
    """What the engine and the user need to know of a network without building it."""

    name: str
    description: str
    """One line."""
    builder: Builder
    options: dict[str, Any]
    """The builder's options and their defaults."""
    paper: str = ""
    multiple_of: int = 1
    """Height and width are padded to a multiple of this before the network sees them."""
    multiple_of_rule: MultipleOf = 1
    """What `multiple_of` is computed from (see `for_options`)."""
    recurrent: bool = False
    """`forward(blurred, state) -> (restored, state)` where true, else `forward(blurred) -> restored`."""
    tile_overlap: int = 32
    """Pixels of context on each side of a tile that make tiling invisible."""
    half_precision: bool = True
    """Whether bfloat16 and float16 keep the output within 50 dB of float32."""
    parameters: int | None = None
    """Parameters with the default options; with another count it is another network (`models.check`). None where no
    figure is registered, and for a network built with other options."""
    gmacs: float | None = None
    """Multiply-accumulates for a 256×256 image with the default options, in units of 10⁹, likewise."""
    published: tuple[Score, ...] = field(default=())
    recognise: Recogniser | None = None
    """Tells this network's weights from others' when a file does not name its network."""
    hidden: bool = False
    """Left out of listings: a network that exists for tests."""

    def padded(self, side: int) -> int:
        """Pixels that a height or width of `side` is padded to."""
        return math.ceil(side / self.multiple_of) * self.multiple_of

    def for_options(self, options: Mapping[str, Any]) -> ModelInfo:
        """The facts of the network built with `options` in place of some of the defaults."""
        rule, given = self.multiple_of_rule, {**self.options, **options}
        same = given == self.options
        return replace(
            self,
            multiple_of=rule(given) if callable(rule) else rule,
            parameters=self.parameters if same else None,
            gmacs=self.gmacs if same else None,
        )


_REGISTRY: dict[str, ModelInfo] = {}


def register_model(
    name: str,
    description: str,
    *,
    paper: str = "",
    multiple_of: MultipleOf = 1,
    recurrent: bool = False,
    tile_overlap: int = 32,
    half_precision: bool = True,
    parameters: int | None = None,
    gmacs: float | None = None,
    published: tuple[Score, ...] = (),
    recognise: Recogniser | None = None,
    hidden: bool = False,
) -> Callable[[Builder], Builder]:
    """Register the decorated builder as network `name`, with its facts (see `ModelInfo`).

    The options of the network are the builder's keyword parameters; each must have a default.

    Raises:
        ModelError: the name is taken, or a parameter of the builder has no default.
    """

    def register(builder: Builder) -> Builder:
        if name in _REGISTRY:
            raise ModelError(f"two networks are registered as '{name}'")
        signature = inspect.signature(builder)
        options = {key: parameter.default for key, parameter in signature.parameters.items()}
        bare = [key for key, default in options.items() if default is inspect.Parameter.empty]
        if bare:
            raise ModelError(f"network '{name}': option '{bare[0]}' has no default")
        info = ModelInfo(
            name=name,
            description=description,
            builder=builder,
            options=options,
            paper=paper,
            multiple_of_rule=multiple_of,
            recurrent=recurrent,
            tile_overlap=tile_overlap,
            half_precision=half_precision,
            parameters=parameters,
            gmacs=gmacs,
            published=published,
            recognise=recognise,
            hidden=hidden,
        )
        _REGISTRY[name] = info.for_options({})
        return builder

    return register


def list_models(*, hidden: bool = False) -> list[str]:
    """Names of the registered networks, sorted; those that exist for tests only where `hidden` is true."""
    return sorted(name for name, info in _REGISTRY.items() if hidden or not info.hidden)


def model_info(name: str) -> ModelInfo:
    """The facts of network `name`.

    Raises:
        ModelError: there is no such network; the message suggests close names.
    """
    if name in _REGISTRY:
        return _REGISTRY[name]
    close = difflib.get_close_matches(name, list_models(), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(list_models())}"
    raise ModelError(f"no network is called '{name}'; {hint}")


def create_model(name: str, /, **options: Any) -> nn.Module:
    """Build network `name` with random weights; `options` replace the builder's defaults.

    Raises:
        ModelError: there is no such network, it has no such option, or it cannot be built with these values.
    """
    info = model_info(name)
    unknown = sorted(set(options) - set(info.options))
    if unknown:
        known = ", ".join(info.options) or "none"
        raise ModelError(f"network '{name}' has no option '{unknown[0]}' (its options: {known})")
    try:
        return info.builder(**options)
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RuntimeError) as error:
        chosen = ", ".join(f"{key}={value!r}" for key, value in options.items()) or "its defaults"
        raise ModelError(f"network '{name}' cannot be built with {chosen}: {error}") from error
