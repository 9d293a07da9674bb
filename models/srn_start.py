"""How a new SRN begins: it returns the picture, remembers it, and compares what it remembers with what it sees.

The paper begins with Xavier's weights alone. Then thousands of steps go into drawing the picture, and many more until
the detail of a frame passes the bottleneck: a memory that has nothing to say is not asked, and what is not asked does
not learn. What this start is worth is measured in benchmarks/README.md.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from models.blocks import ResBlock

# A new residual branch adds this share of what it would add with Xavier's weights.
_BRANCH = 0.1
# Bias of the transposed convolutions, so that the ReLUs behind them begin open.
_OPEN = 0.3
# Weight of the picture in the LSTM's candidate; at a half, its tanh would already darken white by a seventh.
_CANDIDATE = 0.25
# Biases of the LSTM's gates. The new cell is three quarters the candidate and one quarter the cell before (input and
# forget gate), and most of it is given out (output gate).
_INPUT_GATE = 1.1
_OUTPUT_GATE = 2.0
# By what each transposed convolution multiplies what is remembered.
_RAISE = 2.0
# Bias of the encoder's channels that are kept free for it: above zero, so that their ReLUs are open.
_EMPTY = 1e-3
# Weight of the difference between what is remembered and what is seen, at the finest level.
_COMPARED = 1.5
# Differences up to this count as noise.
_MOVED = 0.06


@torch.no_grad()
def begin_with_the_picture(network: Any) -> None:
    """Let the first channels of each level hold the picture, so that a new network returns it and remembers it.

    Each stride folds the pixels under it into channels (3 become 12, then 48; Shi et al., "Real-time single image and
    video super-resolution using an efficient sub-pixel convolutional neural network", CVPR 2016), the LSTM averages
    them over time, and each transposed convolution unfolds what is remembered beside the picture, where the blocks of
    the finest level compare the two. Residual branches begin small, and at zero in what holds the picture (Zhang,
    Dauphin, Ma, "Fixup initialization", ICLR 2019).
    """
    if next(network.parameters()).is_meta:  # no values to set, and torch would load its compiler to set them
        return
    network.apply(_initialise)
    encoder1, encoder2, encoder3 = network.encoder1, network.encoder2, network.encoder3
    decoder1, decoder2, decoder3 = network.decoder1, network.decoder2, network.decoder3
    _fold(encoder1[0], 3, sides=1)
    _fold(encoder2[0], 3, sides=2)
    _fold(encoder3[0], 12, sides=2)
    _unfold(decoder3[3], 12, begin=0)
    _unfold(decoder2[3], 3, begin=12)
    # On the finer levels as many channels again wait for what is remembered, open but empty.
    for convolution, held in ((encoder1[0], 3), (encoder2[0], 12)):
        convolution.weight[held : 2 * held] = 0
        convolution.bias[held : 2 * held] = _EMPTY
    for part, held in ((encoder1, 6), (encoder2, 24), (encoder3, 48), (decoder3, 48), (decoder2, 24), (decoder1, 6)):
        for block in (block for block in part if isinstance(block, ResBlock)):
            block.body[2].weight[:held] = 0  # type: ignore[operator]
    _fold(decoder1[3], 3, sides=1)
    shown = 1.0
    if network.lstm is not None:
        _remember(network.lstm, 48)
        # What share of mid-grey, 0.5, comes out of it.
        shown = math.tanh(math.tanh(_CANDIDATE * 0.5)) / (0.5 * (1 + math.exp(-_OUTPUT_GATE)))
    difference = _COMPARED * torch.cat([-(_RAISE**2) * shown * torch.eye(3), torch.eye(3)], dim=1)
    for block in decoder1[:3]:
        compares = block.body[0]
        compares.weight[:12] = 0
        compares.weight[:12, :6, 2, 2] = torch.cat([difference, -difference] * 2)
        compares.bias[6:12] = -_MOVED


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    elif isinstance(module, ResBlock):
        module.body[2].weight.mul_(_BRANCH)  # type: ignore[operator]


def _fold(convolution: nn.Conv2d, channels: int, *, sides: int) -> None:
    """Let the convolution's first outputs be the `sides`×`sides` pixels of each of its first inputs."""
    rows = channels * sides**2
    convolution.weight[:rows] = 0
    folding = torch.eye(rows).view(rows, channels, sides, sides)
    convolution.weight[:rows, :channels, 2 : 2 + sides, 2 : 2 + sides] = folding


def _unfold(convolution: Any, channels: int, *, begin: int) -> None:
    """Let the inputs from `begin` on that hold folded pixels come out, raised, as the second of `channels` outputs; the
    other outputs begin on the open side of their ReLU."""
    rows = 4 * channels
    nn.init.constant_(convolution.bias, _OPEN)
    convolution.bias[: 2 * channels] = 0
    convolution.weight[:, : 2 * channels] = 0
    folding = _RAISE * torch.eye(rows).view(rows, channels, 2, 2)
    convolution.weight[begin : begin + rows, channels : 2 * channels, 1:3, 1:3] = folding


def _remember(lstm: Any, channels: int) -> None:
    """Let the LSTM hold a moving average over time of its first `channels` inputs, in that part of its range where its
    tanh is straight."""
    for gate in lstm.gates.weight.chunk(4):
        gate[:channels] = 0
    lstm.gates.weight.chunk(4)[1][:channels, :channels, 1, 1] = _CANDIDATE * torch.eye(channels)
    # In the order of `ConvLSTM.forward`: input gate, candidate, forget gate, output gate.
    values = (_INPUT_GATE, 0.0, -_INPUT_GATE - lstm.forget_bias, _OUTPUT_GATE)
    for bias, value in zip(lstm.gates.bias.chunk(4), values, strict=True):
        bias[:channels] = value
