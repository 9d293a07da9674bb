"""Several processes: what `accelerate launch` makes of a run is the run of one process."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import torch

from deblur_cli.training.checkpoint import read_checkpoint

ROOT = Path(__file__).parents[2]
RECIPE = """
model = "test-tiny"
steps = 8
batch = 4
warmup = 2
rate = 1e-3
save_every = 4
optimizer = "muon"
[pool]
pairs = 8
size = 48
chunk = 4
reuse = 4
[[stages]]
crop = 32
blur.length = [2, 6]
"""


def test_two_processes_train_as_one_does_and_their_run_resumes_on_one(tmp_path: Path) -> None:
    (tmp_path / "data" / "train").mkdir(parents=True)
    for folder in ("input", "target"):
        (tmp_path / "data" / "train" / folder).mkdir()
        for number in range(2):
            pixels = np.random.default_rng(number + (folder == "input")).integers(0, 256, (64, 64, 3), dtype=np.uint8)
            cv2.imwrite(str(tmp_path / "data" / "train" / folder / f"{number}.png"), pixels)
    (tmp_path / "tiny.toml").write_text(RECIPE)
    one = ["-m", "deblur_cli"]
    two = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "-m", "deblur_cli"]

    def train(launcher: list[str], run: str, *more: str) -> dict[str, torch.Tensor]:
        arguments = ["train", "--recipe", str(tmp_path / "tiny.toml"), "--data", str(tmp_path / "data"), "-o"]
        done = subprocess.run(
            [sys.executable, *launcher, *arguments, str(tmp_path / run), "--device", "cpu", *more],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=240,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("steps in") == 1  # said by one of them
        return read_checkpoint(tmp_path / run / "checkpoint.safetensors")[2]

    expected = train(one, "one")
    train(two, "two", "--stop-at", "4")
    resumed = train(one, "two", "--resume")
    assert expected.keys() == resumed.keys()
    for name, tensor in expected.items():
        assert torch.allclose(tensor, resumed[name], atol=1e-5), name
