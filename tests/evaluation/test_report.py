"""What reports say of protocols, sequences and published figures."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from deblur_cli.evaluation.benchmark import BenchmarkResult, Failure, ImageResult
from deblur_cli.evaluation.datasets import Dataset, Pair, Protocol
from deblur_cli.evaluation.metrics import Scores
from deblur_cli.evaluation.report import ModelReport, Report, build_notes, build_sequence_table, build_table
from deblur_cli.evaluation.report_files import write_csv, write_json
from models.registry import Score


def pairs(sequences: dict[str, int]) -> tuple[Pair, ...]:
    return tuple(
        Pair(sequence, f"{number:06}", Path("blurred"), Path("sharp"), (20, 16))
        for sequence, count in sequences.items()
        for number in range(count)
    )


def report(
    sequences: dict[str, int], *, name: str = "GOPRO", split: str = "test", protocol: Protocol = "pixelwise"
) -> Report:
    """The first sequence restored to 30 dB and the others to 20, from 10; a flicker of 0.5 from 2 in videos."""
    dataset = Dataset(name, split, "blur", pairs(sequences), (), expected=1111, protocol=protocol)
    first = dataset.pairs[0].sequence
    images = [
        ImageResult(
            pair,
            Scores(30.0 if pair.sequence == first else 20.0, 0.9, 0.95),
            Scores(10.0, 0.5, 0.6),
            0.1,
            *((0.5, 2.0) if dataset.video and pair.name != "000000" else (None, None)),
        )
        for pair in dataset.pairs
    ]
    published = (
        Score("GOPRO", 32.5, 0.957, "", "width 32"),
        Score("GOPRO", 31.5, 0.9, "ssim"),
        Score("Köhler", 26.75, 0.837, ""),
    )
    model = ModelReport(
        label="tiny",
        network="test-tiny",
        options={},
        weights=None,
        sha256=None,
        published=published,
        device="cpu",
        hardware="x86",
        threads=1,
        precision="fp32",
        tile="auto",
        overlap=None,
        result=BenchmarkResult(tuple(images), ()),
        state="kept",
    )
    return Report(dataset, True, (model,))


def test_a_folder_that_is_called_like_a_published_set_has_no_published_figures() -> None:
    found = report({"a": 2}, name="gopro")
    found = replace(found, dataset=replace(found.dataset, expected=None))
    assert not found.published_known
    assert not any("published" in note for note in build_notes(found))


def text(table: Table | None) -> str:
    assert table is not None
    console = Console(width=300, file=io.StringIO(), record=True)
    console.print(table)
    return console.export_text()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("│\n ").split("│")]


def test_means_over_images_and_over_sequences_stand_side_by_side() -> None:
    lines = text(build_table(report({"a": 3, "b": 1}))).splitlines()
    headings, blurred, ours = (cells(lines[number].replace("┃", "│")) for number in (1, 3, 4))
    assert headings[headings.index("PSNR dB") :][:5] == [
        "PSNR dB",
        "ssim",
        "ssim_matlab",
        "PSNR over sequences",
        "flicker",
    ]
    assert blurred[:6] == ["blurred input", "10.00", "0.5000", "0.6000", "10.00", "2.000"]
    assert ours[:6] == ["tiny", "27.50", "0.9000", "0.9500", "25.00", "0.500"]


def test_each_sequence_has_a_row_where_there_are_several_and_not_too_many() -> None:
    rows = [cells(line) for line in text(build_sequence_table(report({"a": 3, "b": 1}))).splitlines()[3:5]]
    assert rows == [["a", "3", "10.00", "30.00"], ["b", "1", "10.00", "20.00"]]
    assert build_sequence_table(report({"a": 3})) is None
    assert build_sequence_table(report({str(number): 1 for number in range(31)})) is None


def test_sets_that_are_no_videos_have_no_flicker() -> None:
    stills = report({"": 3})
    assert "flicker" not in text(build_table(stills))
    assert not any("flicker" in note for note in build_notes(stills))
    assert any("flicker is the mean change" in note for note in build_notes(report({"a": 3})))


@pytest.mark.parametrize(
    "name, split, protocol, shown",
    [
        ("GOPRO", "test", "pixelwise", ["32.50 dB, 0.9570 (SSIM, kind unknown), width 32", "31.50 dB, 0.9000 (SSIM)"]),
        ("GOPRO", "train", "pixelwise", []),
        ("Köhler", "", "Köhler", ["26.75 dB, 0.8370 (SSIM, kind unknown)"]),
        ("streets", "", "pixelwise", []),
        ("GOPRO", "test", "aligned", []),
    ],
)
def test_published_figures_stand_beside_scores_of_their_own_set(
    name: str, split: str, protocol: Protocol, shown: list[str]
) -> None:
    found = report({"a": 2}, name=name, split=split, protocol=protocol)
    table = text(build_table(found))
    assert found.published_known == bool(shown)
    for figure in ("32.50 dB", "31.50 dB", "26.75 dB"):
        assert (figure in table) == any(figure in one for one in shown)
    assert all(one in table for one in shown)
    assert any("is most often multi-scale" in note for note in build_notes(found)) == (name == "Köhler")


def test_published_figures_may_be_for_the_other_variant() -> None:
    found = report({"a": 2})
    gamma = replace(found, dataset=replace(found.dataset, variant="blur_gamma"))
    said = [any("may be for the other one" in note for note in build_notes(one)) for one in (found, gamma)]
    assert said == [False, True]
    unpublished = replace(gamma, models=(replace(gamma.models[0], published=()),))
    assert not any("other one" in note for note in build_notes(unpublished))


def test_a_pair_of_infinite_psnr_is_in_no_mean_of_any_row(tmp_path: Path) -> None:
    found = report({"a": 4, "b": 1})
    first, second, third, *others = found.models[0].result.images
    perfect = Scores(math.inf, 1.0, 1.0)
    # One is sharp already, and made worse; one is restored without a fault by another network alone.
    sharp = replace(first, blurred=perfect)
    own, other = (sharp, second, third, *others), (sharp, replace(second, restored=perfect), third, *others)
    far = replace(third, blurred=Scores(20.0, 0.5, 0.6))
    models = [
        replace(found.models[0], label=label, published=(), result=BenchmarkResult((*images[:2], far, *images[3:]), ()))
        for label, images in (("own", own), ("other", other))
    ]
    both = replace(found, models=tuple(models))
    rows = [cells(line) for line in text(build_table(both)).splitlines()[3:6]]
    assert [row[1] for row in rows] == ["13.33", "26.67", "26.67"]
    assert [row[4] for row in rows] == ["12.50", "25.00", "25.00"]
    assert [row[6] for row in rows[1:]] == ["+13.33", "+13.33"]
    assert [row[8] for row in rows[1:]] == ["+10.00", "+10.00"]
    assert cells(text(build_sequence_table(both)).splitlines()[3]) == ["a", "4", "15.00", "30.00", "30.00"]
    assert any("left out of every mean of PSNR and gain: 2" in note for note in build_notes(both))
    write_json(both, tmp_path / "scores.json")
    document = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    for one in document["models"]:
        assert one["restored"]["psnr"] - one["blurred"]["psnr"] == pytest.approx(one["gain"])
        assert one["sequences"][0]["restored"]["psnr"] == 30
    alone = models[0].result
    assert alone.restored.psnr - alone.blurred.psnr == pytest.approx(alone.gain)
    assert alone.worst is not None and alone.worst.gain == 10


def test_thousands_of_sequences_are_told_apart_in_one_pass() -> None:
    looks = 0

    class Watched(Pair):
        def __getattribute__(self, name: str) -> object:
            nonlocal looks
            looks += name == "sequence"
            return super().__getattribute__(name)

    scores = Scores(30.0, 0.9, 0.95)
    found = [Watched(f"{number % 50}", f"{number}", Path("b"), Path("s"), (20, 16)) for number in range(100)]
    result = BenchmarkResult(tuple(ImageResult(pair, scores, scores, 0.1) for pair in found), ())
    looks = 0
    sequences = list(result.sequences.values())
    assert looks == len(found)
    assert [image.pair.name for image in sequences[1]] == ["1", "51"] and len(sequences) == 50


def test_a_sequence_of_infinite_psnr_is_in_no_mean_over_sequences() -> None:
    found = report({"a": 2, "b": 2})
    own = replace(found.models[0], published=())
    images = [
        replace(image, restored=Scores(math.inf, 1.0, 1.0)) if image.pair.sequence == "b" else image
        for image in own.result.images
    ]
    other = replace(own, label="other", result=BenchmarkResult(tuple(images), ()))
    lines = text(build_table(replace(found, models=(own, other)))).splitlines()[3:6]
    assert [cells(line)[4] for line in lines] == ["10.00", "30.00", "30.00"]


def test_where_all_pairs_are_sharp_already_the_restored_pictures_have_a_mean(tmp_path: Path) -> None:
    found = report({"a": 3})
    perfect = Scores(math.inf, 1.0, 1.0)
    images = [replace(image, blurred=perfect) for image in found.models[0].result.images]
    images[0] = replace(images[0], restored=perfect)
    model = replace(found.models[0], published=(), result=BenchmarkResult(tuple(images), ()))
    sharp = replace(found, models=(model,))
    rows = [cells(line)[1] for line in text(build_table(sharp)).splitlines()[3:5]]
    assert rows == ["inf", "30.00"]
    assert any("means of PSNR are of the finite ones" in note for note in build_notes(sharp))
    write_json(sharp, tmp_path / "scores.json")
    (document,) = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))["models"]
    assert document["restored"]["psnr"] == document["over_sequences"]["psnr"] == 30 and document["gain"] is None


@pytest.mark.parametrize(
    "protocol, words",
    [
        ("pixelwise", "compared pixel by pixel"),
        ("Köhler", "Köhler's protocol (scaled in intensity, moved by whole pixels, luminance"),
        ("RealBlur", "RealBlur's protocol (scaled in intensity, laid on by an ECC homography"),
        ("aligned", "aligned as RealBlur is (scaled in intensity, laid on by an ECC homography"),
    ],
)
def test_scores_name_their_protocol(protocol: Protocol, words: str, tmp_path: Path) -> None:
    found = report({"a": 2}, name="set", split="", protocol=protocol)
    assert words in build_notes(found)[0]
    write_json(found, tmp_path / "scores.json")
    document = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert document["protocol"]["name"] == protocol
    assert document["protocol"]["description"].startswith(words)
    assert document["date"][:2] == "20"


def test_at_most_ten_failed_images_are_named_and_the_protocol_counts_what_was_scored() -> None:
    found = report({"a": 12, "b": 1})
    (model,) = found.models
    lines = {}
    for count in (0, 10, 12):
        failures = tuple(Failure(image.pair, "cannot be read") for image in model.result.images[:count])
        result = BenchmarkResult(model.result.images[count:], failures)
        lines[count] = build_notes(replace(found, models=(replace(model, result=result),)))
    assert "13/1111 pairs, 20×16" in lines[0][0] and not any("failed" in line for line in lines[0])
    assert "13/1111 pairs (3 scored)" in lines[10][0] and "13/1111 pairs (1 scored)" in lines[12][0]
    ten = ", ".join(f"a/{number:06}" for number in range(10))
    assert f"note: tiny: failed and in no mean: 10: {ten}" in lines[10]
    assert f"note: tiny: failed and in no mean: 12: {ten} and 2 more" in lines[12]


def test_files_hold_sequences_and_flicker_and_no_times_where_scores_are_compared(tmp_path: Path) -> None:
    found = report({"a": 3, "b": 1})
    write_json(found, tmp_path / "scores.json")
    model = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))["models"][0]
    assert [
        (one["sequence"], one["images"], one["restored"]["psnr"], one["flicker"]) for one in model["sequences"]
    ] == [
        ("a", 3, 30, 0.5),
        ("b", 1, 20, None),
    ]
    assert (model["over_sequences"]["psnr"], model["flicker"], model["state"]) == (25, 0.5, "kept")
    slower = [replace(image, seconds=7.0) for image in found.models[0].result.images]
    again = replace(found, models=(replace(found.models[0], result=BenchmarkResult(tuple(slower), ())),))
    for name, one in (("first", found), ("second", again)):
        write_csv(one, tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    with (tmp_path / "first").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["flicker"] for row in rows] == ["", "0.5", "0.5", ""]
