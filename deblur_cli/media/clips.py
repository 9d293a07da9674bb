"""Frames of a video as training material: 8-bit RGB pictures, in order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from deblur_cli.errors import DatasetError

SUFFIXES = frozenset({".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".ts"})
"""Endings of the files that are taken for videos."""


def clips_below(folder: Path) -> list[Path]:
    """The clips below `folder`, in order.

    Raises:
        DatasetError: a folder cannot be opened, whose clips would be missing without a word.
    """

    def refuse(error: OSError) -> None:
        raise DatasetError(f"the folder '{error.filename}' cannot be opened: {error.strerror}") from error

    found = (Path(parent, name) for parent, _, files in os.walk(folder, onerror=refuse) for name in files)
    return sorted(path for path in found if path.suffix.lower() in SUFFIXES)


def frame_rate(clip: Path) -> float:
    """Frames a second as the file states it.

    Raises:
        DatasetError: the file is not a video that can be decoded.
    """
    import cv2

    with _opened(clip) as capture:
        return float(capture.get(cv2.CAP_PROP_FPS))


def read_frames(clip: Path) -> Iterator[np.ndarray]:
    """The frames of a clip in order, each H×W×3 uint8 RGB.

    Raises:
        DatasetError: the file is not a video that can be decoded.
    """
    import cv2

    with _opened(clip) as capture:
        while True:
            decoded, frame = capture.read()
            if not decoded:
                return
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


@contextmanager
def _opened(clip: Path) -> Iterator[Any]:
    import cv2

    capture = cv2.VideoCapture(str(clip))
    try:
        if not capture.isOpened():
            raise DatasetError(f"{clip}: not a video that can be decoded")
        yield capture
    finally:
        capture.release()
