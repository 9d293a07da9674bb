import copy
import math
import threading
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from deblur_cli.errors import UsageError
from deblur_cli.training.accelerator import default_accelerator
from deblur_cli.training.adversarial import GAMES, AdversarialSettings, Adversary, gradient_penalty
from deblur_cli.training.data import Dice
from deblur_cli.training.recipe import Recipe, Stage
from models.registry import ModelError

CPU = torch.device("cpu")
RECIPE = Recipe(
    model="test-tiny",
    batch=2,
    rate=1e-3,
    adversarial=AdversarialSettings(kind="gan", critic="patch"),
    stages=(Stage(crop=32, adversarial_weight=1.0),),
)

logits = st.floats(-8, 8)


class LinearCritic(nn.Module):
    """⟨w, candidate⟩, and what it was asked."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.asked: list[Tensor] = []

    def forward(self, candidate: Tensor, blurred: Tensor) -> Tensor:
        self.asked.append(candidate.detach())
        return (candidate * self.weight).sum(dim=(1, 2, 3)).unsqueeze(1)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def images(seed: int, count: int = 2, side: int = 32) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def dice(step: int = 0) -> Dice:
    return Dice.seeded(CPU, 1, "critic", step)


def adversary(**settings: Any) -> Adversary:
    torch.manual_seed(0)
    recipe = replace(RECIPE, adversarial=replace(RECIPE.adversarial, **settings))
    return Adversary(recipe, default_accelerator("cpu"))


@pytest.mark.parametrize(("critic", "crop", "reason"), [("patch", 16, "16"), ("nine-layer", 128, "256×256")])
def test_a_crop_that_the_critic_cannot_judge_is_refused(critic: str, crop: int, reason: str) -> None:
    settings, stage = AdversarialSettings(critic=critic), Stage(crop=crop, adversarial_weight=1.0)
    with pytest.raises(UsageError, match=rf"stage.crop must be what the critic '{critic}' can judge, not .*{reason}"):
        Adversary(replace(RECIPE, adversarial=settings, stages=(stage,)), default_accelerator("cpu"))


@given(sharp=logits, restored=logits)
def test_the_standard_loss_is_the_logarithm_of_the_odds_given(sharp: float, restored: float) -> None:
    game = GAMES["gan"]
    ours = torch.tensor([[sharp]]), torch.tensor([[restored]])
    expected = -math.log(sigmoid(sharp)) - math.log(1 - sigmoid(restored))
    assert float(game.critic(*ours)) == pytest.approx(expected, rel=1e-3, abs=1e-6)
    assert float(game.generator(*ours)) == pytest.approx(-math.log(sigmoid(restored)), rel=1e-3, abs=1e-6)


def test_a_network_that_is_seen_through_still_learns() -> None:
    """log(1 − D) would be flat where the critic is sure; −log D is steep there."""
    sure = torch.tensor([[-20.0]], requires_grad=True)
    GAMES["gan"].generator(torch.tensor([[20.0]]), sure).backward()
    assert sure.grad is not None and float(sure.grad) == pytest.approx(-1, abs=1e-3)


def test_the_wasserstein_losses_are_differences_of_means() -> None:
    sharp, restored = torch.tensor([[1.0], [4.0]]), torch.tensor([[2.0], [-1.0]])
    assert float(GAMES["wgan-gp"].critic(sharp, restored)) == 0.5 - 2.5
    assert float(GAMES["wgan-gp"].generator(sharp, restored)) == -0.5


@given(sharp=logits, restored=logits)
def test_the_relativistic_loss_of_one_image_each_sees_only_their_difference(sharp: float, restored: float) -> None:
    game = GAMES["ragan"]
    ours = torch.tensor([[sharp]]), torch.tensor([[restored]])
    lead = sharp - restored
    assert float(game.critic(*ours)) == pytest.approx(-2 * math.log(sigmoid(lead)), rel=1e-3, abs=1e-6)
    assert float(game.generator(*ours)) == pytest.approx(-2 * math.log(1 - sigmoid(lead)), rel=1e-3, abs=1e-6)


def test_the_relativistic_loss_against_values_worked_out_by_hand() -> None:
    """Sharp 0 and 2, restored 1 and −1: their means are 1 and 0, so the leads are 0, 2 and 0, −2."""
    sharp, restored = torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [-1.0]])
    critic = -(math.log(0.5) + math.log(sigmoid(2))) / 2 - (math.log(0.5) + math.log(1 - sigmoid(-2))) / 2
    generator = -(math.log(0.5) + math.log(1 - sigmoid(2))) / 2 - (math.log(0.5) + math.log(sigmoid(-2))) / 2
    assert float(GAMES["ragan"].critic(sharp, restored)) == pytest.approx(critic, rel=1e-5)
    assert float(GAMES["ragan"].generator(sharp, restored)) == pytest.approx(generator, rel=1e-5)


@given(norm=st.floats(0.1, 5))
def test_the_penalty_of_a_linear_critic_is_how_far_its_norm_is_from_one(norm: float) -> None:
    weight = images(3, 1, 8)[0]
    critic = LinearCritic(weight * norm / weight.norm())
    penalty = gradient_penalty(critic, images(1, 2, 8), images(2, 2, 8), images(2, 2, 8), torch.tensor([0.3, 0.7]))
    assert float(penalty.detach()) == pytest.approx((norm - 1) ** 2, abs=1e-4)


def test_the_penalty_has_the_exact_gradient() -> None:
    """d(‖w‖ − 1)²/dw = 2 (‖w‖ − 1) w/‖w‖."""
    weight = 4 * images(3, 1, 8)[0] / images(3, 1, 8)[0].norm()
    critic = LinearCritic(weight)
    gradient_penalty(critic, images(1, 2, 8), images(2, 2, 8), images(2, 2, 8), torch.tensor([0.3, 0.7])).backward()
    assert critic.weight.grad is not None
    assert torch.allclose(critic.weight.grad, 2 * (4 - 1) * weight / 4, atol=1e-5)


def test_the_penalty_is_taken_between_the_images() -> None:
    critic = LinearCritic(torch.ones(3, 8, 8))
    sharp, restored = images(1, 2, 8), images(2, 2, 8)
    gradient_penalty(critic, sharp, restored, restored, torch.tensor([0.0, 0.25]))
    (between,) = critic.asked
    assert torch.allclose(between[0], restored[0])
    assert torch.allclose(between[1], 0.25 * sharp[1] + 0.75 * restored[1])


def test_a_map_of_patches_is_judged_by_its_mean() -> None:
    """A critic of patches that each see one pixel has the slope of a pixel's share."""

    class Pixels(nn.Module):
        def forward(self, candidate: Tensor, blurred: Tensor) -> Tensor:
            return 3 * candidate[:, :1]

    penalty = gradient_penalty(Pixels(), images(1, 1, 4), images(2, 1, 4), images(2, 1, 4), torch.tensor([0.5]))
    # Sixteen pixels of slope 3/16: a norm of √16 · 3/16.
    assert float(penalty) == pytest.approx((0.75 - 1) ** 2, abs=1e-6)


@pytest.mark.parametrize("kind", GAMES)
def test_the_critic_learns_to_tell_the_images_apart(kind: str) -> None:
    ours = adversary(kind=kind)
    sharp, restored = images(1), 0.5 + 0.1 * images(2)
    before = ours.step(restored, sharp, restored, dice())
    for step in range(6):
        after = ours.step(restored, sharp, restored, dice(step))
    assert after < before
    critic = ours.critic
    assert critic(sharp, restored).mean() > critic(restored, restored).mean()


@pytest.mark.parametrize("kind", GAMES)
def test_the_network_is_told_and_the_critic_is_not(kind: str) -> None:
    ours = adversary(kind=kind)
    restored = images(2).requires_grad_()
    ours.step(restored, images(1), images(3), dice())
    assert restored.grad is None
    ours.optimizer.zero_grad()
    ours.loss(restored, images(1), images(3)).backward()
    assert restored.grad is not None and float(restored.grad.abs().sum()) > 0
    assert all(parameter.grad is None for parameter in ours.critic.parameters())


def test_a_step_depends_on_its_number_alone() -> None:
    first, second = adversary(kind="wgan-gp"), adversary(kind="wgan-gp")
    torch.rand(7)  # the global stream must not matter
    found = [ours.step(images(1), images(2), images(1), dice(4)) for ours in (first, second)]
    assert torch.equal(*found)
    other = adversary(kind="wgan-gp").step(images(1), images(2), images(1), dice(5))
    assert not torch.equal(found[0], other)


def test_the_critic_takes_as_many_steps_as_it_is_given() -> None:
    ours = adversary(critic_steps=3)
    ours.step(images(1), images(2), images(1), dice())
    assert {float(state["step"]) for state in ours.optimizer.state.values()} == {3.0}


def test_the_critic_has_its_share_of_the_rate() -> None:
    assert adversary().optimizer.param_groups[0]["share"] == 1.0
    assert adversary(critic_rate=4e-3).optimizer.param_groups[0]["share"] == pytest.approx(4.0)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="wgan-gp"):
        AdversarialSettings(kind="wgan")
    with pytest.raises(UsageError, match=r"adversarial\.critic_steps must be at least 1"):
        AdversarialSettings(critic_steps=0)
    with pytest.raises(UsageError, match="256"):
        adversary(critic="nine-layer")
    with pytest.raises(ModelError, match="patch"):
        adversary(critic="nobody")


class Team:
    """What accelerate is to processes, for threads."""

    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size, timeout=60)
        self.slots: list[Tensor | None] = [None] * size

    def exchange(self, rank: int, tensor: Tensor) -> list[Tensor]:
        self.slots[rank] = tensor
        self.barrier.wait()
        found = [slot for slot in self.slots if slot is not None]
        self.barrier.wait()
        return found


class Member:
    def __init__(self, team: Team, rank: int) -> None:
        self.team, self.process_index, self.num_processes, self.device = team, rank, len(team.slots), CPU

    def gather(self, tensor: Tensor) -> Tensor:
        return torch.cat(self.team.exchange(self.process_index, tensor))

    def reduce(self, tensor: Tensor, reduction: str) -> Tensor:
        assert reduction == "mean"
        return torch.stack(self.team.exchange(self.process_index, tensor)).mean(dim=0)


@pytest.mark.parametrize("kind", GAMES)
def test_several_processes_do_exactly_what_one_does_with_the_whole_batch(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In double precision, so that nothing but rounding is left; sequences of two frames."""

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 3)).double()

        def forward(self, candidate: Tensor, blurred: Tensor) -> Tensor:
            return self.body(candidate)

    critic = Small()  # made once: threads that drew at the same time would share one stream of random numbers
    monkeypatch.setattr("deblur_cli.training.adversarial.create_critic", lambda name: copy.deepcopy(critic))
    recipe = replace(RECIPE, frames=2, adversarial=AdversarialSettings(kind=kind, critic_steps=2))
    sharp, restored = (images(seed, 8, 8).double().view(4, 2, 3, 8, 8) for seed in (1, 2))
    results: dict[int, tuple[Tensor, list[Tensor]]] = {}

    def play(member: Member) -> None:
        ours = Adversary(recipe, member)
        rank, size = member.process_index, member.num_processes
        real, fake = (part[rank::size].flatten(0, 1) for part in (sharp, restored))
        fake = fake.clone().requires_grad_()
        for step in range(3):
            ours.step(fake, real, real, dice(step))
        ours.loss(fake, real, real).backward()
        assert fake.grad is not None
        results[size + rank] = (fake.grad, [parameter.detach() for parameter in ours.critic.parameters()])

    for size in (1, 2):
        team = Team(size)
        threads = [threading.Thread(target=play, args=(Member(team, rank),)) for rank in range(size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    whole, first, second = results[1], results[2], results[3]
    for alone, one, other in zip(whole[1], first[1], second[1], strict=True):
        assert torch.equal(one, other)
        assert torch.allclose(alone, one, rtol=1e-5, atol=1e-9)
    # Each process's gradient is of its own images; their mean over the processes is the whole batch's.
    gradient = whole[0].view(4, 2, 3, 8, 8)
    for rank, part in enumerate((first, second)):
        assert torch.allclose(part[0] / 2, gradient[rank::2].flatten(0, 1), rtol=1e-4, atol=1e-10)
