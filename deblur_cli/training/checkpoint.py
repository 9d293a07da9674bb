"""Checkpoints: a run's whole state in one safetensors file, written beside and renamed, loaded without running code.

Tensors are named `network.…`, `average.…`, where there is one `critic.…`, and `optimizer.…`; the rest (recipe, step,
elapsed seconds, best score) is JSON in the metadata. Random states are not kept because there are none: see data.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer

from deblur_cli.errors import NoRunError, TrainingError
from deblur_cli.media.files import replacing
from deblur_cli.training.recipe import Recipe, recipe_from, recipe_table
from deblur_cli.training.schedules import Plateau

CHECKPOINT = "checkpoint.safetensors"
"""Name of the checkpoint in a run's folder."""

_KEY = "deblur.checkpoint"


History = tuple[tuple[int, str], ...]
"""What something was in the course of a run, and from which step on."""


def continued(history: History, step: int, now: str) -> History:
    """The history of what is `now` from `step` on."""
    return history if history and history[-1][1] == now else (*history, (step, now))


def in_order(history: History) -> str:
    """A history in words, to be read in a card."""
    return "; ".join(f"from step {step} on {what}" if step else what for step, what in history)


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    step: int = 0
    """Optimiser steps done."""
    stage: int = 0
    """Number of the stage that the last of them was in."""
    elapsed: float = 0.0
    """Seconds of training done, over all its sessions."""
    best: float = float("-inf")
    """Best validation score so far in dB, since a critic joined in, if one has."""
    validated: bool = False
    """Whether the weights that are kept as the best ever had a score."""
    baseline: dict[str, float] = field(default_factory=dict)
    """PSNR in dB of the blurred input of each set that they were validated on."""
    material: History = ()
    """What was trained on, in words."""
    precision: History = ()
    """What the network computed in: `fp32`, `tf32`, `bf16`."""
    seconds: float | None = None
    """How long the whole run is to take."""
    plateau: Plateau = field(default_factory=Plateau)
    """What the `plateau` schedule has seen."""


def save_checkpoint(
    path: Path,
    recipe: Recipe,
    progress: Progress,
    modules: Mapping[str, nn.Module],
    optimizers: Sequence[Optimizer],
) -> None:
    """Write a run's state so that `restore_checkpoint` gives it back bit for bit; `modules` by the names above."""
    tensors = {
        f"{owner}.{name}": tensor for owner, module in modules.items() for name, tensor in module.state_dict().items()
    }
    for number, optimizer in enumerate(optimizers):
        for index, slot in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{index}.{name}": tensor for name, tensor in slot.items()}
    facts = {"recipe": recipe_table(recipe), "progress": asdict(progress)}
    # Clones, for safetensors refuses tensors that share memory and keeps only contiguous ones.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with replacing(path) as stream:
        stream.write(save(tensors, metadata={_KEY: json.dumps(facts)}))


def read_checkpoint(path: Path) -> tuple[Recipe, Progress, dict[str, Tensor]]:
    """The recipe, progress and tensors of a checkpoint file.

    Raises:
        NoRunError: the file is missing.
        TrainingError: it is damaged, or not a checkpoint of a run.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts: dict[str, Any] = json.loads((file.metadata() or {})[_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
    except FileNotFoundError as error:
        raise NoRunError(f"there is no checkpoint {path}; start the run without --resume") from error
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise TrainingError(f"{path}: not a checkpoint of a training run, or damaged ({error})") from error
    # Checkpoints of earlier versions do not say it.
    facts["progress"].setdefault("validated", facts["progress"]["best"] > float("-inf"))
    for history in ("material", "precision"):
        facts["progress"][history] = tuple(map(tuple, facts["progress"].get(history, ())))
    facts["progress"]["plateau"] = Plateau(**facts["progress"].get("plateau", {}))
    return recipe_from(facts["recipe"]), Progress(**facts["progress"]), tensors


def is_checkpoint(path: Path) -> bool:
    """Whether `path` is the checkpoint of a run, and not weights or anything else."""
    try:
        with safe_open(path, framework="pt") as file:
            return _KEY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def restore_checkpoint(
    tensors: dict[str, Tensor], modules: Mapping[str, nn.Module], optimizers: Sequence[Optimizer]
) -> None:
    """Put the tensors of `read_checkpoint` back where they came from."""
    for owner, module in modules.items():
        module.load_state_dict(_under(f"{owner}.", tensors))
    for number, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _under(f"optimizer.{number}.", tensors).items():
            index, key = name.split(".", 1)
            state.setdefault(int(index), {})[key] = tensor
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        for parameter, slot in optimizer.state.items():
            for key, tensor in slot.items():
                if tensor.shape == parameter.shape:  # the file has them contiguous; in other order steps are slower
                    slot[key] = torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
