"""Weights on disk: what is found, what is recognised, and what is refused, each in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from models import ModelError, create_model, list_models, load_model, model_info, registry, weights
from models.weights import save_weights, shipped_weights, untrained_model
from tests.models.helpers import refusal, small

NAFNET = {"width": 2, "encoders": (1,), "middle": 1, "decoders": (1,)}
Save = Callable[..., Path]


@pytest.fixture
def nafnet_file(tmp_path: Path) -> Path:
    torch.save({"params": small("nafnet", **NAFNET).state_dict()}, tmp_path / "public.pth")
    return tmp_path / "public.pth"


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Save:
    """An own folder of shipped weights, and a function that puts a test-tiny of a given width there."""
    folder = tmp_path / "shipped"
    folder.mkdir()
    monkeypatch.setattr(weights, "SHIPPED_FOLDER", folder)

    def save(stem: str, *, width: int = 4, **card: Any) -> Path:
        path = folder / f"{stem}.safetensors"
        options = {"width": width}
        sha256 = save_weights(small(width=width), path, name="test-tiny", options=options, card={})
        card = {"model": "test-tiny", "options": options, "sha256": sha256, **card}
        path.with_suffix(".json").write_text(json.dumps(card))
        return path

    return save


# --- our own files


@pytest.mark.parametrize("dtype", [None, torch.float16, torch.bfloat16])
def test_saved_weights_come_back(tmp_path: Path, dtype: torch.dtype | None) -> None:
    network = small(width=5)
    card = {"recipe": "lite", "steps": 7, "scores": {"GOPRO": {"psnr": 28.0}}, "licence": "Apache-2.0 ×"}
    sha256 = save_weights(
        network, tmp_path / "mine.safetensors", name="test-tiny", options={"width": 5}, card=card, dtype=dtype
    )

    loaded = load_model(tmp_path / "mine.safetensors")

    assert loaded.info.name == "test-tiny" and loaded.options == {"width": 5}
    assert loaded.card == card and loaded.sha256 == sha256 and loaded.label == "mine.safetensors"
    assert not loaded.network.training
    for key, tensor in network.state_dict().items():
        expected = tensor.to(dtype).float() if dtype else tensor
        found = loaded.network.state_dict()[key]
        assert found.dtype == torch.float32 and torch.equal(found, expected)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.safetensors"]


def test_equal_weights_make_equal_files(tmp_path: Path) -> None:
    saved = {
        save_weights(small(), tmp_path / f"{number}.safetensors", name="test-tiny", options={}, card={"steps": 1})
        for number in range(8)
    }
    assert len(saved) == 1


def test_any_safetensors_reader_takes_the_file(tmp_path: Path) -> None:
    network = small()
    save_weights(network, tmp_path / "a.safetensors", name="test-tiny", options={}, card={"note": "naïve"})
    tensors = safetensors.torch.load_file(tmp_path / "a.safetensors")
    assert tensors.keys() == network.state_dict().keys()
    assert all(torch.equal(tensors[key], tensor) for key, tensor in network.state_dict().items())


def test_lists_in_stored_options_are_tuples_again(tmp_path: Path) -> None:
    save_weights(small("nafnet", **NAFNET), tmp_path / "a.safetensors", name="nafnet", options=NAFNET, card={})
    loaded = load_model(tmp_path / "a.safetensors")
    assert loaded.options == NAFNET and loaded.info.multiple_of == 2


def test_a_file_says_what_its_options_were_by_default(tmp_path: Path) -> None:
    save_weights(create_model("nafnet"), tmp_path / "a.safetensors", name="nafnet", options={}, card={})
    with safetensors.safe_open(tmp_path / "a.safetensors", "pt") as file:
        stored = json.loads(file.metadata()["deblur.options"])
    # JSON has no tuples. With another default some day, the file is read by these.
    assert {key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()} == dict(
        model_info("nafnet").options
    )


def test_saving_replaces_a_file_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_weights(small(), path, name="test-tiny", options={}, card={})
    before = path.read_bytes()
    spoilt = small()
    with torch.no_grad():
        spoilt.first.weight[0] = 1e6  # finite in float32, not in float16
    with pytest.raises(ModelError, match=r"first\.weight holds numbers that are not finite"):
        save_weights(spoilt, path, name="test-tiny", options={}, card={}, dtype=torch.float16)
    with pytest.raises(
        ModelError, match=r"not the weights of network 'test-tiny'.*first\.weight is 8×3×3×3 and not 9×3×3×3"
    ):
        save_weights(small(), path, name="test-tiny", options={"width": 9}, card={})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# --- names


def test_a_network_for_tests_is_always_the_same() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, second = load_model("test-tiny"), load_model("test-tiny")
    assert torch.equal(first.network.first.weight, second.network.first.weight)
    assert torch.equal(torch.get_rng_state(), state)
    assert (first.path, first.sha256, first.card, first.label) == (None, None, {}, "test-tiny")


def test_shipped_weights_by_name_and_variant(shipped: Save) -> None:
    shipped("test-tiny", width=4, date="2025-01-01")
    shipped("test-tiny-wide", width=6)
    assert load_model("test-tiny").options == {"width": 4}
    assert load_model("test-tiny").card["date"] == "2025-01-01"
    assert load_model("test-tiny").label == "test-tiny"
    assert load_model("test-tiny:wide").options == {"width": 6}
    assert load_model("test-tiny:wide").label == "test-tiny:wide"
    assert [found.label for found in shipped_weights("test-tiny")] == ["test-tiny", "test-tiny:wide"]


def test_a_variant_is_not_taken_from_a_network_of_a_longer_name(shipped: Save) -> None:
    shipped("test-tiny")
    shipped("test-tiny-recurrent", model="test-tiny-recurrent")
    assert [found.label for found in shipped_weights("test-tiny")] == ["test-tiny"]


def test_an_unknown_variant_names_those_there_are(shipped: Save) -> None:
    shipped("test-tiny")
    with pytest.raises(ModelError, match="no weights are shipped for 'test-tiny:huge'; there are test-tiny"):
        load_model("test-tiny:huge")


def test_a_network_without_weights_asks_for_a_file(shipped: Save) -> None:
    with pytest.raises(ModelError, match="no weights are shipped for 'nafnet'; train some, or give a file or hf:"):
        load_model("nafnet")


def test_shipped_weights_that_differ_from_their_card_are_refused(shipped: Save) -> None:
    path = shipped("test-tiny")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match="damaged, reinstall"):
        load_model("test-tiny")


@pytest.mark.parametrize("text", [None, "", "{", "[]", "\udcff"])
def test_shipped_weights_without_a_card_are_refused(shipped: Save, text: str | None) -> None:
    card = shipped("test-tiny").with_suffix(".json")
    card.unlink()
    if text is not None:
        card.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ModelError, match=r"test-tiny\.json.*damaged"):
        load_model("test-tiny")


@pytest.mark.parametrize("name", list_models())
def test_what_is_shipped_loads_and_its_card_is_whole(name: str) -> None:
    for found in shipped_weights(name):
        loaded = load_model(found.label)
        assert loaded.info.name == name and loaded.label == found.label
        assert {"options", "sha256", "recipe", "data", "steps", "date", "scores", "licence"} <= found.card.keys()
        assert all({"psnr", "gain"} <= values.keys() for values in found.card["scores"].values())
    assert shipped_weights(name) or not (weights.SHIPPED_FOLDER / f"{name}.safetensors").exists()


def test_an_unknown_name_suggests_and_a_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no network is called 'nafnte'; did you mean nafnet\?"):
        load_model("nafnte")
    with pytest.raises(ModelError, match=r"weights file mine\.pth: No such file"):
        load_model("mine.pth")
    assert "No such file" in refusal(tmp_path / "none")
    assert "directory" in refusal(tmp_path)


def test_the_cost_is_that_of_the_options_that_the_weights_have(tmp_path: Path) -> None:
    for width, expected in ((8, 2 * 3 * 8 * 9), (4, 2 * 3 * 4 * 9)):
        file = tmp_path / f"{width}.safetensors"
        save_weights(create_model("test-tiny", width=width), file, name="test-tiny", options={"width": width}, card={})
        assert load_model(file).gmacs == pytest.approx(expected * 256 * 256 / 1e9)
    assert untrained_model("nafnet").gmacs == untrained_model("nafnet").info.gmacs


# --- files of others


@pytest.mark.parametrize(
    ("layout", "prefix"),
    [
        ("params", ""),
        ("params_ema", ""),
        ("state_dict", "module."),
        ("model", "_orig_mod."),
        ("bare", ""),
        ("bare", "module._orig_mod."),
    ],
)
def test_public_layouts_are_unwrapped(tmp_path: Path, layout: str, prefix: str) -> None:
    network = small("nafnet", **NAFNET)
    tensors = {prefix + key: tensor for key, tensor in network.state_dict().items()}
    content = tensors if layout == "bare" else {"iteration": 400_000, layout: tensors, "lr": [0.1]}
    torch.save(content, tmp_path / "public.pt")
    loaded = load_model(tmp_path / "public.pt")
    assert loaded.info.name == "nafnet" and loaded.options == NAFNET
    assert torch.equal(loaded.network.ending.weight, network.ending.weight)


def test_the_average_is_preferred(tmp_path: Path) -> None:
    network = small("nafnet", **NAFNET)
    average = {key: tensor + 1 for key, tensor in network.state_dict().items()}
    torch.save({"params": network.state_dict(), "params_ema": average}, tmp_path / "both.pth")
    assert torch.equal(load_model(tmp_path / "both.pth").network.ending.weight, average["ending.weight"])


def test_a_file_is_known_by_its_content_and_not_its_suffix(tmp_path: Path, nafnet_file: Path) -> None:
    renamed = nafnet_file.rename(tmp_path / "public.safetensors")
    assert load_model(renamed).info.name == "nafnet"
    safetensors.torch.save_file(small("nafnet", **NAFNET).state_dict(), tmp_path / "bare.pth")
    assert load_model(tmp_path / "bare.pth").info.name == "nafnet"


def test_older_and_half_precision_files_of_torch_load(tmp_path: Path) -> None:
    half = {key: tensor.half() for key, tensor in small("nafnet", **NAFNET).state_dict().items()}
    torch.save({"params": half}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    loaded = load_model(tmp_path / "old.pth")
    assert loaded.network.ending.weight.dtype == torch.float32
    assert torch.equal(loaded.network.ending.weight, half["ending.weight"].float())


def test_a_registered_name_goes_before_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nafnet_file: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    nafnet_file.rename("test-tiny")
    assert load_model("test-tiny").info.name == "test-tiny"
    assert load_model(Path("test-tiny")).info.name == "nafnet"


# --- what fits no network


def test_the_closest_network_and_what_differs_are_named(tmp_path: Path) -> None:
    tensors = small("nafnet", **NAFNET).state_dict()
    del tensors["ending.bias"]
    tensors["intro.bias"] = torch.zeros(5)
    tensors["extra"] = torch.zeros(5)
    torch.save(tensors, tmp_path / "a.pth")
    message = refusal(tmp_path / "a.pth")
    assert "closest is 'nafnet': intro.bias is 5 and not 2; ending.bias is missing; extra is unknown" in message


def hollow(name: str) -> dict[str, torch.Tensor]:
    """The tensors of network `name` with its defaults, by name and shape; in a file, each is a single number."""
    with torch.device("meta"):
        tensors = create_model(name).state_dict()
    return {key: torch.zeros(()).expand(tensor.shape) for key, tensor in tensors.items()}


def test_a_missing_block_is_named(tmp_path: Path) -> None:
    tensors = {key: tensor for key, tensor in hollow("nafnet").items() if not key.startswith("encoders.3.5.")}
    torch.save({"params": tensors}, tmp_path / "a.pth")
    message = refusal(tmp_path / "a.pth")
    assert "closest is 'nafnet': encoders.3.5.beta is missing; encoders.3.5.gamma is missing; " in message
    assert message.endswith(" and 15 more")


def test_a_part_of_a_large_network_is_not_taken_for_a_small_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    registry.register_model("small", "a layer")(lambda: torch.nn.Conv2d(3, 3, 3))
    torch.save(dict(list(hollow("nafnet").items())[:40]), tmp_path / "a.pth")
    assert "closest is 'nafnet': " in refusal(tmp_path / "a.pth")


def test_weights_unlike_any_network_are_told_by_their_first_names(tmp_path: Path) -> None:
    torch.save({f"layers.{number}": torch.zeros(2, 3) for number in range(50)}, tmp_path / "a.pth")
    message = refusal(tmp_path / "a.pth")
    assert "fits none of " in message and len(message) < 500
    assert message.endswith("shares no tensor with any; its first are layers.0 (2×3), layers.1 (2×3), layers.2 (2×3)")


def test_an_impossible_size_that_a_recogniser_sees_is_no_error_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    registry.register_model("odd", "a layer", recognise=lambda tensors: {"width": -1})(
        lambda width=3: torch.nn.Conv2d(3, width, 3)
    )
    torch.save({"weight": torch.zeros(2)}, tmp_path / "a.pth")
    assert "fits none of " in refusal(tmp_path / "a.pth")


def test_metadata_that_the_tensors_do_not_fit(tmp_path: Path) -> None:
    def stored(model: str, options: str) -> str:
        metadata = {"deblur.model": model, "deblur.options": options}
        safetensors.torch.save_file(small().state_dict(), tmp_path / "a.safetensors", metadata=metadata)
        return refusal(tmp_path / "a.safetensors")

    assert "does not fit its network 'test-tiny': first.weight is 8×3×3×3 and not 4×3×3×3" in stored(
        "test-tiny", '{"width": 4}'
    )
    assert "network 'newer', which this version does not have" in stored("newer", "{}")
    assert "not JSON" in stored("test-tiny", "{")
    assert "JSON list" in stored("test-tiny", "[]")


@pytest.mark.parametrize("options", [{"depth": 1}, {"width": "wide"}, {"width": -3}])
def test_metadata_with_impossible_options(tmp_path: Path, options: dict[str, Any]) -> None:
    metadata = {"deblur.model": "test-tiny", "deblur.options": json.dumps(options)}
    safetensors.torch.save_file(small().state_dict(), tmp_path / "a.safetensors", metadata=metadata)
    with pytest.raises(ModelError, match="network 'test-tiny'"):
        load_model(tmp_path / "a.safetensors")
