"""Ctrl-C at any moment of a batch of photos: what is told is what is there."""

from __future__ import annotations

import itertools
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deblur_cli.media.gather import gather_photos
from deblur_cli.media.plan import plan_photos
from deblur_cli.restoration import photo_batch
from deblur_cli.restoration.photo_batch import restore_photos
from deblur_cli.restoration.report import Outcome

BEGUN = ThreadPoolExecutor.submit.__code__
"""At the end of which a thread may be at work already."""


class Idle:
    """Stands in for a restorer."""

    def restore(self, pixels: np.ndarray) -> np.ndarray:
        return pixels


def interrupted_at(moment: int, folder: Path, out: Path) -> tuple[bool, list[Outcome]]:
    """Restore, interrupted at one of the moments of the calling thread: a line of the batch's, or the end of BEGUN.

    Returns whether it came to that, and the outcomes that were told.
    """
    told: list[Outcome] = []
    moments = itertools.count()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code is not BEGUN and frame.f_code.co_filename != photo_batch.__file__:
            return None
        if event == ("return" if frame.f_code is BEGUN else "line") and next(moments) == moment:
            raise KeyboardInterrupt
        return trace

    plan = plan_photos(gather_photos([str(folder)]), output=str(out))
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        restore_photos(plan, Idle(), jobs=1, done=told.append)  # type: ignore[arg-type]
    except KeyboardInterrupt:
        return True, told
    finally:
        sys.settrace(before)
    return False, told


def test_what_is_told_is_what_is_there_wherever_an_interruption_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    (tmp_path / "in").mkdir()
    for number in range(2):
        Image.new("RGB", (2, 2)).save(tmp_path / "in" / f"{number}.bmp")
    for moment in itertools.count():
        out = tmp_path / f"out{moment}"
        came, told = interrupted_at(moment, tmp_path / "in", out)
        there = {path.name for path in out.iterdir()} if out.exists() else set()
        assert there == {outcome.source.name for outcome in told}, f"interrupted at moment {moment}"
        if not came:
            break
    assert len(there) == 2
