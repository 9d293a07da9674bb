"""The list of networks: names, facts, options."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models import registry
from models.registry import ModelError, create_model, list_models, model_info, register_model


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a test register networks that are gone afterwards."""
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))


def test_networks_for_tests_are_not_listed() -> None:
    assert {"lite", "nafnet"} <= set(list_models())
    assert not any(name.startswith("test-") for name in list_models())
    assert {"test-tiny", "test-tiny-recurrent"} <= set(list_models(hidden=True))
    assert list_models() == sorted(list_models())


def test_the_default_network_is_registered() -> None:
    assert registry.DEFAULT_MODEL in list_models()


@pytest.mark.parametrize("name", list_models(hidden=True))
def test_every_network_keeps_its_word(name: str) -> None:
    info = model_info(name)
    network = create_model(name).eval()
    side = max(info.multiple_of, 2)
    blurred = torch.rand(1, 3, side, side)
    with torch.inference_mode():
        output = network(blurred, None) if info.recurrent else network(blurred)
    restored = output[0] if info.recurrent else output
    assert restored.shape == blurred.shape
    assert info.description and not info.description.endswith(".") and "\n" not in info.description


def test_an_unknown_name_suggests_close_ones() -> None:
    with pytest.raises(ModelError, match=r"no network is called 'nafnte'; did you mean nafnet\?"):
        model_info("nafnte")


def test_a_name_like_no_other_gets_the_list() -> None:
    with pytest.raises(ModelError, match=r"there are .*lite.*nafnet") as raised:
        model_info("zzzz")
    assert "test-tiny" not in str(raised.value)


def test_an_unknown_option_names_the_known_ones() -> None:
    with pytest.raises(ModelError, match=r"'test-tiny' has no option 'depth' \(its options: width\)"):
        create_model("test-tiny", depth=3)


def test_values_that_leave_nothing_to_build_are_said_in_one_line() -> None:
    with pytest.raises(ModelError, match="'lite' cannot be built with widths="):
        create_model("lite", widths=[])


@pytest.mark.parametrize("width", [-1, "wide", None])
def test_a_value_that_cannot_be_built_is_said_in_one_line(width: object) -> None:
    with pytest.raises(ModelError, match="'nafnet' cannot be built with width="):
        create_model("nafnet", width=width)


def test_a_name_is_taken_once(own_registry: None) -> None:
    with pytest.raises(ModelError, match="two networks are registered as 'lite'"):
        register_model("lite", "again")(lambda: nn.Identity())


def test_every_option_needs_a_default(own_registry: None) -> None:
    with pytest.raises(ModelError, match="option 'width' has no default"):
        register_model("new", "one without a default")(lambda width: nn.Identity())


def test_multiple_of_may_follow_the_options(own_registry: None) -> None:
    register_model("deep", "any depth", multiple_of=lambda options: 2 ** options["depth"])(
        lambda depth=3: nn.Identity()
    )
    assert model_info("deep").multiple_of == 8
    assert model_info("deep").for_options({"depth": 5}).multiple_of == 32
    assert model_info("test-tiny").for_options({"width": 2}).multiple_of == 4


def test_figures_are_those_of_the_default_options(own_registry: None) -> None:
    register_model("deep", "any depth", parameters=3, gmacs=0.5)(lambda depth=3: nn.Identity())
    same, other = (model_info("deep").for_options({"depth": depth}) for depth in (3, 4))
    assert (same.parameters, same.gmacs, other.parameters, other.gmacs) == (3, 0.5, None, None)


def test_suggestions_are_networks_that_are_listed() -> None:
    with pytest.raises(ModelError, match=r"no network is called 'tiny'; there are autoencoder, base, "):
        model_info("tiny")
