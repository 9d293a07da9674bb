"""The courier to a device: one for all the segments of all the videos."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from deblur_cli.restoration import frames as pipeline
from deblur_cli.restoration.courier import courier_to
from deblur_cli.restoration.states import SequenceState
from tests.restoration.videos import video_format


def test_all_segments_go_through_the_same_two_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "Stream", made.append)
    model = SimpleNamespace(info=SimpleNamespace(recurrent=False))
    gpu: Any = SimpleNamespace(device=torch.device("cuda", 99), strength=1.0, model=model)
    for _ in range(3):
        pipeline._Pipeline(video_format("gray", 4, 4), gpu, print, True, False, SequenceState())
    assert made == [gpu.device] * 2
    assert courier_to(torch.device("cpu")) is not courier_to(gpu.device)
