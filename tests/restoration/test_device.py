"""Devices and precisions by name, memory limits, and what running out of memory looks like."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from deblur_cli.errors import UsageError
from deblur_cli.restoration import device as devices

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda", 0), torch.device("mps")
GIB = 1 << 30


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)


def _bfloat16_instructions(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: there, raising=False)


@pytest.mark.usefixtures("no_gpu")
def test_auto_is_the_processor_without_a_gpu() -> None:
    assert devices.resolve_device("auto") == devices.resolve_device("cpu") == CPU


@pytest.mark.usefixtures("two_gpus")
def test_cuda_names_carry_an_index() -> None:
    assert devices.resolve_device("auto") == devices.resolve_device("cuda") == torch.device("cuda", 1)
    assert devices.resolve_device("cuda:0") == CUDA
    with pytest.raises(UsageError, match="the last of the 2 CUDA devices here is cuda:1"):
        devices.resolve_device("cuda:2")


@pytest.mark.parametrize(
    ("built", "capability", "runs"),
    [
        (["sm_75", "sm_80", "sm_90", "compute_90"], (7, 5), True),
        (["sm_75", "sm_80", "sm_90"], (8, 9), True),  # of the same generation
        (["sm_75", "sm_80"], (7, 0), False),
        (["sm_75", "sm_80"], (9, 0), False),
        (["sm_75", "sm_80", "compute_80"], (9, 0), True),  # translated for it
        (["sm_90a", "sm_100", "sm_120"], (12, 0), True),
        (["sm_90", "sm_120"], (10, 0), False),
        (["gfx90a", "gfx942"], (9, 4), True),
        ([], (9, 0), True),
    ],
)
@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_that_torch_was_not_built_for_is_none(
    built: list[str], capability: tuple[int, int], runs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: built)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Old One")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert devices.resolve_device("auto").type == ("cuda" if runs else "cpu")
    if not runs:
        with pytest.raises(UsageError, match="not built for the GPU Old One"):
            devices.resolve_device("cuda:0")


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps"])
def test_a_missing_gpu_is_said_with_a_way_on(name: str) -> None:
    with pytest.raises(UsageError, match="use --device cpu"):
        devices.resolve_device(name)


@pytest.mark.parametrize("name", ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "CPU"])
def test_unknown_devices_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="unknown device"):
        devices.resolve_device(name)


@pytest.mark.parametrize(
    ("capability", "precision", "fast"), [((9, 0), "fp16", True), ((7, 5), "fp16", False), ((6, 1), "fp32", False)]
)
def test_auto_precision_on_cuda_follows_the_tensor_cores(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], precision: str, fast: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert devices.resolve_precision("auto", CUDA) == precision
    assert devices.resolve_precision("auto", CUDA, half_precision=False) == "fp32"
    assert devices.fast_bfloat16(CUDA) is fast


def test_bfloat16_on_a_processor_only_where_it_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    _bfloat16_instructions(monkeypatch, there=True)
    assert devices.resolve_precision("auto", CPU) == "bf16"
    assert devices.resolve_precision("auto", CPU, half_precision=False) == "fp32"
    _bfloat16_instructions(monkeypatch, there=False)
    assert devices.resolve_precision("auto", CPU) == "fp32"
    assert devices.resolve_precision("bf16", CPU) == "bf16"  # asked for, and it works


def test_a_torch_that_cannot_be_asked_counts_as_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert devices.fast_bfloat16(CPU) is False


def test_an_apple_gpu_gets_float32_unless_asked() -> None:
    assert devices.resolve_precision("auto", MPS) == "fp32"
    assert devices.resolve_precision("fp16", MPS) == "fp16"


@pytest.mark.parametrize(("name", "device"), [("fp16", CPU), ("bf16", MPS), ("fp64", CPU), ("", CPU)])
def test_impossible_precisions_are_refused(name: str, device: torch.device) -> None:
    with pytest.raises(UsageError, match="fp32"):
        devices.resolve_precision(name, device)


def test_autocast_computes_in_the_precision() -> None:
    weight = torch.ones(4, 4)
    with devices.autocast(CPU, "bf16"):
        assert (weight @ weight).dtype == torch.bfloat16
    with devices.autocast(CPU, "fp32"):
        assert (weight @ weight).dtype == torch.float32


def _machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


MEMINFO = {"proc/meminfo": f"MemTotal: {16 * GIB // 1024} kB\nMemAvailable: {12 * GIB // 1024} kB\n"}


def test_available_ram_is_what_the_kernel_says(tmp_path: Path) -> None:
    assert devices.available_ram(_machine(tmp_path, MEMINFO)) == 12 * GIB


def test_available_ram_keeps_to_a_cgroup_of_version_2(tmp_path: Path) -> None:
    group = {"memory.max": str(2 * GIB), "memory.current": str(GIB), "memory.stat": f"anon 7\ninactive_file {GIB // 2}"}
    root = _machine(tmp_path, MEMINFO | {f"sys/fs/cgroup/{name}": text for name, text in group.items()})
    assert devices.available_ram(root) == 3 * GIB // 2
    (root / "sys/fs/cgroup/memory.max").write_text("max\n")
    assert devices.available_ram(root) == 12 * GIB


def test_available_ram_keeps_to_a_cgroup_of_version_1(tmp_path: Path) -> None:
    group = {
        "memory.limit_in_bytes": str(3 * GIB),
        "memory.usage_in_bytes": str(2 * GIB),
        "memory.stat": "inactive_file 5\ntotal_inactive_file 9",
    }
    root = _machine(tmp_path, MEMINFO | {f"sys/fs/cgroup/memory/{name}": text for name, text in group.items()})
    assert devices.available_ram(root) == GIB + 9


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
    assert devices.available_ram(_machine(tmp_path, groups)) == GIB + 1


@pytest.mark.parametrize("table", ["0::/gone/step", "0::/../outside", "0::", "garbled", "0::/\0", "\n:\n"])
def test_a_cgroup_that_is_not_seen_here_leaves_the_limit_of_the_mount(tmp_path: Path, table: str) -> None:
    groups = MEMINFO | {"proc/self/cgroup": table} | _cgroup("sys/fs/cgroup", V2, 2 * GIB, GIB)
    groups |= _cgroup("sys/fs/outside", V2, GIB, GIB)
    assert devices.available_ram(_machine(tmp_path, groups)) == GIB + 1


def test_garbled_limits_are_none(tmp_path: Path) -> None:
    groups = {"proc/self/cgroup": "0::/step"} | _cgroup("sys/fs/cgroup/step", V2, "plenty", 0)
    root = _machine(tmp_path, groups | {"proc/meminfo": "MemAvailable: much\n", "proc/self/cgroup": "0::/step"})
    assert devices.available_ram(root) > 0
    (root / "proc/meminfo").write_text("MemAvailable:")
    assert devices.available_ram(root) > 0


def test_available_ram_is_never_unknown(tmp_path: Path) -> None:
    assert devices.available_ram(tmp_path) > 0
    assert devices.available_memory(CPU) > 0


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
    assert devices.is_out_of_memory(error) is expected


def test_the_processors_own_allocator_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert devices.is_out_of_memory(caught.value)


def test_memory_that_others_hold_is_waited_for_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    slept, emptied, tries = list[float](), list[torch.device](), list[int]()
    monkeypatch.setattr("time.sleep", slept.append)
    monkeypatch.setattr(devices, "empty_cache", emptied.append)

    def fails(times: int, error: Exception) -> str:
        tries.append(times)
        if len(tries) <= times:
            raise error
        return "done"

    assert devices.patiently(CPU, lambda: fails(2, torch.OutOfMemoryError("CUDA out of memory."))) == "done"
    assert len(tries) == 3 and emptied == [CPU, CPU] and 0 < slept[0] < slept[1]
    for error, expected in ((MemoryError(), 1 + len(devices._WAITS)), (RuntimeError("shapes"), 1)):
        tries.clear()
        with pytest.raises(type(error)) as caught:
            devices.patiently(CPU, lambda error=error: fails(99, error))  # type: ignore[misc]
        assert caught.value is error and len(tries) == expected


def test_tuning_the_allocator_happens_once_and_says_whether(monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices.tune_allocator() is devices.tune_allocator()
    assert devices.trim_allocator() is None
    monkeypatch.setattr("sys.platform", "darwin")
    assert devices.tune_allocator.__wrapped__() is False


def test_nothing_to_wait_for_or_to_empty_on_a_processor() -> None:
    assert devices.synchronize(CPU) is None
    assert devices.empty_cache(CPU) is None


def test_a_worker_computes_alone_and_leaves_the_others_their_threads() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with devices.worker("read") as worker:
            assert worker.submit(torch.get_num_threads).result() == 1
            assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
