"""Optimisers of a recipe: Adam, AdamW, and Muon for the inner layers where the recipe asks for it.

Muon (Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024) makes the momentum of a layer
orthogonal, so that every direction of the layer learns alike: but for one here, that of the layer's mean input. A k×k
convolution counts as the matrix out × (in·k·k). Biases, and the first and last convolution, are left to AdamW, as
Muon's authors advise. Linear layers follow Muon from the first to the last: what estimates the blur is as
far in four minutes with it as in an hour and a half with AdamW (benchmarks/README.md, "The estimate, with Muon").
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam, AdamW, Optimizer

from deblur_cli.errors import UsageError

if TYPE_CHECKING:
    from deblur_cli.training.recipe import Recipe

Layer = nn.Conv2d | nn.ConvTranspose2d | nn.Linear
Reduce = Callable[[Tensor], Tensor]
"""Adds up a tensor over all processes."""

SHARE_OF_ADAMW = 0.2
"""Learning rate of biases and outer convolutions, as a share of that of the weights that follow Muon."""

# Coefficients of the quintic Newton-Schulz iteration that drives all singular values near 1 in five steps (ibid.).
_QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """N×rows×columns matrices with their singular values drawn to about 1 (0.7 to 1.2), by Newton-Schulz iteration.

    Each step multiplies by a polynomial in the Gram matrix, and such polynomials commute: so the steps are taken on the
    small Gram matrix alone, and the wide one is multiplied once, at the end. A convolution is several times as wide as
    it is high, which makes that three times as fast.

    Not for bfloat16: rounding leaves small eigenvalues of the Gram matrix negative, where the polynomial diverges.
    """
    a, b, c = _QUINTIC
    is_wide = matrices.shape[1] <= matrices.shape[2]
    wide = matrices if is_wide else matrices.mT
    wide = wide / (torch.linalg.matrix_norm(wide, keepdim=True) + 1e-7)
    # Momenta behind a ReLU that has shut sink towards 0. Their products below, of two and of four, would be denormal
    # (less than 1e-38), which processors multiply up to a hundred times as slowly, and come out as good as 0.
    wide = functional.hardshrink(wide, 1e-8)
    gram = wide @ wide.mT
    product: Tensor | None = None
    for _ in range(steps):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        product = factor if product is None else factor @ product
        gram = factor @ gram @ factor
    result = wide if product is None else product @ wide
    return result if is_wide else result.mT


def alone(sums: Tensor) -> Tensor:
    """What there is to add up where there is one process."""
    return sums


class MeanInputs:
    """Channel by channel the sum of all that layers were given since it was last asked: their mean, but for its
    length."""

    def __init__(self, layers: Sequence[Layer], reduce: Reduce) -> None:
        self._layers, self._reduce = layers, reduce
        self._channels = [one.in_features if isinstance(one, nn.Linear) else one.in_channels for one in layers]
        self._sums = torch.zeros(sum(self._channels), device=layers[0].weight.device)
        for layer, own in zip(layers, self._sums.split(self._channels), strict=True):
            layer.register_forward_pre_hook(partial(_add, own))

    def take(self) -> dict[Tensor, Tensor]:
        """The sums of all processes by the weight of their layer, 0 where it was not called; they begin anew."""
        sums = self._reduce(self._sums.clone())
        self._sums.zero_()
        return {one.weight: own for one, own in zip(self._layers, sums.split(self._channels), strict=True)}


def _add(total: Tensor, layer: nn.Module, arguments: tuple[Tensor]) -> None:
    if torch.is_grad_enabled():
        images = arguments[0].detach()
        # An image's sum in its own precision: in bfloat16 that is four times as fast and right to half a percent.
        own = images.flatten(1, -2).sum(dim=1) if isinstance(layer, nn.Linear) else images.sum(dim=(2, 3))
        total += own.float().sum(dim=0)


class Muon(Optimizer):
    """Orthogonalised Nesterov momentum for the weights of layers, which it watches being called.

    A step does not change what a layer makes of its mean input: the component along it is taken out of the
    momentum's rows first, and orthogonal rows stay in the span of the others. Behind a ReLU features are all positive,
    so that component moves an output as a whole, step by step alike, and has shut the ReLU behind it for good
    (benchmarks/README.md, "Channels that ReLUs have shut"). Biases still move outputs as a whole.

    The update is scaled to a root mean square of 0.2, about AdamW's (Liu et al., "Muon is scalable for LLM training",
    2025), so that AdamW's learning rates serve. A weight's norm is kept from growing beyond that of He's initialisation
    (√(2·rows), He et al., ICCV 2015): steps of one size in every direction otherwise add up, and a network without
    normalisation grows layer by layer until a ReLU shuts it off.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        lr: float,
        *,
        momentum: float = 0.95,
        decay: float = 0.0,
        reduce: Reduce = alone,
    ) -> None:
        weights = [layer.weight for layer in layers]
        super().__init__([{"params": weights, "share": 1.0}], {"lr": lr, "momentum": momentum, "decay": decay})
        self._transposed = {one.weight for one in layers if isinstance(one, nn.ConvTranspose2d)}
        self._inputs = MeanInputs(layers, reduce)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        inputs = self._inputs.take()
        for group in self.param_groups:
            # Weights of one shape go together: one by one they are a thousand small tasks, and the host that hands
            # them out takes longer than a GPU takes for the network.
            alike: dict[tuple[torch.Size, bool], list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike[parameter.shape, parameter in self._transposed].append(parameter)
            for (_, is_transposed), parameters in alike.items():
                directions = torch.stack(self._nesterov(parameters, group["momentum"]))
                weights = [one.transpose(0, 1) for one in parameters] if is_transposed else parameters
                directions = directions.transpose(1, 2) if is_transposed else directions
                taps = directions[0, 0, 0].numel()
                means = torch.stack([inputs[one] for one in parameters]).repeat_interleave(taps, dim=1)
                updates = orthogonalise(without(directions.flatten(2), means))
                rows, columns = updates.shape[1:]
                size = 0.2 * group["lr"] * max(rows, columns) ** 0.5
                torch._foreach_mul_(weights, 1 - group["lr"] * group["decay"])
                steps = [update.view_as(weight) for update, weight in zip(updates, weights, strict=True)]
                torch._foreach_add_(weights, steps, alpha=-size)
                norms = torch.stack(torch._foreach_norm(weights)).clamp_min(1e-12)
                torch._foreach_mul_(weights, ((2 * rows) ** 0.5 / norms).clamp_max(1).unbind())

    def _nesterov(self, parameters: Sequence[Tensor], momentum: float) -> list[Tensor]:
        """The gradients and their momenta after them."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        momenta = [self.state[parameter]["momentum"] for parameter in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - momentum)
        return list(torch._foreach_lerp(gradients, momenta, momentum))


def without(matrices: Tensor, vectors: Tensor) -> Tensor:
    """N×rows×columns matrices whose rows have no component along N×columns vectors; a vector of 0 takes nothing out."""
    units = functional.normalize(vectors, dim=1).unsqueeze(2)
    return matrices - (matrices @ units) @ units.mT


def make_optimizers(network: nn.Module, recipe: Recipe, *, reduce: Reduce = alone) -> list[Optimizer]:
    """The optimisers that share a network's parameters; each group's `share` says how much of the rate is its own.

    Raises:
        UsageError: the recipe names an optimiser that there is not.
    """
    if recipe.optimizer not in ("adam", "adamw", "muon"):
        raise UsageError(f"no optimizer is called '{recipe.optimizer}'; there are adam, adamw and muon")
    inner = _inner_layers(network) if recipe.optimizer == "muon" else []
    weights = {layer.weight for layer in inner}
    others = [parameter for parameter in network.parameters() if parameter not in weights]
    groups = [{"params": others, "share": SHARE_OF_ADAMW if inner else 1.0}]
    kind = Adam if recipe.optimizer == "adam" else AdamW
    optimizers: list[Optimizer] = [kind(groups, lr=recipe.rate, betas=recipe.betas, weight_decay=recipe.weight_decay)]
    if inner:
        optimizers.append(Muon(inner, lr=recipe.rate, decay=recipe.weight_decay, reduce=reduce))
    return optimizers


def clipped_parameters(network: nn.Module, recipe: Recipe) -> list[nn.Parameter]:
    """The parameters whose gradients a recipe keeps within its `gradient_norm`; none where that is 0.

    Raises:
        UsageError: no parameter has a name with what the recipe's `clipped` says in it.
    """
    if not recipe.gradient_norm:
        return []
    found = [parameter for name, parameter in network.named_parameters() if recipe.clipped in name]
    if not found:
        raise UsageError(f"recipe '{recipe.name}': network '{recipe.model}' has no parameter named …{recipe.clipped}…")
    return found


def _inner_layers(network: nn.Module) -> list[Layer]:
    """All linear layers, and all convolutions but those that read or write the image (the first and last to be
    registered)."""
    convolutions = [one for one in network.modules() if isinstance(one, nn.Conv2d | nn.ConvTranspose2d)]
    linear = [one for one in network.modules() if isinstance(one, nn.Linear)]
    return [*(one for one in convolutions[1:-1] if one.groups == 1), *linear]
