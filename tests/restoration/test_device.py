"""Devices and precisions by name, and threads that compute alone."""

from __future__ import annotations

import threading

import pytest
import torch

from deblur_cli.errors import UsageError
from deblur_cli.restoration import device as devices

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda", 0), torch.device("mps")


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


def test_a_worker_for_a_gpu_has_it_for_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[torch.device, str]] = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: told.append((device, threading.current_thread().name)))
    for device in (None, CPU, torch.device("cuda:1")):
        with devices.worker("read", device):
            pass
    ((told_of, thread),) = told
    assert told_of == torch.device("cuda:1") and thread.startswith("read")


def test_a_worker_computes_alone_and_leaves_the_others_their_threads() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with devices.worker("read") as worker:
            assert worker.submit(torch.get_num_threads).result() == 1
            assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
