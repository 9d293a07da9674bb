"""MSRN: published size and cost, and its multi-scale block by hand."""

from __future__ import annotations

import pytest
import torch

from models import create_model, model_info
from models.measure import macs, parameters
from models.msrn import MultiScaleResBlock, OneScale


def test_size_and_cost() -> None:
    with torch.device("meta"):
        network = create_model("msrn").eval()
    info = model_info("msrn")
    assert parameters(network) == info.parameters == 14_793_903
    assert info.gmacs == pytest.approx(424)
    assert macs(network, 256, 256) / 1e9 == pytest.approx(info.gmacs, rel=0.02)


def test_a_multi_scale_block_by_hand() -> None:
    """One channel, one pixel: of each kernel only the middle counts, so the block is a sum of products."""
    block = MultiScaleResBlock(1)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.zero_()
        block.s1.weight[0, 0, 1, 1] = 2.0
        block.p1.weight[0, 0, 2, 2] = -1.0
        block.p1.bias.fill_(10.0)
        block.s2.weight[0, :, 1, 1] = torch.tensor([1.0, 10.0])  # of S1, P1
        block.s2.weight[1, :, 1, 1] = torch.tensor([-1.0, 0.0])
        block.p2.weight[0, :, 2, 2] = torch.tensor([1.0, 10.0])  # of P1, S1
        block.p2.bias[1] = 0.5
        block.fuse.weight[0, :, 0, 0] = torch.tensor([1.0, 100.0, 0.01, 2.0])  # of S2, P2
        # S1 = 6, P1 = 7; S2 = 76 and −6 cut to 0; P2 = 67 and 0.5.
        assert block(torch.full((1, 1, 1, 1), 3.0)).item() == pytest.approx(3 + 76 + 0.67 + 1)


def test_early_features_reach_the_end_by_themselves() -> None:
    scale = OneScale(3, channels=4, blocks=1)
    with torch.no_grad():
        scale.fuse.weight[:, 4:] = 0  # deaf to the last block
        x = torch.rand(1, 3, 8, 8)
        torch.testing.assert_close(scale(x), scale.tail(scale.fuse(scale.first(scale.head(x)).repeat(1, 2, 1, 1))))


def test_facts() -> None:
    info = model_info("msrn")
    assert (info.multiple_of, info.recurrent) == (4, False)
    assert [(score.psnr, score.ssim) for score in info.published] == [(27.33, 0.9324)]
