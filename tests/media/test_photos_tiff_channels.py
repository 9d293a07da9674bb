"""Channels of a TIFF beside its colours: transparency is kept as such, all others are said."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import tifffile

from deblur_cli.media import photos
from tests.media.photo_samples import written


def samples(channels: int, dtype: Any) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (20, 24, channels), dtype, endpoint=True)


def tiff(channels: int, dtype: Any, **settings: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, samples(channels, dtype), metadata=None, planarconfig="contig", **settings)
    return stream.getvalue()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    ("channels", "kinds", "alpha", "told"),
    [
        (4, ["unspecified"], False, ["a further channel (such as a saved selection) is not kept"]),
        (5, ["unspecified"] * 2, False, ["2 further channels are not kept"]),
        (5, ["unassalpha", "unspecified"], True, ["a further channel (such as a saved selection) is not kept"]),
        (4, ["unassalpha"], True, []),
        (3, [], False, []),
    ],
)
def test_only_transparency_becomes_alpha(
    dtype: Any, channels: int, kinds: list[str], alpha: bool, told: list[str]
) -> None:
    data = tiff(channels, dtype, photometric="rgb", **({"extrasamples": kinds} if kinds else {}))
    photo = photos.read(io.BytesIO(data))
    whole = samples(channels, dtype)
    assert np.array_equal(photo.pixels, whole[:, :, :3])
    assert (photo.alpha is not None) == alpha
    if photo.alpha is not None:
        assert np.array_equal(photo.alpha, whole[:, :, 3])
    assert list(photo.warnings) == told
    with tifffile.TiffFile(io.BytesIO(written(photo, "TIFF"))) as file:
        assert tuple(file.pages[0].extrasamples) == ((2,) if alpha else ())


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_beside_grey_as_well(dtype: Any) -> None:
    photo = photos.read(io.BytesIO(tiff(2, dtype, photometric="minisblack", extrasamples=["unspecified"])))
    assert photo.pixels.ndim == 2 and photo.alpha is None
    assert list(photo.warnings) == ["a further channel (such as a saved selection) is not kept"]
