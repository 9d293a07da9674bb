"""Optimisers of a recipe: Adam, AdamW, and Muon for the inner convolutions where the recipe asks for it.

Muon (Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024) makes the momentum of a layer
orthogonal, so that every direction of the layer learns alike. A k×k convolution counts as the matrix out × (in·k·k).
Biases, and the first and last convolution, are left to AdamW, as its authors advise.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer

from deblur_cli.errors import UsageError

if TYPE_CHECKING:
    from deblur_cli.training.recipe import Recipe

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
    gram = wide @ wide.mT
    product: Tensor | None = None
    for _ in range(steps):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        product = factor if product is None else factor @ product
        gram = factor @ gram @ factor
    result = wide if product is None else product @ wide
    return result if is_wide else result.mT


class Muon(Optimizer):
    """Orthogonalised Nesterov momentum for weights of two and more dimensions.

    The update is scaled to a root mean square of 0.2, about AdamW's (Liu et al., "Muon is scalable for LLM training",
    2025), so that AdamW's learning rates serve. A weight's norm is kept from growing beyond that of He's initialisation
    (√(2·rows), He et al., ICCV 2015): steps of one size in every direction otherwise add up, and a network without
    normalisation grows layer by layer until a ReLU shuts it off.
    """

    def __init__(self, parameters: Iterable[Any], lr: float, momentum: float = 0.95, decay: float = 0.0) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            # Matrices of one shape go together: one by one they are a thousand small tasks, and the host that hands
            # them out takes longer than a GPU takes for the network.
            alike: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike[parameter.flatten(1).shape].append(parameter)
            for shape, parameters in alike.items():
                updates = orthogonalise(torch.stack(self._nesterov(parameters, group["momentum"])))
                size = 0.2 * group["lr"] * max(shape) ** 0.5
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["decay"])
                steps = [update.view_as(parameter) for update, parameter in zip(updates, parameters, strict=True)]
                torch._foreach_add_(parameters, steps, alpha=-size)
                norms = torch.stack(torch._foreach_norm(parameters)).clamp_min(1e-12)
                torch._foreach_mul_(parameters, ((2 * shape[0]) ** 0.5 / norms).clamp_max(1).unbind())

    def _nesterov(self, parameters: Sequence[Tensor], momentum: float) -> list[Tensor]:
        """The gradients and their momenta after them, as matrices."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        momenta = [self.state[parameter]["momentum"] for parameter in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - momentum)
        return [one.flatten(1) for one in torch._foreach_lerp(gradients, momenta, momentum)]


def make_optimizers(network: nn.Module, recipe: Recipe) -> list[Optimizer]:
    """The optimisers that share a network's parameters; each group's `share` says how much of the rate is its own.

    Raises:
        UsageError: the recipe names an optimiser that there is not.
    """
    if recipe.optimizer not in ("adam", "adamw", "muon"):
        raise UsageError(f"no optimizer is called '{recipe.optimizer}'; there are adam, adamw and muon")
    inner = _inner_weights(network) if recipe.optimizer == "muon" else []
    others = [parameter for parameter in network.parameters() if all(parameter is not one for one in inner)]
    groups = [{"params": others, "share": SHARE_OF_ADAMW if inner else 1.0}]
    kind = Adam if recipe.optimizer == "adam" else AdamW
    optimizers: list[Optimizer] = [kind(groups, lr=recipe.rate, betas=recipe.betas, weight_decay=recipe.weight_decay)]
    if inner:
        optimizers.append(Muon([{"params": inner, "share": 1.0}], lr=recipe.rate, decay=recipe.weight_decay))
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


def _inner_weights(network: nn.Module) -> list[Tensor]:
    """Weights of all convolutions but those that read or write the image (the first and last to be registered)."""
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)]
    return [module.weight for module in convolutions[1:-1] if module.groups == 1]
