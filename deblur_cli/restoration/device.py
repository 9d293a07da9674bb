"""Where a network runs, and at which precision.

CUDA's global switches are left as torch sets them: convolutions in float32 may use TF32 (a 10-bit mantissa, as in
float16), `cudnn.benchmark` stays off, because it would time its algorithms anew for every size of photo and take
workspaces of gigabytes while doing so. Nothing is compiled.
"""

from __future__ import annotations

import contextlib
import platform
import re
from concurrent.futures import ThreadPoolExecutor

import torch

from deblur_cli.errors import UsageError

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Names of precisions as users write them."""


def resolve_device(name: str | torch.device = "auto") -> torch.device:
    """The device that `name` means: `auto` (CUDA, else MPS, else the processor), `cpu`, `cuda`, `cuda:N` or `mps`.

    A GPU that torch was not built for, as those of before 2018 are to its newer builds, is none to `auto`.

    Raises:
        UsageError: there is no such device on this machine, or no such name.
    """
    name = str(name)
    if name == "auto":
        if torch.cuda.is_available() and _has_kernels(current := torch.device("cuda", torch.cuda.current_device())):
            return current
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and (kind != "cuda" or not index.isdecimal())) or name[-1:] == ":":
        raise UsageError(f"unknown device '{name}'; it is one of auto, cpu, cuda, cuda:N and mps")
    if kind == "cuda":
        return _cuda_device(int(index) if index else None)
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UsageError("there is no Apple GPU (mps) that torch can use here; use --device cpu or auto")
    return torch.device(kind)


def _cuda_device(index: int | None) -> torch.device:
    if not torch.cuda.is_available():
        # A ROCm build of torch answers to the name cuda and fills version.hip.
        built = torch.version.cuda is not None or getattr(torch.version, "hip", None) is not None
        why = "no GPU or driver was found" if built else f"this torch ({torch.__version__}) was built without it"
        raise UsageError(f"cuda is not available: {why}; use --device cpu, or install what is missing")
    count = torch.cuda.device_count()
    index = torch.cuda.current_device() if index is None else index
    if index >= count:
        raise UsageError(f"there is no cuda:{index}; the last of the {count} CUDA devices here is cuda:{count - 1}")
    device = torch.device("cuda", index)
    if not _has_kernels(device):
        raise UsageError(
            f"this torch ({torch.__version__}) was not built for the GPU {torch.cuda.get_device_name(device)}; "
            "use --device cpu, or install a build for it"
        )
    return device


def _has_kernels(device: torch.device) -> bool:
    """Whether this build of torch has code that a CUDA GPU can run: for its generation, or to be translated for it."""
    built = [re.fullmatch(r"(sm|compute)_(\d+)(\d)[af]?", name) for name in torch.cuda.get_arch_list()]
    known = [(match[1], (int(match[2]), int(match[3]))) for match in built if match]
    if not known:  # ROCm's names, or none: then nothing can be said
        return True
    own = torch.cuda.get_device_capability(device)
    return any(made <= own and (kind == "compute" or made[0] == own[0]) for kind, made in known)


def resolve_precision(name: str, device: torch.device, half_precision: bool = True) -> str:
    """The precision that `name` (`auto`, `fp32`, `bf16` or `fp16`) means on `device`: `fp32`, `bf16` or `fp16`.

    `auto` is fp16 on CUDA GPUs with tensor cores (bf16 is no faster there and keeps 3 bits fewer), bf16 on a processor
    that computes in it, else fp32; and fp32 where `half_precision` is false, the network's own word that it needs it.

    Raises:
        UsageError: no such precision, or the device cannot compute in it.
    """
    if name == "auto":
        if not half_precision:
            return "fp32"
        if device.type == "cuda":
            return "fp16" if torch.cuda.get_device_capability(device) >= (7, 0) else "fp32"
        return "bf16" if fast_bfloat16(device) else "fp32"
    if name not in PRECISIONS:
        raise UsageError(f"unknown precision '{name}'; it is one of auto, {', '.join(PRECISIONS)}")
    if name == "fp16" and device.type == "cpu":
        raise UsageError("a processor does not compute in fp16; use --precision auto, fp32 or bf16")
    if name == "bf16" and device.type == "mps":
        raise UsageError("an Apple GPU does not compute in bf16 everywhere; use --precision auto, fp32 or fp16")
    return name


def fast_bfloat16(device: torch.device) -> bool:
    """Whether `device` computes faster in bfloat16 than in float32.

    Measured on processors: AVX-512 with bf16 instructions 2 to 3 times faster, without them 2.5 to 7 times slower.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    # Both queries are private to torch, so a torch without them counts as a processor without the instructions.
    queries = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(query() for query in queries if query is not None)


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[object]:
    """A context in which `device` computes in `precision`, whatever the one around it says."""
    if precision == "fp32":
        return torch.autocast(device.type, enabled=False)
    return torch.autocast(device.type, dtype=PRECISIONS[precision])


def hardware_name(device: torch.device) -> str:
    """What `device` is: the model of a CUDA GPU, otherwise the machine's architecture, such as `x86_64` or `arm64`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()


def synchronize(device: torch.device) -> None:
    """Wait until `device` has done all it was given, so that a clock read afterwards tells the truth."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def worker(name: str, device: torch.device | None = None) -> ThreadPoolExecutor:
    """An executor of one thread that computes alone, without the other threads of torch.

    Those are left to the network: two threads that both used all of them would wait for each other.

    Args:
        device: where it computes. To a new thread CUDA's current device is GPU 0, and work that falls back to that
            would set up a context there, which takes hundreds of megabytes.
    """
    executor = ThreadPoolExecutor(1, name)
    threads = torch.get_num_threads()
    executor.submit(_compute_alone, device).result()
    torch.set_num_threads(threads)  # libraries that have one number for all threads (MKL) have been told too
    return executor


def _compute_alone(device: torch.device | None) -> None:
    if device is not None and device.type == "cuda":
        torch.cuda.set_device(device)
    torch.get_num_threads()  # a thread's own number is set when torch first looks at it, and would be then
    torch.set_num_threads(1)
