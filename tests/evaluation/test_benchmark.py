"""The benchmark with a stand-in for the restorer, and what the reports say of it."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from torch import Tensor

from deblur_cli.errors import OutOfMemoryError
from deblur_cli.evaluation import benchmark as module
from deblur_cli.evaluation.benchmark import BenchmarkResult, Failure, ImageResult, benchmark
from deblur_cli.evaluation.datasets import Dataset, Pair, find_pairs, pair_folders
from deblur_cli.evaluation.metrics import Scores, score
from deblur_cli.evaluation.report import ModelReport, Report, build_notes, build_table, describe
from deblur_cli.evaluation.report_files import write_csv, write_json
from deblur_cli.evaluation.summaries import summarise
from models.registry import Score
from models.weights import load_model
from tests.evaluation.pictures import gopro, noise, write, write_pair


class StandIn:
    """What the benchmark needs of a restorer; `work` maps the blurred image to the restored one."""

    device = torch.device("cpu")
    precision = "fp32"

    def __init__(self, work: Callable[[Tensor], Tensor] = lambda blurred: blurred) -> None:
        self.work = work
        self.model = load_model("test-tiny")

    def restore_tensor(self, blurred: Tensor) -> Tensor:
        assert blurred.dtype == torch.float32
        assert 0 <= float(blurred.min()) <= float(blurred.max()) <= 1
        return self.work(blurred)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Three pairs whose blurred picture is 8 off everywhere: 10 log10(255² / 64) = 30.0690 dB."""
    return find_pairs(gopro(tmp_path / "data"))


def run(dataset: Dataset, work: Callable[[Tensor], Tensor] = lambda blurred: blurred, **options: object):  # type: ignore[no-untyped-def]
    return benchmark(StandIn(work), dataset, **options)  # type: ignore[arg-type]


def test_a_network_that_changes_nothing_gains_nothing(dataset: Dataset) -> None:
    result = run(dataset)
    assert not result.failures
    assert [image.pair for image in result.images] == list(dataset.pairs)
    assert result.restored == result.blurred
    assert result.restored.psnr == pytest.approx(30.0690, abs=1e-4)
    assert result.gain == 0
    assert result.milliseconds > 0


def test_scores_are_those_of_the_metrics(dataset: Dataset) -> None:
    result = run(dataset, lambda blurred: blurred * 0.77)
    for image in result.images:
        blurred, sharp = (
            torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None]
            for path in (image.pair.blurred, image.pair.sharp)
        )
        rounded = torch.floor(blurred.double() / 255 * 0.77 * 255 + 0.5)
        assert vars(image.restored) == pytest.approx(vars(score(rounded, sharp, data_range=255)[0]), abs=1e-5)
        assert image.gain == pytest.approx(image.restored.psnr - 30.0690, abs=1e-4)
    assert result.worst is min(result.images, key=lambda image: image.gain)


def test_without_rounding_the_networks_own_values_count(dataset: Dataset) -> None:
    def between(blurred: Tensor) -> Tensor:
        return (blurred + 0.4 / 255).clamp(0, 1)

    assert run(dataset, between).restored == run(dataset).restored
    assert run(dataset, between, rounding=False).restored.psnr != pytest.approx(30.0690, abs=1e-4)


def test_identical_images_are_kept_out_of_the_mean(tmp_path: Path) -> None:
    pixels = noise(0)
    for side in ("blurred", "sharp"):
        write(tmp_path / side / "same.png", pixels)
    write_pair(tmp_path / "blurred/other.png", tmp_path / "sharp/other.png", seed=1)
    result = run(pair_folders(tmp_path / "blurred", tmp_path / "sharp"))
    assert result.restored.identical == 1
    assert result.restored.psnr == pytest.approx(30.0690, abs=1e-4)
    assert result.gain == 0
    assert [image.gain for image in result.images] == [0, 0]


def test_one_bad_picture_is_a_failure_and_not_the_end(dataset: Dataset) -> None:
    broken = dataset.pairs[1]
    broken.blurred.write_bytes(broken.blurred.read_bytes()[:200])
    seen: list[ImageResult | Failure] = []
    result = run(dataset, progress=seen.append)
    assert [failure.pair for failure in result.failures] == [broken]
    assert "cannot be read" in result.failures[0].reason
    assert len(result.images) == 2
    assert [one.pair for one in seen] == list(dataset.pairs)


def test_what_the_restorer_cannot_do_is_a_failure(dataset: Dataset) -> None:
    def out_of_memory(blurred: Tensor) -> Tensor:
        raise OutOfMemoryError("not even a small tile fits")

    result = run(dataset, out_of_memory)
    assert [failure.reason for failure in result.failures] == ["not even a small tile fits"] * 3
    assert math.isnan(result.restored.psnr) and math.isnan(result.gain) and math.isnan(result.milliseconds)
    assert result.worst is None
    assert "not finite" in run(dataset, lambda blurred: blurred * math.nan).failures[0].reason


def test_no_memory_beside_the_restorer_is_a_failure(dataset: Dataset) -> None:
    known = {pair: run(dataset).images[number] for number, pair in enumerate(dataset.pairs)}
    seen: list[int] = []

    def lpips(image: Tensor, sharp: Tensor) -> float:
        seen.append(1)
        if len(seen) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 0.5

    result = run(dataset, known=known, lpips=lpips)
    assert [failure.pair for failure in result.failures] == [dataset.pairs[1]]
    assert "memory" in result.failures[0].reason
    assert [image.lpips for image in result.images] == [0.5, 0.5]


def test_a_fault_in_a_network_is_no_failure_of_a_picture(dataset: Dataset) -> None:
    def fault(blurred: Tensor) -> Tensor:
        raise RuntimeError("a fault")

    with pytest.raises(RuntimeError, match="a fault"):
        run(dataset, fault)


def test_known_scores_are_not_taken_again(dataset: Dataset) -> None:
    scores = Scores(1.0, 0.1, 0.2)
    made_up = {pair: ImageResult(pair, scores, scores, 0.1) for pair in dataset.pairs[:2]}
    result = run(dataset, known=made_up)
    assert [image.blurred.psnr for image in result.images] == [1.0, 1.0, pytest.approx(30.0690, abs=1e-4)]


def test_restored_pictures_are_saved(dataset: Dataset, tmp_path: Path) -> None:
    run(dataset, lambda blurred: 1 - blurred, save=tmp_path / "saved")
    for pair in dataset.pairs:
        saved = np.asarray(Image.open(tmp_path / "saved" / pair.sequence / f"{pair.name}.png"))
        assert np.array_equal(saved, 255 - np.asarray(Image.open(pair.blurred)))
    assert len([path for path in (tmp_path / "saved").rglob("*") if path.is_file()]) == 3


def test_a_full_disk_is_said(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Image.Image, *arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space left"):
        run(dataset, save=tmp_path / "saved")
    assert not [path for path in (tmp_path / "saved").rglob("*") if path.is_file()]


def test_no_pair_is_read_while_one_is_restored(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding would take the processor from the network and lengthen its times."""
    events: list[str] = []
    read = module._read

    def reading(pair: Pair) -> tuple[Tensor, Tensor]:
        events.append("read")
        return read(pair)

    def restoring(blurred: Tensor) -> Tensor:
        events.append("restore")
        return blurred

    monkeypatch.setattr(module, "_read", reading)
    run(dataset, restoring)
    assert events == ["read", "restore"] * 3


@pytest.mark.parametrize("count, warm_up", [(0, 0), (1, 0), (4, 0), (5, 1), (10, 2), (24, 4), (25, 5), (1111, 5)])
def test_first_images_warm_up_and_the_median_is_of_the_rest(dataset: Dataset, count: int, warm_up: int) -> None:
    scores = Scores(30.0, 0.9, 0.9)
    images = [
        ImageResult(dataset.pairs[0], scores, scores, 9.0 if index < warm_up else 0.5 + 0.001 * (index == count - 1))
        for index in range(count)
    ]
    result = BenchmarkResult(tuple(images), ())
    assert result.warm_up == warm_up
    if count > 1:
        assert result.milliseconds == pytest.approx(500, abs=1)


def test_means_do_not_depend_on_the_order() -> None:
    scores = [Scores(10.0 + 0.1 * index, 0.1 * index, 0.01 * index) for index in range(10)]
    assert summarise(scores) == summarise(scores[::-1])
    assert summarise([*scores, Scores(math.inf, 1, 1)]).psnr == summarise(scores).psnr
    assert summarise([Scores(math.inf, 1, 1)]).psnr == math.inf


def report_on(dataset: Dataset, result: BenchmarkResult, **changes: object) -> Report:
    model = describe(StandIn(), result, label="tiny", tile="auto", overlap=None, notes=["tiles were shrunk"])  # type: ignore[arg-type]
    return Report(dataset, True, (replace(model, **changes),))  # type: ignore[arg-type]


def rendered(report: Report) -> str:
    console = Console(width=300, file=io.StringIO(), record=True)
    console.print(build_table(report))
    return console.export_text()


def test_the_table_shows_the_input_the_network_and_the_gain(dataset: Dataset) -> None:
    text = rendered(report_on(dataset, run(dataset)))
    lines = text.splitlines()
    assert [heading in lines[1] for heading in ("PSNR dB", "ssim", "ssim_matlab", "gain dB", "ms/image")] == [True] * 5
    assert "blurred input" in lines[3] and "30.07" in lines[3]
    assert "tiny" in lines[4] and "+0.00" in lines[4]
    assert "published" not in text


def test_published_figures_stand_apart_and_name_their_ssim(dataset: Dataset) -> None:
    published = (Score("GOPRO", 28.70, 0.958, "cw", "paper"), Score("Köhler", 25.86, 0.802), Score("GOPRO", 30.0))
    report = report_on(dataset, run(dataset), published=published)
    assert "28.70 dB, 0.9580 (SSIM, complex wavelet), paper" in rendered(report)
    assert "25.86" not in rendered(report)
    assert any("complex wavelet" in note for note in build_notes(report))
    elsewhere = replace(report, dataset=replace(dataset, name="streets"))
    assert "28.70" not in rendered(elsewhere)


def test_the_notes_say_what_decides_the_numbers(dataset: Dataset) -> None:
    dataset = replace(dataset, left_out=("x has no sharp picture",), notes=("a sentence",))
    failed = BenchmarkResult(run(dataset).images[:2], (Failure(dataset.pairs[2], "cannot be read"),))
    notes = "\n".join(build_notes(report_on(dataset, failed, sha256="0123456789abcdef", weights="tiny.safetensors")))
    for part in (
        "GOPRO test, variant blur, 3/1111 pairs (2 scored), 20×16, rounded to 8 bits",
        f"torch {torch.__version__}",
        "weights tiny.safetensors sha256 0123456789ab,",
        "device cpu",
        "precision fp32",
        "tile auto",
        "note: a sentence",
        "not the whole of GOPRO",
        "left out, as they do not pair: 1, such as: x has no sharp picture",
        "tiny: tiles were shrunk",
        "failed and in no mean: 1",
        "worst is GOPR0410_11_00/000000 with +0.00 dB",
    ):
        assert part in notes
    assert "untrained" in "\n".join(build_notes(report_on(dataset, failed)))


def test_csv_has_a_row_an_image(dataset: Dataset, tmp_path: Path) -> None:
    images = run(dataset).images[:2]
    failed = BenchmarkResult(images, (Failure(dataset.pairs[2], "cannot, be read"),))
    write_csv(report_on(dataset, failed), tmp_path / "scores.csv")
    with (tmp_path / "scores.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["model"], row["sequence"], row["name"]) for row in rows] == [
        ("tiny", "GOPR0410_11_00", f"{number:06}") for number in range(3)
    ]
    for row, image in zip(rows, images, strict=False):
        assert float(row["psnr"]) == image.restored.psnr
        assert float(row["ssim_matlab"]) == image.restored.ssim_matlab
        assert float(row["blurred_ssim"]) == image.blurred.ssim
        assert (row["width"], row["height"], row["error"]) == ("20", "16", "")
    assert (rows[2]["psnr"], rows[2]["error"]) == ("", "cannot, be read")


def test_json_holds_everything_and_is_valid(tmp_path: Path) -> None:
    pixels = noise(0)
    for side in ("blurred", "sharp"):
        write(tmp_path / side / "same.png", pixels)
    dataset = pair_folders(tmp_path / "blurred", tmp_path / "sharp")
    write_json(report_on(dataset, run(dataset), published=(Score("GOPRO", 30.0),)), tmp_path / "scores.json")

    def invalid(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    found = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"), parse_constant=invalid)
    assert found["dataset"]["coverage"] == "1"
    assert found["protocol"]["rounded_to_8_bits"] is True
    assert found["versions"]["torch"] == torch.__version__
    (model,) = found["models"]
    assert (model["label"], model["network"], model["device"], model["precision"]) == (
        "tiny",
        "test-tiny",
        "cpu",
        "fp32",
    )
    assert (model["sha256"], model["tile"], model["notes"]) == (None, "auto", ["tiles were shrunk"])
    assert model["restored"] == {"psnr": "inf", "ssim": 1.0, "ssim_matlab": 1.0, "ms_ssim": None, "identical": 1}
    assert model["gain"] is None  # of no image is it finite on both sides
    assert model["images"][0]["restored"]["psnr"] == "inf"
    assert model["published"][0]["psnr"] == 30.0


def test_reports_are_replaced_whole_or_not_at_all(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = report_on(dataset, run(dataset))
    target = tmp_path / "scores.json"
    write_json(report, target)
    before = target.read_bytes()
    broken = replace(report, models=(replace(report.models[0], options={"what": object()}),))
    with pytest.raises(TypeError):
        write_json(broken, target)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_csv(report, target)
    assert target.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["scores.json"]


def test_the_row_of_the_input_covers_what_any_network_was_scored_on(dataset: Dataset) -> None:
    images = run(dataset).images
    parts = [
        ModelReport(**(vars(report_on(dataset, BenchmarkResult(one, ())).models[0]) | {"label": label}))
        for label, one in (("a", images[:1]), ("b", images[1:]))
    ]
    assert set(Report(dataset, True, tuple(parts)).blurred_scores) == set(dataset.pairs)
