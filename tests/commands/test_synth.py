import errno
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from deblur_cli.evaluation.datasets import find_pairs
from deblur_cli.training import synth


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(2):
        coarse = np.random.default_rng(number).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"p{number}.png"), cv2.resize(coarse, (128, 96), interpolation=cv2.INTER_CUBIC))
    return folder


def test_photos_become_pairs_that_eval_finds(tmp_path: Path, photos: Path, run) -> None:
    sheet = tmp_path / "sheet.png"
    arguments = ["--count", "2", "--length", "4", "12", "--clean", "--sheet", str(sheet)]
    result = run(["synth", str(photos), "-o", str(tmp_path / "out"), *arguments])
    assert result.code == 0, result.stderr
    assert "4 pairs" in result.stdout
    assert cv2.imread(str(sheet)).shape == (2 * 256, 4 * 256, 3)
    dataset = find_pairs(tmp_path / "out", split="train")
    pairs = dataset.pairs
    assert len(pairs) == 4 and not dataset.video  # two blurs of one photo are no frames of a film
    for pair in pairs:
        blurred, sharp = cv2.imread(str(pair.blurred)), cv2.imread(str(pair.sharp))
        source = cv2.imread(str(photos / f"{pair.name[:2]}.png"))
        assert np.array_equal(sharp, source)
        assert blurred.shape == sharp.shape
        assert np.abs(blurred.astype(int) - sharp).mean() > 0.2


def test_one_bad_file_ends_nothing_but_is_said(tmp_path: Path, photos: Path, run) -> None:
    (photos / "p00.png").write_bytes((photos / "p0.png").read_bytes()[:500])
    result = run(["synth", str(photos), "-o", str(tmp_path / "out")])
    assert result.code == 1 and "2 pairs, 1 file failed" in result.stdout and "p00.png" in result.stderr
    (photos / "p0.png").unlink()
    alone = run(["synth", str(photos / "p00.png"), "-o", str(tmp_path / "none")])
    assert alone.code == 1 and alone.stdout == "" and len(alone.stderr.strip().splitlines()) == 1


def test_the_sheet_is_not_written_over_a_photo(tmp_path: Path, photos: Path, run) -> None:
    photo = next(photos.glob("*.png"))
    before = photo.read_bytes()
    result = run(["synth", str(photos), "-o", str(tmp_path / "out"), "--sheet", str(photo)])
    assert result.code == 2 and "would write over a photo" in result.stderr
    assert photo.read_bytes() == before and not (tmp_path / "out").exists()


def test_the_sheet_may_lie_in_the_folder_that_is_made(tmp_path: Path, photos: Path, run) -> None:
    sheet = tmp_path / "new" / "out" / "sheet.png"
    assert run(["synth", str(photos), "-o", str(sheet.parent), "--sheet", str(sheet)]).code == 0
    assert sheet.exists()


def test_a_clip_that_is_called_like_the_folder_of_photos_has_one_of_its_own(tmp_path: Path, photos: Path, run) -> None:
    clip = tmp_path / "photos.avi"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"MJPG"), 240, (64, 48))
    for _ in range(7):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    of_clip = ["synth", str(clip), "-o", str(tmp_path / "out"), "--frames", "7"]
    assert run(["synth", str(photos), "-o", str(tmp_path / "out")]).code == 0
    assert run(of_clip).code == 0
    assert {folder.name for folder in (tmp_path / "out" / "train").iterdir()} == {"photos", "photos~2"}
    twice = run(
        ["synth", str(clip), str(tmp_path / "in" / ".." / "photos.avi"), "-o", str(tmp_path / "o"), *of_clip[4:]]
    )
    assert twice.code == 0 and "1 pair\n" in twice.stdout
    again = run(of_clip)
    assert again.code == 2 and "photos~2 is there already" in again.stderr


def test_the_seed_decides(tmp_path: Path, photos: Path, run) -> None:
    names = [("a", "1"), ("b", "1"), ("c", "2")]
    for name, seed in names:
        assert run(["synth", str(photos), "-o", str(tmp_path / name), "--seed", seed]).code == 0
    again = run(["synth", str(photos), "-o", str(tmp_path / "a"), "--seed", "3"])
    assert again.code == 2 and f"{tmp_path / 'a' / 'train' / 'photos'} is there already" in again.stderr
    a, b, c = ((tmp_path / name / "train" / "photos" / "blur" / "p0_000_still.png").read_bytes() for name, _ in names)
    assert a == b != c


def test_a_fast_clip_is_averaged_and_a_slow_one_refused(tmp_path: Path, run) -> None:
    for name, rate in (("fast", 240), ("slow", 25)):
        writer = cv2.VideoWriter(str(tmp_path / f"{name}.avi"), cv2.VideoWriter.fourcc(*"MJPG"), rate, (64, 48))
        for number in range(23):
            writer.write(np.full((48, 64, 3), number * 8, np.uint8))
        writer.release()
    result = run(["synth", str(tmp_path / "fast.avi"), "-o", str(tmp_path / "out"), "--frames", "7"])
    assert result.code == 0, result.stderr
    assert "3 pairs" in result.stdout
    assert "last 2 frames" in result.stderr
    first = cv2.imread(str(tmp_path / "out" / "train" / "fast" / "blur" / "000000.png"))
    assert abs(first.mean() - 3 * 8) <= 3  # what Motion JPEG leaves of the colour
    refused = run(["synth", str(tmp_path / "slow.avi"), "-o", str(tmp_path / "out")])
    assert refused.code == 2 and "too few to average" in refused.stderr


def test_files_of_one_name_do_not_become_one_another(tmp_path: Path, photos: Path, run) -> None:
    (photos / "more").mkdir()
    cv2.imwrite(str(photos / "more" / "P0.jpg"), np.full((96, 128, 3), 200, np.uint8))
    assert "3 pairs" in run(["synth", str(photos), "-o", str(tmp_path / "out")]).stdout
    found = {pair.name for pair in find_pairs(tmp_path / "out", split="train").pairs}
    assert found == {"P0_000_still", "p1_000_still", "p0~2_000_still"}


def test_a_clip_shorter_than_the_shutter_is_said(tmp_path: Path, run) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "short.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 240, (64, 48))
    for _ in range(5):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    sheet = tmp_path / "sheet.png"
    result = run(["synth", str(tmp_path / "short.avi"), "-o", str(tmp_path / "out"), "--sheet", str(sheet)])
    assert result.code == 2 and "no clip has the 11 frames" in result.stderr and not sheet.exists()


def test_a_full_disk_is_said_and_no_half_pair_is_left(tmp_path: Path, photos: Path, run, monkeypatch) -> None:
    written = 0

    def full(descriptor: int) -> None:
        nonlocal written
        written += 1
        if written == 5:  # the record, and four pictures
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    result = run(["synth", str(photos), "-o", str(tmp_path / "out")])
    lost = tmp_path / "out" / "train" / "photos" / "sharp" / "p1_000_still.png"
    kept = "1 pair kept: make room, and the same command goes on"
    assert result.code == 1 and result.stderr == f"deblur: {lost}: No space left on device; {kept}\n"
    assert [pair.name for pair in find_pairs(tmp_path / "out", split="train").pairs] == ["p0_000_still"]


def test_photos_of_one_name_are_not_blurred_alike(tmp_path: Path, photos: Path, run) -> None:
    for number in range(2):  # as frames of two sequences are called
        (tmp_path / "frames" / str(number)).mkdir(parents=True)
        shutil.copy(photos / "p0.png", tmp_path / "frames" / str(number))
    assert run(["synth", str(tmp_path / "frames"), "-o", str(tmp_path / "out")]).code == 0
    blurred = [file.read_bytes() for file in (tmp_path / "out" / "train" / "photos" / "blur").iterdir()]
    assert len(blurred) == 2 and blurred[0] != blurred[1]


def test_what_was_interrupted_goes_on_and_only_with_the_same_options(
    tmp_path: Path, photos: Path, run, monkeypatch
) -> None:
    command = ["synth", str(photos), "-o", str(tmp_path / "out"), "--count", "2", "--length", "4", "6", "--clean"]
    real, made = synth.synthesise_photo, []

    def interrupted(*arguments: object) -> object:
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(synth, "synthesise_photo", interrupted)
    result = run(command)
    assert result.code == 130 and result.stderr.startswith("3 pairs kept: the same command goes on\n")
    blurred = tmp_path / "out" / "train" / "photos" / "blur"
    (blurred / f".{next(blurred.glob('p0*')).name}.0123abcd.part").touch()  # of a killed run
    other = run([*command, "--seed", "2"])
    assert other.code == 2 and "was begun with other options" in other.stderr
    made.clear()
    again = run(command)
    assert again.code == 0 and "4 pairs, 3 of them before" in again.stdout and len(made) == 1
    folder = tmp_path / "out" / "train" / "photos"
    assert sorted(path.name for path in folder.iterdir()) == ["blur", "sharp"]
    assert not list(folder.rglob(".*"))
    monkeypatch.undo()
    command[3] = str(tmp_path / "at-once")
    assert run(command).code == 0
    for name in (path.name for path in blurred.iterdir()):
        whole = tmp_path / "at-once" / "train" / "photos" / "blur" / name
        assert (blurred / name).read_bytes() == whole.read_bytes()
    assert "is there already" in run(command).stderr  # the whole one takes no more


@pytest.mark.parametrize("below", [".", "pairs", "train/x"])
def test_pairs_are_not_put_among_the_photos(tmp_path: Path, photos: Path, run, below: str) -> None:
    before = sorted(photos.rglob("*"))
    result = run(["synth", str(photos), "-o", str(photos / below)])
    assert result.code == 2 and "would be taken for sharp photos the next time" in result.stderr
    assert sorted(photos.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nowhere"], "nowhere"),
        ([".", "--frames", "8"], "odd"),
        ([".", "--length", "9", "3"], "shorter"),
        ([".", "--sheet", "nowhere/sheet.png"], "in a folder that is there"),
        ([".", "--sheet", "sheet.jpg"], "name a .png"),
    ],
)
def test_wrong_usage_is_one_line(tmp_path: Path, run, arguments: list[str], complaint: str) -> None:
    result = run(["synth", *arguments, "-o", str(tmp_path / "out")])
    assert result.code == 2
    assert complaint in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
