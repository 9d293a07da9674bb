"""Making pairs as a library; what the command adds is tested with it."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from deblur_cli.errors import DeblurError, UsageError
from deblur_cli.training.blur import BlurSettings
from deblur_cli.training.synth import Material, Tally, make_pairs


@pytest.fixture
def material(tmp_path: Path) -> Material:
    photo = tmp_path / "a.png"
    cv2.imwrite(str(photo), np.random.default_rng(1).integers(0, 256, (48, 64, 3), dtype=np.uint8))
    return Material([photo], [], BlurSettings(length=(4, 8), foreground=0.0), count=3, seed=1, averaged=7)


def test_an_interrupted_making_has_counted_what_is_there_and_goes_on(tmp_path: Path, material: Material) -> None:
    bad = tmp_path / "b.png"
    bad.write_bytes(material.photos[0].read_bytes()[:200])
    both = replace(material, photos=[bad, *material.photos])
    tally = Tally()

    def interrupt(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_pairs(both, tmp_path / "out", tally, tell=interrupt)
    assert (tally.made, tally.failed) == (0, 1)
    told: list[str] = []
    for before in (0, 3):
        tally = Tally()
        make_pairs(both, tmp_path / "out", tally, pictured=2, tell=told.append)
        assert (tally.made, tally.before, tally.failed) == (3, before, 1)
        assert [blurred.shape for blurred, _ in tally.pictured] == [(3, 48, 64)] * 2
    assert len(told) == 2 and "b.png" in told[0]


def test_other_blur_does_not_go_on_in_the_same_folder(tmp_path: Path, material: Material) -> None:
    several = replace(material, photos=[*material.photos, tmp_path / "missing.png"])
    make_pairs(several, tmp_path / "out", Tally(), tell=lambda line: None)
    other = replace(several, blur=replace(several.blur, noise=0.5))
    with pytest.raises(UsageError, match="begun with other options"):
        make_pairs(other, tmp_path / "out", Tally(), tell=lambda line: None)


def test_the_error_of_a_file_alone_is_its_callers(tmp_path: Path, material: Material) -> None:
    tally = Tally()
    with pytest.raises(DeblurError, match=r"missing\.png"):
        make_pairs(replace(material, photos=[tmp_path / "missing.png"]), tmp_path / "out", tally, tell=print)
    assert tally == Tally() and not (tmp_path / "out").exists()
