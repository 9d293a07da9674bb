"""Counting parameters and multiply-accumulates, against figures worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models import create_model
from models.measure import macs, parameters


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.Conv2d(3, 8, 3, padding=1), 3 * 8 * 9 * 120),
        (nn.Conv2d(3, 8, 3, padding=1, bias=False), 3 * 8 * 9 * 120),
        (nn.Conv2d(3, 8, 5, stride=2, padding=2), 3 * 8 * 25 * 30),
        (nn.Conv2d(3, 6, 3, padding=1, groups=3), 1 * 6 * 9 * 120),
        (nn.Conv2d(3, 4, (1, 3), padding=(0, 2), dilation=(1, 2)), 3 * 4 * 3 * 120),
        (nn.ConvTranspose2d(3, 4, 4, stride=2, padding=1), 3 * 4 * 16 * 120),
        (nn.Linear(12, 5), 12 * 5 * 3 * 10),
        (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 7, 1), nn.ReLU()), 3 * 7),
    ],
)
def test_layers_by_hand(layer: nn.Module, expected: int) -> None:
    assert macs(layer, 10, 12) == expected
    assert macs(layer.to("meta"), 10, 12) == expected


def test_parameters_leave_buffers_out() -> None:
    assert parameters(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))) == 3 * 8 * 9 + 8 + 2 * 8


@pytest.mark.parametrize(("width", "published"), [(32, 16.1), (64, 63.6)])
def test_nafnet_costs_what_is_published(width: int, published: float) -> None:
    with torch.device("meta"):
        network = create_model("nafnet", width=width)
    assert macs(network, 256, 256) / 1e9 == pytest.approx(published, rel=0.02)
