"""Training against a critic: three adversarial losses, and the step in which the critic learns.

A critic gives logits, N×1 or a map of them N×1×h×w (one a patch); the losses take their mean over images and patches.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from torch.optim import Adam

from deblur_cli.errors import UsageError
from deblur_cli.training.data import Dice
from deblur_cli.training.ranges import require_in_range
from models.critics import create_critic

if TYPE_CHECKING:
    from accelerate import Accelerator

    from deblur_cli.training.recipe import Recipe

GRADIENT_PENALTY = 10.0
"""Weight of the gradient penalty, Gulrajani et al. 2017, section 4."""


@dataclass(frozen=True)
class AdversarialSettings:
    """Which game is played against which critic, where a stage gives the adversarial loss a weight."""

    kind: str = "gan"
    """`gan`, `wgan-gp` (Wasserstein with gradient penalty) or `ragan` (relativistic average)."""
    critic: str = "patch"
    """Name of the critic, see models/critics.py."""
    critic_steps: int = 1
    """Steps of the critic for each of the network's, on the same batch."""
    critic_rate: float = 0.0
    """Highest learning rate of the critic, which falls as the network's does; 0 is the network's."""

    def __post_init__(self) -> None:
        if self.kind not in GAMES:
            raise UsageError(f"no adversarial loss is called '{self.kind}'; there are {', '.join(GAMES)}")
        require_in_range(self, "adversarial")


@dataclass(frozen=True)
class Game:
    """The losses of both players, each a function of the critic's logits for sharp and for restored images."""

    critic: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor], Tensor]


def gan_critic(sharp: Tensor, restored: Tensor) -> Tensor:
    """−E[log D(sharp)] − E[log(1 − D(restored))], D the sigmoid of the logits.

    Goodfellow et al., "Generative adversarial nets", NeurIPS 2014, eq. 1, negated.
    """
    return functional.softplus(-sharp).mean() + functional.softplus(restored).mean()


def gan_generator(sharp: Tensor, restored: Tensor) -> Tensor:
    """−E[log D(restored)]: the form that does not saturate while the critic wins (ibid., section 3)."""
    return functional.softplus(-restored).mean()


def wgan_critic(sharp: Tensor, restored: Tensor) -> Tensor:
    """E[D(restored)] − E[D(sharp)], to which `gradient_penalty` comes.

    Gulrajani et al., "Improved training of Wasserstein GANs", NeurIPS 2017, eq. 3.
    """
    return restored.mean() - sharp.mean()


def wgan_generator(sharp: Tensor, restored: Tensor) -> Tensor:
    """−E[D(restored)], the part of eq. 2 ibid. that depends on the network."""
    return -restored.mean()


def ragan_critic(sharp: Tensor, restored: Tensor) -> Tensor:
    """−E[log σ(C(sharp) − E[C(restored)])] − E[log(1 − σ(C(restored) − E[C(sharp)]))], C the logits.

    The relativistic average standard GAN of Jolicoeur-Martineau, "The relativistic discriminator: a key element missing
    from standard GAN", 2018, section 4.
    """
    above, below = sharp - restored.mean(), restored - sharp.mean()
    return functional.softplus(-above).mean() + functional.softplus(below).mean()


def ragan_generator(sharp: Tensor, restored: Tensor) -> Tensor:
    """The critic's loss with the two kinds of images exchanged (ibid.)."""
    return ragan_critic(restored, sharp)


GAMES = {
    "gan": Game(gan_critic, gan_generator),
    "wgan-gp": Game(wgan_critic, wgan_generator),
    "ragan": Game(ragan_critic, ragan_generator),
}


def gradient_penalty(critic: nn.Module, sharp: Tensor, restored: Tensor, blurred: Tensor, share: Tensor) -> Tensor:
    """E[(‖∇D(x)‖₂ − 1)²] at x between the sharp and the restored images (Gulrajani et al. 2017, eq. 3).

    The norm is over all channels and pixels of an image; D of an image is the mean of its patches, as in `wgan_critic`.

    Args:
        share: N numbers in [0, 1], how far each x is from the restored image to the sharp one.
    """
    between = torch.lerp(restored, sharp, share.to(sharp).view(-1, 1, 1, 1)).requires_grad_()
    score = critic(between, blurred).flatten(1).mean(dim=1).sum()
    (slope,) = torch.autograd.grad(score, between, create_graph=True)
    return (torch.linalg.vector_norm(slope, dim=(1, 2, 3)) - 1).square().mean()


def _require_judgeable(critic: nn.Module, crop: int, name: str) -> None:
    """Raise `UsageError` unless the critic of that name takes crops of so many pixels."""
    images = torch.empty(1, 3, crop, crop, device="meta")
    try:
        copy.deepcopy(critic).to("meta", images.dtype)(images, images)  # computes nothing but sizes
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"stage.crop must be what the critic '{name}' can judge, not {crop}: {error}") from error


class Adversary:
    """A critic, its optimiser, and what it has to say of a batch.

    Everything is in single precision, for the gradient penalty's second derivative. Where there are several processes,
    the losses are those of the whole batch.

    Raises:
        UsageError: the recipe's crops are not of the size that its critic can judge.
        ModelError: there is no such critic.
    """

    def __init__(self, recipe: Recipe, accelerator: Accelerator) -> None:
        settings = recipe.adversarial
        self.settings, self.frames, self.accelerator = settings, recipe.frames, accelerator
        self.game = GAMES[settings.kind]
        self.critic = create_critic(settings.critic).to(accelerator.device).requires_grad_(False)
        for crop in {stage.crop for stage in recipe.stages if stage.adversarial_weight}:
            _require_judgeable(self.critic, crop, settings.critic)
        share = settings.critic_rate / recipe.rate if settings.critic_rate else 1.0
        group = {"params": list(self.critic.parameters()), "share": share}
        self.optimizer = Adam([group], lr=recipe.rate, betas=recipe.betas)

    def loss(self, restored: Tensor, sharp: Tensor, blurred: Tensor) -> Tensor:
        """What the network is told: a scalar with a gradient to `restored` and none to the critic."""
        return self.game.generator(self._judge(sharp, blurred), self._judge(restored, blurred))

    def step(self, restored: Tensor, sharp: Tensor, blurred: Tensor, dice: Dice) -> Tensor:
        """Teach the critic to tell a batch's restored images from its sharp ones; gives the loss of its last step.

        `dice` are the step's, the same in all processes.
        """
        restored = restored.detach()
        self.critic.requires_grad_(True)
        for _ in range(self.settings.critic_steps):
            loss = self.game.critic(self._judge(sharp, blurred), self._judge(restored, blurred))
            if self.settings.kind == "wgan-gp":
                share = self._shares(len(sharp), dice)
                loss = loss + GRADIENT_PENALTY * gradient_penalty(self.critic, sharp, restored, blurred, share)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self._average_gradients()
            self.optimizer.step()
        self.critic.requires_grad_(False)
        return loss.detach()

    def _judge(self, candidate: Tensor, blurred: Tensor) -> Tensor:
        """Logits of all processes' images. Those of other processes are constants here; to make up for it, the gradient
        of our own is as many times as large, so that the mean of the processes' gradients is that of the whole."""
        own = self.critic(candidate, blurred)
        processes = self.accelerator.num_processes
        if processes == 1:
            return own
        constant = own.detach()
        parts = list(self.accelerator.gather(constant).chunk(processes))
        parts[self.accelerator.process_index] = constant + processes * (own - constant)
        return torch.cat(parts)

    def _shares(self, images: int, dice: Dice) -> Tensor:
        """How far from restored to sharp, for our images out of those of all processes (see `Learner`)."""
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        drawn = torch.rand(images * processes, generator=dice.generator, device=dice.device)
        return drawn.view(-1, processes, self.frames)[:, rank].flatten()

    def _average_gradients(self) -> None:
        # By hand: a module that does it in its backward pass (DistributedDataParallel) cannot be differentiated twice.
        if self.accelerator.num_processes > 1:
            gradients = [parameter.grad for parameter in self.critic.parameters() if parameter.grad is not None]
            mean = self.accelerator.reduce(torch.cat([gradient.flatten() for gradient in gradients]), "mean")
            for gradient, part in zip(gradients, mean.split([one.numel() for one in gradients]), strict=True):
                gradient.copy_(part.view_as(gradient))
