"""`deblur eval` as a user meets it, with the untrained network that gives its input back."""

from __future__ import annotations

import csv
import errno
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models import create_model
from models.weights import save_weights
from tests.evaluation.pictures import gopro, gopro_video, kohler, noise, real_blur, write, write_pair


@pytest.fixture
def evaluate(run):  # type: ignore[no-untyped-def]
    """Runs `deblur eval` with test-tiny unless another network is named."""

    def run_eval(*arguments: object):  # type: ignore[no-untyped-def]
        texts = [str(argument) for argument in arguments]
        model = [] if "-m" in texts else ["-m", "test-tiny"]
        return run(["eval", "--device", "cpu", *texts, *model])

    return run_eval


def test_scores_go_to_stdout_and_progress_to_stderr(evaluate, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    result = evaluate(gopro(tmp_path))
    assert result.code == 0
    assert "blurred input" in result.stdout
    assert "30.07" in result.stdout
    assert "GOPRO test, variant blur, 3/1111 pairs, 20×16" in result.stdout
    assert "\x1b" not in result.stdout
    assert result.stderr.splitlines() == [
        f"[{number + 1}/3] test-tiny: GOPR0410_11_00/{number:06} +0.00 dB" for number in range(3)
    ]


def test_a_narrow_terminal_cuts_no_score_and_no_name(evaluate, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    gopro(tmp_path, count=1, sequence="GOPR0384_11_00")
    gopro(tmp_path, count=1)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    result = evaluate(tmp_path, "-m", "test-tiny", "-m", "test-tiny-recurrent")
    assert result.code == 0
    assert "…" not in result.stdout
    rows = [line for line in result.stdout.splitlines() if line.startswith("│")]
    for row, name in zip(rows, ["blurred input", "test-tiny", "test-tiny-recurrent", "GOPR0384_11_00"], strict=False):
        assert name in row and "30.07" in row


def test_files_beside_the_table(evaluate, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    gopro(tmp_path / "data")
    saved, table, document = tmp_path / "saved", tmp_path / "scores.csv", tmp_path / "scores.json"
    result = evaluate(tmp_path / "data", "--save", saved, "--csv", table, "--json", document, "--limit", 2)
    assert result.code == 0
    with table.open(newline="", encoding="utf-8") as file:
        assert [row["name"] for row in csv.DictReader(file)] == ["000000", "000001"]
    found = json.loads(document.read_text(encoding="utf-8"))
    assert found["dataset"]["coverage"] == "2/1111"
    assert found["models"][0]["restored"]["psnr"] == pytest.approx(30.069, abs=1e-3)
    blurred = tmp_path / "data/test/GOPR0410_11_00/blur"
    for name in ("000000.png", "000001.png"):
        restored = np.asarray(Image.open(saved / "test-tiny/GOPR0410_11_00" / name))
        assert np.array_equal(restored, np.asarray(Image.open(blurred / name)))


def test_files_are_written_also_where_nobody_reads_the_table(evaluate, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    from deblur_cli.commands import eval as eval_command

    def gone(*_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(eval_command, "_print", gone)
    monkeypatch.setattr("deblur_cli.edge._without_reader", lambda: 1)
    assert evaluate(gopro(tmp_path / "data"), "--csv", tmp_path / "scores.csv").code == 1
    assert len((tmp_path / "scores.csv").read_text().splitlines()) == 4


def test_a_report_that_cannot_be_written_costs_no_other(evaluate, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    def read_only(*_: object, path: Path) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("deblur_cli.evaluation.report_files.write_csv", read_only)
    files = [tmp_path / name for name in ("scores.csv", "scores.json", "scores.html")]
    result = evaluate(gopro(tmp_path / "data"), "--csv", files[0], "--json", files[1], "--html", files[2])
    assert result.code == 1
    assert "Read-only file system" in result.stderr and "blurred input" in result.stdout
    assert [file.exists() for file in files] == [False, True, True]


@pytest.mark.parametrize(
    ("option", "read"),
    [
        ("--html", "data/test/GOPR0410_11_00/sharp/000002.png"),
        ("--csv", "others/000000.png"),
        ("--json", "own.safetensors"),
    ],
)
def test_no_file_is_written_over_what_is_read(evaluate, tmp_path: Path, option: str, read: str) -> None:  # type: ignore[no-untyped-def]
    data, others, weights = gopro(tmp_path / "data"), tmp_path / "others", tmp_path / "own.safetensors"
    write(others / "000000.png", noise(0))
    save_weights(create_model("test-tiny"), weights, name="test-tiny", options={"width": 8}, card={})
    before = (tmp_path / read).read_bytes()
    result = evaluate(data, "--limit", 1, "-m", weights, "--restored", others, option, tmp_path / read)
    assert result.code == 2 and result.stderr == (
        f"deblur: {option} would write over '{tmp_path / read}', which is read; name another file\n"
    )
    assert (tmp_path / read).read_bytes() == before


def test_pictures_are_not_saved_over_those_that_are_scored(evaluate, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    blurred, sharp = tmp_path / "out/test-tiny", tmp_path / "sharp"
    write_pair(blurred / "street/1.png", sharp / "street/1.png")
    before = (blurred / "street/1.png").read_bytes()
    for scored in (["--blurred", blurred, "--sharp", sharp], ["--blurred", sharp, "--sharp", blurred]):
        result = evaluate(*scored, "--save", tmp_path / "out")
        assert result.code == 2
        assert "would write over" in result.stderr
    assert (blurred / "street/1.png").read_bytes() == before


def test_two_folders_without_rounding(evaluate, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    write_pair(tmp_path / "a/1.png", tmp_path / "b/1.png")
    result = evaluate("--blurred", tmp_path / "a", "--sharp", tmp_path / "b", "--float")
    assert result.code == 0
    assert "a against b, 1 pair, 20×16, not rounded (--float)" in result.stdout


def test_several_networks_side_by_side(evaluate, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    gopro(tmp_path / "data", count=1)
    files = [tmp_path / folder / "best.safetensors" for folder in ("one", "two")]
    for file in files:
        file.parent.mkdir()
        save_weights(create_model("test-tiny"), file, name="test-tiny", options={"width": 8}, card={})
    saved = tmp_path / "saved"
    result = evaluate(tmp_path / "data", "-m", files[0], "-m", files[1], "-m", "test-tiny-recurrent", "--save", saved)
    assert result.code == 0
    for label in ("best.safetensors", "best.safetensors#2", "test-tiny-recurrent"):
        assert label in result.stdout
    assert {path.name for path in saved.iterdir()} == {
        "best.safetensors",
        "best.safetensors-2",
        "test-tiny-recurrent",
    }


def test_networks_of_like_names_save_to_folders_of_their_own(evaluate, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    gopro(tmp_path / "data", count=1)
    files = [tmp_path / name for name in ("m 1.safetensors", "m-1.safetensors")]
    for file in files:
        save_weights(create_model("test-tiny"), file, name="test-tiny", options={"width": 8}, card={})
    result = evaluate(tmp_path / "data", "-m", files[0], "-m", files[1], "--save", tmp_path / "saved")
    assert result.code == 0
    saved = sorted(str(path.relative_to(tmp_path / "saved").parts[0]) for path in (tmp_path / "saved").rglob("*.png"))
    assert saved == ["m-1.safetensors", "m-1.safetensors-2"]


def test_a_file_that_is_called_like_a_numbered_label_has_another_one(evaluate, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    gopro(tmp_path / "data", count=1)
    files = [tmp_path / name for name in ("m.safetensors#2", "m.safetensors", "deep/m.safetensors")]
    (tmp_path / "deep").mkdir()
    for file in files:
        save_weights(create_model("test-tiny"), file, name="test-tiny", options={"width": 8}, card={})
    table = tmp_path / "scores.csv"
    result = evaluate(tmp_path / "data", "--csv", table, *(word for file in files for word in ("-m", file)))
    assert result.code == 0, result.stderr
    with table.open(newline="", encoding="utf-8") as lines:
        labels = [row["model"] for row in csv.DictReader(lines)]
    assert labels == ["m.safetensors#2", "m.safetensors", "m.safetensors#3"]


def test_a_broken_picture_fails_alone(evaluate, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    broken = gopro(tmp_path) / "test/GOPR0410_11_00/blur/000001.png"
    broken.write_bytes(broken.read_bytes()[:200])
    result = evaluate(tmp_path)
    assert result.code == 1
    assert "failed and in no mean: 1" in result.stdout
    assert "000001 failed: " in result.stderr
    assert "Traceback" not in result.stderr


def test_partial_sets(evaluate, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    write(gopro(tmp_path) / "test/GOPR0410_11_00/blur/000009.png", noise(9))
    refused = evaluate(tmp_path)
    assert refused.code == 2
    assert "000009 has no sharp picture" in refused.stderr
    partial = evaluate(tmp_path, "--allow-partial")
    assert partial.code == 0
    assert "3/1111 pairs" in partial.stdout
    assert "left out, as they do not pair: 1" in partial.stdout


def test_frames_of_a_video_are_restored_in_order_with_the_networks_state(evaluate, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    gopro_video(tmp_path / "data", sequence="GOPR0384_11_00")
    gopro_video(tmp_path / "data")
    kept = evaluate(tmp_path / "data", "-m", "test-tiny-recurrent", "--json", tmp_path / "kept.json")
    anew = evaluate(tmp_path / "data", "-m", "test-tiny-recurrent", "--json", tmp_path / "anew.json", "--no-state")
    assert kept.code == anew.code == 0
    assert "state kept from frame to frame" in kept.stdout
    assert "state reset with each image" in anew.stdout
    assert "flicker" in kept.stdout
    assert "PSNR over sequences" in kept.stdout
    first, second = (json.loads((tmp_path / f"{name}.json").read_text())["models"][0] for name in ("kept", "anew"))
    # Without a state this network gives its input back; with one it mixes the frames before into it.
    gains = [image["gain"] for image in first["images"]]
    assert [gain == 0 for gain in gains] == [True, False, False, True, False, False]
    assert [image["gain"] for image in second["images"]] == [0] * 6
    assert [image["flicker"] is None for image in first["images"]] == [True, False, False] * 2


def test_only_the_sequences_that_are_asked_for(evaluate, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    gopro(tmp_path, count=2, sequence="GOPR0384_11_00")
    gopro(tmp_path, count=1)
    result = evaluate(tmp_path, "--sequence", "GOPR0384_11_00")
    assert result.code == 0
    assert "2/1111 pairs" in result.stdout
    assert "GOPR0410_11_00" not in result.stdout + result.stderr


def test_published_protocols_are_taken_and_named(evaluate, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    real_blur(tmp_path / "real", {"scene050": 2})
    kohler(tmp_path / "kohler", {(1, 1): 3, (2, 1): 2})
    for folder, name in (("real", "RealBlur-J test, 2/980 pairs"), ("kohler", "Köhler, 2/48 pairs")):
        result = evaluate(tmp_path / folder)
        assert result.code == 0, result.stderr
        assert name in result.stdout
        assert f"{'RealBlur' if folder == 'real' else 'Köhler'}'s protocol" in result.stdout
        assert "flicker" not in result.stdout
    assert "inf" in result.stdout  # one blurred picture is the sharp frame of its trajectory


def test_a_full_disk_is_no_wrong_usage(evaluate, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("deblur_cli.evaluation.journal.Journal", full)
    result = evaluate(gopro(tmp_path), "--journal", tmp_path / "journal")
    assert result.code == 1
    assert f"the journal '{tmp_path / 'journal'}': the disk is full; make room" in result.stderr


def test_a_run_that_was_interrupted_goes_on_where_it_was(evaluate, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    from deblur_cli.restoration.restorer import Restorer

    for number in range(4):
        write_pair(tmp_path / f"a/{number}.png", tmp_path / f"b/{number}.png", seed=number)
    folders = "--blurred", tmp_path / "a", "--sharp", tmp_path / "b"
    evaluate(*folders, "--csv", tmp_path / "whole.csv")
    restored = []
    restore = Restorer.restore_tensor

    def interrupted(self, blurred):  # type: ignore[no-untyped-def]
        if len(restored) == 2:
            raise KeyboardInterrupt
        restored.append(blurred)
        return restore(self, blurred)

    journal = tmp_path / "journal"
    with monkeypatch.context() as patch:
        patch.setattr(Restorer, "restore_tensor", interrupted)
        assert evaluate(*folders, "--journal", journal).code == 130
    assert len(journal.read_text().splitlines()) == 3
    resumed = evaluate(*folders, "--journal", journal, "--csv", tmp_path / "resumed.csv")
    assert resumed.code == 0
    assert resumed.stderr.splitlines()[0] == "test-tiny: 2 of 4 images are in the journal already"
    assert [line[:5] for line in resumed.stderr.splitlines()[1:]] == ["[1/2]", "[2/2]"]
    assert (tmp_path / "resumed.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    # Pictures that were never saved are restored again, and other conditions are other scores.
    saved = evaluate(*folders, "--journal", journal, "--save", tmp_path / "saved")
    assert "already" not in saved.stderr
    assert len(list((tmp_path / "saved").rglob("*.png"))) == 4
    other = evaluate(*folders, "--journal", journal, "--float")
    assert other.code == 2
    assert "run under other conditions (--float)" in other.stderr
    aligned = evaluate(*folders, "--journal", journal, "--align")
    assert aligned.code == 2
    assert "run under other conditions (--align)" in aligned.stderr


def test_pictures_that_changed_since_are_scored_again(evaluate, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for number in range(3):
        write_pair(tmp_path / f"a/{number}.png", tmp_path / f"b/{number}.png", seed=number)
    command = "--blurred", tmp_path / "a", "--sharp", tmp_path / "b", "--csv", tmp_path / "scores.csv"
    assert evaluate(*command, "--journal", tmp_path / "journal").code == 0
    write(tmp_path / "a/1.png", noise(7))
    assert "2 of 3 images are in the journal already" in evaluate(*command, "--journal", tmp_path / "journal").stderr
    resumed = (tmp_path / "scores.csv").read_bytes()
    assert "journal" not in evaluate(*command).stderr
    assert resumed == (tmp_path / "scores.csv").read_bytes()
    assert "3 of 3 images" in evaluate(*command, "--journal", tmp_path / "journal").stderr
    header = json.loads((tmp_path / "journal").read_text().splitlines()[0])
    assert header["conditions"]["device and precision"]["test-tiny"][0] == "cpu"


def test_a_recurrent_network_without_sequences_is_said_to_have_no_memory(evaluate, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    gopro_video(tmp_path / "data")
    frames = tmp_path / "data/test/GOPR0410_11_00"
    command = "-m", "test-tiny-recurrent", "-m", "test-tiny"
    flat = evaluate("--blurred", frames / "blur", "--sharp", frames / "sharp", *command)
    assert "note: test-tiny-recurrent: recurrent, but begins anew with each picture" in flat.stdout
    assert "test-tiny: recurrent" not in flat.stdout
    assert "begins anew" not in evaluate(tmp_path / "data", *command).stdout
    for number, name in enumerate(sorted(path.name for path in (frames / "blur").iterdir())):
        for kind in ("blur", "sharp"):
            (frames / kind / name).rename(frames / kind / f"{100 * number + 5:06}.png")
    gaps = evaluate(tmp_path / "data", *command).stdout
    assert "no sequences (a video's frames have their own folder and numbers in a row)" in gaps


def test_a_video_that_was_left_in_the_middle_begins_anew(evaluate, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    gopro_video(tmp_path / "data", sequence="GOPR0384_11_00")
    gopro_video(tmp_path / "data")
    command = tmp_path / "data", "-m", "test-tiny-recurrent", "--csv", tmp_path / "scores.csv"
    evaluate(*command)
    expected = (tmp_path / "scores.csv").read_bytes()
    journal = tmp_path / "journal"
    evaluate(*command, "--journal", journal)
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:6]))  # the first sequence, and two frames of the second
    resumed = evaluate(*command, "--journal", journal)
    assert "3 of 6 images are in the journal already" in resumed.stderr
    assert (tmp_path / "scores.csv").read_bytes() == expected


@pytest.mark.parametrize(
    "arguments, problem",
    [
        (["missing"], "there is no folder"),
        (["."], "holds no pairs in a layout of GOPRO"),
        ([], "name either a dataset's folder, or two folders"),
        (["data", "--blurred", "data"], "name either a dataset's folder, or two folders"),
        (["--blurred", "data"], "name either a dataset's folder, or two folders"),
        (["--blurred", "data/test", "--sharp", "data", "--split", "test"], "--split and --variant belong to"),
        (["data", "--split", "validation"], "--split"),
        (["data", "--split", "train"], "has no folder 'train', only 'test'"),
        (["data", "--limit", "1", "--require-complete"], "contradict"),
        (["data", "--limit", "0"], "--limit"),
        (
            ["data", "--sequence", "GOPR0410_11_00", "--require-complete"],
            "--sequence and --require-complete",
        ),
        (["data", "--sequence", "street"], "no sequence 'street'; its sequences: GOPR0410_11_00"),
        (["data", "--split", "val"], "has no folder 'val', only 'test'"),
        (["data", "--journal", "data"], "is a folder"),
        (["data", "--journal", "missing/journal"], "make 'missing' first"),
        (["data", "--journal", "notes"], "'notes' is no journal of deblur eval"),
        (["data", "--require-complete"], "GOPRO test is not complete: 3/1111 pairs"),
        (["data", "--csv", "data"], "is a folder"),
        (["data", "--csv", "-"], "--csv takes a file; the table goes to standard output already"),
        (["data", "--json", "missing/scores.json"], "make 'missing' first"),
        (["data", "--save", "data/test/restored"], "--save cannot be inside the pictures"),
        (["data", "--save", "file"], "--save takes a folder"),
        (["data", "--csv", "scores", "--json", "./scores"], "--csv and --json are both"),
        (["data", "--html", "scores", "--journal", "data/../scores"], "--html and --journal are both"),
        (["data", "--csv", "out", "--save", "out"], "--csv 'out' is in the way of --save"),
        (["data", "--json", "out", "--save", "out/pictures"], "--json 'out' is in the way of --save"),
        (["data", "--json", "test-tiny", "--save", "."], "--json 'test-tiny' is in the way of --save"),
        (["data", "--csv", "own/test-tiny/GOPR0410_11_00/000001.png", "--save", "own"], "--csv and --save would both"),
        (["data", "--tile", "many"], "tile"),
        (["data", "--device", "tpu"], "tpu"),
        (["data", "-m", "test-tiny", "-m", "no-such-network"], "no-such-network"),
    ],
)
def test_wrong_usage_is_one_line(evaluate, tmp_path, monkeypatch, arguments: list[str], problem: str) -> None:  # type: ignore[no-untyped-def]
    gopro(tmp_path / "data")
    (tmp_path / "file").write_text("")
    (tmp_path / "notes").write_text("mine\n")
    (tmp_path / "own/test-tiny/GOPR0410_11_00").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    result = evaluate(*arguments)
    assert result.code == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert problem in result.stderr


def test_the_validation_set(evaluate, shared_data: Path) -> None:  # type: ignore[no-untyped-def]
    result = evaluate(shared_data / "validation" / "gopro", "--split", "test", "--limit", 2)
    assert result.code == 0
    assert "2/1111 pairs, 1280×720" in result.stdout
    assert "sequences are not in GOPRO's test split: GOPR0374_11_00, GOPR0384_11_02" in result.stdout
