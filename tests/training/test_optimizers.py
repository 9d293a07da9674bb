import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import models
from deblur_cli.errors import UsageError
from deblur_cli.training.optimizers import Layer, MeanInputs, Muon, make_optimizers, orthogonalise, without
from deblur_cli.training.recipe import Recipe


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def convolution(*shape: int, transposed: bool = False, seed: int = 0) -> Layer:
    """One with random weights of a shape of outputs × inputs × k × k, as large as they begin."""
    outputs, inputs, size, _ = shape
    made = (nn.ConvTranspose2d if transposed else nn.Conv2d)(inputs, outputs, size, bias=False)
    weight = draw(*shape, seed=seed) / (inputs * size**2) ** 0.5
    made.weight.data = weight.transpose(0, 1).contiguous() if transposed else weight
    return made


def learn(optimizer: Muon, *convolutions: Layer, inputs: Tensor, targets: Tensor) -> None:
    """A step after a loss that draws the convolutions' outputs towards `targets`."""
    for one in convolutions:
        one.weight.grad = None
        (one(inputs) - targets[:, None, None]).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize("shape", [(16, 40), (40, 16), (24, 24)])
def test_orthogonalise_keeps_directions_and_evens_out_strengths(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    result = orthogonalise(matrix.unsqueeze(0), steps=8)[0]
    strengths = torch.linalg.svdvals(result)
    assert strengths.min() > 0.6 and strengths.max() < 1.3
    # The same singular vectors: U^T R V is nearly diagonal.
    inside = u.T @ result @ vh.T
    assert (inside - torch.diag(inside.diagonal())).abs().max() < 0.02


@pytest.mark.parametrize("size", [1e-12, 1e-20, 1e-40])
def test_what_has_sunk_to_nothing_stays_out(size: float) -> None:
    """Rows behind a ReLU that has shut, whose momenta sink, in a matrix with others and in one of their own."""
    matrices = draw(2, 16, 40)
    matrices[0, ::2] *= size
    matrices[1] *= 1e-7 * size
    result = orthogonalise(matrices)
    torch.testing.assert_close(result[0, 1::2], orthogonalise(matrices[:1, 1::2])[0])
    assert not result[0, ::2].any() and not result[1].any()


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(1, 20), st.integers(0, 1000))
def test_what_is_left_is_at_right_angles_to_the_vector(rows: int, columns: int, seed: int) -> None:
    matrices, vectors = draw(2, rows, columns, seed=seed), draw(2, columns, seed=seed + 1)
    vectors[1] = 0
    left = without(matrices, vectors)
    assert float((left[0] @ vectors[0]).abs().max()) < 1e-5 * float(vectors[0].norm() * matrices[0].norm())
    torch.testing.assert_close(without(left, vectors), left, atol=1e-5, rtol=0)
    assert torch.equal(left[1], matrices[1])


def test_a_step_has_the_root_mean_square_of_adamw() -> None:
    one = convolution(32, 16, 3, 3)
    before = one.weight.detach().clone()
    one.weight.grad = draw(32, 16, 3, 3, seed=1)
    Muon([one], lr=1e-3).step()
    assert float((one.weight.detach() - before).square().mean().sqrt()) == pytest.approx(0.2 * 1e-3, rel=0.2)


@pytest.mark.parametrize("transposed", [False, True])
def test_a_step_leaves_what_a_convolution_makes_of_its_mean_input(transposed: bool) -> None:
    """A loss that draws all outputs down, which is done soonest by way of the mean of features behind a ReLU."""
    one = convolution(8, 4, 3, 3, transposed=transposed)
    inputs = draw(2, 4, 12, 12).relu() + torch.tensor([0.1, 0.2, 0.5, 2.0])[:, None, None]
    flat = inputs.mean(dim=(0, 2, 3), keepdim=True).expand(1, 4, 12, 12)
    inside = (slice(None), slice(None), slice(2, -2), slice(2, -2))
    before, of_inputs = one(flat).detach()[inside], one(inputs).detach()[inside]
    optimizer = Muon([one], lr=0.1)
    for _ in range(5):
        learn(optimizer, one, inputs=inputs, targets=torch.full((8,), -5.0))
    torch.testing.assert_close(one(flat).detach()[inside], before, atol=1e-3, rtol=0)
    assert float((one(inputs).detach()[inside] - of_inputs).abs().max()) > 0.1


def test_inputs_are_summed_over_calls_and_begin_anew() -> None:
    used, unused = convolution(2, 3, 1, 1), convolution(2, 2, 1, 1)
    seen = MeanInputs([used, unused], reduce=lambda sums: 10 * sums)
    images = draw(2, 3, 4, 4), draw(1, 3, 6, 2, seed=1)
    used(images[0])
    used(images[1])
    with torch.no_grad():
        used(images[1])  # as a validation does, which teaches nothing
    sums = seen.take()
    expected = sum(one.sum(dim=(0, 2, 3)) for one in images)
    torch.testing.assert_close(sums[used.weight], 10 * expected)
    assert torch.equal(sums[unused.weight], torch.zeros(2))
    assert not any(own.any() for own in seen.take().values())


def test_a_transposed_convolution_learns_as_the_plain_one_of_the_same_matrix() -> None:
    plain, transposed = convolution(8, 4, 1, 1), convolution(8, 4, 1, 1, transposed=True)
    optimizers = [Muon([one], lr=0.1, decay=0.1) for one in (plain, transposed)]
    for step in range(3):
        for one, optimizer in zip((plain, transposed), optimizers, strict=True):
            learn(optimizer, one, inputs=draw(2, 4, 5, 5, seed=step) + 1, targets=draw(8, seed=step))
    torch.testing.assert_close(transposed.weight, plain.weight.transpose(0, 1), rtol=1e-4, atol=1e-5)


def test_layers_of_one_shape_learn_together_what_each_learns_alone() -> None:
    shapes = [(8, 4, 3, 3), (8, 4, 3, 3), (8, 36, 1, 1), (8, 4, 3, 3)]

    def made() -> list[Layer]:
        return [convolution(*shape, transposed=number == 3, seed=number) for number, shape in enumerate(shapes)]

    together, alone = made(), made()
    together[0].weight.data = together[0].weight.data.contiguous(memory_format=torch.channels_last)
    optimizers = [Muon(together, lr=0.1, decay=0.1), *(Muon([one], lr=0.1, decay=0.1) for one in alone)]
    for step in range(3):
        for number, (one, other) in enumerate(zip(together, alone, strict=True)):
            one.weight.grad = other.weight.grad = None
            if (step, number) == (1, 0):  # in one step a layer rests
                continue
            inputs = draw(1, one.in_channels, 7, 7, seed=10 * step + number) + 1
            for layer in (one, other):
                (layer(inputs) - 1).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one.weight, other.weight, rtol=1e-4, atol=1e-5)


def test_a_linear_layer_learns_as_the_convolution_of_one_pixel() -> None:
    one, linear = convolution(8, 4, 1, 1), nn.Linear(4, 8, bias=False)
    linear.weight.data = one.weight.detach()[:, :, 0, 0].clone()
    optimizers = [Muon([layer], lr=0.1) for layer in (one, linear)]
    for step in range(3):
        images = draw(2, 4, 5, 5, seed=step) + 1
        for layer, inputs in ((one, images), (linear, images.permute(0, 2, 3, 1))):
            layer.weight.grad = None
            (layer(inputs) - 1).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(linear.weight, one.weight[:, :, 0, 0], rtol=1e-4, atol=1e-5)


def test_muon_takes_the_inner_layers_and_adamw_the_rest() -> None:
    network = models.create_model("lite")
    adamw, muon = make_optimizers(network, Recipe(model="lite", optimizer="muon"))
    inner = {id(p) for group in muon.param_groups for p in group["params"]}
    outer = {id(p) for group in adamw.param_groups for p in group["params"]}
    assert inner.isdisjoint(outer)
    assert inner | outer == {id(p) for p in network.parameters()}
    assert id(network.head.weight) in outer and id(network.tail.weight) in outer
    assert {p.ndim for group in muon.param_groups for p in group["params"]} == {2, 4}
    assert id(network.transfer.look[0].weight) in inner
    assert len(make_optimizers(network, Recipe(model="lite"))) == 1


def test_an_unknown_optimizer_is_refused() -> None:
    with pytest.raises(UsageError, match="adamw and muon"):
        make_optimizers(models.create_model("test-tiny"), Recipe(model="test-tiny", optimizer="sgd"))


def test_weights_do_not_outgrow_their_start() -> None:
    """Pushed the same way for long, a weight stops at the norm of He's initialisation."""
    one = convolution(32, 16, 3, 3)
    one.weight.data *= 0.01
    optimizer = Muon([one], lr=0.5)
    for _ in range(50):
        one.weight.grad = torch.ones_like(one.weight) + 0.1 * one.weight.detach()
        optimizer.step()
    assert float(one.weight.detach().norm()) == pytest.approx((2 * 32) ** 0.5, rel=1e-3)


def test_each_group_has_its_share_of_the_rate() -> None:
    network = models.create_model("lite")
    adamw, muon = make_optimizers(network, Recipe(model="lite", optimizer="muon"))
    assert [group["share"] for group in adamw.param_groups] == [0.2]
    assert [group["share"] for group in muon.param_groups] == [1.0]
    (alone,) = make_optimizers(network, Recipe(model="lite"))
    assert [group["share"] for group in alone.param_groups] == [1.0]
