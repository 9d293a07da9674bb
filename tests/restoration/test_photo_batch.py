"""Batches of photos: what is written, what is said of each, and what a fault, a full disk or Ctrl-C leaves behind."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from deblur_cli.documents import write_json
from deblur_cli.errors import OutOfMemoryError, PhotoError
from deblur_cli.media import files, photos
from deblur_cli.media.gather import gather_photos
from deblur_cli.media.plan import Plan, plan_photos
from deblur_cli.restoration import photo_batch
from deblur_cli.restoration.photo_batch import DIVIDER, restore_photo, restore_photos
from deblur_cli.restoration.report import NOT_DONE, Outcome, build_report


class Inverter:
    """Stands in for a restorer: what it makes is told at once from what it was given."""

    def __init__(self, **faults: BaseException) -> None:
        self.faults = {int(number[1:]): fault for number, fault in faults.items()}
        self.calls = 0

    def restore(self, pixels: np.ndarray) -> np.ndarray:
        self.calls += 1
        if self.calls in self.faults:
            raise self.faults[self.calls]
        return np.iinfo(pixels.dtype).max - pixels


def picture(number: int = 0, mode: str = "RGB") -> Image.Image:
    channels = len(mode) if mode != "L" else 1
    values = np.random.default_rng(number).integers(0, 256, (12, 16, channels), dtype=np.uint8)
    return Image.fromarray(values.squeeze())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six photos `0.png` to `5.png`."""
    (tmp_path / "in").mkdir()
    for number in range(6):
        picture(number).save(tmp_path / "in" / f"{number}.png")
    return tmp_path / "in"


def plan_of(folder: Path, **options: Any) -> Plan:
    return plan_photos(gather_photos([str(folder)]), output=str(folder.parent / "out"), **options)


def run(plan: Plan, restorer: Any = None, **options: Any) -> list[Outcome]:
    return restore_photos(plan, restorer or Inverter(), **options)


def assert_restored(folder: Path, numbers: list[int]) -> None:
    """Exactly these outputs are there, each whole, and nothing half-written is."""
    out = folder.parent / "out"
    assert sorted(path.name for path in out.iterdir()) == [f"{number}.png" for number in numbers]
    for number in numbers:
        expected = 255 - np.asarray(picture(number))
        assert np.array_equal(np.asarray(Image.open(out / f"{number}.png")), expected)


def test_every_photo_is_restored_and_accounted_for(folder: Path) -> None:
    heard: list[Outcome] = []
    outcomes = run(plan_of(folder), done=heard.append)
    assert_restored(folder, list(range(6)))
    assert [outcome.source.name for outcome in outcomes] == [f"{number}.png" for number in range(6)]
    assert sorted(heard, key=lambda outcome: outcome.source) == outcomes
    for outcome in outcomes:
        assert (outcome.status, outcome.width, outcome.height) == ("restored", 16, 12)
        assert outcome.source_bytes == outcome.source.stat().st_size
        assert outcome.target is not None and outcome.target_bytes == outcome.target.stat().st_size
        assert outcome.seconds > 0


def test_a_second_run_skips_what_is_there(folder: Path) -> None:
    run(plan_of(folder))
    before = {path: path.stat().st_mtime_ns for path in (folder.parent / "out").iterdir()}
    (folder.parent / "out" / "3.png").unlink()
    statuses = [outcome.status for outcome in run(plan_of(folder))]
    assert statuses == ["skipped"] * 3 + ["restored"] + ["skipped"] * 2
    after = {path: path.stat().st_mtime_ns for path in before}
    assert {path.name for path in before if after[path] != before[path]} == {"3.png"}


def test_one_broken_photo_among_good_ones_is_one_failure(folder: Path) -> None:
    whole = (folder / "2.png").read_bytes()
    (folder / "2.png").write_bytes(whole[: len(whole) // 2])
    outcomes = run(plan_of(folder))
    assert_restored(folder, [0, 1, 3, 4, 5])
    assert outcomes[2].status == "failed"
    assert outcomes[2].reason and "\n" not in outcomes[2].reason
    assert not outcomes[2].reason.startswith(str(outcomes[2].source)), "the summary names the file already"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (OutOfMemoryError("does not fit; use a smaller --tile"), "does not fit; use a smaller --tile"),
        (MemoryError(), "there is not enough memory for pictures of this size"),
        (torch.OutOfMemoryError("CUDA out of memory."), "there is not enough memory for pictures of this size"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (
            ZeroDivisionError("of ours\nin two lines"),
            "a fault in deblur itself (ZeroDivisionError: of ours in two lines)",
        ),
    ],
)
def test_any_fault_ends_one_photo_only(
    folder: Path, caplog: pytest.LogCaptureFixture, fault: Exception, reason: str
) -> None:
    with caplog.at_level(logging.INFO, logger="deblur_cli"):
        outcomes = run(plan_of(folder), Inverter(n4=fault))
    assert_restored(folder, [0, 1, 2, 4, 5])
    assert [(outcome.status, outcome.reason) for outcome in outcomes if outcome.status == "failed"] == [
        ("failed", reason)
    ]
    faults = [record for record in caplog.records if record.exc_info]
    assert len(faults) == isinstance(fault, ZeroDivisionError), "a fault of ours is logged with its traceback"


def test_a_full_disk_stops_the_batch_and_leaves_nothing_half_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synchronise, calls = os.fsync, []

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        synchronise(descriptor)

    monkeypatch.setattr(files.os, "fsync", fsync)
    restorer = Inverter()
    outcomes = run(plan_of(folder), restorer, jobs=1)
    assert restorer.calls < 6
    assert_restored(folder, [0, 1])
    assert [outcome.status for outcome in outcomes] == ["restored"] * 2 + ["failed"] * 4
    assert "No space left on device" in outcomes[2].reason
    assert outcomes[5].reason == "not restored, because the disk is full"
    monkeypatch.undo()
    assert {outcome.status for outcome in run(plan_of(folder))} == {"restored", "skipped"}
    assert_restored(folder, list(range(6)))


def test_a_target_that_cannot_be_written_fails_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = photos.write

    def refuse(photo: photos.Photo, target: Path, **options: Any) -> list[str]:
        if target.name == "1.png":
            raise PermissionError(errno.EACCES, "Permission denied")
        return write(photo, target, **options)

    monkeypatch.setattr(photos, "write", refuse)
    outcomes = run(plan_of(folder))
    assert (outcomes[1].status, outcomes[1].reason) == ("failed", "Permission denied")
    assert_restored(folder, [0, 2, 3, 4, 5])


@pytest.mark.parametrize("jobs", [1, 3])
def test_ctrl_c_finishes_files_that_are_being_written_and_begins_no_other(folder: Path, jobs: int) -> None:
    heard: list[Outcome] = []
    restorer = Inverter(n4=KeyboardInterrupt())
    plan = plan_of(folder)
    with pytest.raises(KeyboardInterrupt):
        run(plan, restorer, jobs=jobs, done=heard.append)
    assert restorer.calls == 4
    written = sorted(int(outcome.source.stem) for outcome in heard)
    assert len(written) <= 3
    assert_restored(folder, written)
    report = build_report(plan, heard, None, interrupted=True)
    assert report["interrupted"]
    assert report["counts"] == {"restored": len(written), NOT_DONE: 6 - len(written)}


def test_memory_stays_bounded_while_writing_is_slow(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, write, lock = photos.read, photos.write, threading.Lock()
    held, most = 0, 0

    def counted_read(source: Path) -> photos.Photo:
        nonlocal held, most
        with lock:
            held += 1
            most = max(most, held)
        return read(source)

    def counted_write(*arguments: Any, **options: Any) -> list[str]:
        nonlocal held
        time.sleep(0.02)
        warnings = write(*arguments, **options)
        with lock:
            held -= 1
        return warnings

    monkeypatch.setattr(photos, "read", counted_read)
    monkeypatch.setattr(photos, "write", counted_write)
    run(plan_of(folder), jobs=1)
    assert held == 0
    assert 1 < most <= 3
    most = 0
    monkeypatch.setattr(photo_batch, "BYTES_AHEAD", 1)
    run(plan_of(folder, overwrite=True), jobs=4)
    # Not more than four are being written and the next one is read; without the limit four would be read ahead.
    assert most <= 6


def test_leftovers_of_a_killed_run_are_removed_and_what_another_run_may_be_writing_is_not(folder: Path) -> None:
    out = folder.parent / "out"
    out.mkdir()
    stale = files.temporary_name(out / "3.png")
    foreign = files.temporary_name(out / "elsewhere.png")
    stale.write_bytes(b"half")
    foreign.write_bytes(b"half")
    with files.replacing(out / "3.png") as stream:  # as another run would
        run(plan_of(folder))
        assert not stale.exists()
        assert files.is_temporary(Path(stream.name), out / "3.png") and Path(stream.name).exists()
        stream.write((out / "3.png").read_bytes())
    foreign.unlink()
    assert_restored(folder, list(range(6)))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_comparison_shows_blurred_left_and_restored_right(tmp_path: Path, mode: str) -> None:
    picture(1, mode).save(tmp_path / "a.png")
    restore_photo(tmp_path / "a.png", tmp_path / "b.png", Inverter(), compare=True)  # type: ignore[arg-type]
    source, made = np.asarray(picture(1, mode)), np.asarray(Image.open(tmp_path / "b.png"))
    restored = made[:, 16 + DIVIDER :]
    assert made.shape == (12, 32 + DIVIDER, *source.shape[2:])
    assert np.array_equal(made[:, :16], source)
    assert np.all(made[:, 16 : 16 + DIVIDER] == 255)
    if mode == "RGBA":
        assert np.array_equal(restored[:, :, 3], source[:, :, 3])
        restored, source = restored[:, :, :3], source[:, :, :3]
    assert np.array_equal(restored, 255 - source)


@pytest.mark.parametrize("compare", [False, True])
def test_what_the_format_cannot_hold_is_known_before_the_network_runs(folder: Path, compare: bool) -> None:
    # Upright it is 9000 wide, and so is 18004 beside its restored self, where a WebP ends at 16383.
    turned = Image.Exif()
    turned[274] = 6
    Image.new("L", (2, 9000)).save(folder / "wide.png", exif=turned)
    restorer = Inverter()
    wide = run(plan_of(folder, format_name="webp"), restorer, compare=compare)[-1]
    assert wide.status == ("failed" if compare else "restored") and restorer.calls == 7 - compare
    if compare:
        assert wide.reason == "18004×2 pixels: a WebP has at most 16383 a side; write PNG or TIFF"
        with pytest.raises(PhotoError, match="18004×2 pixels"):
            restore_photo(folder / "wide.png", io.BytesIO(), restorer, format_name="WEBP", compare=True)  # type: ignore[arg-type]
        assert restorer.calls == 6


@pytest.mark.parametrize(
    ("given", "asked", "expected"), [("PNG", None, "PNG"), ("GIF", None, "PNG"), ("PNG", "BMP", "BMP")]
)
def test_streams_keep_their_format_where_it_can_be_written(given: str, asked: str | None, expected: str) -> None:
    source, target = io.BytesIO(), io.BytesIO()
    picture(2, "L").save(source, given)
    source.seek(0)
    restore_photo(source, target, Inverter(), format_name=asked)  # type: ignore[arg-type]
    made = Image.open(io.BytesIO(target.getvalue()))
    assert made.format == expected
    assert np.array_equal(np.asarray(made.convert("L")), 255 - np.asarray(picture(2, "L")))


def test_content_decides_the_format_where_a_name_says_something_else(folder: Path) -> None:
    picture(1, "RGBA").save(folder / "png.jpg", "PNG")
    picture(1, "L").save(folder / "gif.jpg", "GIF")
    outcomes = {outcome.source.name: outcome for outcome in run(plan_of(folder))}
    for name, content in (("png.jpg", "PNG"), ("gif.jpg", "GIF")):
        made = Image.open(folder.parent / "out" / name)
        assert made.format == "PNG"
        assert any(f"its content is {content}" in warning for warning in outcomes[name].warnings)
    assert Image.open(folder.parent / "out" / "png.jpg").mode == "RGBA"


def test_nothing_of_a_photo_that_fails_reaches_the_stream() -> None:
    target = io.BytesIO()
    with pytest.raises(PhotoError):
        restore_photo(io.BytesIO(b"no photo"), target, Inverter())  # type: ignore[arg-type]
    assert target.getvalue() == b""


def test_report_has_an_entry_for_each_file_even_with_names_that_are_no_text(folder: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(folder) + b"/6\xff.png"))
    picture(6).save(folder / "6.png")
    (folder / "6.png").rename(odd)
    (folder / "7.png").write_bytes(b"no photo")
    plan = plan_of(folder)
    report = folder.parent / "report.json"
    write_json(build_report(plan, run(plan), None), report)
    read = json.loads(report.read_text())
    assert read["counts"] == {"restored": 7, "failed": 1}
    assert not read["interrupted"]
    assert len(read["files"]) == 8
    assert read["files"][6]["source"] == str(odd)
    assert {"source", "target", "outcome", "reason", "seconds", "width", "height", "warnings"} <= set(read["files"][0])


def test_of_what_is_no_photo_only_the_beginning_is_read() -> None:
    class Endless(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            assert size is not None and size > 0
            return bytes(size)

    with pytest.raises(PhotoError, match="standard input: of an unknown format"):
        restore_photo(Endless(), io.BytesIO(), Inverter())  # type: ignore[arg-type]
