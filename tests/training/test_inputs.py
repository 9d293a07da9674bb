import functools
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from deblur_cli.errors import DatasetError, UsageError
from deblur_cli.training import inputs
from deblur_cli.training.blur import BlurSettings
from deblur_cli.training.data import ClipSource, Dice, PhotoSource
from deblur_cli.training.inputs import HELD_OUT, TrainingFiles, find_files, load_sources, load_validator
from deblur_cli.training.pairs import PairSource
from deblur_cli.training.pool import PoolSettings
from deblur_cli.training.recipe import Recipe, Stage
from deblur_cli.training.unrolled import Unrolled
from models import create_model

CPU = torch.device("cpu")
SLIGHT = BlurSettings(length=(0.1, 0.1), foreground=0, linear=0, saturation=0, defocus=0, noise=0, jpeg=0)
RECIPE = Recipe(model="test-tiny", stages=(Stage(until=0.5), Stage(blur=SLIGHT)))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(HELD_OUT + 2):
        pixels = np.random.default_rng(number).integers(0, 256, (280, 280, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number:02d}.png"), pixels)
    return folder


@pytest.mark.usefixtures("locked")
def test_a_folder_of_clips_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir()
    (tmp_path / "a.mp4").touch()
    with pytest.raises(DatasetError, match=r"the folder '.*/locked' cannot be opened: Permission denied"):
        find_files(clips_folder=tmp_path)


def test_held_out_photos_are_never_trained_on(photos: Path) -> None:
    files = find_files(photos=photos)
    assert len(files.photos) == HELD_OUT + 2
    (source,) = load_sources(files, PoolSettings(size=64), CPU)
    assert source.kind == "photos"
    assert len(source) == HELD_OUT  # all but the first and the twentieth after it
    validator = load_validator(files, RECIPE, CPU)
    assert validator is not None
    nothing = Unrolled(torch.nn.Identity(), recurrent=False)
    scores = validator.score(nothing)
    assert scores["mean"] == pytest.approx(0, abs=1e-9)
    assert scores["synthetic"] == scores["synthetic blurred"] > 30  # as the last stage blurs
    picture = validator.picture(nothing)
    assert picture.shape == (3, 2 * 256, 3 * 256)
    assert torch.equal(picture[:, :, :256], picture[:, :, 256:512])  # restored by nothing is blurred
    assert not torch.equal(picture[:, :, :256], picture[:, :, 512:])


def test_pairs_and_clips_become_sources_of_their_kind(tmp_path: Path) -> None:
    for folder in ("blur", "sharp"):
        target = tmp_path / "data" / "train" / "GOPR0372_07_00" / folder
        target.mkdir(parents=True)
        cv2.imwrite(str(target / "000001.png"), np.full((48, 64, 3), 9, np.uint8))
    (tmp_path / "clips").mkdir()
    writer = cv2.VideoWriter(str(tmp_path / "clips" / "a.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 240, (64, 48))
    for _ in range(15):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    files = find_files(data=tmp_path / "data", clips_folder=tmp_path / "clips")
    sources = {source.kind: source for source in load_sources(files, PoolSettings(size=32), CPU)}
    assert {kind: len(source) for kind, source in sources.items()} == {"clips": 1, "stills": 15, "pairs": 1}
    clip, stills = sources["clips"], sources["stills"]
    assert isinstance(clip, ClipSource) and isinstance(stills, PhotoSource)
    # Its frames are not held twice.
    assert stills.pictures[3].data_ptr() == clip.clips[0][3].data_ptr()
    assert load_validator(files, RECIPE, CPU) is None
    with pytest.raises(DatasetError, match="no clip of at least 64 pixels"):
        load_sources(files, PoolSettings(size=64), CPU)


def write_pictures(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True)
    for name in names:
        cv2.imwrite(str(folder / f"{name}.png"), np.full((48, 64, 3), 9, np.uint8))


def test_sequences_are_found_in_gopro(tmp_path: Path) -> None:
    for sequence in ("GOPR0372_07_00", "GOPR0372_07_01"):
        for folder in ("blur", "sharp"):
            write_pictures(tmp_path / "train" / sequence / folder, ["000001", "000002", "000003", "000005"])
    files = find_files(data=tmp_path)
    (source,) = load_sources(files, PoolSettings(size=32), CPU, frames=3)
    assert len(source) == 8
    assert isinstance(source, PairSource)
    runs = [[(pair.blurred.parts[-3], pair.sharp.stem) for pair in run] for run in source.sequences(3)]
    assert runs == [
        [(sequence, f"00000{number}") for number in (1, 2, 3)] for sequence in ("GOPR0372_07_00", "GOPR0372_07_01")
    ]
    with pytest.raises(DatasetError, match="no 4 of the 8 pairs"):
        load_sources(files, PoolSettings(size=32), CPU, frames=4)


@pytest.mark.parametrize("unpacked", ["", "train"])
def test_sequences_are_found_in_reds(tmp_path: Path, unpacked: str) -> None:
    for part in ("train_blur", "train_sharp"):
        for sequence in ("000", "001"):
            write_pictures(tmp_path / unpacked / part / sequence, ["00000009", "00000010"])
    for part in ("val_blur", "val_sharp"):
        write_pictures(tmp_path / unpacked.replace("train", "val") / part / "000", ["00000000"])
    files = find_files(data=tmp_path, validation=tmp_path)
    assert [(pair.blurred.parts[-3:], pair.sharp.parts[-3:]) for pair in files.validation] == [
        (("val_blur", "000", "00000000.png"), ("val_sharp", "000", "00000000.png"))
    ]
    (source,) = load_sources(files, PoolSettings(size=32), CPU, frames=2)
    assert len(source) == 4
    blurred, sharp = source.draw(2, 32, BlurSettings(), Dice.seeded(CPU, "reds"), frames=2)
    assert blurred.shape == sharp.shape == (2, 2, 3, 32, 32)


def test_nothing_is_both_trained_on_and_validated_on(photos: Path, tmp_path: Path) -> None:
    for part in ("input", "target"):
        write_pictures(tmp_path / "own" / part, ["1", "2"])
    with pytest.raises(DatasetError, match="are the same pairs"):
        find_files(data=tmp_path / "own", validation=tmp_path / "own")
    for photo in sorted(photos.iterdir())[1:]:
        photo.unlink()
    with pytest.raises(DatasetError, match="give at least two"):
        find_files(photos=photos)
    write_pictures(tmp_path / "more" / "train" / "input", ["1"])
    write_pictures(tmp_path / "more" / "train" / "target", ["1"])
    files = find_files(photos=photos, data=tmp_path / "more")  # there the only photo is for validation alone
    assert [source.kind for source in load_sources(files, PoolSettings(size=32), CPU)] == ["pairs"]


@pytest.mark.parametrize("broken", [False, True])
def test_where_no_20th_photo_is_of_use_the_first_that_is_gets_held_out(
    photos: Path, broken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Making the whole set takes longest, and is not looked at here.
    monkeypatch.setattr(inputs, "synthetic_set", functools.partial(inputs.synthetic_set, count=4, size=32))
    for name in ("00.png", "20.png", "01.png"):
        cv2.imwrite(str(photos / name), np.zeros((90, 90, 3), np.uint8))
    if broken:
        (photos / "00.png").write_bytes((photos / "02.png").read_bytes()[:3000])
    files = find_files(photos=photos)
    assert files.held_out == (photos / "02.png",)
    assert load_validator(files, RECIPE, CPU) is not None
    told: list[str] = []
    (source,) = load_sources(files, PoolSettings(size=64), CPU, tell=told.append)
    assert len(source) == HELD_OUT + 1 - broken  # small ones are large enough to be trained on
    assert ["00.png" in line for line in told] == [True] * broken
    cv2.imwrite(str(photos / "20.png"), np.zeros((256, 256, 3), np.uint8))
    assert find_files(photos=photos).held_out == (photos / "00.png", photos / "20.png")


def test_photos_that_are_all_small_are_no_use_for_validation(tmp_path: Path) -> None:
    write_pictures(tmp_path / "photos", ["1", "2"])
    with pytest.raises(DatasetError, match="no photo of at least 256 pixels to validate on"):
        load_validator(find_files(photos=tmp_path / "photos"), RECIPE, CPU)


def test_pairs_that_are_too_small_do_not_stay_among_the_sources(tmp_path: Path) -> None:
    for part in ("input", "target"):
        write_pictures(tmp_path / "train" / part, ["1", "2"])
        cv2.imwrite(str(tmp_path / "train" / part / "2.png"), np.zeros((20, 20, 3), np.uint8))
    told: list[str] = []
    (source,) = load_sources(find_files(data=tmp_path), PoolSettings(size=32), CPU, tell=told.append)
    assert len(source) == 1 and len(told) == 1 and "2.png is 20×20" in told[0]


def test_validation_pairs_fit_the_network_that_the_options_build(tmp_path: Path) -> None:
    for part in ("input", "target"):
        write_pictures(tmp_path / part, ["1"])
    options = {"width": 4, "encoders": [1, 1], "middle": 1, "decoders": [1, 1]}
    for more, multiple_of in ((0, 4), (3, 32)):
        deeper = {"encoders": [1] * (2 + more), "decoders": [1] * (2 + more)}
        recipe = Recipe(model="nafnet", options={**options, **deeper})
        validator = load_validator(TrainingFiles(validation=find_files(data=tmp_path).pairs), recipe, CPU)
        assert validator is not None
        assert validator.sets[0].pairs[0][0].shape[2:] == (48, 64) and validator.multiple_of == multiple_of
        network = Unrolled(create_model("nafnet", **recipe.options), recurrent=False)
        assert math.isfinite(validator.score(network)["pairs"])


def test_what_holds_nothing_is_said(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nothing to train on"):
        find_files()
    with pytest.raises(DatasetError, match="no video"):
        find_files(clips_folder=tmp_path)
    with pytest.raises(DatasetError, match="no photo"):
        find_files(photos=tmp_path)
    with pytest.raises(UsageError, match="nowhere"):
        find_files(photos=tmp_path / "nowhere")
    with pytest.raises((DatasetError, UsageError), match="nowhere"):
        find_files(clips_folder=tmp_path / "nowhere")
    assert load_sources(TrainingFiles(), PoolSettings(size=32), CPU) == []
