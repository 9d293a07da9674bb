"""How large a network is, and how much it computes: parameters, and multiply-accumulates of one image."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def parameters(network: nn.Module) -> int:
    """How many numbers the network has learned or can learn; running means and other buffers are not among them."""
    return sum(parameter.numel() for parameter in network.parameters())


def macs(network: nn.Module, height: int, width: int) -> int:
    """Multiply-accumulates of `network` for one RGB image of `height`×`width` pixels.

    Counted are convolutions, transposed convolutions and matrix products; biases, activations, norms and pooling are
    not, as in the papers' figures. A 3×3 convolution from 3 to 8 channels over 10×12 pixels is 8·3·9·120 = 25,920.

    The network is run once, where its parameters lie. Built on torch's meta device it computes no number and needs no
    memory, however large the image:

        >>> import torch, models
        >>> with torch.device("meta"):
        ...     network = models.create_model("test-tiny", width=8)
        >>> macs(network, 10, 12)  # 3→8 and 8→3, 3×3 each
        51840

    Height and width must be multiples of what the network asks for (`ModelInfo.multiple_of`).
    """
    device = next((parameter.device for parameter in network.parameters()), torch.device("meta"))
    image = torch.zeros(1, 3, height, width, device=device)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    return int(counter.get_total_flops()) // 2  # torch counts a multiplication and an addition apart
