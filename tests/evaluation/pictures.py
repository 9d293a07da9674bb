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


def real_blur(folder: Path, scenes: dict[str, int], letter: str = "J", split: str = "test") -> Path:
    """RealBlur as it unpacks: folders of scenes, and beside them the list of a split."""
    lines = []
    for scene, count in scenes.items():
        for number in range(1, count + 1):
            parts = [f"RealBlur-{letter}_ECC/{scene}/{side}/{side}_{number}.png" for side in ("gt", "blur")]
            write_pair(folder / parts[1], folder / parts[0], seed=number)
            lines.append(" ".join([*parts, "camera"]))
    (folder / f"RealBlur_{letter}_{split}_list.txt").write_text("\n".join(lines) + "\n")
    return folder


def kohler(folder: Path, pictures: dict[tuple[int, int], int]) -> Path:
    """Köhler with so many sharp frames for each scene and trajectory."""
    for (scene, trajectory), count in pictures.items():
        write(folder / f"BlurryImages/Blurry{scene}_{trajectory}.png", noise(scene))
        for number in range(1, count + 1):
            name = f"GroundTruth{scene}_{trajectory}_{number}.png"
            write(folder / f"Image{scene}/Kernel{trajectory}" / name, noise(number))
    return folder


def gopro_video(folder: Path, count: int = 3, sequence: str = "GOPR0410_11_00") -> Path:
    """`count` frames of one scene in GOPRO's layout, each a little brighter than the one before; returns `folder`."""
    base, scene = folder / "test" / sequence, noise(0) // 2 + 40
    for number in range(count):
        name = f"{number:06}.png"
        write(base / "sharp" / name, scene + np.uint8(4 * number))
        write(base / "blur" / name, np.where(scene < 100, scene + 8, scene - 8).astype(np.uint8) + np.uint8(5 * number))
    return folder
