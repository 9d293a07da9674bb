"""Several processes: what `accelerate launch` makes of a run is the run of one process with the whole batch."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from deblur_cli.training.accelerator import default_accelerator
from deblur_cli.training.checkpoint import read_checkpoint
from models import create_model
from tests.conftest import Result
from tests.launching import launch_forked
from tests.training.losses_of import losses_of
from tests.training.runs import SMALL_CRITIC, another_precision

# As many as each of the processes that are launched has.
pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE = """
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
ADVERSARIAL = f"""
[[stages]]
until = 0.2
crop = 32
[[stages]]
crop = 32
adversarial_weight = 0.1
[adversarial]
critic = "{SMALL_CRITIC}"
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
ESTIMATE = """
[options]
scales = 1
[[stages]]
crop = 32
content_weight = 0.0
transfer_weight = 1.0
"""
TINY = 'model = "test-tiny"'
RECIPES = {
    # Muon is for inner convolutions, which the tiny network has not.
    "muon": 'model = "cnn"\noptimizer = "muon"' + RECIPE + CONTENT,
    "estimate": 'model = "lite"\noptimizer = "muon"' + RECIPE + ESTIMATE,
    "in-parts": TINY + RECIPE + IN_PARTS,
    **{kind: TINY + RECIPE + ADVERSARIAL + f'"{kind}"' for kind in ("gan", "wgan-gp", "ragan")},
}


def train_arguments(folder: Path, name: str, *more: str) -> list[str]:
    """Of a run that is to be in `folder / name`."""
    files = ["--recipe", str(folder / "cli" / "ragan.toml"), "--data", str(folder / "data"), "-o", str(folder / name)]
    return ["train", *files, "--device", "cpu", "--precision", "fp32", *more]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs, recipes, a run `two` of four of its eight steps on two processes, and in `two.txt` what they said."""
    folder = tmp_path_factory.mktemp("processes")
    for name in ("input", "target"):
        (folder / "data" / "train" / name).mkdir(parents=True)
        for number in range(2):
            pixels = np.random.default_rng(number + (name == "input")).integers(0, 256, (64, 64, 3), dtype=np.uint8)
            pixels //= 1 + 7 * number  # so that processes see images of other brightness
            cv2.imwrite(str(folder / "data" / "train" / name / f"{number}.png"), pixels)
    for name, recipe in RECIPES.items():
        (folder / f"{name}.toml").write_text(recipe.format(steps=10))
    (folder / "cli").mkdir()
    (folder / "cli" / "ragan.toml").write_text(RECIPES["ragan"].format(steps=8))
    program = Path(__file__).with_name("losses_of.py")
    done = launch_forked(program, folder, *train_arguments(folder, "two", "--stop-at", "4"))
    assert done.returncode == 0, done.stderr
    (folder / "two.txt").write_text(done.stdout)
    return folder


def test_two_processes_have_the_losses_of_one_with_the_doubled_batch(folder: Path) -> None:
    with another_precision():
        one = losses_of(folder, default_accelerator("cpu", "fp32"))
    two = json.loads((folder / "two.txt").read_text().splitlines()[0])
    assert two["processes"] == 2
    for name in RECIPES:
        assert len(one[name]) == 10
        assert two[name] == pytest.approx(one[name], abs=1e-5), name


def test_a_run_started_on_two_processes_goes_on_with_one(folder: Path, run: Callable[[list[str]], Result]) -> None:
    def weights(told: str, name: str) -> dict[str, torch.Tensor]:
        assert told.count("steps in") == 1  # said by one of them
        return read_checkpoint(folder / name / "checkpoint.safetensors")[2]

    with another_precision():
        expected = weights(run(train_arguments(folder, "one")).stdout, "one")
        weights((folder / "two.txt").read_text(), "two")
        resumed = weights(run(train_arguments(folder, "two", "--resume")).stdout, "two")
    assert expected.keys() == resumed.keys()
    assert any(name.startswith("critic.") for name in expected)
    torch.manual_seed(1)
    for name, start in create_model("test-tiny").state_dict().items():
        ours, theirs = expected[f"network.{name}"], resumed[f"network.{name}"]
        assert (ours - theirs).norm() < 1e-3 * (ours - start).norm(), name
