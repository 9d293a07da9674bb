"""The state of a sequence: whole and in tiles, when memory runs out, and as bytes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deblur_cli import Restorer
from deblur_cli.errors import DeblurError, OutOfMemoryError, UsageError
from deblur_cli.restoration.scene_cuts import SceneCuts
from deblur_cli.restoration.states import FrameState, SequenceState, load_state, map_state, save_state
from deblur_cli.restoration.tiling import plan_tiles
from models.whole_image import WholeImageMoments
from tests.restoration.networks import loaded

pytestmark = pytest.mark.usefixtures("one_thread")


class Recurrent(nn.Module):
    """Convolutions over the frame and the hidden state at half the resolution, and the mean of the whole image."""

    def __init__(self, fails_above: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encode = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.mix = nn.Conv2d(16, 8, 3, padding=1)
        self.decode = nn.Sequential(nn.Conv2d(8, 12, 3, padding=1), nn.PixelShuffle(2))
        self.moments = WholeImageMoments()
        self.fails_above = fails_above
        self.limited = False

    def __deepcopy__(self, memo: dict[int, Any]) -> Recurrent:
        return self

    def forward(self, blurred: Tensor, state: tuple[Tensor, list[Tensor]] | None) -> Any:
        if self.limited and self.fails_above and blurred.shape[2] * blurred.shape[3] > self.fails_above:
            raise MemoryError
        x = self.encode(blurred)
        hidden = torch.zeros_like(x) if state is None else state[0]
        hidden = torch.tanh(self.mix(torch.cat([x, hidden], dim=1)) - self.moments(x).chunk(2, dim=1)[0])
        return blurred + 0.3 * self.decode(hidden), (hidden, [hidden[:, :1] * 2])


def film(count: int = 4, height: int = 150, width: int = 170) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(1, 3, height, width, generator=generator) for _ in range(count)]


def restored(restorer: Restorer, frames: list[Tensor], state: FrameState | None = None) -> list[Tensor]:
    results = []
    for frame in frames:
        result, state = restorer.restore_frame(frame, state)
        results.append(result)
    return results


def test_tiles_each_with_their_own_state_agree_with_the_whole() -> None:
    model = loaded(Recurrent(), recurrent=True, multiple_of=2)
    whole = restored(Restorer(model, device="cpu", precision="fp32", tile=0), film())
    tiled = restored(Restorer(model, device="cpu", precision="fp32", tile=64, overlap=24), film())
    anew = [restored(Restorer(model, device="cpu", precision="fp32", tile=0), [frame])[0] for frame in film()]
    for one, other in zip(whole, tiled, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-4)
    assert all(float((one - other).abs().mean()) > 0.005 for one, other in zip(whole[1:], anew[1:], strict=True))


def test_when_memory_runs_out_the_frame_is_restored_in_tiles_that_start_anew() -> None:
    network, said = Recurrent(fails_above=100 * 100), list[str]()
    restorer = Restorer(loaded(network, recurrent=True, multiple_of=2), device="cpu", tile=0, notify=said.append)
    frames = film()
    _, state = restorer.restore_frame(frames[0])
    assert state is not None
    assert state.plan.tile_count == 1
    network.limited = True
    second, state = restorer.restore_frame(frames[1], state)
    assert state is not None
    assert state.plan.tile_count == len(state.tiles) > 1
    third, state = restorer.restore_frame(frames[2], state)
    fresh = restored(restorer, frames[1:3])
    assert torch.equal(second, fresh[0])
    assert torch.equal(third, fresh[1])
    assert said == ["memory is short: going on in tiles of at most 85 pixels"]
    network.fails_above = 10
    with pytest.raises(OutOfMemoryError):
        restorer.restore_frame(frames[3], state)


def test_a_state_of_another_size_is_refused() -> None:
    restorer = Restorer("test-tiny-recurrent", device="cpu")
    _, state = restorer.restore_frame(torch.rand(1, 3, 20, 30))
    with pytest.raises(UsageError, match="30×20"):
        restorer.restore_frame(torch.rand(1, 3, 20, 30), restorer.restore_frame(torch.rand(1, 3, 20, 31))[1])
    restorer.restore_frame(torch.rand(1, 3, 20, 30), state)


@pytest.mark.parametrize("tile", [0, 64])
def test_a_saved_state_goes_on_as_if_nothing_had_happened(tile: int) -> None:
    model = loaded(Recurrent(), recurrent=True, multiple_of=2)
    restorer = Restorer(model, device="cpu", tile=tile, overlap=8)
    _, state = restorer.restore_frame(film()[0])
    saved = save_state(SequenceState(state, torch.rand(3, 5)))
    again = load_state(saved)
    for one, other in zip(
        restored(restorer, film()[1:], state), restored(restorer, film()[1:], again.frame), strict=True
    ):
        assert torch.equal(one, other)
    assert save_state(again) == saved


def test_only_what_the_network_remembers_goes_to_its_device() -> None:
    detector = SceneCuts()
    detector.is_cut(np.zeros((64, 64), np.uint8))
    state = SequenceState(FrameState(plan_tiles(8, 8, 0, 0), ([torch.rand(2), None],)), detector.last_look)
    again = load_state(save_state(state), "meta")
    assert again.frame is not None
    assert again.frame.tiles[0][0].device.type == "meta"
    assert not SceneCuts(last_look=again.last_look).is_cut(np.full((64, 64), 9, np.uint8)), "found on the processor"


def test_every_nest_comes_back_as_it_was() -> None:
    tensor = torch.rand(2, 3)
    nest = {"a": (tensor, [None, 3, True, "word"], ()), "b": {"c": tensor[:, 1], "d": 0.5}, "e": tensor.bfloat16()}
    state = SequenceState(FrameState(plan_tiles(100, 120, 64, 8, 4), (nest, None)))
    again = load_state(save_state(state))
    assert again.frame is not None and state.frame is not None
    assert again.frame.plan == state.frame.plan
    assert again.last_look is None
    assert map_state(Tensor.tolist, again.frame.tiles) == (map_state(Tensor.tolist, nest), None)
    assert again.frame.tiles[0]["e"].dtype == torch.bfloat16
    assert load_state(save_state(SequenceState())) == SequenceState()


def test_what_could_not_be_loaded_is_not_saved() -> None:
    class Pair(NamedTuple):
        hidden: Tensor
        cell: Tensor

    plan = plan_tiles(8, 8, 0, 0)
    for value in (Pair(torch.zeros(1), torch.zeros(1)), {1: torch.zeros(1)}, object()):
        with pytest.raises(TypeError, match="cannot be saved"):
            save_state(SequenceState(FrameState(plan, (value,))))


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"\x02\0\0\0\0\0\0\0{}"])
def test_damaged_bytes_are_refused_in_one_line(damage: bytes) -> None:
    with pytest.raises(DeblurError, match="damaged"):
        load_state(damage)
    whole = save_state(SequenceState(None, torch.rand(9)))
    with pytest.raises(DeblurError, match="damaged"):
        load_state(whole[:-5])
