"""What a run trains: a recipe's network with its losses, critic, optimisers and moving average, and one step of it."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

import models
from deblur_cli.errors import UsageError
from deblur_cli.training.adversarial import Adversary
from deblur_cli.training.data import Dice
from deblur_cli.training.losses import ImageLosses, transfer
from deblur_cli.training.optimizers import clipped_parameters, make_optimizers
from deblur_cli.training.recipe import Recipe, Stage, belongs
from deblur_cli.training.unrolled import Unrolled, full_size

if TYPE_CHECKING:
    from accelerate import Accelerator


class Learner:
    """A recipe's network and all that teaches it.

    Args:
        accelerator: it brings device, precision and processes.
        start: a network of the recipe's shape whose weights to begin with, random ones if None.
        vgg: the weights of VGG19, for a recipe with a perceptual loss; fetched where it is None.

    Raises:
        UsageError: the recipe does not fit its network, its critic or the number of processes.
        ModelError: there is no such network or critic, or VGG19's weights cannot be had.
    """

    def __init__(
        self, recipe: Recipe, accelerator: Accelerator, *, start: nn.Module | None = None, vgg: Path | None = None
    ) -> None:
        self.recipe, self.accelerator = recipe, accelerator
        self.rank, self.processes = accelerator.process_index, accelerator.num_processes
        recurrent = _fitting_facts(recipe, self.processes).recurrent
        torch.manual_seed(recipe.seed)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Initializing zero-element tensors")  # which are refused below
            network = models.create_model(recipe.model, **recipe.options).to(accelerator.device)
        if not all(parameter.numel() for parameter in network.parameters()):
            raise UsageError(f"recipe.options must give each layer of '{recipe.model}' weights, not {recipe.options}")
        if start is not None:
            network.load_state_dict(start.state_dict())
        self.network: nn.Module = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for part in (part for stage in recipe.stages for part in stage.taught):
            if not any(belongs(name, [part]) for name, _ in network.named_parameters()):
                raise UsageError(f"recipe '{recipe.name}': '{recipe.model}' has no part '{part}' that could be taught")
        self.average = copy.deepcopy(self.network).requires_grad_(False).eval()
        self.scored = Unrolled(self.average, recurrent=recurrent)
        self._unrolled = accelerator.prepare(Unrolled(self.network, recurrent=recurrent))
        self._clipped = clipped_parameters(self.network, recipe)
        self._optimizers = make_optimizers(self.network, recipe, reduce=partial(accelerator.reduce, reduction="sum"))
        self._image_losses = ImageLosses(recipe, accelerator, vgg)
        self._adversary = Adversary(recipe, accelerator) if "adversarial" in recipe.losses else None
        self._estimator = _Estimator(recipe, self.network) if "transfer" in recipe.losses else None
        self.stage: Stage | None = None  # of the step before
        # What a checkpoint keeps.
        self.modules = {"network": self.network, "average": self.average}
        self.optimizers = list(self._optimizers)
        if self._adversary:
            self.modules["critic"] = self._adversary.critic
            self.optimizers.append(self._adversary.optimizer)

    def learn(self, stage: Stage, batch: tuple[Tensor, Tensor], step: int, rate: float) -> dict[str, Tensor]:
        """Find the gradients of a batch, and teach the critic in a stage that has one; `update` comes after.

        Args:
            batch: blurred and sharp of all processes, N×3×H×W or N×frames×3×H×W.
            step: number of the step, on which alone depends what is random in it.
            rate: learning rate, of which each group of parameters has its share.

        Returns:
            Scalars of this process: `loss`, which is what the gradients are of, its parts before they are weighted, and
            the `critic`'s own.
        """
        if self.stage is not None and stage.objective != self.stage.objective:
            # Moments of another loss mislead: where gradients grow a thousandfold, as from pixels to 100 times VGG19's
            # features, Adam would take steps sixteen times its rate and undo the stage before.
            for optimizer in self._optimizers:
                optimizer.state.clear()
        self.stage = stage
        resting = self._let_rest(stage)
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = rate * group["share"]
        blurred, sharp = (self._own(images) for images in batch)
        torch.manual_seed(self._dice("dropout", step, self.rank).generator.initial_seed())
        if self._estimator:
            self._estimator.said.clear()
        losses = self._restoration_losses(stage, blurred, sharp, step) if stage.restores else {}
        if self._estimator and stage.transfer_weight:
            if not stage.restores:
                with self.accelerator.autocast():
                    self._estimator.look_at(blurred)
            losses["transfer"] = self._estimator.loss(sharp)
        weighted = [weight * losses[part] for part, weight in stage.loss_weights.items() if weight]
        losses["loss"] = torch.stack(weighted).sum()
        self.network.zero_grad(set_to_none=True)
        self.accelerator.backward(losses["loss"])
        if not stage.restores:
            # Several processes exchange the gradients of a network that was called whole by themselves, and no others.
            for parameter in self.network.parameters():
                if parameter.grad is not None:
                    parameter.grad = self.accelerator.reduce(parameter.grad, "mean")
        for parameter in resting:
            parameter.grad = None
        if self._clipped:
            self.accelerator.clip_grad_norm_(self._clipped, self.recipe.gradient_norm)
        return {name: loss.detach() for name, loss in losses.items()}

    def _restoration_losses(self, stage: Stage, blurred: Tensor, sharp: Tensor, step: int) -> dict[str, Tensor]:
        """The losses of what the network restores; teaches the critic where the stage has one."""
        with self.accelerator.autocast():
            restored = self._unrolled(blurred, self.recipe.frames)
        losses = self._image_losses.parts(stage, restored, sharp, blurred)
        if self._adversary and stage.adversarial_weight:
            images = (full_size(restored), sharp, blurred)
            losses["critic"] = self._adversary.step(*images, self._dice("critic", step))
            losses["adversarial"] = self._adversary.loss(*images)
        return losses

    def update(self, step: int) -> None:
        """Follow the gradients that `learn` found, and move the average after the network."""
        for optimizer in self._optimizers:
            optimizer.step()
        update_average(self.average, self.network, self.recipe.ema, step)

    def _let_rest(self, stage: Stage) -> list[nn.Parameter]:
        """The parameters that the stage does not teach, from now on without a gradient where that spares work."""
        resting = []
        for name, parameter in self.network.named_parameters():
            taught = stage.teaches(name)
            # Several processes have agreed on whose gradients they exchange, and would wait for each.
            parameter.requires_grad_(taught or self.processes > 1)
            resting += [] if taught else [parameter]
        return resting

    def _own(self, images: Tensor) -> Tensor:
        """This process's images of a batch, the frames of sequences one after another: N×3×H×W."""
        own = images[self.rank :: self.processes]
        return own.flatten(0, -4).contiguous(memory_format=torch.channels_last)

    def _dice(self, *purpose: object) -> Dice:
        return Dice.seeded(self.accelerator.device, self.recipe.seed, *purpose)


def _fitting_facts(recipe: Recipe, processes: int) -> models.ModelInfo:
    """The facts of the recipe's network.

    Raises:
        UsageError: the recipe's batch, crops or frames do not fit it, or the number of processes.
    """
    if recipe.batch % processes:
        raise UsageError(
            f"{processes} processes cannot share a batch of {recipe.batch} evenly: "
            f"the recipe's batch must be a multiple of {processes}"
        )
    info = models.model_info(recipe.model).for_options(recipe.options)
    for stage in recipe.stages:
        if stage.crop % info.multiple_of:
            raise UsageError(
                f"recipe '{recipe.name}': '{recipe.model}' takes sides that are multiples of {info.multiple_of} "
                f"pixels, not crops of {stage.crop}"
            )
    if recipe.frames > 1 and not info.recurrent:
        raise UsageError(f"recipe '{recipe.name}': frames are for recurrent networks, '{recipe.model}' is none")
    return info


def load_start(name_or_file: str, recipe: Recipe) -> nn.Module:
    """A network with weights for the recipe to begin with.

    Parts that the recipe's first stage names as taught may be new or of other shapes than theirs. If they are nowhere
    narrower, they do at first what theirs do (Net2Net, Chen et al., ICLR 2016), and what is new in them is untrained;
    else all of them are. What the weights have beyond the recipe's network is left out.

    Raises:
        UsageError: they lack a part that the recipe does not teach first, or have it in another shape.
        ModelError: they cannot be loaded, see `models.load_model`.
    """
    given = models.load_model(name_or_file).network.state_dict()
    torch.manual_seed(recipe.seed)
    network = models.create_model(recipe.model, **recipe.options)
    wanted = network.state_dict()
    differing = {name for name in wanted if _shape(given.get(name)) != _shape(wanted.get(name))}
    new = [part for part in recipe.stages[0].taught if any(belongs(name, [part]) for name in differing)]
    if not all(belongs(name, new) for name in differing):
        raise UsageError(f"{name_or_file}: not weights of the network that recipe '{recipe.name}' trains")
    begun = {name: own if belongs(name, new) else given[name] for name, own in wanted.items()}
    known = [name for name in wanted if belongs(name, new) and name in given]
    if all(_holds(wanted[name], given[name]) for name in known):
        begun.update({name: _widened(given[name], wanted[name]) for name in known})
    network.load_state_dict(begun)
    return network


def _holds(wide: Tensor, narrow: Tensor) -> bool:
    return wide.ndim == narrow.ndim and all(own >= theirs for own, theirs in zip(wide.shape, narrow.shape, strict=True))


def _widened(narrow: Tensor, wide: Tensor) -> Tensor:
    """The tensor of a layer whose first outputs are those of `narrow`, and whose further ones are as in `wide`.

    What the layer is given beyond the inputs of `narrow` is ignored by the first outputs until they have learned.
    """
    widened = wide.clone()
    widened[: len(narrow)] = 0
    widened[tuple(map(slice, narrow.shape))] = narrow
    return widened


def _shape(tensor: Tensor | None) -> torch.Size | None:
    return None if tensor is None else tensor.shape


class _Estimator:
    """The part of a network that estimates the blur's transfer function, and what it said in this step.

    Raises:
        UsageError: the network has none.
    """

    def __init__(self, recipe: Recipe, network: nn.Module) -> None:
        module, pyramid = getattr(network, "transfer", None), getattr(network, "pyramid", None)
        if module is None or pyramid is None:
            raise UsageError(
                f"recipe '{recipe.name}': transfer_weight is for networks that estimate the blur's transfer function, "
                f"'{recipe.model}' does not"
            )
        self._module: nn.Module = module
        self._pyramid: Callable[[Tensor], list[Tensor]] = pyramid
        self.said: list[tuple[Tensor, Tensor]] = []
        """Images and the estimates of their blur, of each scale of the network."""
        module.register_forward_hook(self._hear)

    def look_at(self, blurred: Tensor) -> None:
        """Estimate what the network would, at each of its scales, and do nothing else."""
        for image in self._pyramid(blurred):
            self._module(image)

    def loss(self, sharp: Tensor) -> Tensor:
        """The loss of what was said, mean over the scales; `sharp` is of full size."""
        losses = [
            transfer(estimate, image, functional.avg_pool2d(sharp, sharp.shape[3] // image.shape[3]))
            for image, estimate in self.said
        ]
        return torch.stack(losses).mean()

    def _hear(self, module: nn.Module, arguments: tuple[Tensor], estimate: Tensor) -> None:
        self.said.append((arguments[0], estimate))


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Move the floating-point tensors of `average` towards the network's, in place."""
    # Early on a long memory would be one of random weights: it grows with the steps, as in TensorFlow's moving average.
    decay = min(decay, (1 + step) / (10 + step))
    ours: list[Tensor] = list(average.state_dict().values())
    theirs = list(network.state_dict().values())
    torch._foreach_lerp_(
        [t for t in ours if t.is_floating_point()], [t for t in theirs if t.is_floating_point()], 1 - decay
    )
