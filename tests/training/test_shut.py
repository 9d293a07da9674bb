from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from deblur_cli.training.shut import ShutChannels


class Behind(nn.Module):
    """A ReLU behind a convolution of four channels, three of which give 1, 0 and -1 whatever they are given."""

    def __init__(self, relu: Callable[[Tensor], Tensor], convolution: type[nn.Module] = nn.Conv2d) -> None:
        super().__init__()
        self.convolution, self.relu = convolution(3, 4, 1), relu
        with torch.no_grad():
            for parameter in self.convolution.parameters():
                parameter.zero_()
            self.convolution.bias[:] = torch.tensor([1.0, 0.0, -1.0, -0.5])  # type: ignore[index]
            taps = self.convolution.weight
            (taps[3] if convolution is nn.Conv2d else taps[:, 3]).fill_(1.0)  # type: ignore[index,operator]

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.convolution(x))


@pytest.mark.parametrize(
    "relu",
    [torch.relu, torch.relu_, nn.functional.relu, Tensor.relu, Tensor.relu_, nn.ReLU(), nn.ReLU(inplace=True)],
)
@pytest.mark.parametrize("convolution", [nn.Conv2d, nn.ConvTranspose2d])
def test_channels_that_give_nothing_are_counted(relu: Callable[[Tensor], Tensor], convolution: type[nn.Module]) -> None:
    network = Behind(relu, convolution)
    dark, lit_at_one_pixel = torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 8, 8)
    lit_at_one_pixel[1, 2, 3, 5] = 0.75
    for images, shut in ((dark, 0.75), (lit_at_one_pixel, 0.5)):
        with torch.inference_mode(), ShutChannels() as channels:
            seen = network(images)
        assert channels.share == shut
        with torch.inference_mode():
            assert torch.equal(network(images), seen)


def test_each_channel_of_a_network_counts_alike() -> None:
    shut_half, open_ = Behind(torch.relu), nn.Sequential(nn.Conv2d(4, 12, 1), nn.ReLU())
    with torch.no_grad():
        open_[0].bias.fill_(100)  # type: ignore[operator]
    with ShutChannels() as channels:
        open_(shut_half(torch.ones(1, 3, 4, 4)))
    assert channels.share == 2 / 16


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.LeakyReLU()),
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.InstanceNorm2d(4), nn.ReLU()),
        nn.Sequential(nn.Linear(8, 8), nn.ReLU()),
    ],
)
def test_what_cannot_shut_a_channel_or_has_none_is_not_counted(network: nn.Module) -> None:
    with ShutChannels() as channels:
        network(-torch.ones(1, 3, 8, 8))
    assert channels.share is None
