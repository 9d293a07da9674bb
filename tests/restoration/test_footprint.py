"""The memory estimate: bytes that can be counted by hand, and no slow imports."""

from __future__ import annotations

import subprocess
import sys

import torch
from torch import Tensor, nn

from deblur_cli.restoration import footprint as module
from deblur_cli.restoration.footprint import footprint
from models import create_model

FLOAT = 4
"""Bytes of a float32."""
CPU = torch.device("cpu")


def estimate(network: nn.Module, multiple_of: int = 1, recurrent: bool = False) -> float:
    return footprint(network, CPU, multiple_of, recurrent).bytes / module._SCRATCH


class Halves(nn.Module):
    """A residual at half the resolution, in the recurrent form."""

    def forward(self, blurred: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        small = blurred[..., ::2, ::2] + 0  # ¾ of a channel
        small.mul_(2)
        assert state is None
        return blurred + nn.functional.interpolate(small, scale_factor=2.0), small


def test_what_is_alive_at_a_time_is_counted_and_what_was_dropped_is_not() -> None:
    chain = nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(5)))
    # nn.Sequential holds a layer's input and its output, and we hold the image.
    assert estimate(nn.Sequential(nn.Conv2d(3, 8, 1))) == (3 + 8) * FLOAT
    assert estimate(chain) == (3 + 3 + 3) * FLOAT


def test_the_largest_tensor_is_found() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 20, 1), nn.Conv2d(20, 3, 1))
    assert footprint(network, CPU).values == 20
    # Nine outputs of 256 channels at a quarter of the sides are put together before they are fused.
    assert footprint(create_model("msr2b").eval(), CPU, 4).values == 9 * 256 / 16


def test_views_and_operations_in_place_take_nothing() -> None:
    layers = nn.Sequential(nn.Conv2d(3, 12, 1), nn.ReLU(inplace=True), nn.Flatten(2), nn.Unflatten(2, (64, 64)))
    assert estimate(layers) == (3 + 12) * FLOAT


def test_a_recurrent_network_is_tried_without_a_state_and_with_its_multiple() -> None:
    # The image, its small copy, that enlarged and the sum.
    assert estimate(Halves(), multiple_of=10, recurrent=True) == (3 + 0.75 + 3 + 3) * FLOAT


def test_the_estimate_of_a_real_network_covers_its_widest_layer() -> None:
    width = 48
    assert estimate(create_model("nafnet", width=16).eval(), 16) > 2 * 16 * FLOAT
    assert estimate(create_model("test-tiny", width=width).eval()) >= (3 + width) * FLOAT


def test_neither_loading_nor_the_first_restoration_of_a_process_imports_the_compiler() -> None:
    script = """
import models, sys, torch
from deblur_cli import Restorer
models.load_model("srn")  # whose start is made of matrices, which on meta are the compiler's
Restorer("test-tiny", device="cpu").restore_tensor(torch.rand(1, 3, 16, 16))
sys.exit(", ".join(sorted({"torch._dynamo", "sympy"} & set(sys.modules))) or 0)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
