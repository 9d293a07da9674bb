"""Whole or in tiles, with plenty of memory or little: the engine's answer stays the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deblur_cli import Restorer
from deblur_cli.errors import OutOfMemoryError
from deblur_cli.restoration import memory
from deblur_cli.restoration.footprint import Footprint
from models.weights import shipped_weights
from models.whole_image import SharedStatistics, WholeImageMoments
from tests.restoration.networks import Apply, loaded, random_pixels, residual_network

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("tile", [256, 320, 512])
def test_tiles_agree_with_the_whole(tile: int) -> None:
    model = loaded(residual_network(), multiple_of=4)
    pixels = random_pixels((600, 700, 3), np.uint8)
    whole = Restorer(model, device="cpu", tile=0).restore(pixels).astype(int)
    tiled = Restorer(model, device="cpu", tile=tile).restore(pixels).astype(int)
    assert np.abs(whole - pixels).mean() > 2  # or the comparison would say nothing
    difference = np.abs(whole - tiled)
    assert difference.mean() <= 0.01
    assert difference.max() <= 1


def test_where_context_is_most_of_a_tile_memory_decides_and_not_comfort() -> None:
    model = loaded(residual_network(), multiple_of=4)

    def pixels_computed(overlap: int, memory_limit: int) -> float:
        planner = Restorer(model, device="cpu", overlap=overlap, memory_limit=memory_limit)._planner
        planner._footprint = Footprint(bytes=4000.0, values=1.0)  # tiles of 256 are comfortable
        plan = planner.plan(4000, 6000)
        return plan.tile_count * plan.tile_pixels / (4000 * 6000)

    plenty, little = 8 << 30, 600 << 20
    assert pixels_computed(16, plenty) == pixels_computed(16, little)
    assert pixels_computed(96, plenty) < 1.6 < 2.5 < pixels_computed(96, little)
    assert pixels_computed(256, 4 * plenty) < 1.8


def test_blending_hides_what_an_overlap_below_the_receptive_field_leaves() -> None:
    model = loaded(residual_network(), multiple_of=4)
    frames = torch.rand(1, 3, 300, 300, generator=torch.Generator().manual_seed(0))
    whole = Restorer(model, device="cpu", tile=0).restore_tensor(frames)

    def greatest_difference(overlap: int) -> float:
        tiled = Restorer(model, device="cpu", tile=128, overlap=overlap).restore_tensor(frames)
        return float((whole - tiled).abs().max())

    assert greatest_difference(32) < 0.01 * greatest_difference(0)
    assert greatest_difference(8) < 0.5 * greatest_difference(0)


class Normalised(nn.Module):
    """Twice takes the mean and the variance of the whole image out of its features."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolutions = nn.ModuleList([nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)])
        self.moments = nn.ModuleList(WholeImageMoments() for _ in range(2))

    def forward(self, blurred: Tensor) -> Tensor:
        x = blurred
        for convolution, moments in zip(self.convolutions, self.moments, strict=True):
            x = convolution(x)
            mean, variance = moments(x).chunk(2, dim=1)
            x = x - mean
            x = torch.relu(x) - 0.5 * torch.relu(-x / variance.sqrt())
        return blurred + 0.1 * x


@pytest.mark.parametrize("batch", [1, 3])
def test_tiles_share_what_a_network_takes_of_the_whole_image(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = loaded(Normalised(), multiple_of=4)
    pixels = random_pixels((400, 500, 3), np.uint8)
    pixels[:, :200] //= 5  # no tile is like the whole
    whole = Restorer(model, device="cpu", tile=0, precision="fp32").restore(pixels).astype(int)

    def greatest_difference() -> int:
        restorer = Restorer(model, device="cpu", tile=128, precision="fp32")
        restorer._batch = batch  # what a GPU has
        return int(np.abs(restorer.restore(pixels) - whole).max())

    assert greatest_difference() <= 1
    monkeypatch.setattr("deblur_cli.restoration.restorer.SharedStatistics", lambda network: SharedStatistics(None))
    assert greatest_difference() > 10


def test_a_network_that_looks_at_all_of_an_image_gets_it_whole_where_memory_allows() -> None:
    model = loaded(Normalised(), multiple_of=4)
    shape = (2500, 3000)
    assert Restorer(model, device="cpu", memory_limit=1 << 34)._planner.plan(*shape).tile_count == 1
    assert Restorer(model, device="cpu", memory_limit=1 << 28)._planner.plan(*shape).tile_count > 1
    assert Restorer(loaded(residual_network()), device="cpu", memory_limit=1 << 34)._planner.plan(*shape).tile_count > 1


@pytest.mark.skipif(not shipped_weights("lite"), reason="no weights of lite are shipped yet")
@pytest.mark.parametrize(("tile", "size", "tiles"), [(256, (832, 832), 4), (700, (448, 1280), 2)])
def test_tiles_of_the_shipped_network_agree_with_the_whole(tile: int, size: tuple[int, int], tiles: int) -> None:
    # Of a photo's kind: smooth areas, edges and texture. No larger than it takes to be cut, in both directions once.
    height, width = size
    generator = np.random.default_rng(0)
    coarse = torch.from_numpy(generator.random((1, 3, height // 32, width // 32), dtype=np.float32))
    image = nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1)
    inner = image[:, :, height // 5 : height * 4 // 5, width // 4 : width * 3 // 4]
    inner.copy_(inner.round())
    pixels = (image[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    whole = Restorer("lite", device="cpu", tile=0).restore(pixels).astype(int)
    restorer = Restorer("lite", device="cpu", tile=tile)
    assert restorer._planner.plan(*size).tile_count == tiles
    difference = np.abs(restorer.restore(pixels) - whole)
    assert difference.mean() <= 0.5
    assert difference.max() <= 3


class Repeating(nn.Module):
    """Gives a ramp over each tile, and from then on what it gave before, which is its state."""

    def forward(self, blurred: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        restored = torch.linspace(0, 1, blurred.shape[3]).expand_as(blurred).clone() if state is None else state
        return restored, restored


def test_joining_tiles_leaves_a_state_that_is_the_output_as_it_was() -> None:
    restorer = Restorer(loaded(Repeating(), recurrent=True), device="cpu", tile=64, overlap=16)
    frame = torch.zeros(1, 3, 64, 200)
    first, state = restorer.restore_frame(frame)
    second, _ = restorer.restore_frame(frame, state)
    assert torch.equal(first, second)


def fails_above(pixels: int, error: Exception) -> Apply:
    def identity(blurred: Tensor) -> Tensor:
        if blurred.shape[2] * blurred.shape[3] > pixels:
            raise error
        return blurred

    return Apply(identity)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("tile", ["auto", 0, 256])
def test_out_of_memory_halves_the_tiles_and_is_remembered(error: Exception, tile: str | int) -> None:
    network, said = fails_above(100 * 100, error), list[str]()
    restorer = Restorer(loaded(network), device="cpu", tile=tile, notify=said.append)
    pixels = random_pixels((300, 500, 3), np.uint8)
    np.testing.assert_array_equal(restorer.restore(pixels), pixels)
    assert len(said) == 1
    assert "memory is short" in said[0]
    network.seen.clear()
    np.testing.assert_array_equal(restorer.restore(pixels), pixels)
    assert all(height * width <= 100 * 100 for _, _, height, width in network.seen)  # no second try of what failed
    assert len(said) == 1


def test_tiles_go_through_a_gpu_in_batches_that_end_when_memory_does() -> None:
    def identity(blurred: Tensor) -> Tensor:
        if blurred.shape[0] > 3:
            raise MemoryError
        return blurred

    network, said = Apply(identity), list[str]()
    restorer = Restorer(loaded(network), device="cpu", tile=64, notify=said.append)
    pixels = random_pixels((100, 400, 3), np.uint8)
    for batch, expected in ((2, {1, 2}), (5, {2, 5})):
        restorer._batch = batch  # what a GPU has; this machine may have none
        network.seen.clear()
        np.testing.assert_array_equal(restorer.restore(pixels), pixels)
        assert {shape[0] for shape in network.seen} == expected
    frames = torch.rand(2, 3, 100, 200)
    restorer._batch = 1
    assert torch.equal(restorer.restore_tensor(frames), frames)
    assert not said  # the tiles are as they were


def test_one_image_too_large_for_a_gpu_is_tried_once_and_its_tiles_still_go_in_batches() -> None:
    network = fails_above(128 * 128, MemoryError())
    restorer = Restorer(loaded(network), device="cpu", tile=0, overlap=0, notify=lambda text: None)
    restorer._batch = 8  # what a GPU has; this machine may have none
    pixels = random_pixels((256, 256, 3), np.uint8)
    np.testing.assert_array_equal(restorer.restore(pixels), pixels)
    assert network.seen.count((1, 3, 256, 256)) == 1
    assert network.seen[-1] == (4, 3, 128, 128)


def test_tiles_that_do_not_fit_side_by_side_are_fewer_at_a_time_and_no_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    network = fails_above(1 << 20, MemoryError())
    restorer = Restorer(loaded(network), device="cpu", tile=128, overlap=0)
    restorer._batch = 8
    real = torch.cat

    def cat(tensors: Sequence[Tensor], *more: Any) -> Tensor:
        if len(tensors) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(tensors, *more)

    monkeypatch.setattr(torch, "cat", cat)
    pixels = random_pixels((256, 512, 3), np.uint8)
    np.testing.assert_array_equal(restorer.restore(pixels), pixels)
    assert network.seen[1:] == [(2, 3, 128, 128)] * 4, "after a look at how much memory a tile takes"


def test_the_first_rows_restored_are_restored_again_in_smaller_tiles() -> None:
    calls = 0

    def fails_late(blurred: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls > 5 and blurred.shape[3] > 64:
            raise MemoryError
        return blurred

    pixels = random_pixels((400, 400), np.uint16)
    restorer = Restorer(loaded(Apply(fails_late)), device="cpu", tile=128, notify=lambda text: None)
    for _ in range(2):
        calls = 0
        np.testing.assert_array_equal(restorer.restore(pixels), pixels)


def test_only_when_the_smallest_tile_fails_it_is_an_error() -> None:
    restorer = Restorer(loaded(fails_above(4096 - 1, MemoryError())), device="cpu")
    with pytest.raises(OutOfMemoryError, match="tiles of 64 pixels do not fit"):
        restorer.restore(random_pixels((200, 200, 3), np.uint8))
    with pytest.raises(OutOfMemoryError, match="tiles of 64 pixels do not fit"):
        restorer.restore_frame(torch.rand(1, 3, 200, 200))


@pytest.mark.parametrize("network", ["test-tiny", "test-tiny-recurrent"])
@pytest.mark.parametrize(
    ("step", "expected_words"),
    [("empty_like", []), ("lerp", ["memory is short: going on in tiles of at most 150 pixels"])],
)
def test_memory_that_runs_out_around_the_network_is_waited_for_or_makes_smaller_tiles(
    network: str, step: str, expected_words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_WAITS", (0.0, 0.0))
    said, frame = list[str](), torch.rand(1, 3, 200, 300)
    restorer = Restorer(network, device="cpu", tile=0, strength=0.5, notify=said.append)
    expected, _ = restorer.restore_frame(frame)
    real, failures = getattr(torch, step), iter([torch.OutOfMemoryError("CUDA out of memory.")])

    def fails_once(*arguments: Any, **options: Any) -> Tensor:
        if (error := next(failures, None)) is not None:
            raise error
        return real(*arguments, **options)

    monkeypatch.setattr(torch, step, fails_once)
    restored, _ = restorer.restore_frame(frame)
    torch.testing.assert_close(restored, expected)
    assert said == expected_words
    restored.mul_(2)  # an ordinary tensor, not one of inference mode


def test_where_there_is_no_room_for_what_is_restored_no_tile_gets_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: Any, **options: Any) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(memory, "_WAITS", ())
    restorer = Restorer("test-tiny", device="cpu", tile=128, overlap=0, notify=pytest.fail)
    with monkeypatch.context() as context, pytest.raises(OutOfMemoryError, match="no room for the restored 300×200"):
        context.setattr(torch, "empty_like", fails)
        restorer.restore_frame(torch.rand(1, 3, 200, 300))
    assert restorer._planner.plan(200, 300).tile_width == 128 or restorer._planner.plan(200, 300).tile_count == 6
    restorer.restore_frame(torch.rand(1, 3, 200, 300))


def test_other_faults_of_a_network_are_not_taken_for_memory() -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        restorer = Restorer(loaded(fails_above(8192, RuntimeError("shapes do not match"))), device="cpu")
        restorer.restore(random_pixels((200, 200, 3), np.uint8))


def test_a_memory_limit_makes_tiles_that_keep_to_it() -> None:
    network, said = Apply(lambda blurred: blurred), list[str]()
    pixels = random_pixels((400, 700, 3), np.uint8)
    restorer = Restorer(loaded(network), device="cpu", memory_limit=600_000, notify=said.append)
    for _ in range(2):
        np.testing.assert_array_equal(restorer.restore(pixels), pixels)
    sizes = {height * width for _, _, height, width in network.seen}
    assert max(sizes) * 2 * 12 <= 600_000  # one float32 tensor of 3 channels, with room for scratch
    assert said == ["memory is short: going on in tiles of at most 116 pixels"]


def test_a_memory_limit_beneath_the_smallest_tile_is_an_error() -> None:
    restorer = Restorer("test-tiny", device="cpu", memory_limit=10_000)
    with pytest.raises(OutOfMemoryError, match="raise the memory limit"):
        restorer.restore(random_pixels((70, 70, 3), np.uint8))


def test_large_images_go_in_tiles_of_their_own_accord() -> None:
    network = Apply(lambda blurred: blurred)
    said: list[str] = []
    restorer = Restorer(loaded(network), device="cpu", notify=said.append)
    restorer.restore(random_pixels((2500, 3000), np.uint8))
    assert max(max(shape) for shape in network.seen) <= 2048
    network.seen.clear()
    restorer.restore(random_pixels((720, 1280), np.uint8))
    assert network.seen == [(1, 3, 720, 1280)]
    assert not said


@pytest.mark.parametrize(("values", "whole"), [(64.0, 16_000_000), (256.0, 8_388_607)])
def test_on_a_gpu_no_tensor_has_more_values_than_kernels_index(
    values: float, whole: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda device: 1 << 40)
    planner = Restorer("test-tiny", device="cpu")._planner
    planner._device = torch.device("cuda", 0)
    planner._footprint = Footprint(bytes=1.0, values=values)
    side = int(whole**0.5)
    assert planner.plan(side, side).tile_count == 1
    assert planner.plan(side + 2, side + 2).tile_count > 1
    assert planner.at_a_time(planner.plan(side // 2, side // 2)) in (3, 4)  # rounded up to the network's multiple


@pytest.mark.parametrize(("told", "processes"), [("4", 4), ("1", 1), ("0", 1), ("-2", 1), ("many", 1), ("", 1)])
def test_processes_of_one_machine_share_its_ram_and_not_their_gpus(
    told: str, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda device: 16 << 30)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", told)
    planner = Restorer("test-tiny", device="cpu")._planner
    assert planner._budget() == (8 << 30) // processes
    assert Restorer("test-tiny", device="cpu", memory_limit=1 << 30)._planner._budget() == 1 << 30
    planner._device = torch.device("cuda", 0)
    assert planner._budget() == int((16 << 30) * 0.8)
