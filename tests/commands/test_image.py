"""`deblur image` as a user meets it: what it writes, says and returns; and what a kill or Ctrl-C leaves behind."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deblur_cli.__main__ import main
from deblur_cli.commands import image as image_command
from deblur_cli.commands.console import shown
from deblur_cli.commands.options import parse_memory
from deblur_cli.errors import UsageError
from tests.forked import forked

ENGINE = ["-m", "test-tiny", "--device", "cpu", "--precision", "fp32"]
Capture = pytest.CaptureFixture[str]


def picture(number: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Fourteen photos `0.png` to `13.png`, which the untrained network gives back as they are."""
    (tmp_path / "in").mkdir()
    for number in range(14):
        picture(number).save(tmp_path / "in" / f"{number}.png")
    return tmp_path / "in"


def deblur(*arguments: object) -> int:
    return main(["image", *map(str, arguments), *ENGINE])


def hashes(folder: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def assert_whole(folder: Path, numbers: range, out: Path) -> None:
    assert {path.name for path in out.iterdir()} == {f"{number}.png" for number in numbers}
    for number in numbers:
        assert np.array_equal(np.asarray(Image.open(out / f"{number}.png")), np.asarray(picture(number)))


def test_verbose_says_the_network_the_tiles_and_the_times(tmp_path: Path, capsys: Capture) -> None:
    picture(0).save(tmp_path / "a.png")
    picture(1).save(tmp_path / "b.png")
    assert main(["-v", "image", str(tmp_path), *ENGINE]) == 0
    told = [line.partition(": ")[2] for line in capsys.readouterr().err.splitlines() if line.startswith("INFO ")]
    assert re.fullmatch(r"network test-tiny \(untrained\) on cpu in fp32, \d+ threads?", told[0])
    assert len([line for line in told if re.fullmatch(r"24×20 in 1 tile of \d+×\d+: \d+\.\d\d s", line)]) == 1
    assert len([line for line in told if re.search(r"[ab]\.png: read in .* s, restored in .* s$", line)]) == 2
    assert len([line for line in told if re.search(r"[ab]_deblurred\.png: written in .* s$", line)]) == 2


def test_a_folder_is_restored_and_a_second_run_has_nothing_to_do(folder: Path, capsys: Capture) -> None:
    before = hashes(folder)
    out = folder.parent / "out"
    report, leftover = folder.parent / "report.json", folder.parent / ".report.json.0123abcd.part"
    leftover.touch()
    assert deblur(folder, "-o", out, "--report", report) == 0
    assert not leftover.exists()
    assert_whole(folder, range(14), out)
    assert hashes(folder) == before
    captured = capsys.readouterr()
    assert "[14/14]" in captured.err and "%" not in captured.err, "plain lines without a terminal"
    assert ["restored", "14"] in [line.split()[:2] for line in captured.out.splitlines()]
    facts = json.loads(report.read_text())
    assert facts["model"]["name"] == "test-tiny"
    assert (facts["device"], facts["precision"], facts["interrupted"]) == ("cpu", "fp32", False)
    assert facts["counts"] == {"restored": 14}
    assert facts["files"][0]["target"] == str(out / "0.png")
    made = hashes(out)
    assert deblur(folder, "-o", out) == 0
    assert hashes(out) == made
    assert ["skipped", "14"] in [line.split()[:2] for line in capsys.readouterr().out.splitlines()]


def test_one_broken_photo_makes_the_exit_code_1_and_the_others_are_done(folder: Path, capsys: Capture) -> None:
    whole = (folder / "5.png").read_bytes()
    (folder / "5.png").write_bytes(whole[: len(whole) // 2])
    before = hashes(folder)
    assert deblur(folder, "-o", folder.parent / "out", "--jobs", 1) == 1
    assert len(list((folder.parent / "out").iterdir())) == 13
    assert hashes(folder) == before
    failures = [line for line in capsys.readouterr().out.splitlines() if line.startswith("failed: ")]
    assert len(failures) == 1
    assert failures[0].startswith(f"failed: {folder / '5.png'}: ")


def test_every_awkward_photo_is_restored_or_refused_in_one_line(
    shared_data: Path, tmp_path: Path, capsys: Capture
) -> None:
    photos = shared_data / "awkward" / "images"
    before = hashes(photos)
    assert deblur(photos, "-o", tmp_path / "out", "--report", tmp_path / "report.json") == 1
    assert hashes(photos) == before
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err and "fault in deblur" not in captured.out
    failures = [line for line in captured.out.splitlines() if line.startswith("failed: ")]
    outputs = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(failures) + len(outputs) == len(before)
    assert len(json.loads((tmp_path / "report.json").read_text())["files"]) == len(before)


def test_dry_run_prints_the_plan_and_touches_nothing(folder: Path, capsys: Capture) -> None:
    (folder / "raw.cr2").write_bytes(b"x")
    (folder / "0_deblurred.png").write_bytes(b"x")
    before = hashes(folder.parent)
    assert deblur(folder, "--dry-run") == 1
    assert hashes(folder.parent) == before
    lines = capsys.readouterr().out.splitlines()
    assert f"restore {folder / '1.png'} -> {folder / '1_deblurred.png'}" in lines
    assert any(line.startswith(f"skip    {folder / '0.png'}") for line in lines)
    assert any(line.startswith(f"refuse  {folder / 'raw.cr2'}") for line in lines)
    assert lines[-1].startswith("13 to restore, 1 to skip, 1 to refuse")


def test_comparison_quality_and_format(folder: Path) -> None:
    out = folder.parent / "out"
    assert deblur(folder / "1.png", "-o", out, "--compare", "--format", "jpg", "--quality", 50, "--strength", 0.5) == 0
    made = Image.open(out / "1.jpg")
    assert made.format == "JPEG" and made.size == (24 + 4 + 24, 20)


def test_an_output_that_is_a_link_to_the_input_is_refused(folder: Path, capsys: Capture) -> None:
    link = folder.parent / "link.png"
    link.symlink_to(folder / "0.png")
    before = hashes(folder)
    assert deblur(folder / "0.png", "-o", link, "--overwrite") == 1
    assert hashes(folder) == before
    assert link.is_symlink()
    assert "would be an input" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.png"], "no file or folder 'nowhere.png'"),
        (["*.webp"], "nothing matches"),
        (["in/empty"], "no photos in in/empty (1 not a photo)"),
        (["in", "-o", "out.png"], "not a single photo"),
        (["in", "--format", "gif"], "no photo can be written as 'gif'"),
        (["in", "--strength", "2.1"], "strength"),
        (["in", "--jobs", "0"], "jobs"),
        (["in", "--tile", "big"], "big"),
        (["in", "--memory-limit", "much"], "no amount of memory"),
        (["in", "--precision", "fp8"], "fp8"),
        (["in", "--device", "tpu"], "tpu"),
        (["in", "--suffix", ""], "letter"),
        (["in", "-m", "nafnte"], "did you mean nafnet?"),
        (["in", "-m", "nowhere.pth"], "no file of weights"),
        (["in", "-m", "hf:nowhere.pth"], "write hf:OWNER/REPO/FILE"),
        (["in", "--report", "none/report.json"], "report"),
        (["in", "--report", "in/0.png"], "report"),
        (["in", "--report", "-"], "the report is a file"),
        (["in", "--dry-run", "--report", "report.json"], "--dry-run"),
        (["in", "--dry-run", "--device", "tpu"], "tpu"),
        (["in", "--dry-run", "--precision", "fp8"], "fp8"),
        (["in", "--dry-run", "--tile", "big"], "big"),
        (["in", "-m", "in/empty/notes.txt", "--report", "in/empty/notes.txt"], "the weights"),
        (["in", "--bogus"], "--bogus"),
        (["-", "in/0.png"], "one photo"),
        (["-", "--dry-run"], "--dry-run"),
        (["in", "-o", "-"], "one photo"),
        (["nowhere.png", "-o", "-"], "no file 'nowhere.png'"),
        (["-", "-o", "in"], "needs a file"),
        (["-", "-o", "in/0.png"], "--overwrite"),
    ],
)
def test_wrong_usage_is_one_line_and_nothing_is_restored(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(folder.parent)
    (folder / "empty").mkdir()
    (folder / "empty" / "notes.txt").write_text("x")
    before = hashes(folder.parent)
    assert main(["image", "-m", "test-tiny", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    assert message in captured.err
    assert hashes(folder.parent) == before


def test_a_photo_flows_from_standard_input_to_standard_output(
    folder: Path, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = (folder / "3.png").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert deblur("-") == 0
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(capsysbinary.readouterr().out))), np.asarray(picture(3)))
    assert deblur(folder / "4.png", "-o", "-", "--format", "bmp") == 0
    made = Image.open(io.BytesIO(capsysbinary.readouterr().out))
    assert made.format == "BMP" and np.array_equal(np.asarray(made), np.asarray(picture(4)))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert deblur("-", "-o", folder.parent / "out.tif") == 0
    assert Image.open(folder.parent / "out.tif").format == "TIFF"
    with (folder / "3.png").open() as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        assert deblur("-", "-o", folder / "3.png", "--overwrite") == 2
    assert b"what standard input comes from" in capsysbinary.readouterr().err
    assert (folder / "3.png").read_bytes() == data
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data[:50])))
    capsysbinary.readouterr()
    assert deblur("-") == 1
    captured = capsysbinary.readouterr()
    assert captured.out == b"" and captured.err.count(b"\n") == 1


def test_no_network_is_loaded_where_there_is_nothing_to_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a network was loaded")

    for number in range(14):
        (folder / f"{number}_deblurred.png").write_bytes(b"x")
    monkeypatch.setattr(image_command, "load_restorer", refuse)
    assert deblur(folder) == 0


def test_what_was_not_done_is_counted(folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def stops(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("deblur_cli.restoration.photo_batch.restore_photos", stops)
    assert deblur(folder, "-o", folder.parent / "out") == 130
    assert re.search(r"not done +14 ", capsys.readouterr().out)


def test_a_report_that_cannot_be_written_is_said_and_the_photos_are_there(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("deblur_cli.documents.write_json", full)
    assert deblur(folder, "-o", folder.parent / "out", "--report", folder.parent / "report.json") == 1
    assert "No space left on device" in capsys.readouterr().err
    assert len(list((folder.parent / "out").iterdir())) == 14


# The fifth file that is on its way to the disk waits there until it is told to go on, and those behind it take long: a
# middle to be killed in, with a temporary file there, however seldom this process gets to look. What says so is one
# write: the words and the line end of a print would let another thread's line between them.
SLOW = """
import itertools, os, sys, time
go = sys.argv.pop(1)
real = os.fsync
numbers = itertools.count(1)
def fsync(descriptor):
    number = next(numbers)
    if number == 5:
        os.write(2, b"half-written\\n")
        while not os.path.exists(go):
            time.sleep(0.02)
    elif number > 5:
        time.sleep(0.5)
    real(descriptor)
os.fsync = fsync
from deblur_cli.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def interrupt(arguments: list[object], number: signal.Signals, out: Path) -> int:
    """Run `deblur image` until one photo is half-written and those before it are done, send a signal, return the exit
    code."""
    go = out.with_name("go")
    with forked(SLOW, go, "image", *map(str, arguments), *ENGINE) as process:
        said = []
        for line in process.stderr:
            said.append(line)
            if "half-written" in line:
                break
        else:
            pytest.fail(f"it ended with {process.wait()} and said {said}")
        for _ in range(6000):  # the command speaks of files in their order: it may wait for the fifth to say the third
            if len(list(out.glob("[!.]*"))) >= 4:
                break
            time.sleep(0.01)
        assert list(out.glob(".*.part"))
        process.send_signal(number)
        go.touch()
        said += process.stderr
        sys.stderr.writelines(said)  # which a test that fails shows
        assert "Traceback" not in "".join(said)
        return process.wait()


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
def test_after_a_kill_the_same_command_does_only_what_is_left(folder: Path) -> None:
    out = folder.parent / "out"
    before = hashes(folder)
    assert interrupt([folder, "-o", out], signal.SIGKILL, out) == -signal.SIGKILL
    done = {path.name: path.stat().st_mtime_ns for path in out.glob("[!.]*")}
    assert 4 <= len(done) < 14
    assert list(out.glob(".*.part")), "the kill came while a file was being written"
    assert deblur(folder, "-o", out) == 0
    assert_whole(folder, range(14), out)
    assert {name: (out / name).stat().st_mtime_ns for name in done} == done
    assert hashes(folder) == before


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_leave_whole_files_a_report_and_130(folder: Path, number: signal.Signals) -> None:
    out, report = folder.parent / "out", folder.parent / "report.json"
    assert interrupt([folder, "-o", out, "--report", report], number, out) == 130
    names = sorted(path.name for path in out.iterdir())
    assert 4 <= len(names) < 14
    assert not [name for name in names if name.startswith(".")]
    facts = json.loads(report.read_text())
    assert facts["interrupted"]
    assert facts["counts"] == {"restored": len(names), "not done": 14 - len(names)}
    assert sorted(Path(each["target"]).name for each in facts["files"] if each["outcome"] == "restored") == names


@pytest.mark.parametrize(
    ("text", "size"), [("2G", 2 << 30), ("1.5gib", 3 << 29), ("800MB", 800 << 20), ("64 k", 64 << 10), ("1000", 1000)]
)
def test_amounts_of_memory(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1G", "0", "2X", "1e9"])
def test_what_is_no_amount_of_memory(text: str) -> None:
    with pytest.raises(UsageError):
        parse_memory(text)


def test_names_are_shown_on_one_line_whatever_they_hold() -> None:
    assert shown(os.fsdecode(b"a\nb\xff.jpg")) == "a\\nb\\udcff.jpg"
    assert shown("Straße/日本.jpg") == "Straße/日本.jpg"
