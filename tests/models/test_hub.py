"""Weights from the hub: what is fetched, what is kept, and what each refusal says."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import pty
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from hypothesis import given, settings
from hypothesis import strategies as st

from models import ModelError, load_model
from models.hub import FetchError, HubFile, fetch
from tests.models.helpers import small
from tests.models.hub_server import COMMIT, Hub, serve

NAFNET = {"width": 2, "encoders": (1,), "middle": 1, "decoders": (1,)}
NAME = "hf:owner/repo/weights/nafnet.pth"


def checkpoint(**options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save({"params": small("nafnet", **(NAFNET | options)).state_dict()}, buffer)
    return buffer.getvalue()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with one file, which huggingface_hub asks in this test, with an empty cache."""
    hub = Hub({"weights/nafnet.pth": checkpoint()})
    with serve(hub):
        point_at(hub.endpoint, monkeypatch)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield hub


def point_at(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


def refusal(name: str, *, passes: bool | None = None) -> str:
    """Why `name` is not loaded; `passes`: whether another time it may be."""
    with pytest.raises(ModelError) as raised:
        load_model(name)
    assert passes is None or isinstance(raised.value, FetchError) == passes
    message = str(raised.value)
    assert name in message and "\n" not in message
    return message


# --- names


@settings(max_examples=30, deadline=None)
@given(
    repository=st.from_regex(r"[a-z0-9]+/[a-z.-]*[a-z]", fullmatch=True),
    file=st.from_regex(r"([A-Z_-]+/){0,3}[a-z0-9@. -]*\.pth", fullmatch=True).filter(lambda file: "/." not in file),
    revision=st.from_regex(r"v?[0-9]+(/[a-z]+)*", fullmatch=True),
)
def test_every_part_of_a_name_comes_back(repository: str, file: str, revision: str) -> None:
    wanted = HubFile.parse(f"hf:{repository}/{file}@{revision}")
    assert wanted == HubFile(repository, file, revision)
    if "@" not in file:
        assert HubFile.parse(str(wanted)) == wanted
        assert HubFile.parse(f"hf:{repository}/{file}") == HubFile(repository, file, "main")


@pytest.mark.parametrize(
    "text",
    [
        "hf:",
        "hf:file.pth",
        "hf:owner/repo",
        "hf:owner/repo/",
        "hf:/repo/file.pth",
        "hf:owner//file.pth",
        "hf:owner/repo/file.pth@",
        "hf:owner/repo/../file.pth",
        "hf:owner/repo/file.pth@../../refs",
        "hf:owner/repo/folder\\file.pth",
        "hf://owner/repo/file.pth",
        "hf:https://huggingface.co/owner/repo/blob/main/file.pth",
    ],
)
def test_a_malformed_name_is_refused_before_anything_is_asked(hub: Hub, text: str) -> None:
    assert "write hf:OWNER/REPO/FILE" in refusal(text)
    assert hub.requests == []


def test_a_name_that_no_repository_can_have_is_refused(hub: Hub) -> None:
    assert "'owner/re--po' cannot be a repository's name" in refusal("hf:owner/re--po/file.pth")
    assert hub.requests == []


# --- what is fetched, and what is kept


def test_weights_are_fetched_and_say_where_from(hub: Hub) -> None:
    loaded = load_model(NAME)
    assert loaded.info.name == "nafnet" and loaded.options == NAFNET
    expected = small("nafnet", **NAFNET).state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in loaded.network.state_dict().items())
    assert loaded.sha256 == hashlib.sha256(hub.files["weights/nafnet.pth"]).hexdigest()
    assert loaded.label == NAME and loaded.path is not None and loaded.path.name == "nafnet.pth"
    assert {method for method, path in hub.requests} == {"HEAD", "GET"}
    assert {path for method, path in hub.requests} == {"/owner/repo/resolve/main/weights/nafnet.pth"}
    assert load_model(f"{NAME}@{COMMIT}").label == f"{NAME}@{COMMIT}"


def test_the_second_time_nothing_is_downloaded(hub: Hub) -> None:
    first = fetch(HubFile.parse(NAME))
    hub.requests.clear()
    assert fetch(HubFile.parse(NAME)) == first
    assert {method for method, path in hub.requests} == {"HEAD"}


def test_a_commit_is_not_asked_for_again(hub: Hub) -> None:
    first = fetch(HubFile.parse(f"{NAME}@{COMMIT}"))
    hub.requests.clear()
    assert fetch(HubFile.parse(f"{NAME}@{COMMIT}")) == first
    assert hub.requests == []


def test_a_branch_that_moved_is_fetched_anew(hub: Hub) -> None:
    assert load_model(NAME).options["width"] == 2
    hub.files["weights/nafnet.pth"], hub.commit = checkpoint(width=4), COMMIT[::-1]
    assert load_model(NAME).options["width"] == 4


@pytest.mark.parametrize("trouble", ["offline", "nobody answers", "HTTP 503", "gated since"])
def test_what_was_fetched_serves_without_the_hub(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, trouble: str
) -> None:
    first = fetch(HubFile.parse(NAME))
    if trouble == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    elif trouble == "nobody answers":
        point_at("http://127.0.0.1:9", monkeypatch)
    else:
        hub.refusal = (503, {}) if trouble == "HTTP 503" else (403, {"X-Error-Code": "GatedRepo"})
    with caplog.at_level(logging.WARNING, "models"):
        assert fetch(HubFile.parse(NAME)) == first
    told = [record.getMessage() for record in caplog.records if record.name == "models.hub"]
    assert [NAME in line and "fetched before is used" in line for line in told] == [True] * (trouble != "offline")


def test_a_file_that_was_removed_is_not_taken_from_the_cache(hub: Hub) -> None:
    fetch(HubFile.parse(NAME))
    hub.files.clear()
    assert "no file 'weights/nafnet.pth'" in refusal(NAME)


def test_what_is_fetched_is_read_as_carefully_as_any_file(hub: Hub) -> None:
    hub.files["page.pth"] = b"<!DOCTYPE html><html>"
    hub.files["code.pth"] = b"\x80\x04cposix\nsystem\n(X\x01\x00\x00\x00ltR."
    with pytest.raises(ModelError, match=r"page\.pth is a web page"):
        load_model("hf:owner/repo/page.pth")
    with pytest.raises(ModelError, match="nothing in it was run"):
        load_model("hf:owner/repo/code.pth")


def test_a_path_is_never_taken_for_a_name_on_the_hub(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path(NAME)
    path.parent.mkdir(parents=True)
    path.write_bytes(checkpoint(width=6))
    assert load_model(path).options["width"] == 6
    assert load_model(NAME).options["width"] == 2


# --- refusals


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("hf:owner/other/nafnet.pth", "there is no such repository, or it is private; check the name, or log in"),
        ("hf:owner/repo/other.pth", "the repository has no file 'other.pth' there; see http"),
        (f"{NAME}@v9", "the repository has no revision 'v9'; see http"),
    ],
)
def test_what_is_not_there_is_named(hub: Hub, name: str, complaint: str) -> None:
    assert complaint in refusal(name, passes=False)


@pytest.mark.parametrize(
    ("status", "headers", "complaint"),
    [
        (401, {"X-Error-Code": "GatedRepo"}, "gated; accept its conditions at {endpoint}/owner/repo, then log in with"),
        (403, {"X-Error-Code": "GatedRepo"}, "gated; accept its conditions"),
        (401, {"X-Error-Message": "Invalid credentials in Authorization header"}, "refuses access (HTTP 401); log in"),
        (403, {}, "refuses access (HTTP 403); log in with `hf auth login`, or set HF_TOKEN"),
        (429, {}, "HTTP 429; try again later"),
        (503, {}, "HTTP 503; try again later"),
        (200, {}, "cannot be fetched; check the network, HF_ENDPOINT"),
    ],
)
def test_what_the_hub_refuses_says_what_to_do(hub: Hub, status: int, headers: dict[str, str], complaint: str) -> None:
    hub.refusal = (status, headers)
    assert complaint.format(endpoint=hub.endpoint) in refusal(NAME, passes=status not in {401, 403})


def test_being_offline_is_said_at_once(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in refusal(NAME, passes=False) and hub.requests == []


def test_a_hub_that_does_not_answer_is_asked_once(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    point_at("http://127.0.0.1:9", monkeypatch)
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)  # what waits between tries
    assert "check the network" in refusal(NAME, passes=True) and waited == []


# --- the progress bar


@pytest.mark.parametrize("terminal", [False, True])
def test_the_bar_is_drawn_on_a_terminal_alone(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (24, 100))
    with os.fdopen(follower, "w") if terminal else (tmp_path / "stderr").open("w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        fetch(HubFile.parse(NAME))
        stream.flush()
        drawn = os.read(leader, 100_000) if terminal else (tmp_path / "stderr").read_bytes()
    os.close(leader)
    assert (b"nafnet.pth: 100%" in drawn) == terminal and (terminal or drawn == b"")
