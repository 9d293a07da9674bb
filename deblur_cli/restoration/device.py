"""Where a network runs and at which precision; how much memory there is, and what running out of it looks like.

CUDA's global switches are left as torch sets them: convolutions in float32 may use TF32 (a 10-bit mantissa, as in
float16), `cudnn.benchmark` stays off, because it would time its algorithms anew for every size of photo and take
workspaces of gigabytes while doing so. Nothing is compiled.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import re
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import torch

from deblur_cli.errors import UsageError

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Names of precisions as users write them."""

_WAITS = (0.1, 0.3, 1.0, 3.0)
"""Seconds before each further try where memory ran out: a network gives its own back after each frame."""
_Result = TypeVar("_Result")

# glibc's malloc.h; the values are its binary interface.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -3, -4, -8


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


def empty_cache(device: torch.device) -> None:
    """Give memory that torch holds but does not use back to `device`."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def available_memory(device: torch.device) -> int:
    """Bytes that can still be taken on `device`: free GPU memory with what torch holds unused, or available RAM."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return max(0, torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    return available_ram()


def available_ram(root: Path = Path("/")) -> int:
    """Bytes of RAM this process can still take: what the kernel calls available, within the limits of its cgroups.

    Args:
        root: where `proc` and `sys` are mounted.
    """
    cgroup = root / "sys/fs/cgroup"
    limits = [_meminfo(root / "proc/meminfo")]
    # Version 2 of cgroups, whose line in the table names no controllers, then version 1.
    for folder in _cgroups(cgroup, root, ""):
        limits.append(_left_in_cgroup(folder, "memory.max", "memory.current", "inactive_file"))
    for folder in _cgroups(cgroup / "memory", root, "memory"):
        limits.append(_left_in_cgroup(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"))
    known = [limit for limit in limits if limit is not None]
    return max(0, min(known)) if known else _physical_memory() // 2


def _meminfo(path: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in path.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _cgroups(mount: Path, root: Path, controller: str) -> list[Path]:
    """The folders of this process's cgroup and of those it lies in, each of which may have a limit; `mount` is last.

    Inside a container its own group is mounted at the root; under Slurm, systemd-run and such it lies deeper.
    """
    path = ""
    with contextlib.suppress(OSError):
        for line in os.fsdecode((root / "proc/self/cgroup").read_bytes()).splitlines():
            _, _, rest = line.partition(":")
            controllers, _, named = rest.partition(":")
            if controller in controllers.split(","):
                path = named.strip("/")
    group = mount / path
    # A group outside of what is mounted here is named with "..": of it nothing can be read but the mount.
    return [mount] if ".." in group.parts else [group, *group.parents[: len(group.parts) - len(mount.parts)]]


def _left_in_cgroup(folder: Path, limit: str, usage: str, reclaimable: str) -> int | None:
    """Bytes left in a cgroup; the cached files counted as used (`reclaimable`) go when memory is needed."""
    with contextlib.suppress(OSError, ValueError):  # ValueError: the limit is the word "max"
        left = int((folder / limit).read_text()) - int((folder / usage).read_text())
        for line in (folder / "memory.stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == reclaimable:
                left += int(value)
        return left
    return None


def _physical_memory() -> int:
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" in names and "SC_PAGE_SIZE" in names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 8 << 30  # Windows: nothing in the standard library says; a common size


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out, on a GPU or in RAM."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # The processor's allocator, Apple's GPU, pinned memory, cuBLAS, cuDNN and cuFFT have no class of their own for it;
    # on a card that torch's cache has filled, the last three say no more than these words. Torch's allocator asks NVML
    # for its message, and where that does not answer (in containers, on a part of a GPU) complains of it alone. With a
    # limit on the address space (ulimit -v), oneDNN says what it could not do, and not why. What kernels cannot index
    # with 32 bits wants smaller tiles as well.
    signs = (
        "DefaultCPUAllocator",
        "MPS backend out of memory",
        "CUDA out of memory",
        "HIP out of memory",
        "CUDA error: out of memory",
        "CUDA driver error: out of memory",
        "NVML_SUCCESS ==",
        "STATUS_ALLOC_FAILED",
        "ALLOCATION_FAILED",
        "CUBLAS_STATUS_NOT_INITIALIZED",
        "CUDNN_STATUS_NOT_INITIALIZED",
        "CUDNN_STATUS_INTERNAL_ERROR",
        "CUFFT_ALLOC_FAILED",
        "CUFFT_INTERNAL_ERROR",
        "32-bit index",
        "unable to find an engine to execute this computation",
        "could not create a primitive",
        "could not create a memory",
        "could not execute a primitive",
        "std::bad_alloc",
    )
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)


def patiently(device: torch.device, work: Callable[[], _Result]) -> _Result:
    """What `work` gives, which is called again where memory runs out: what others hold on `device` may be free soon.

    Args:
        device: whose unused memory is given back in between.
        work: does nothing that must not be done twice.

    Raises:
        Exception: as `work`; out of memory after the last of a few tries.
    """
    for wait in _WAITS:
        try:
            return work()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        # Only here, with the exception gone, are the tensors of the frames it held free.
        empty_cache(device)
        time.sleep(wait)
    return work()


@functools.cache
def tune_allocator() -> bool:
    """Let glibc keep large blocks of memory instead of returning each to the kernel; whether that was possible.

    By default every large activation is mapped, filled with zeros by the kernel page by page, and unmapped again. All
    threads share one heap, because those of other threads are unmapped as soon as they are empty, whatever is set.
    Linux with glibc only, for the whole process, and no way back. Measured with AVX2: 1.1 times faster with `lite`,
    1.45 with `nafnet`, whose activations are larger, for 4 to 6 % more memory at its peak.
    """
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = {_M_MMAP_THRESHOLD: 32 << 20, _M_TRIM_THRESHOLD: -1, _M_MMAP_MAX: 0, _M_ARENA_MAX: 1}
    accepted = [mallopt(parameter, value) == 1 for parameter, value in settings.items()]
    return all(accepted)


def trim_allocator() -> None:
    """Give what the tuned allocator keeps and nobody uses back to the kernel; nothing where it cannot be tuned."""
    if tune_allocator():
        ctypes.CDLL(None).malloc_trim(0)


def worker(name: str) -> ThreadPoolExecutor:
    """An executor of one thread that computes alone, without the other threads of torch.

    Those are the network's. Two threads that both shared their work out would wait for each other's turns on the cores.
    """
    executor = ThreadPoolExecutor(1, name)
    threads = torch.get_num_threads()
    executor.submit(_compute_alone).result()
    torch.set_num_threads(threads)  # libraries that have one number for all threads (MKL) have been told too
    return executor


def _compute_alone() -> None:
    torch.get_num_threads()  # a thread's own number is set when torch first looks at it, and would be then
    torch.set_num_threads(1)
