"""The engine on networks whose answers are known: every kind of pixels, every size, precision, state."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import models
from deblur_cli import Restorer
from deblur_cli.errors import DeblurError, UsageError
from models import ModelError
from tests.restoration.networks import Apply, loaded, random_pixels, residual_network

DTYPES = [np.uint8, np.uint16, np.float32]

pytestmark = pytest.mark.usefixtures("one_thread")


@given(
    size=st.tuples(st.integers(1, 80), st.integers(1, 80)),
    channels=st.sampled_from([(), (1,), (2,), (3,), (4,)]),
    dtype=st.sampled_from(DTYPES),
    multiple_of=st.sampled_from([1, 4, 32]),
    strength=st.sampled_from([0.0, 0.3, 1.0, 1.7]),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=60)
def test_the_identity_gives_every_image_back(
    size: tuple[int, int], channels: tuple[int, ...], dtype: type, multiple_of: int, strength: float, seed: int
) -> None:
    network = Apply(lambda blurred: blurred)
    restorer = Restorer(loaded(network, multiple_of=multiple_of), device="cpu", tile=64, overlap=0, strength=strength)
    pixels = random_pixels(size + channels, dtype, seed)
    before = pixels.copy()
    restored = restorer.restore(pixels)
    assert restored.dtype == pixels.dtype
    assert restored.shape == pixels.shape
    np.testing.assert_array_equal(pixels, before)
    if dtype == np.float32 and strength:
        np.testing.assert_allclose(restored, pixels, rtol=0, atol=2e-7)
    else:
        np.testing.assert_array_equal(restored, pixels)
    assert all(height % multiple_of == 0 and width % multiple_of == 0 for _, _, height, width in network.seen)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_is_left_alone(dtype: type, channels: int) -> None:
    pixels = random_pixels((20, 30, channels), dtype)
    restored = Restorer(loaded(Apply(torch.zeros_like)), device="cpu").restore(pixels)
    np.testing.assert_array_equal(restored[:, :, -1], pixels[:, :, -1])
    assert not restored[:, :, :-1].any()


def test_grey_is_the_mean_of_what_the_three_channels_became() -> None:
    shift = torch.tensor([0.0, 0.1, 0.2])[None, :, None, None]
    restorer = Restorer(loaded(Apply(lambda blurred: blurred + shift)), device="cpu")
    restored = restorer.restore(np.full((4, 5), 0.5, dtype=np.float32))
    np.testing.assert_allclose(restored, 0.6, atol=1e-6)


@pytest.mark.parametrize("strength", [1.0, 0.5, 1.5])
def test_grey_in_three_channels_stays_grey_and_colour_does_not_become_it(strength: float) -> None:
    shift = torch.tensor([0.0, 0.1, 0.2])[None, :, None, None]
    network = loaded(Apply(lambda blurred: blurred + shift))
    restorer = Restorer(network, device="cpu", strength=strength)
    grey = random_pixels((300, 6), np.uint16) // 2
    alpha = random_pixels((300, 6), np.uint16)
    restored = restorer.restore(np.dstack([grey, grey, grey, alpha]))
    expected = restorer.restore(grey)
    np.testing.assert_array_equal(restored, np.dstack([expected, expected, expected, alpha]))
    rounded = np.dstack([grey, grey, grey]).astype(np.uint8)
    rounded[::2, :, 1] ^= 1  # a level up or down, as a lossy WebP has it
    assert np.ptp(restorer.restore(rounded), axis=2).max() == 1
    for colourful in (np.dstack([grey, grey, grey]), rounded):
        colourful[-1, -1] = (0, 0, np.iinfo(colourful.dtype).max)
        np.testing.assert_array_equal(restorer.restore(colourful)[:, :, 0], colourful[:, :, 0])


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        (np.uint8, 0.5 / 255, 1),
        (np.uint8, 0.499 / 255, 0),
        (np.uint8, 254.5 / 255, 255),
        (np.uint8, 1.7, 255),
        (np.uint8, -0.3, 0),
        (np.uint16, 0.5, 32768),  # 32767.5
        (np.uint16, 257.49 / 65535, 257),
        (np.uint16, 1.0, 65535),
    ],
)
def test_integers_are_rounded_half_up_and_clipped(dtype: type, value: float, expected: int) -> None:
    restorer = Restorer(loaded(Apply(lambda blurred: torch.full_like(blurred, value))), device="cpu")
    assert (restorer.restore(np.zeros((3, 3, 3), dtype)) == expected).all()


def test_sixteen_bits_stay_sixteen() -> None:
    ramp = np.linspace(0, 65535, 4096).astype(np.uint16).reshape(64, 64)
    restored = Restorer(loaded(Apply(lambda blurred: blurred * 0.5)), device="cpu").restore(ramp)
    assert len(np.unique(restored)) > 4000
    assert np.abs(restored.astype(float) - ramp / 2).max() <= 0.51


@pytest.mark.parametrize("strength", [0.25, 0.5, 1.0, 1.75])
def test_strength_goes_a_part_of_the_way_or_beyond_it_but_not_beyond_black_and_white(strength: float) -> None:
    restorer = Restorer(loaded(Apply(lambda blurred: 1 - blurred)), device="cpu", strength=strength)
    pixels = random_pixels((9, 9, 3), np.float32)
    expected = (pixels + strength * (1 - 2 * pixels)).clip(0, 1)
    np.testing.assert_allclose(restorer.restore(pixels), expected, atol=1e-6)
    levels = (pixels * 255).round().astype(np.uint8)
    of_levels = (levels + strength * (255 - 2.0 * levels)).clip(0, 255)
    np.testing.assert_allclose(restorer.restore(levels), of_levels, atol=0.501)
    frame, of_frame = (torch.from_numpy(image).permute(2, 0, 1)[None] for image in (pixels, expected))
    torch.testing.assert_close(restorer.restore_tensor(frame), of_frame)
    torch.testing.assert_close(restorer.restore_frame(frame)[0], of_frame)


def test_no_strength_is_the_input_to_the_last_bit() -> None:
    network = Apply(torch.zeros_like)
    restorer = Restorer(loaded(network), device="cpu", strength=0.0)
    pixels = np.array([[[-0.5, 0.1, 7.0]]], dtype=np.float32)
    restored = restorer.restore(pixels)
    np.testing.assert_array_equal(restored, pixels)
    assert not np.shares_memory(restored, pixels)
    assert not network.seen
    frame = torch.rand(1, 3, 5, 5)
    assert torch.equal(restorer.restore_tensor(frame), frame)


def _read_only(pixels: np.ndarray) -> np.ndarray:
    pixels = pixels.copy()
    pixels.flags.writeable = False
    return pixels


@pytest.mark.parametrize(
    "view",
    [
        _read_only,
        np.asfortranarray,
        lambda pixels: pixels[::-1, ::-2],
        lambda pixels: pixels[:, :, ::-1],
        lambda pixels: pixels.astype(pixels.dtype.newbyteorder(">")),
    ],
    ids=["read-only", "fortran", "reversed", "bgr", "big-endian"],
)
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_any_layout_of_an_array_is_welcome(view: Callable[[np.ndarray], np.ndarray], dtype: type) -> None:
    pixels = view(random_pixels((90, 70, 3), dtype))
    restored = Restorer("test-tiny", device="cpu", tile=64).restore(pixels)
    assert restored.dtype == pixels.dtype
    np.testing.assert_allclose(restored, pixels, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4, 3), np.float64),
        np.zeros((4, 4, 3), np.int16),
        np.zeros((4, 4, 3), bool),
        np.zeros((4, 4, 5), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.zeros(7, np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.array([[0.5, np.nan]], np.float32),
        np.array([[0.5, np.inf]], np.float32),
        [[0, 1], [2, 3]],
    ],
    ids=lambda pixels: f"{getattr(pixels, 'dtype', 'list')}-{getattr(pixels, 'shape', '')}",
)
def test_what_is_no_image_is_refused(pixels: Any) -> None:
    with pytest.raises(UsageError, match=r"image|pixels"):
        Restorer("test-tiny", device="cpu").restore(pixels)


def test_float_pixels_beyond_white_are_clipped_and_said_once() -> None:
    said: list[str] = []
    restorer = Restorer("test-tiny", device="cpu", notify=said.append)
    pixels = np.array([[[-0.5, 0.25, 7.0]]], dtype=np.float32)
    for _ in range(2):
        np.testing.assert_array_equal(restorer.restore(pixels), [[[0.0, 0.25, 1.0]]])
    assert said == ["float pixels outside of 0 to 1 are clipped"]


def test_padding_reflects_or_repeats_the_border() -> None:
    seen: list[Tensor] = []
    restorer = Restorer(loaded(Apply(lambda x: seen.append(x.clone()) or x), multiple_of=8), device="cpu", tile=0)
    restorer.restore_tensor(torch.arange(6.0).div(10).expand(1, 3, 1, 6))
    rows = seen[-1][0, 0].mul(10).round().int()
    assert rows[0].tolist() == [0, 1, 2, 3, 4, 5, 4, 3]  # wider than its padding: reflected
    assert (rows == rows[0]).all()  # lower than its padding: repeated


@pytest.mark.parametrize("options", [{"tile": 0}, {"tile": "64", "overlap": 16}, {"tile": 64, "overlap": 0}, {}])
def test_tensors_in_batches_of_any_size(options: dict[str, Any]) -> None:
    frames = torch.rand(3, 3, 101, 77, requires_grad=True)
    restored = Restorer("test-tiny", device="cpu", **options).restore_tensor(frames)
    torch.testing.assert_close(restored, frames.detach())
    assert restored.dtype == torch.float32
    restored.mul_(2)  # an ordinary tensor, not one of inference mode


@pytest.mark.parametrize(
    "frames", [torch.zeros(3, 8, 8), torch.zeros(1, 4, 8, 8), torch.zeros(1, 3, 8, 8).byte(), torch.zeros(0, 3, 8, 8)]
)
def test_what_are_no_frames_is_refused(frames: Tensor) -> None:
    restorer = Restorer("test-tiny", device="cpu")
    for restore in (restorer.restore_tensor, restorer.restore_frame):
        with pytest.raises(UsageError, match="N×3×H×W"):
            restore(frames)


def test_what_is_not_finite_in_half_precision_is_restored_in_float32(caplog: pytest.LogCaptureFixture) -> None:
    class Overflows(nn.Module):
        def forward(self, blurred: Tensor) -> Tensor:
            half = torch.is_autocast_enabled("cpu")
            return blurred / 0 if half else blurred

    restorer = Restorer(loaded(Overflows()), device="cpu", precision="bf16")
    assert restorer.precision == "bf16"
    pixels = random_pixels((20, 20, 3), np.uint8)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            np.testing.assert_array_equal(restorer.restore(pixels), pixels)
    assert restorer.precision == "fp32"
    assert [record.message for record in caplog.records] == [
        "under-test gave values that are not finite in bf16; going on in fp32"
    ]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_is_not_finite_in_float32_is_an_error(precision: str) -> None:
    restorer = Restorer(loaded(Apply(lambda blurred: blurred * float("nan"))), device="cpu", precision=precision)
    with pytest.raises(DeblurError, match="not finite"):
        restorer.restore(random_pixels((20, 20, 3), np.uint8))
    assert restorer.precision == precision


def test_half_precision_is_close() -> None:
    model = loaded(residual_network(), multiple_of=4)
    frames = torch.rand(1, 3, 60, 60, generator=torch.Generator().manual_seed(0))
    full = Restorer(model, device="cpu", precision="fp32").restore_tensor(frames)
    half = Restorer(model, device="cpu", precision="bf16").restore_tensor(frames)
    assert 0 < float((full - half).abs().max()) < 0.02


def test_a_networks_word_against_half_precision_counts() -> None:
    assert Restorer(loaded(nn.Identity(), half_precision=False), device="cpu").precision == "fp32"


def test_the_state_flows_from_frame_to_frame() -> None:
    restorer = Restorer("test-tiny-recurrent", device="cpu")
    black, white = torch.zeros(1, 3, 6, 5), torch.ones(1, 3, 6, 5)
    first, state = restorer.restore_frame(white)
    second, state = restorer.restore_frame(black, state)
    third, _ = restorer.restore_frame(black, state)
    # The network's mean is 1, 1/2 and 1/4, and it mixes half of it in.
    assert [float(frame.mean()) for frame in (first, second, third)] == [1.0, 0.25, 0.125]
    assert float(restorer.restore_frame(black)[0].mean()) == 0.0  # and None starts anew
    np.testing.assert_array_equal(restorer.restore(np.full((9, 9, 3), 77, np.uint8)), 77)


def test_a_network_without_a_state_has_none() -> None:
    restored, state = Restorer("test-tiny", device="cpu").restore_frame(torch.full((2, 3, 7, 9), 0.25))
    assert state is None
    assert restored.shape == (2, 3, 7, 9)
    restored.add_(1)  # an ordinary tensor


def test_states_may_be_nested_and_survive_a_change_of_precision() -> None:
    class Nested(nn.Module):
        """Gives a state in half precision, and what is not finite in the third frame."""

        def forward(self, blurred: Tensor, state: Any) -> tuple[Tensor, Any]:
            half = torch.is_autocast_enabled("cpu")
            count = 0 if state is None else state["deep"][1][0]
            if state is not None:
                assert state["deep"][0].dtype == torch.float32
            bad = half and count == 2
            hidden = blurred.bfloat16() * (float("inf") if bad else 1)
            return blurred, {"deep": (hidden, [count + 1])}

    said: list[str] = []
    model = loaded(Nested(), recurrent=True)
    restorer = Restorer(model, device="cpu", precision="bf16", notify=said.append)
    state = None
    for _ in range(4):
        _, state = restorer.restore_frame(torch.full((1, 3, 4, 4), 0.5), state)
    assert state is not None
    assert state.tiles[0]["deep"][1] == [4]
    assert restorer.precision == "fp32"
    assert len(said) == 1


def test_the_callers_network_stays_as_it_was() -> None:
    model = models.load_model("test-tiny")
    restorer = Restorer(model, device="cpu")
    assert restorer.model.network is not model.network
    assert all(parameter.requires_grad for parameter in model.network.parameters())
    assert restorer.model.info is model.info


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tile": "big"}, "auto, 0"),
        ({"tile": 63}, "at least 64"),
        ({"tile": -1}, "at least 64"),
        ({"tile": 64.5}, "at least 64"),
        ({"overlap": -1}, "overlap"),
        ({"tile": 64, "overlap": 65}, "0 to a whole tile"),
        ({"strength": 2.5}, "strength"),
        ({"strength": -0.1}, "strength"),
        ({"strength": float("nan")}, "strength"),
        ({"memory_limit": 0}, "memory limit"),
        ({"device": "toaster"}, "unknown device"),
        ({"precision": "fp8"}, "unknown precision"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Restorer("test-tiny", **({"device": "cpu"} | options))


def test_a_strength_of_numpy_s_is_a_number() -> None:
    assert Restorer("test-tiny", device="cpu", strength=np.float32(0.5)).strength == 0.5


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(ModelError, match=r"did you mean lite\?"):
        Restorer("litte", device="cpu")
