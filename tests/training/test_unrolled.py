import torch
from torch import Tensor, nn

from deblur_cli.training.unrolled import Unrolled, full_size


class Sum(nn.Module):
    """Adds up the frames of a sequence, so that what it gives says which frames came before."""

    def __init__(self, pyramid: bool = False) -> None:
        super().__init__()
        self.pyramid = pyramid
        self.states: list[Tensor | None] = []

    def forward(self, blurred: Tensor, state: Tensor | None = None) -> tuple[Tensor | list[Tensor], Tensor]:
        self.states.append(state)
        total = blurred if state is None else state + blurred
        return ([total[:, :, ::2, ::2], total] if self.pyramid else total), total


def batch(sequences: int, frames: int) -> Tensor:
    return torch.rand(sequences * frames, 3, 4, 4, generator=torch.Generator().manual_seed(1))


def test_the_state_goes_through_a_sequence_and_no_further() -> None:
    blurred = batch(2, 3)
    network = Sum()
    restored = Unrolled(network, recurrent=True)(blurred, frames=3)
    expected = blurred.view(2, 3, 3, 4, 4).cumsum(dim=1).flatten(0, 1)
    assert torch.allclose(restored, expected)
    assert [state is None for state in network.states] == [True, False, False]


def test_the_gradient_of_a_frame_reaches_the_frames_before_it_and_no_later_one() -> None:
    blurred = batch(2, 3).requires_grad_()
    restored = Unrolled(Sum(), recurrent=True)(blurred, frames=3)
    restored[1].sum().backward()  # the second frame of the first sequence
    assert blurred.grad is not None
    assert blurred.grad.flatten(1).any(dim=1).tolist() == [True, True, False, False, False, False]


def test_a_pyramid_is_joined_scale_by_scale() -> None:
    blurred = batch(2, 3)
    pyramid = Unrolled(Sum(pyramid=True), recurrent=True)(blurred, frames=3)
    plain = Unrolled(Sum(), recurrent=True)(blurred, frames=3)
    assert [tuple(scale.shape) for scale in pyramid] == [(6, 3, 2, 2), (6, 3, 4, 4)]
    assert torch.equal(pyramid[0], plain[:, :, ::2, ::2])
    assert torch.equal(full_size(pyramid), plain)


def test_pictures_start_with_no_state() -> None:
    blurred = batch(4, 1)
    assert torch.equal(Unrolled(Sum(), recurrent=True)(blurred), blurred)


def test_other_networks_are_left_as_they_are() -> None:
    blurred = batch(2, 1)
    assert torch.equal(Unrolled(nn.Identity(), recurrent=False)(blurred), blurred)
