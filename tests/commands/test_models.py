"""`deblur models`: the list, one network whole, the README's table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.text import Text

from models import create_model, list_models, measure, registry, weights
from models.catalogue import FRAME, catalogue, entry, markdown_table
from models.measure import macs
from models.weights import save_weights

SCORES = {"GOPRO": {"psnr_blurred": 25.99, "psnr": 28.1, "gain": 2.11, "ssim": 0.86}}


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Shipped weights for a small nafnet, called nafnet:small, in an own folder; gives their SHA-256."""
    monkeypatch.setattr(weights, "SHIPPED_FOLDER", tmp_path)
    options = {"width": 2, "encoders": (1,), "middle": 0, "decoders": (1,)}
    path = tmp_path / "nafnet-small.safetensors"
    sha256 = save_weights(create_model("nafnet", **options), path, name="nafnet", options=options, card={})
    card: dict[str, Any] = {"model": "nafnet", "options": options, "sha256": sha256, "recipe": "nafnet-gopro"}
    card |= {"data": "photos, 3,000 of them", "steps": 1234, "scores": SCORES, "licence": "Apache-2.0"}
    path.with_suffix(".json").write_text(json.dumps(card))
    return sha256


def test_the_list_has_a_line_a_network(run: Callable[..., Any], shipped: str) -> None:
    result = run(["models"])
    assert result.code == 0 and result.stderr == ""
    heading, *lines = [line.split("  ") for line in result.stdout.splitlines()]
    assert "size" in " ".join(heading) and len(lines) == len(list_models())
    rows = {line[0].strip(): [cell.strip() for cell in line if cell.strip()] for line in lines}
    assert next(iter(rows)) == "lite (default)"
    assert rows["nafnet"] == ["nafnet", "17.1 M", "226", "medium", "no", "nafnet:small", "GOPRO 28.10 dB (+2.11)"]
    assert "none" in rows["lite (default)"]
    assert "test-tiny" not in result.stdout


def test_eighty_columns_cut_nothing(run: Callable[..., Any], shipped: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as a terminal to rich
    monkeypatch.setenv("COLUMNS", "80")
    for arguments in (["models"], ["models", "nafnet"]):
        stdout = run(arguments).stdout
        assert "…" not in stdout and max(len(line) for line in Text.from_ansi(stdout).plain.splitlines()) <= 80
        assert "nafnet:small" in stdout and "28.10" in stdout and "+2.11" in stdout


def test_one_network_whole(run: Callable[..., Any], shipped: str) -> None:
    result = run(["models", "nafnet"])
    assert result.code == 0 and result.stderr == ""
    for part in (
        "U-Net of gated blocks",
        "https://arxiv.org/abs/2204.04676",
        "17,111,907",
        "encoders=(1, 1, 1, 28)",
        "multiples of 16",
        "tile overlap    192 pixels",
        "half precision  not by itself",
        "GOPRO, width 64",
        "33.69 dB, 0.9668 (SSIM, MATLAB's kind)",
        "weights nafnet:small",
        shipped,
        "nafnet-gopro",
        "photos, 3,000 of them",
        "1234",
        "GOPRO 28.10 dB (+2.11)",
        "Apache-2.0",
    ):
        assert part in result.stdout


def test_a_pipe_gets_a_line_a_fact_without_padding(run: Callable[..., Any], shipped: str) -> None:
    card = weights.shipped_weights("nafnet")[0].path.with_suffix(".json")
    note = "how it was made, " * 100 + "and when"
    card.write_text(json.dumps({**json.loads(card.read_text()), "note": note}))
    lines = run(["models", "nafnet"]).stdout.splitlines()
    assert [line for line in lines if note in line] and not [line for line in lines if line.endswith(" ")]


def test_the_smallest_network_has_a_size(run: Callable[..., Any]) -> None:
    (line,) = [line for line in run(["models"]).stdout.splitlines() if line.startswith("cnn ")]
    assert line.split()[1] == "0.02"


def test_a_network_without_weights_says_so(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "SHIPPED_FOLDER", tmp_path)
    stdout = run(["models", "lite"]).stdout
    assert "no weights are shipped" in stdout
    assert "deblur train --recipe lite (or lite-estimate, lite-further, lite-gains) --data DIR" in " ".join(
        stdout.split()
    )
    assert "-m FILE" in stdout and "-m hf:OWNER/REPO" in stdout
    assert "deblur train --recipe FILE.toml" in run(["models", "test-tiny"]).stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nafnte"], "did you mean nafnet?"),
        (["zzzz"], "there are "),
        (["nafnet", "--markdown"], "leave out the name"),
        (["--check", "--markdown"], "choose one"),
        (["nafnte", "--check"], "did you mean nafnet?"),
    ],
)
def test_wrong_usage_is_one_line(run: Callable[..., Any], arguments: list[str], complaint: str) -> None:
    result = run(["models", *arguments])
    assert result.code == 2 and result.stdout == ""
    assert complaint in result.stderr and len(result.stderr.splitlines()) == 1


def test_the_markdown_table(run: Callable[..., Any], shipped: str) -> None:
    lines = run(["models", "--markdown"]).stdout.splitlines()
    assert "\n".join(lines) == markdown_table()
    assert {line.count("|") for line in lines} == {10}
    assert lines[2].startswith("| `lite` (default) | ") and "28.10 dB (+2.11)" in markdown_table()
    assert [line.split("`")[1] for line in lines[2:]] == [entry.info.name for entry in catalogue()]


def test_speed_classes_follow_the_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))

    def wide(channels: int) -> Callable[[], torch.nn.Module]:
        return lambda: torch.nn.Conv2d(3, channels, 1)  # 3 · channels multiply-accumulates a pixel

    for name, channels in (("slight", 1_000), ("middling", 100_000), ("heavy", 1_000_000)):
        registry.register_model(name, "a single layer")(wide(channels))
    found = {entry.info.name: entry for entry in catalogue()}
    assert found["middling"].gmacs == pytest.approx(3 * 100_000 * 1280 * 720 / 1e9)
    assert [found[name].speed for name in ("slight", "middling", "heavy")] == ["fast", "medium", "slow"]


@pytest.mark.parametrize("name", ["cnn", "lite", "nafnet"])
def test_what_a_frame_costs_is_told_without_counting(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = entry(name)
    with monkeypatch.context() as patched:
        patched.delattr(measure, "macs")
        assert found.gmacs > 0
    with torch.device("meta"):
        network = registry.create_model(name).eval()
    counted = macs(network, *(found.info.padded(side) for side in FRAME)) / 1e9
    assert found.gmacs == pytest.approx(counted, rel=0.05)


def test_checked_networks_are_a_line_each(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTRY", {"test-tiny": registry._REGISTRY["test-tiny"]})
    result = run(["models", "test-tiny", "--check"])
    assert result.code == 0 and result.stderr == ""
    heading, line = result.stdout.splitlines()
    assert heading.split() == ["network", "parameters", "GMACs", "seconds", "result"]
    assert line.split()[:3] == ["test-tiny", "443", "0.03"]
    assert line.endswith("  pass (no figure for parameters or GMACs is registered)")

    registry.register_model("right", "a layer", parameters=84)(lambda: torch.nn.Conv2d(3, 3, 3, padding=1))
    registry.register_model("wrong", "a layer", parameters=85)(lambda: torch.nn.Conv2d(3, 3, 3, padding=1))
    registry.register_model("worse", "none", parameters=85)(lambda: None)
    result = run(["models", "--check"])
    assert result.code == 1 and result.stderr == ""
    right, worse, wrong = result.stdout.splitlines()[1:]  # networks for tests are not among them
    assert right.startswith("right") and right.endswith("  pass (no figure for GMACs is registered)")
    assert wrong.startswith("wrong") and wrong.endswith("  FAIL: 84 parameters, where 85 are registered")
    assert worse.split()[:5] == ["worse", "–", "–", "–", "FAIL:"]
