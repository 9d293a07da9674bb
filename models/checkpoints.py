"""Files of weights: safetensors and PyTorch's own. What is read is tensors by name; nothing in a file is ever run."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import secrets
import struct
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from models.registry import ModelError

# Containers in which training programs wrap a network's tensors. The running average comes first: where a file holds
# both, it is what was scored. G is the generator of an adversarial pair.
_WRAPPERS = ("params_ema", "params", "state_dict", "model", "G")

# What DistributedDataParallel and torch.compile put before every name.
_PREFIXES = re.compile(r"(module\.|_orig_mod\.)+")

_SAFETENSORS_HEADER_LIMIT = 100_000_000

# torch.load's restricted unpickler fails in many ways on damaged bytes; none of these is a fault of ours.
_UNREADABLE = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    MemoryError,
    struct.error,
)


@dataclass(frozen=True)
class Checkpoint:
    """What a file of weights holds."""

    tensors: dict[str, Tensor]
    """By name, on the processor, in the file's own types."""
    metadata: dict[str, str]
    """What a safetensors file says of itself; empty for PyTorch's own files."""
    sha256: str
    """Of the whole file, hexadecimal."""


def read_checkpoint(path: Path) -> Checkpoint:
    """Read the tensors of `path`, a safetensors file or one written by `torch.save`, told apart by their content.

    Of a `torch.save` file only tensors and plain containers are accepted (`weights_only`); the containers that public
    checkpoints use (`params_ema`, `params`, `state_dict`, `model`, `G`) are opened and the prefixes of wrapped modules
    dropped.

    Raises:
        ModelError: there is no such file, it is no file of weights, it is damaged, or it holds Python objects.
    """
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            head = file.read(64)
    except OSError as error:
        raise ModelError(f"weights file {path}: {error.strerror or error}") from error
    if not head:
        raise ModelError(f"weights file {path} is empty")
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < _SAFETENSORS_HEADER_LIMIT:
        tensors, metadata = _read_safetensors(path)
    elif head.startswith((b"PK\x03\x04", b"\x80")):
        tensors, metadata = _unwrap(_read_torch(path), path), {}
    else:
        raise ModelError(f"{path} is {_what_else(head)}")
    return Checkpoint(tensors, metadata, sha256)


def _what_else(head: bytes) -> str:
    """What a file that begins with `head` is in place of weights, with what to do."""
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page and no file of weights; download the file itself, not the page that shows it"
    if head.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS and no file of weights; run `git lfs pull` beside it, or download the file itself"
    return "no file of weights (safetensors, or PyTorch's .pth or .pt), or it is damaged"


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, *_UNREADABLE) as error:
        _require_memory(error, path)
        raise ModelError(f"weights file {path} is damaged or cut short ({error}); fetch it again") from error


def _require_memory(error: Exception, path: Path) -> None:
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        raise ModelError(f"weights file {path}: there is not enough memory to read it") from error


def _read_torch(path: Path) -> Any:
    try:
        # An open file, as torch would go by a path's suffix. It warns of archives that it then refuses.
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        _require_memory(error, path)
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        if found:
            raise ModelError(
                f"weights file {path} holds Python objects ({found[1]}) that could run code, so it is refused and "
                "nothing in it was run; save its tensors alone, best as safetensors"
            ) from error
        raise ModelError(
            f"weights file {path} is damaged, cut short, or holds more than tensors; nothing in it was run"
        ) from error


def _opened(content: Any, depth: int = len(_WRAPPERS)) -> dict[str, Tensor]:
    """The tensors of the first wrapper that holds any, or of `content` itself; looks no deeper than `depth`, for a
    container may hold itself."""
    if not isinstance(content, Mapping):
        return {}
    for key in _WRAPPERS if depth else ():
        if tensors := _opened(content.get(key), depth - 1):
            return tensors
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def _unwrap(content: Any, path: Path) -> dict[str, Tensor]:
    tensors = _opened(content)
    if not tensors:
        held = ", ".join(repr(name)[:40] for name in [*content][:5]) if isinstance(content, Mapping) else ""
        holds = f"; it holds {held}, and a network's tensors are looked for in {', '.join(_WRAPPERS)}" if held else ""
        raise ModelError(f"weights file {path} holds no tensors by name{holds}")
    if all(_PREFIXES.match(name) for name in tensors):
        tensors = {_PREFIXES.sub("", name, count=1): value for name, value in tensors.items()}
    return tensors


def write_checkpoint(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> str:
    """Write `tensors` and `metadata` as safetensors, beside `path` and then renamed over it; returns the SHA-256.

    Equal tensors and metadata make equal bytes.

    Raises:
        OSError: the folder cannot be written, or the disk is full; it names `path`.
    """
    # Cloned, as two names may share memory, which the format cannot say.
    stored = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    data = _in_order(safetensors.torch.save(stored, metadata=dict(metadata)))
    # Named as all half-written files of the command are, which it knows by that and clears away after a kill.
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException as error:
        with suppress(OSError):  # of a disk that may be written no more, of which `error` tells
            beside.unlink()
        if isinstance(error, OSError) and error.errno:
            error.filename, error.filename2 = str(path), None
        raise
    return hashlib.sha256(data).hexdigest()


def _in_order(data: bytes) -> bytes:
    # safetensors writes the metadata in random order, so that the same weights would have another SHA-256 each time.
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the tensors that follow stay aligned
    return len(text).to_bytes(8, "little") + text + data[8 + size :]
