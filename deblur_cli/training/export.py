"""Weights out of a run: half precision in a safetensors file, with a card that says where they come from."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from deblur_cli.errors import NoRunError, UsageError
from deblur_cli.media.files import remove_stale, replacing
from deblur_cli.training.checkpoint import CHECKPOINT, Progress, in_order, is_checkpoint
from deblur_cli.training.recipe import Recipe, recipe_table
from deblur_cli.words import counted
from models.weights import load_model, save_weights

BEST = "best.safetensors"


def write_weights(
    network: nn.Module,
    path: Path,
    recipe: Recipe,
    progress: Progress,
    scores: dict[str, float],
) -> str:
    """Write a network's weights in float16 with their card in the metadata; gives the file's SHA-256.

    `scores` are `Validator.score`'s.
    """
    card: dict[str, Any] = {
        "recipe": recipe_table(recipe),
        "data": in_order(progress.material),
        "steps": progress.step,
        "hours": round(progress.elapsed / 3600, 3),
        "device": f"{_device_name(next(network.parameters()).device)}, {in_order(progress.precision)}",
        "date": datetime.now(UTC).date().isoformat(),
        "scores": {name: _score(scores, name) for name in scores if f"{name} blurred" in scores},
    }
    return save_weights(network, path, name=recipe.model, options=recipe.options, card=card, dtype=torch.float16)


def export_run(run: Path, target: Path) -> str:
    """Copy a run's best weights to `target` and write their card beside it as JSON; gives the file's SHA-256.

    Raises:
        NoRunError: the run has no weights yet.
        UsageError: `target` is not a .safetensors file in a folder that is there, it is the checkpoint of a run, or
            something else lies where its card is to be.
    """
    best = run / BEST
    if target.suffix != ".safetensors":
        raise UsageError(f"{target}: weights are written as .safetensors")
    if not best.is_file():
        raise NoRunError(f"{run} holds no {BEST}: it is no folder of a run, or the run has saved nothing yet")
    if not target.parent.is_dir():
        raise UsageError(f"{target}: there is no folder '{target.parent}'")
    if target.resolve() == (run / CHECKPOINT).resolve() or is_checkpoint(target):
        raise UsageError(
            f"{target}: that is the checkpoint of a run, which could not go on without it; take another name"
        )
    beside = target.with_suffix(".json")
    if beside.exists() and not _is_card(beside):
        raise UsageError(f"{beside} is there and no card of weights, which would be written over it; take another name")
    remove_stale((target, beside))
    loaded = load_model(best)
    with best.open("rb") as source, replacing(target) as stream:
        shutil.copyfileobj(source, stream)
    card = {"model": loaded.info.name, "options": loaded.options, "sha256": loaded.sha256, **loaded.card}
    with replacing(beside) as stream:
        stream.write(json.dumps(card, indent=2, ensure_ascii=False).encode() + b"\n")
    return str(loaded.sha256)


def _is_card(path: Path) -> bool:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and {"model", "sha256"} <= content.keys()


def _score(scores: dict[str, float], name: str) -> dict[str, float]:
    restored, blurred = scores[name], scores[f"{name} blurred"]
    return {"psnr_blurred": round(blurred, 4), "psnr": round(restored, 4), "gain": round(restored - blurred, 4)}


def _device_name(device: torch.device) -> str:
    return (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{device.type}, {counted(torch.get_num_threads(), 'thread')}"
    )
