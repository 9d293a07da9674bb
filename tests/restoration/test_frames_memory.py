"""The pipeline where memory holds fewer frames than would best go together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from deblur_cli import Restorer
from deblur_cli.media.video import Frame
from deblur_cli.restoration import memory
from deblur_cli.restoration.frames import restore_frames
from tests.restoration.networks import Apply, loaded
from tests.restoration.videos import random_frame, video_format

pytestmark = pytest.mark.usefixtures("one_thread")

GREY = video_format("gray", 48, 64, full_range=True)
MOST = 2
"""Frames that there is room for."""


@pytest.mark.parametrize("step", ["cat", "empty_like", "network"])
def test_frames_that_find_no_room_together_go_in_halves_and_later_ones_are_fewer_at_once(
    step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    def check(frames: int) -> None:
        tried.append(frames)
        if frames > MOST:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    def negative(blurred: Tensor) -> Tensor:
        if step == "network" and blurred.shape[2] == 48:
            check(len(blurred))
        return 1 - blurred

    def patched(real: Any) -> Any:
        def checks(first: Any, *arguments: Any, **options: Any) -> Tensor:
            if tuple(first[0].shape[-2:]) == (48, 64):
                check(len(first))
            return real(first, *arguments, **options)  # type: ignore[no-any-return]

        return checks

    monkeypatch.setattr(memory, "_WAITS", ())
    said: list[str] = []
    restorer = Restorer(loaded(Apply(negative)), device="cpu", precision="fp32", notify=said.append)
    restorer._batch = 8  # what a GPU has
    if step != "network":
        monkeypatch.setattr(torch, step, patched(getattr(torch, step)))
    frames, written = [random_frame(GREY, number) for number in range(20)], list[Frame]()
    restore_frames(frames, GREY, restorer, written.append)
    assert [frame.pts for frame in written] == [frame.pts for frame in frames]
    for before, after in zip(frames, written, strict=True):
        np.testing.assert_array_equal(after.planes[0], 255 - before.planes[0])
    assert tried.count(8) == tried.count(4) == 1 and max(tried[2:]) <= MOST
    assert not said, "tiles are as they were"
