"""`cnn` and `autoencoder`: the plain networks that Haerinck and Lafontaine (2021) set beside SRN, a floor to beat."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from models.registry import register_model

_AUTOENCODER_CHANNELS = (3, 32, 64, 128, 256)


class CNN(nn.Sequential):
    """N×3×H×W in [0, 1] to the same, not clamped: convolutions 9×9, 1×1 and 5×5 with ReLU between.

    The three layers of Dong et al.: "Image Super-Resolution Using Deep Convolutional Networks", 2015, for colour.
    """

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 64, 9, padding=4),
            nn.ReLU(inplace=True),
            nn.Conv2d(64, 32, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(32, 3, 5, padding=2),
        )


class Autoencoder(nn.Module):
    """N×3×H×W in [0, 1] to the same; H and W multiples of 16.

    Four convolutions 3×3 of stride 2 and four transposed ones back, ReLU after each, sigmoid after the last.
    """

    def __init__(self) -> None:
        super().__init__()
        encoder: list[nn.Module] = []
        for fine, coarse in pairwise(_AUTOENCODER_CHANNELS):
            encoder += [nn.Conv2d(fine, coarse, 3, stride=2, padding=1), nn.ReLU(inplace=True)]
        decoder: list[nn.Module] = []
        for coarse, fine in pairwise(reversed(_AUTOENCODER_CHANNELS)):
            decoder += [
                nn.ConvTranspose2d(coarse, fine, 3, stride=2, padding=1, output_padding=1),
                nn.ReLU(inplace=True),
            ]
        decoder[-1] = nn.Sigmoid()
        self.encoder, self.decoder = nn.Sequential(*encoder), nn.Sequential(*decoder)

    def forward(self, blurred: Tensor) -> Tensor:
        return self.decoder(self.encoder(blurred))


@register_model(
    "cnn",
    "three convolutions, the simplest baseline",
    paper="Haerinck, Lafontaine, 2021; the layers of Dong, Loy, He, Tang: Image Super-Resolution Using Deep "
    "Convolutional Networks, https://arxiv.org/abs/1501.00092",
    tile_overlap=8,  # its receptive field, which reaches 6 pixels far
    parameters=20_099,
    gmacs=1.31,
)
def cnn() -> nn.Module:
    return CNN()


@register_model(
    "autoencoder",
    "four convolutions down and four up without skips, a simple baseline",
    paper="Haerinck, Lafontaine, 2021",
    multiple_of=16,
    tile_overlap=32,  # its receptive field, which reaches 30 pixels far
    parameters=776_579,
    gmacs=0.481,
)
def autoencoder() -> nn.Module:
    return Autoencoder()
