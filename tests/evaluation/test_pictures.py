"""Pictures that are scored are read exactly, or refused."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from deblur_cli.errors import PhotoError
from deblur_cli.evaluation.pictures import read_picture, read_size
from deblur_cli.training.data import load_picture
from tests.evaluation.pictures import noise, write


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".ppm", ".tif"])
def test_pixels_are_exact(tmp_path: Path, suffix: str) -> None:
    pixels = noise(5)
    assert np.array_equal(read_picture(write(tmp_path / f"a{suffix}", pixels)), pixels)


def test_grey_palette_and_alpha_become_rgb(tmp_path: Path) -> None:
    grey = noise(1)[..., 0]
    repeated = np.repeat(grey[..., None], 3, axis=2)
    assert np.array_equal(read_picture(write(tmp_path / "grey.png", grey)), repeated)
    palette = Image.fromarray(noise(1)).quantize(16)
    palette.save(tmp_path / "palette.png")
    assert np.array_equal(read_picture(tmp_path / "palette.png"), np.asarray(palette.convert("RGB")))
    with_alpha = np.dstack([noise(2), grey])
    assert np.array_equal(read_picture(write(tmp_path / "alpha.png", with_alpha)), noise(2))


def test_deeper_than_8_bits_is_refused_and_not_rounded(tmp_path: Path) -> None:
    deep = np.random.default_rng(1).integers(0, 65536, (16, 20, 3), dtype=np.uint16)
    for name in ("deep.png", "deep.ppm", "grey.png"):
        assert cv2.imwrite(str(tmp_path / name), deep[..., 0] if name == "grey.png" else deep)
    tifffile.imwrite(tmp_path / "deep.tif", deep, photometric="rgb")
    tifffile.imwrite(tmp_path / "float.tif", deep[..., 0].astype(np.float32))
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(PhotoError, match="8 bits a channel"):
            read_picture(path)


def test_truncated_and_missing_files(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", noise(0, 60, 60))
    path.write_bytes(path.read_bytes()[:4000])
    for broken in (path, tmp_path / "missing.png"):
        with pytest.raises(PhotoError, match="cannot be read"):
            read_picture(broken)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with a name")
def test_a_pipe_is_no_picture_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for read in (read_picture, read_size, load_picture):
        with pytest.raises(PhotoError, match="no regular file"):
            read(tmp_path / "pipe.png")
