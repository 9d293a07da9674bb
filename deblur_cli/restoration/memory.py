"""How much memory there is on a device, what running out of it looks like, and what gives it back."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from deblur_cli.errors import OutOfMemoryError

_WAITS = (0.1, 0.3, 1.0, 3.0)
"""Seconds before each further try where memory ran out: a network gives its own back after each frame."""
_Result = TypeVar("_Result")

# glibc's malloc.h; the values are its binary interface.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -3, -4, -8

# The processor's allocator, Apple's GPU, pinned memory, cuBLAS, cuDNN and cuFFT raise a plain RuntimeError when memory
# runs out; on a card that torch's cache has filled, the last three say no more than these words. Torch's allocator asks
# NVML for its message, and where that does not answer (in containers, on a part of a GPU) complains of it alone. With a
# limit on the address space (ulimit -v), oneDNN says what it could not do, and not why. What kernels cannot index with
# 32 bits wants smaller tiles as well.
_SIGNS = (
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
    try:
        left = int((folder / limit).read_text()) - int((folder / usage).read_text())
    except (OSError, ValueError):  # ValueError: the limit is the word "max"
        return None
    with contextlib.suppress(OSError, ValueError):  # some sandboxes tell the limit, and nothing of what is cached
        for line in (folder / "memory.stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == reclaimable:
                left += int(value)
    return left


def _physical_memory() -> int:
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" in names and "SC_PAGE_SIZE" in names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 8 << 30  # Windows: nothing in the standard library says; a common size


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out, on a GPU or in RAM."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError | OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


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
