"""What a run computes on and in: the device's precision, the network's word, and what was asked for."""

import pytest
import torch

from deblur_cli.errors import UsageError
from deblur_cli.training import accelerator
from deblur_cli.training.accelerator import default_accelerator, precision_of
from tests.training.runs import another_precision

CPU, CUDA, MPS = (torch.device(name) for name in ("cpu", "cuda", "mps"))


@pytest.mark.parametrize(
    ("asked", "is_fast", "half_precision", "expected"),
    [
        ("auto", True, True, "bf16"),
        ("auto", True, False, "fp32"),
        ("auto", False, True, "fp32"),
        ("fp32", True, True, "fp32"),
        ("bf16", False, False, "bf16"),
    ],
)
def test_the_precision_is_what_device_and_network_can_do_or_what_was_asked_for(
    asked: str, is_fast: bool, half_precision: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accelerator, "fast_bfloat16", lambda device: is_fast)
    with another_precision():
        assert precision_of(default_accelerator("cpu", asked, half_precision=half_precision)) == expected


@pytest.mark.parametrize(
    ("device", "asked", "half_precision", "expected"),
    [
        (CUDA, "auto", True, "bf16"),
        (CUDA, "auto", False, "tf32"),
        (CUDA, "tf32", True, "tf32"),
        (CUDA, "fp32", True, "fp32"),
        (MPS, "fp32", True, "fp32"),
    ],
)
def test_of_gpus(
    device: torch.device, asked: str, half_precision: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accelerator, "fast_bfloat16", lambda device: True)
    assert accelerator._precision_on(device, asked, half_precision) == expected


@pytest.mark.parametrize(("device", "asked"), [(CPU, "fp16"), (CUDA, "half"), (CPU, "tf32"), (MPS, "bf16")])
def test_a_precision_that_a_device_does_not_train_in_is_refused(device: torch.device, asked: str) -> None:
    with pytest.raises(UsageError, match=f"{asked}.*--precision auto"):
        accelerator._precision_on(device, asked, True)


def test_only_fp32_keeps_convolutions_on_a_gpu_from_tf32() -> None:
    before = torch.backends.cudnn.allow_tf32
    try:
        for asked, allowed in (("fp32", False), ("bf16", True)):
            with another_precision():
                default_accelerator("cpu", asked)
            assert torch.backends.cudnn.allow_tf32 is allowed
    finally:
        torch.backends.cudnn.allow_tf32 = before


def test_places_of_pixels_keep_all_their_digits_on_a_gpu() -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")  # as some images of torch have it
    try:
        default_accelerator("cpu")
        assert torch.get_float32_matmul_precision() == "highest"
    finally:
        torch.set_float32_matmul_precision(before)
