"""SRN: the Scale-Recurrent Network, one U-Net for all scales with a convolutional LSTM at its bottleneck.

Tao, Gao, Shen, Wang, Jia: "Scale-recurrent Network for Deep Image Deblurring", CVPR 2018
(https://arxiv.org/abs/1802.01770), in the shape of its release: transposed convolutions of 4×4, skips by addition. For
video the state also goes from frame to frame, after Haerinck, Lafontaine, 2021, and here at each scale: through the
coarsest alone, a sixteenth of the picture's sides, hardly anything of the frame before would reach the finest.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from models.blocks import FullPrecisionConv2d, ResBlock
from models.registry import Score, register_model
from models.srn_start import begin_with_the_picture

State = tuple[Tensor, Tensor]
"""What the LSTM remembers at one scale: hidden and cell state, N×128 and a quarter of the scale's height and width."""
States = tuple[State, ...]
"""What it remembers of a frame, one state a scale, coarsest first."""

_CHANNELS = (32, 64, 128)
_REDUCTIONS = (4, 2, 1)
_BOTTLENECK = 4  # stride of the encoder


class ConvLSTM(nn.Module):
    """One step of a convolutional LSTM without peepholes (Shi et al., NeurIPS 2015, equation 3); 3×3 gates."""

    forget_bias = 1.0
    """Added to the forget gate, so that a new network remembers (Jozefowicz et al., ICML 2015, section 2.2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gates = nn.Conv2d(2 * channels, 4 * channels, 3, padding=1)

    def forward(self, x: Tensor, state: State) -> State:
        """N×C×H×W and the state before to the new state, whose first, the hidden one, is the output."""
        hidden, cell = state
        input_gate, candidate, forget_gate, output_gate = self.gates(torch.cat([x, hidden], dim=1)).chunk(4, dim=1)
        kept = torch.sigmoid(forget_gate + self.forget_bias) * cell
        cell = kept + torch.sigmoid(input_gate) * torch.tanh(candidate)
        return torch.sigmoid(output_gate) * torch.tanh(cell), cell


class SRN(nn.Module):
    """N×3×H×W in [0, 1] to the same, not clamped, and the state for the next frame; H and W multiples of 16.

    In training the restored images are the three scales, coarsest first.

    Args:
        lstm: whether there is an LSTM at the bottleneck. Without one the state is always None.
    """

    def __init__(self, lstm: bool) -> None:
        super().__init__()
        fine, middle, coarse = _CHANNELS
        # The blurred image, and what the coarser scale made of it.
        self.encoder1 = _encoder(FullPrecisionConv2d(6, fine, 5, padding=2), fine)
        self.encoder2 = _encoder(nn.Conv2d(fine, middle, 5, stride=2, padding=2), middle)
        self.encoder3 = _encoder(nn.Conv2d(middle, coarse, 5, stride=2, padding=2), coarse)
        self.lstm = ConvLSTM(coarse) if lstm else None
        self.decoder3 = _decoder(nn.ConvTranspose2d(coarse, middle, 4, stride=2, padding=1), coarse, nn.ReLU())
        self.decoder2 = _decoder(nn.ConvTranspose2d(middle, fine, 4, stride=2, padding=1), middle, nn.ReLU())
        self.decoder1 = _decoder(FullPrecisionConv2d(fine, 3, 5, padding=2), fine)
        begin_with_the_picture(self)

    def forward(self, blurred: Tensor, state: States | None = None) -> tuple[Tensor | list[Tensor], States | None]:
        """Restore a frame.

        Each scale begins with what the coarser scale remembers; where there was a frame before, half of the channels
        begin with what the same scale remembers of that.

        Args:
            blurred: N×3×H×W in [0, 1].
            state: what the call for the frame before returned, or None for the first of a sequence.
        """
        height, width = blurred.shape[2:]
        restored, coarser = blurred, None
        pyramid: list[Tensor] = []
        states: list[State] = []
        for number, reduction in enumerate(_REDUCTIONS):
            size = (height // reduction, width // reduction)
            # Each scale has a loss of its own; the finer ones teach it only by way of the state.
            x = torch.cat([_resized(blurred, size), _resized(restored.detach(), size)], dim=1)
            restored, coarser = self.one_scale(x, _merged(coarser, None if state is None else state[number]))
            pyramid.append(restored)
            states += [] if coarser is None else [coarser]
        return (pyramid if self.training else restored), tuple(states) or None

    def one_scale(self, x: Tensor, state: State | None) -> tuple[Tensor, State | None]:
        """N×6×h×w and a state of any size to N×3×h×w and a state that fits it."""
        features1 = self.encoder1(x)
        features2 = self.encoder2(features1)
        bottleneck = self.encoder3(features2)
        if self.lstm is not None:
            state = self.lstm(bottleneck, _fitted(state, bottleneck))
            bottleneck = state[0]
        restored = self.decoder1(features1 + self.decoder2(features2 + self.decoder3(bottleneck)))
        return restored, state


def _encoder(convolution: nn.Module, channels: int) -> nn.Sequential:
    return nn.Sequential(convolution, nn.ReLU(inplace=True), *(ResBlock(channels) for _ in range(3)))


def _decoder(convolution: nn.Module, channels: int, *activation: nn.Module) -> nn.Sequential:
    return nn.Sequential(*(ResBlock(channels) for _ in range(3)), convolution, *activation)


def _merged(coarser: State | None, before: State | None) -> State | None:
    """What the frame before left in the first half of the channels and what the coarser scale did in the second, or
    what there is of the two. A mean of both would halve either's detail at each frame."""
    if coarser is None or before is None:
        return coarser or before
    size, half = before[0].shape[2:], before[0].shape[1] // 2
    hidden, cell = (
        torch.cat([other[:, :half], _resized(one[:, half:], size)], dim=1)
        for one, other in zip(coarser, before, strict=True)
    )
    return hidden, cell


def _fitted(state: State | None, bottleneck: Tensor) -> State:
    """The state of another scale or frame, resized to the bottleneck's height and width; zeros where there is none."""
    if state is None:
        return torch.zeros_like(bottleneck), torch.zeros_like(bottleneck)
    hidden, cell = state
    return _resized(hidden, bottleneck.shape[2:]), _resized(cell, bottleneck.shape[2:])


def _resized(images: Tensor, size: tuple[int, ...]) -> Tensor:
    return functional.interpolate(images, size=size, mode="bilinear", align_corners=False)


@register_model(
    "srn",
    "Scale-Recurrent Network: one U-Net for three scales, with a memory across scales and frames",
    paper="Tao, Gao, Shen, Wang, Jia: Scale-recurrent Network for Deep Image Deblurring, CVPR 2018, "
    "https://arxiv.org/abs/1802.01770",
    multiple_of=max(_REDUCTIONS) * _BOTTLENECK,
    recurrent=True,
    # With random Xavier weights, scaled to give images, a grey square of 16 pixels changes others by half a grey level
    # up to 95 to 115 pixels away.
    tile_overlap=128,
    parameters=8_061_411,
    gmacs=89.8,
    published=(
        Score("GOPRO", 30.26, 0.9342, "ssim_matlab", "paper"),
        Score("GOPRO", 30.19, 0.9334, "ssim_matlab", "released weights with LSTM"),
        Score("Köhler", 26.75, 0.8370, "", "paper"),
    ),
)
def srn(lstm: bool = True) -> nn.Module:
    return SRN(lstm)
