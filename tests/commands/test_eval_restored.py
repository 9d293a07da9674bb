"""`deblur eval --restored`: what other programs restored, beside networks or alone."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from tests.evaluation.pictures import gopro, noise, write


def test_pictures_alone_need_no_network(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    gopro(tmp_path / "data", count=2)
    results = tmp_path / "mprnet"
    for number in range(2):
        write(results / f"GOPR0410_11_00-{number:06}.png", noise(number))
    files = [tmp_path / f"scores.{kind}" for kind in ("csv", "json", "html")]
    told = ["--csv", str(files[0]), "--json", str(files[1]), "--html", str(files[2])]
    result = run(["eval", str(tmp_path / "data"), "--device", "cpu", "--restored", str(results), *told])
    assert result.code == 0
    assert "mprnet: pictures of" in result.stdout and "lite" not in result.stdout
    assert "restored identical to the sharp image: 2" in result.stdout
    rows = list(csv.DictReader(files[0].open(encoding="utf-8", newline="")))
    assert [(row["model"], row["psnr"], row["gain"]) for row in rows] == [("mprnet", "inf", "inf")] * 2
    (document,) = json.loads(files[1].read_text(encoding="utf-8"))["models"]
    assert document["pictures"] == str(results) and document["network"] is None
    assert document["milliseconds"] is None and [image["seconds"] for image in document["images"]] == [None, None]
    assert files[2].read_text(encoding="utf-8").count("data:image/webp") == 4


def test_beside_a_network_that_made_the_same_pictures(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    data = str(gopro(tmp_path / "data", count=2))
    network = ["eval", data, "--device", "cpu", "-m", "test-tiny"]
    assert run([*network, "--save", str(tmp_path / "saved")]).code == 0
    saved = tmp_path / "saved/test-tiny"
    journal, table = str(tmp_path / "run.journal"), tmp_path / "scores.csv"
    for _ in range(2):  # the second time the network's are in the journal
        result = run([*network, "--restored", str(saved), "--journal", journal, "--csv", str(table)])
        assert result.code == 0
        rows = list(csv.DictReader(table.open(encoding="utf-8", newline="")))
        assert [row.pop("model") for row in rows] == ["test-tiny"] * 2 + ["test-tiny#2"] * 2
        assert rows[:2] == rows[2:]
    assert "2 of 2 images are in the journal already" in result.stderr


def test_pictures_that_are_scored_are_not_saved_over(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    data = str(gopro(tmp_path / "data", count=1))
    picture = write(tmp_path / "out/test-tiny/GOPR0410_11_00/000000.png", noise(5))
    before = picture.read_bytes()
    scored = ["--restored", str(tmp_path / "out/test-tiny"), "--save", str(tmp_path / "out")]
    result = run(["eval", data, "--device", "cpu", "-m", "test-tiny", *scored])
    assert result.code == 2 and "would write over" in result.stderr
    assert picture.read_bytes() == before


def test_what_only_networks_have_is_refused(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    data = str(gopro(tmp_path / "data", count=1))
    for option in ("--save", "--journal"):
        result = run(["eval", data, "--restored", data, option, str(tmp_path / "there")])
        assert result.code == 2 and f"{option} is for what networks restore" in result.stderr
        assert not (tmp_path / "there").exists()


def test_a_picture_that_is_missing_is_said_before_anything_is_scored(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    data = str(gopro(tmp_path / "data", count=2))
    write(tmp_path / "out/GOPR0410_11_00/000000.png", noise(5))
    result = run(["eval", data, "--device", "cpu", "-m", "test-tiny", "--restored", str(tmp_path / "out")])
    assert result.code == 2
    assert "of 2 pictures 1 are missing" in result.stderr and "GOPR0410_11_00/000001 is missing" in result.stderr
    assert run(["eval", data, "--device", "cpu", "--restored", str(tmp_path / "out"), "--limit", "1"]).code == 0
