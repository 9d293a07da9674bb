"""Small pictures and datasets that several tests of this room use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def noise(seed: int, height: int = 16, width: int = 20) -> np.ndarray:
    """H×W×3 uint8 random values."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def write_pair(blurred: Path, sharp: Path, seed: int = 0, height: int = 16, width: int = 20) -> None:
    """A sharp picture of noise, and a blurred one that is 8 darker or brighter everywhere."""
    pixels = noise(seed, height, width)
    write(sharp, pixels)
    write(blurred, np.where(pixels < 128, pixels + 8, pixels - 8).astype(np.uint8))


def gopro(folder: Path, count: int = 3, sequence: str = "GOPR0410_11_00", split: str = "test") -> Path:
    """`count` pairs in the original layout, both variants; returns `folder`."""
    base = folder / split / sequence
    for number in range(count):
        name = f"{number:06}.png"
        write_pair(base / "blur" / name, base / "sharp" / name, seed=number)
        write_pair(base / "blur_gamma" / name, base / "sharp" / name, seed=number)
    return folder
