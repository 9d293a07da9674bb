"""What a run computes on and in: device, processes and precision, for which accelerate stands."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING

import torch

from deblur_cli.errors import UsageError
from deblur_cli.restoration.device import fast_bfloat16, resolve_device
from deblur_cli.restoration.memory import tune_allocator

if TYPE_CHECKING:
    from accelerate import Accelerator

_PATIENCE = timedelta(hours=6)
"""How long one process waits for the others, of which the first may have to fetch half a gigabyte."""


def default_accelerator(device: str = "auto", precision: str = "auto", *, half_precision: bool = True) -> Accelerator:
    """An Accelerator for a device (see `resolve_device`) and the precision that networks compute in.

    Weights and critics are in float32 whatever it is; the process's switches for TF32 are set.

    Args:
        precision: `fp32`; `tf32`, float32 whose convolutions multiply with 10 bits, on CUDA GPUs; `bf16`; or `auto`,
            which is bf16 where the device is fast at it.
        half_precision: whether the network says that it can do with half precision (`ModelInfo.half_precision`). If
            not, `auto` is tf32 on GPUs that have it, else fp32: where the image goes through all layers, and bf16 keeps
            8 bits of it, gradients point elsewhere (those of a trained `srn` had a cosine of 0.78 with those in fp32
            until its first and last layer were kept in fp32; `lite` has 0.998).

    Raises:
        UsageError: there is no such device, or precision, or one is not for the other.
    """
    from accelerate import Accelerator, InitProcessGroupKwargs

    chosen = resolve_device(device)
    precision = _precision_on(chosen, precision, half_precision)
    if chosen.type == "cpu":
        tune_allocator()
    elif chosen.type == "cuda" and "LOCAL_RANK" not in os.environ:
        torch.cuda.set_device(chosen)  # accelerate takes the current one; of several processes each has its own
    # The camera's path and the discrete cosines of JPEG are matrix products, which some images of torch take in TF32:
    # that has 10 bits for a pixel's place.
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = precision != "fp32"
    return Accelerator(
        cpu=chosen.type == "cpu",
        mixed_precision="bf16" if precision == "bf16" else "no",
        kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE)],
    )


def trains_in(device: torch.device, precision: str) -> bool:
    """Whether networks can be trained in a precision, of those that have a name here, on `device`."""
    return precision == "fp32" or device.type == "cuda" or (precision == "bf16" and device.type == "cpu")


def precision_of(accelerator: Accelerator) -> str:
    """The precision that networks are trained in with an Accelerator, as `default_accelerator` calls it."""
    if accelerator.mixed_precision != "no":
        return str(accelerator.mixed_precision)
    has_tf32 = accelerator.device.type == "cuda" and fast_bfloat16(accelerator.device)  # both came with one generation
    return "tf32" if has_tf32 and torch.backends.cudnn.allow_tf32 else "fp32"


def _precision_on(device: torch.device, name: str, half_precision: bool) -> str:
    if name == "auto":
        if not fast_bfloat16(device):
            return "fp32"
        if half_precision:
            return "bf16"
        return "tf32" if device.type == "cuda" else "fp32"
    if name not in ("fp32", "tf32", "bf16"):
        raise UsageError(f"networks are not trained in '{name}'; use --precision auto, fp32, tf32 or bf16")
    if not trains_in(device, name):
        raise UsageError(f"{name} is not for training on this device ({device.type}); use --precision auto or fp32")
    return name
