import pytest
import torch
from torch import nn

import models
from deblur_cli.errors import UsageError
from deblur_cli.training.optimizers import Muon, make_optimizers, orthogonalise
from deblur_cli.training.recipe import Recipe


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


def test_a_step_has_the_root_mean_square_of_adamw() -> None:
    weight = nn.Parameter(torch.zeros(32, 16, 3, 3))
    weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    Muon([weight], lr=0.01).step()
    assert float(weight.detach().square().mean().sqrt()) == pytest.approx(0.2 * 0.01, rel=0.2)


def test_layers_of_one_shape_learn_together_what_each_learns_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(8, 4, 3, 3), (8, 36, 1, 1), (8, 4, 3, 3), (36, 8, 1, 1)]  # the first three are 8×36 matrices
    together = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    together[0].data = together[0].data.contiguous(memory_format=torch.channels_last)
    alone = [nn.Parameter(one.detach().clone()) for one in together]
    optimizers = [Muon(together, lr=0.1, decay=0.1), *(Muon([one], lr=0.1, decay=0.1) for one in alone)]
    for step in range(3):
        for number, (one, other) in enumerate(zip(together, alone, strict=True)):
            gradient = torch.randn(one.shape, generator=generator)
            # In one step a layer rests.
            one.grad, other.grad = (None, None) if (step, number) == (1, 0) else (gradient, gradient.clone())
        for optimizer in optimizers:
            optimizer.step()
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_muon_takes_the_inner_convolutions_and_adamw_the_rest() -> None:
    network = models.create_model("lite")
    adamw, muon = make_optimizers(network, Recipe(model="lite", optimizer="muon"))
    inner = {id(p) for group in muon.param_groups for p in group["params"]}
    outer = {id(p) for group in adamw.param_groups for p in group["params"]}
    assert inner.isdisjoint(outer)
    assert inner | outer == {id(p) for p in network.parameters()}
    assert id(network.head.weight) in outer and id(network.tail.weight) in outer
    assert all(p.ndim == 4 for group in muon.param_groups for p in group["params"])
    assert len(make_optimizers(network, Recipe(model="lite"))) == 1


def test_an_unknown_optimizer_is_refused() -> None:
    with pytest.raises(UsageError, match="adamw and muon"):
        make_optimizers(models.create_model("test-tiny"), Recipe(model="test-tiny", optimizer="sgd"))


def test_weights_do_not_outgrow_their_start() -> None:
    """Pushed the same way for long, a weight stops at the norm of He's initialisation."""
    weight = nn.Parameter(0.01 * torch.randn(32, 16, 3, 3, generator=torch.Generator().manual_seed(0)))
    optimizer = Muon([weight], lr=0.5)
    for _ in range(50):
        weight.grad = torch.ones_like(weight) + 0.1 * weight.detach()
        optimizer.step()
    assert float(weight.detach().norm()) == pytest.approx((2 * 32) ** 0.5, rel=1e-3)


def test_each_group_has_its_share_of_the_rate() -> None:
    network = models.create_model("lite")
    adamw, muon = make_optimizers(network, Recipe(model="lite", optimizer="muon"))
    assert [group["share"] for group in adamw.param_groups] == [0.2]
    assert [group["share"] for group in muon.param_groups] == [1.0]
    (alone,) = make_optimizers(network, Recipe(model="lite"))
    assert [group["share"] for group in alone.param_groups] == [1.0]
