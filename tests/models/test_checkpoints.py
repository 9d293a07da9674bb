"""Files of weights that are refused: code in them, damage, things that are no weights; each in one line."""

from __future__ import annotations

import argparse
import errno
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from deblur_cli.media.files import is_temporary
from models import ModelError, load_model
from models.checkpoints import read_checkpoint, write_checkpoint
from tests.models.helpers import refusal, small

NAFNET = {"width": 2, "encoders": (1,), "middle": 1, "decoders": (1,)}

# --- damaged and hostile files


@pytest.mark.parametrize("form", ["safetensors", "pth"])
def test_weights_that_do_not_fit_into_memory_are_not_called_damaged(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    file = tmp_path / f"large.{form}"
    tensors = {"a": torch.zeros(1)}
    safetensors.torch.save_file(tensors, file) if form == "safetensors" else torch.save(tensors, file)
    monkeypatch.setattr("models.checkpoints.safe_open", full)
    monkeypatch.setattr(torch, "load", full)
    assert refusal(file) == f"weights file {file}: there is not enough memory to read it"


class Malicious:
    """Unpickled without care, it makes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("form", ["zip", "legacy", "bare pickle", "in a field", "as safetensors"])
def test_code_in_a_file_is_never_run(tmp_path: Path, form: str) -> None:
    trap, path = tmp_path / "trap", tmp_path / ("a.safetensors" if form == "as safetensors" else "a.pth")
    evil = Malicious(trap)
    if form == "bare pickle":
        path.write_bytes(pickle.dumps(evil))
    else:
        content = (
            {"params": {"intro.weight": torch.zeros(1), "extra": evil}} if form == "in a field" else {"params": evil}
        )
        torch.save(content, path, _use_new_zipfile_serialization=form != "legacy")
    assert "nothing in it was run" in refusal(path)
    assert not trap.exists()
    # The trap is a real one:
    pickle.loads(pickle.dumps(evil))
    assert trap.exists()


@pytest.mark.parametrize("extra", [argparse.Namespace(lr=1), nn.Linear(1, 1), np.float64(1.0)])
def test_harmless_objects_are_refused_too(tmp_path: Path, extra: object) -> None:
    torch.save({"params": small("nafnet", **NAFNET).state_dict(), "extra": extra}, tmp_path / "a.pth")
    assert "save its tensors alone" in refusal(tmp_path / "a.pth")


def test_a_wrapper_of_other_things_does_not_hide_the_one_with_the_weights(tmp_path: Path) -> None:
    layer = nn.Linear(2, 2)
    torch.save(
        {"params": {"lr": 1}, "model": {"state_dict": layer.state_dict()}, "step": torch.ones(())}, tmp_path / "a.pth"
    )
    assert read_checkpoint(tmp_path / "a.pth").tensors.keys() == layer.state_dict().keys()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_is_refused(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.trace(nn.Linear(1, 1), torch.zeros(1)), tmp_path / "a.pt")
    assert "more than tensors" in refusal(tmp_path / "a.pt")


def test_a_file_without_tensors(tmp_path: Path) -> None:
    holds_itself: dict[str, Any] = {}
    holds_itself["params"] = holds_itself
    for content in ({}, {"params": {}}, {"params": 3}, [torch.zeros(1)], torch.zeros(2), holds_itself):
        torch.save(content, tmp_path / "a.pth")
        assert "holds no tensors by name" in refusal(tmp_path / "a.pth")


def test_where_there_are_no_tensors_it_is_said_what_there_is(tmp_path: Path) -> None:
    layer = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(2)).sum().backward()
    optimizer.step()
    for content, held in (
        (optimizer.state_dict(), "it holds 'state', 'param_groups', and"),
        ({"epoch": 3, "generator": layer.state_dict()}, "it holds 'epoch', 'generator', and"),
    ):
        torch.save(content, tmp_path / "a.pth")
        assert held in refusal(tmp_path / "a.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    tensors = small("nafnet", **NAFNET).state_dict()
    tensors["ending.weight"][0, 0, 0, 0] = value
    torch.save({"params": tensors}, tmp_path / "a.pth")
    assert "ending.weight holds numbers that are not finite" in refusal(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda tensor: tensor.to(torch.complex64), "no plain tensor"),
        (lambda tensor: tensor.to_sparse(), "no plain tensor"),
        (lambda tensor: torch.zeros(1).expand(tensor.shape), "more numbers than are stored"),
    ],
)
def test_tensors_of_other_kinds_are_refused(tmp_path: Path, change: Callable[..., Any], complaint: str) -> None:
    tensors = small("nafnet", **NAFNET).state_dict()
    tensors["ending.weight"] = change(tensors["ending.weight"])
    torch.save({"params": tensors}, tmp_path / "a.pth")
    assert complaint in refusal(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "is empty"),
        (b"x", "no file of weights"),
        (b"\x89PNG\r\n\x1a\n and so on", "no file of weights"),
        (b"<!DOCTYPE html><html>not found</html>", "is a web page and no file of weights; download the file itself"),
        (b"\n <HTML lang='en'>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 9\n", "Git LFS .* run `git lfs pull`"),
        (b"PK\x03\x04", "damaged"),
        (b"\x80\x02", "damaged"),
        ((99_000_000).to_bytes(8, "little") + b"{", "damaged"),
    ],
)
def test_what_is_no_weights_file(tmp_path: Path, data: bytes, complaint: str) -> None:
    (tmp_path / "a.pth").write_bytes(data)
    assert re.search(complaint, refusal(tmp_path / "a.pth"))


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_truncated_files_are_refused_wherever_they_end(tmp_path: Path, form: str) -> None:
    tensors = small("nafnet", **NAFNET).state_dict()
    if form == "safetensors":
        data = safetensors.torch.save(tensors)
    else:
        torch.save({"params": tensors}, tmp_path / "whole", _use_new_zipfile_serialization=form == "zip")
        data = (tmp_path / "whole").read_bytes()
    for part in (0.001, 0.01, 0.1, 0.5, 0.9, 0.999):
        path = tmp_path / "a.pth"
        path.write_bytes(data[: int(part * len(data))])
        message = refusal(path)
        assert any(word in message for word in ("damaged", "no file of weights", "is empty"))


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(places=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4))
def test_flipped_bytes_load_or_are_refused(tmp_path: Path, form: str, places: list[tuple[float, int]]) -> None:
    path = tmp_path / "a.pth"
    tensors = small("nafnet", **NAFNET).state_dict()
    if form == "safetensors":
        path.write_bytes(safetensors.torch.save(tensors))
    else:
        torch.save({"params": tensors}, path, _use_new_zipfile_serialization=form == "zip")
    data = bytearray(path.read_bytes())
    for place, value in places:
        data[int(place * len(data))] = value
    path.write_bytes(data)
    try:
        loaded = load_model(path)
    except ModelError as error:
        assert "\n" not in str(error)
    else:
        assert all(torch.isfinite(tensor).all() for tensor in loaded.network.state_dict().values())


# --- writing


def test_what_is_half_written_has_the_name_by_which_the_command_clears_it_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, seen = tmp_path / "best.safetensors", list[Path]()
    rename = Path.replace

    def watched(self: Path, other: Path) -> Path:
        seen.append(self)
        return rename(self, other)

    monkeypatch.setattr(Path, "replace", watched)
    write_checkpoint({"weight": torch.zeros(1)}, target, {})
    assert [is_temporary(file, target) for file in seen] == [True]
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_weights_that_cannot_be_written_are_told_of_by_their_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, step, refused)
    with pytest.raises(OSError, match="Input/output") as raised:
        write_checkpoint({"weight": torch.zeros(1)}, tmp_path / "best.safetensors", {})
    assert raised.value.filename == str(tmp_path / "best.safetensors")
    assert not list(tmp_path.iterdir())
