"""Several processes: what `accelerate launch` makes of a run is the run of one process with the whole batch."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from deblur_cli.training.checkpoint import read_checkpoint
from models import create_model
from tests import launching
from tests.launching import ONE, TWO

RECIPE = """
model = "test-tiny"
steps = {steps}
batch = 4
warmup = 2
rate = 1e-3
save_every = 4
[pool]
pairs = 8
size = 48
chunk = 4
reuse = 4
"""
CONTENT = """
[[stages]]
crop = 32
blur.length = [2, 6]
"""
ADVERSARIAL = """
[[stages]]
until = 0.2
crop = 32
[[stages]]
crop = 32
adversarial_weight = 0.1
[adversarial]
critic_rate = 1e-4
kind = """
IN_PARTS = """
[[stages]]
until = 0.4
crop = 32
taught = ["last"]
[[stages]]
crop = 32
"""
RECIPES = {
    "muon": 'optimizer = "muon"' + RECIPE + CONTENT,
    "in-parts": RECIPE + IN_PARTS,
    **{kind: RECIPE + ADVERSARIAL + f'"{kind}"' for kind in ("gan", "wgan-gp", "ragan")},
}

LOSSES = """
import json, sys
from pathlib import Path
from accelerate import Accelerator
from deblur_cli.training.data import PairSource
from deblur_cli.training.recipe import load_recipe
from deblur_cli.training.trainer import train

folder, accelerator = Path(sys.argv[1]), Accelerator(cpu=True)
pairs = PairSource([(file, file.parents[1] / "target" / file.name) for file in sorted(folder.glob("data/*/input/*"))])
told = {"processes": accelerator.num_processes}
for file in sorted(folder.glob("*.toml")):
    reports = told[file.stem] = []
    output = folder / f"{file.stem}-{accelerator.num_processes}"
    tell = lambda report: reports.append(report.loss)
    train(load_recipe(str(file)), [pairs], output, accelerator=accelerator, tell=tell)
if accelerator.is_main_process:
    print(json.dumps(told))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("input", "target"):
        (tmp_path / "data" / "train" / name).mkdir(parents=True)
        for number in range(2):
            pixels = np.random.default_rng(number + (name == "input")).integers(0, 256, (64, 64, 3), dtype=np.uint8)
            cv2.imwrite(str(tmp_path / "data" / "train" / name / f"{number}.png"), pixels)
    return tmp_path


def launch(launcher: list[str], *arguments: str | Path) -> str:
    done = launching.launch(launcher, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_processes_have_the_losses_of_one_with_the_doubled_batch(folder: Path) -> None:
    for name, recipe in RECIPES.items():
        (folder / f"{name}.toml").write_text(recipe.format(steps=10))
    (folder / "losses.py").write_text(LOSSES)
    one, two = (json.loads(launch(launcher, folder / "losses.py", folder)) for launcher in (ONE, TWO))
    assert (one["processes"], two["processes"]) == (1, 2)
    for name in RECIPES:
        assert len(one[name]) == 10
        assert two[name] == pytest.approx(one[name], abs=1e-4), name


def test_a_run_started_on_two_processes_goes_on_with_one(folder: Path) -> None:
    recipe = folder / "ragan.toml"
    recipe.write_text(RECIPES["ragan"].format(steps=8))

    def train(launcher: list[str], run: str, *more: str) -> dict[str, torch.Tensor]:
        command = ["-m", "deblur_cli", "train", "--recipe", recipe, "--data", folder / "data", "--device", "cpu"]
        told = launch(launcher, *command, "-o", folder / run, *more)
        assert told.count("steps in") == 1  # said by one of them
        return read_checkpoint(folder / run / "checkpoint.safetensors")[2]

    expected = train(ONE, "one")
    train(TWO, "two", "--stop-at", "4")
    resumed = train(ONE, "two", "--resume")
    assert expected.keys() == resumed.keys()
    assert any(name.startswith("critic.") for name in expected)
    torch.manual_seed(1)
    for name, start in create_model("test-tiny").state_dict().items():
        ours, theirs = expected[f"network.{name}"], resumed[f"network.{name}"]
        # Where processors compute in bfloat16, rounding depends on how the batch is shared.
        assert (ours - theirs).norm() < 0.1 * (ours - start).norm(), name
