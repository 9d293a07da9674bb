"""What a program meets that uses the package as a library: its own state is left alone, and mistakes are said."""

from __future__ import annotations

import doctest
import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import models
from deblur_cli import Restorer
from deblur_cli.errors import UsageError, other_models
from deblur_cli.evaluation.metrics import round_to_uint8, score

ROOT = Path(__file__).parents[1]
WITH_EXAMPLES = [
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for folder in ("deblur_cli", "models")
    for file in sorted((ROOT / folder).rglob("*.py"))
    if ">>> " in file.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_in_docstrings_are_true(name: str) -> None:
    done = doctest.testmod(importlib.import_module(name))
    assert done.attempted and not done.failed


def test_the_callers_random_numbers_stay_its_own() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    Restorer("lite", device="cpu")
    assert torch.equal(torch.rand(3), expected)


def test_full_precision_is_full_inside_the_callers_autocast() -> None:
    restorer = Restorer("lite", device="cpu", precision="fp32")
    pixels = np.random.default_rng(0).random((64, 64, 3), np.float32)
    expected = restorer.restore(pixels)
    with torch.autocast("cpu"):
        found = restorer.restore(pixels)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    "options",
    [{"tile": 64.5}, {"overlap": 1.5}, {"overlap": "8"}, {"memory_limit": "1G"}, {"strength": None}, {"device": None}],
)
def test_options_of_another_type_are_wrong_usage(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Restorer("test-tiny", **({"device": "cpu"} | options))


def test_options_may_be_what_they_are_elsewhere() -> None:
    restorer = Restorer("test-tiny", device=torch.device("cpu"), tile=np.int64(128), overlap=np.int64(16))  # type: ignore[arg-type]
    assert restorer.device == torch.device("cpu") and restorer.tile == 128
    with pytest.raises(UsageError, match="not ndarray"):
        restorer.restore_tensor(np.zeros((1, 3, 8, 8), np.float32))  # type: ignore[arg-type]


def test_scores_take_what_a_training_loop_has() -> None:
    sharp = torch.rand(1, 3, 16, 16)
    (found,) = score((sharp * 0.9).requires_grad_(), sharp, data_range=1)
    (expected,) = score(sharp * 0.9, sharp, data_range=1)
    assert found == expected
    assert round_to_uint8(torch.tensor([1.0, 0.5, 0.996]).bfloat16()).tolist() == [255, 128, 254]


def test_another_package_of_the_name_is_said(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").touch()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    code = "from deblur_cli import Restorer"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert f"'{tmp_path / 'models' / '__init__.py'}' is found where deblur's own" in done.stderr
    assert other_models(ImportError("no such thing", name="numpy")) == ""


def test_the_types_are_there_for_others() -> None:
    assert all(
        (Path(str(module.__file__)).parent / "py.typed").is_file() for module in (models, sys.modules["deblur_cli"])
    )
