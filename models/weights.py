"""Weights: find those that are shipped, check them, load them or a user's own file, save what was trained.

Shipped weights lie in the folder `weights` beside this file: `NAME.safetensors` is the default of network NAME,
`NAME-VARIANT.safetensors` another, called `NAME:VARIANT`. Each has its card beside it, a JSON file of the same name
that says how it was made, what it scores, and its SHA-256.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models import hub
from models.checkpoints import Checkpoint, read_checkpoint, write_checkpoint
from models.measure import macs
from models.registry import ModelError, ModelInfo, create_model, list_models, model_info

SHIPPED_FOLDER = Path(__file__).parent / "weights"

_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class ShippedWeights:
    """Weights that come with the package, not yet loaded or checked."""

    label: str
    """What `load_model` takes: `NAME` or `NAME:VARIANT`."""
    path: Path
    card: dict[str, Any]
    """How they were made and what they score, as the file beside them says."""


@dataclass(frozen=True)
class LoadedModel:
    """A network with its weights, ready to restore."""

    network: nn.Module
    """In eval mode, float32, on the processor."""
    info: ModelInfo
    """The network's facts, for the options it was built with."""
    options: dict[str, Any]
    """All of the builder's options."""
    path: Path | None
    """Where the weights came from; None for an untrained network."""
    sha256: str | None
    """Of the file, hexadecimal; None for an untrained network."""
    card: dict[str, Any]
    """How the weights were made and what they score; empty where nothing is known."""
    origin: hub.HubFile | None = None
    """The file on the hub that `path` is the cached copy of; None where it did not come from there."""

    @property
    def gmacs(self) -> float:
        """Multiply-accumulates for a 256×256 image, in units of 10⁹: the registered figure, or counted."""
        if self.info.gmacs is not None:
            return self.info.gmacs
        side = self.info.padded(256)
        return macs(copy.deepcopy(self.network).to("meta"), side, side) / 1e9

    @property
    def label(self) -> str:
        """A short name for reports: `NAME` or `NAME:VARIANT` of shipped or untrained networks, `hf:…` of weights from
        the hub (where many files are called the same), else the file's name."""
        if self.origin is not None:
            return str(self.origin)
        if self.path is None:
            return self.info.name
        if self.path.parent == SHIPPED_FOLDER:
            return _label(self.info.name, self.path)
        return self.path.name


def shipped_weights(name: str) -> list[ShippedWeights]:
    """The weights that are shipped for network `name`, the default first.

    Raises:
        ModelError: there is no such network, or a card is missing or damaged.
    """
    model_info(name)
    paths = [SHIPPED_FOLDER / f"{name}{_SUFFIX}", *sorted(SHIPPED_FOLDER.glob(f"{name}-*{_SUFFIX}"))]
    found = [ShippedWeights(_label(name, path), path, _card(path)) for path in paths if path.is_file()]
    # `a-b.safetensors` is network a's variant b, unless there is a network that is called a-b.
    return [weights for weights in found if weights.card.get("model") == name]


def load_model(name_or_path: str | Path) -> LoadedModel:
    """Load a network with its weights.

    Args:
        name_or_path: `NAME` or `NAME:VARIANT` of shipped weights, the path of a file of weights, or
            `hf:OWNER/REPO/FILE[@REVISION]` for one on the Hugging Face hub (see `models.hub.fetch`). A string that is a
            network's name is taken as one, even where a file of that name exists; a `Path` is always a file.

    A file's network and options are taken from its own metadata, or else recognised from the names and shapes of its
    tensors. Half-precision weights are converted to float32. A network that exists for tests has no weights and is
    loaded untrained, always the same.

    Raises:
        ModelError: unknown name, no weights shipped for it, or a file that is missing, damaged, of no known network,
            holds code or weights that are not finite, (shipped) differs from its card, or (hub) cannot be fetched.
    """
    if isinstance(name_or_path, str):
        if name_or_path.startswith(hub.PREFIX):
            origin = hub.HubFile.parse(name_or_path)
            return replace(_load_file(hub.fetch(origin)), origin=origin)
        name, _, variant = name_or_path.partition(":")
        if name in list_models(hidden=True):
            return _load_shipped(name, variant)
        path = Path(name_or_path)
        if not path.exists() and not path.suffix and path.name == name_or_path:
            model_info(name)  # not a path by its looks: complains, and suggests names
    return _load_file(Path(name_or_path))


def untrained_model(name: str) -> LoadedModel:
    """Network `name` with its default options and random weights, the same each time.

    Raises:
        ModelError: there is no such network.
    """
    info = model_info(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = create_model(name)
    return LoadedModel(network.eval(), info, dict(info.options), path=None, sha256=None, card={})


def save_weights(
    network: nn.Module,
    path: str | Path,
    *,
    name: str,
    options: Mapping[str, Any],
    card: Mapping[str, Any],
    dtype: torch.dtype | None = None,
) -> str:
    """Save the weights of `network` as a safetensors file that says what it is, so that `load_model` takes it.

    Args:
        path: the file; written beside and renamed, so that it is always whole.
        name, options: how the registry builds this network; options that are not given are stored as they are by
            default now, so that another default does not make the file unreadable.
        card: how the weights were made and what they score; JSON values.
        dtype: what floating-point weights are stored in (float16 halves the file); None keeps them as they are.

    Returns:
        The file's SHA-256, hexadecimal.

    Raises:
        ModelError: the network is not what `name` and `options` build, or a weight is not finite (in `dtype`).
    """
    tensors = {
        key: tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor
        for key, tensor in network.state_dict().items()
    }
    differences = _differences(_expected(name, options), tensors)
    if differences:
        raise ModelError(f"these are not the weights of network '{name}' with its options: {_listed(differences)}")
    _require_finite(tensors, f"the weights for {path}")
    metadata = {
        "deblur.model": name,
        "deblur.options": json.dumps({**model_info(name).options, **options}, sort_keys=True),
        "deblur.card": json.dumps(dict(card), ensure_ascii=False),
    }
    return write_checkpoint(tensors, Path(path), metadata)


def _load_shipped(name: str, variant: str) -> LoadedModel:
    label = f"{name}:{variant}" if variant else name
    path = SHIPPED_FOLDER / f"{name}{'-' if variant else ''}{variant}{_SUFFIX}"
    if path.is_file():
        return _load_file(path, card=_card(path))
    if model_info(name).hidden and not variant:
        return untrained_model(name)
    others = [weights.label for weights in shipped_weights(name)]
    remedy = f"there are {', '.join(others)}" if others else "train some, or give a file or hf:OWNER/REPO/FILE"
    raise ModelError(f"no weights are shipped for '{label}'; {remedy}")


def _load_file(path: Path, card: dict[str, Any] | None = None) -> LoadedModel:
    """Load `path`; with `card`, the file must be the one that the card describes."""
    checkpoint = read_checkpoint(path)
    if card is not None and card.get("sha256") != checkpoint.sha256:
        raise ModelError(
            f"the shipped weights {path} are not those of their card: the installation is damaged, reinstall"
        )
    name, options = _identify(checkpoint, path)
    _require_finite(checkpoint.tensors, f"weights file {path}")
    with torch.random.fork_rng(devices=[]):  # weights are drawn, and the caller's generator is the caller's
        network = create_model(name, **options).float()
    network.load_state_dict(checkpoint.tensors)
    info = model_info(name)
    return LoadedModel(
        network=network.eval(),
        info=info.for_options(options),
        options={**info.options, **options},
        path=path,
        sha256=checkpoint.sha256,
        card=_json_object(checkpoint.metadata.get("deblur.card", "{}"), path) if card is None else card,
    )


def _identify(checkpoint: Checkpoint, path: Path) -> tuple[str, dict[str, Any]]:
    """The network, and the options with which it has exactly these tensors."""
    tensors = checkpoint.tensors
    named = checkpoint.metadata.get("deblur.model")
    if named is not None:
        if named not in list_models(hidden=True):
            raise ModelError(f"weights file {path} is for network '{named}', which this version does not have; update")
        stored = _json_object(checkpoint.metadata.get("deblur.options", "{}"), path)
        options = {key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()}
        differences = _differences(_expected(named, options), tensors)
        if differences:
            raise ModelError(f"weights file {path} does not fit its network '{named}': {_listed(differences)}")
        return named, options
    fits = []
    for name, options in _candidates(tensors):
        try:
            expected = _expected(name, options)
        except ModelError:  # a size read from damaged tensors that no network can have
            continue
        differences = _differences(expected, tensors)
        if not differences:
            return name, options
        # By the share of tensors that differ: by their number, the smallest network would be the closest to all.
        fits.append((len(differences) / len(expected.keys() | tensors.keys()), name, differences))
    unlike, name, differences = min(fits)
    if unlike == 1.0:
        own = ", ".join(f"{key} ({_shape(tensor)})" for key, tensor in list(tensors.items())[:3])
        closest = f"it shares no tensor with any; its first are {own}"
    else:
        closest = f"the closest is '{name}': {_listed(differences)}"
    raise ModelError(f"weights file {path} fits none of {', '.join(list_models())}; {closest}")


def _candidates(tensors: Mapping[str, Tensor]) -> list[tuple[str, dict[str, Any]]]:
    """Networks and options that may have these tensors: those that recognise them, then all with their defaults.

    The latter as well as the former, as where a block is missing, a recogniser may take the network for a smaller one.
    """
    recognisers = {name: model_info(name).recognise for name in list_models()}
    recognised = [(name, recognise(tensors)) for name, recognise in recognisers.items() if recognise]
    return [(name, options) for name, options in recognised if options] + [(name, {}) for name in recognisers]


def _expected(name: str, options: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of network `name` built with `options`, on torch's meta device: no memory, no random numbers."""
    with torch.device("meta"):
        return create_model(name, **options).state_dict()


def _differences(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> list[str]:
    """In words, each tensor that is missing, of another shape, or unknown."""
    found = []
    for key, tensor in expected.items():
        if key not in tensors:
            found.append(f"{key} is missing")
        elif tensors[key].shape != tensor.shape:
            found.append(f"{key} is {_shape(tensors[key])} and not {_shape(tensor)}")
    return found + [f"{key} is unknown" for key in tensors if key not in expected]


def _require_finite(tensors: Mapping[str, Tensor], what: str) -> None:
    for key, tensor in tensors.items():
        if tensor.is_quantized or tensor.is_complex() or tensor.layout != torch.strided:
            raise ModelError(f"{what}: {key} is no plain tensor of real numbers")
        if tensor.untyped_storage().nbytes() < tensor.nbytes:
            raise ModelError(f"{what}: {key} claims more numbers than are stored")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor.float()).all()):
            raise ModelError(f"{what}: {key} holds numbers that are not finite")


def _listed(differences: Sequence[str]) -> str:
    more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
    return "; ".join(differences[:3]) + more


def _shape(tensor: Tensor) -> str:
    return "×".join(str(size) for size in tensor.shape) or "a single number"


def _label(name: str, path: Path) -> str:
    variant = path.stem.removeprefix(name).removeprefix("-")
    return f"{name}:{variant}" if variant else name


def _card(path: Path) -> dict[str, Any]:
    card_path = path.with_suffix(".json")
    try:
        return _json_object(card_path.read_text(encoding="utf-8"), card_path)
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"the card {card_path} cannot be read: the installation is damaged, reinstall") from error


def _json_object(text: str, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ModelError(f"{path} is damaged: it holds what is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} is damaged: it holds a JSON {type(value).__name__} in place of an object")
    return value
