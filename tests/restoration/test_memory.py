"""Limits of memory, what running out of it looks like, and what gives it back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from deblur_cli.restoration import memory

CPU = torch.device("cpu")
GIB = 1 << 30


def _machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


MEMINFO = {"proc/meminfo": f"MemTotal: {16 * GIB // 1024} kB\nMemAvailable: {12 * GIB // 1024} kB\n"}


def test_available_ram_is_what_the_kernel_says(tmp_path: Path) -> None:
    assert memory.available_ram(_machine(tmp_path, MEMINFO)) == 12 * GIB


def test_available_ram_keeps_to_a_cgroup_of_version_2(tmp_path: Path) -> None:
    group = {"memory.max": str(2 * GIB), "memory.current": str(GIB), "memory.stat": f"anon 7\ninactive_file {GIB // 2}"}
    root = _machine(tmp_path, MEMINFO | {f"sys/fs/cgroup/{name}": text for name, text in group.items()})
    assert memory.available_ram(root) == 3 * GIB // 2
    (root / "sys/fs/cgroup/memory.max").write_text("max\n")
    assert memory.available_ram(root) == 12 * GIB


def test_available_ram_keeps_to_a_cgroup_that_tells_nothing_of_its_cached_files(tmp_path: Path) -> None:
    group = {"memory.max": str(2 * GIB), "memory.current": str(GIB)}
    root = _machine(tmp_path, MEMINFO | {f"sys/fs/cgroup/{name}": text for name, text in group.items()})
    assert memory.available_ram(root) == GIB


def test_available_ram_keeps_to_a_cgroup_of_version_1(tmp_path: Path) -> None:
    group = {
        "memory.limit_in_bytes": str(3 * GIB),
        "memory.usage_in_bytes": str(2 * GIB),
        "memory.stat": "inactive_file 5\ntotal_inactive_file 9",
    }
    root = _machine(tmp_path, MEMINFO | {f"sys/fs/cgroup/memory/{name}": text for name, text in group.items()})
    assert memory.available_ram(root) == GIB + 9


V2 = ("memory.max", "memory.current", "inactive_file")
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def _cgroup(folder: str, files: tuple[str, str, str], limit: int | str, used: int) -> dict[str, str]:
    """A cgroup's folder, a byte of whose use is cached files."""
    return {f"{folder}/{files[0]}": f"{limit}\n", f"{folder}/{files[1]}": str(used)} | {
        f"{folder}/memory.stat": f"anon 7\n{files[2]} 1\n"
    }


@pytest.mark.parametrize(
    ("line", "mount", "files"),
    [
        ("0::/slurm/job:1/step", "sys/fs/cgroup", V2),
        ("7:cpuset:/elsewhere\n5:cpu,memory:/slurm/job:1/step\n0::/", "sys/fs/cgroup/memory", V1),
    ],
)
@pytest.mark.parametrize("tightest", ["", "/slurm", "/slurm/job:1", "/slurm/job:1/step"])
def test_available_ram_keeps_to_the_tightest_of_nested_cgroups(
    tmp_path: Path, line: str, mount: str, files: tuple[str, str, str], tightest: str
) -> None:
    groups = MEMINFO | {"proc/self/cgroup": f"{line}\n"}
    for group in ("", "/slurm", "/slurm/job:1", "/slurm/job:1/step"):
        groups |= _cgroup(mount + group, files, 2 * GIB if group == tightest else 9 * GIB, GIB)
    groups |= _cgroup(f"{mount}/elsewhere", files, GIB, GIB)
    assert memory.available_ram(_machine(tmp_path, groups)) == GIB + 1


@pytest.mark.parametrize("table", ["0::/gone/step", "0::/../outside", "0::", "garbled", "0::/\0", "\n:\n"])
def test_a_cgroup_that_is_not_seen_here_leaves_the_limit_of_the_mount(tmp_path: Path, table: str) -> None:
    groups = MEMINFO | {"proc/self/cgroup": table} | _cgroup("sys/fs/cgroup", V2, 2 * GIB, GIB)
    groups |= _cgroup("sys/fs/outside", V2, GIB, GIB)
    assert memory.available_ram(_machine(tmp_path, groups)) == GIB + 1


def test_garbled_limits_are_none(tmp_path: Path) -> None:
    groups = {"proc/self/cgroup": "0::/step"} | _cgroup("sys/fs/cgroup/step", V2, "plenty", 0)
    root = _machine(tmp_path, groups | {"proc/meminfo": "MemAvailable: much\n", "proc/self/cgroup": "0::/step"})
    assert memory.available_ram(root) > 0
    (root / "proc/meminfo").write_text("MemAvailable:")
    assert memory.available_ram(root) > 0


def test_available_ram_is_never_unknown(tmp_path: Path) -> None:
    assert memory.available_ram(tmp_path) > 0
    assert memory.available_memory(CPU) > 0


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            True,
        ),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"), True),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("cuFFT error: CUFFT_INTERNAL_ERROR"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"), True),
        (RuntimeError('NVML_SUCCESS == r INTERNAL ASSERT FAILED at "/c10/cuda/CUDACachingAllocator.cpp":838'), True),
        (RuntimeError("input tensor must fit into 32-bit index math"), True),
        (RuntimeError("GET was unable to find an engine to execute this computation"), True),
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("could not create a memory object"), True),
        (RuntimeError("could not execute a primitive"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"), False),
        (ValueError("DefaultCPUAllocator"), False),
    ],
)
def test_what_running_out_of_memory_looks_like(error: Exception, expected: bool) -> None:
    assert memory.is_out_of_memory(error) is expected


def test_the_processors_own_allocator_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert memory.is_out_of_memory(caught.value)


def test_memory_that_others_hold_is_waited_for_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    slept, emptied, tries = list[float](), list[torch.device](), list[int]()
    monkeypatch.setattr("time.sleep", slept.append)
    monkeypatch.setattr(memory, "empty_cache", emptied.append)

    def fails(times: int, error: Exception) -> str:
        tries.append(times)
        if len(tries) <= times:
            raise error
        return "done"

    assert memory.patiently(CPU, lambda: fails(2, torch.OutOfMemoryError("CUDA out of memory."))) == "done"
    assert len(tries) == 3 and emptied == [CPU, CPU] and 0 < slept[0] < slept[1]
    for error, expected in ((MemoryError(), 1 + len(memory._WAITS)), (RuntimeError("shapes"), 1)):
        tries.clear()
        with pytest.raises(type(error)) as caught:
            memory.patiently(CPU, lambda error=error: fails(99, error))  # type: ignore[misc]
        assert caught.value is error and len(tries) == expected


def test_tuning_the_allocator_happens_once_and_says_whether(monkeypatch: pytest.MonkeyPatch) -> None:
    assert memory.tune_allocator() is memory.tune_allocator()
    assert memory.trim_allocator() is None
    monkeypatch.setattr("sys.platform", "darwin")
    assert memory.tune_allocator.__wrapped__() is False
