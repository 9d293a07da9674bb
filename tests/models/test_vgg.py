"""VGG19's features, and where its weights come from: a file, the cache, or a server."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.nn.functional as functional
from torch import Tensor

from models import ModelError, vgg
from models.vgg import VGG19Features, load_vgg

# Number in torchvision's `features`, inputs, outputs; a pool follows the second and the fourth.
CONVOLUTIONS = [(0, 3, 64), (2, 64, 64), (5, 64, 128), (7, 128, 128), (10, 128, 256), (12, 256, 256), (14, 256, 256)]


def weights() -> dict[str, Tensor]:
    """Random weights under torchvision's names, and some of the layers that torchvision's file has beyond conv3_3."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for number, inputs, outputs in CONVOLUTIONS:
        scale = (2 / (9 * inputs)) ** 0.5
        tensors[f"features.{number}.weight"] = scale * torch.randn(outputs, inputs, 3, 3, generator=generator)
        tensors[f"features.{number}.bias"] = 0.1 * torch.randn(outputs, generator=generator)
    return tensors | {"features.16.bias": torch.rand(256), "classifier.6.bias": torch.rand(1000)}


@pytest.fixture(scope="module")
def file_content() -> bytes:
    content = io.BytesIO()
    torch.save(weights(), content)
    return content.getvalue()


@dataclass
class Server:
    """A server of one file; keeps what it was asked for."""

    status: int = 200
    body: bytes = b""
    promised: int | None = None
    """Content-Length where it is not the body's."""
    paths: list[str] = field(default_factory=list)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "cache" / "deblur"


@pytest.fixture
def server(cache: Path, file_content: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Serves the weights under a name that promises their SHA-256, as torchvision's does."""
    serving = Server(body=file_content)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            serving.paths.append(self.path)
            self.send_response(serving.status)
            body = serving.body if serving.status == 200 else b""
            self.send_header("Content-Length", str(serving.promised or len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setattr(vgg, "WEIGHTS_FILE", f"vgg19-{hashlib.sha256(file_content).hexdigest()[:8]}.pth")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http_server:
        monkeypatch.setenv("DEBLUR_VGG_URL", f"http://127.0.0.1:{http_server.server_port}/models")
        thread = threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield serving
        http_server.shutdown()
        thread.join()


def refusal(path: Path | None = None) -> str:
    with pytest.raises(ModelError) as raised:
        load_vgg(path)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_features_are_those_of_conv3_3_before_its_relu(tmp_path: Path) -> None:
    torch.save(weights(), tmp_path / "vgg.pth")
    network = load_vgg(tmp_path / "vgg.pth")
    images = torch.rand(2, 3, 20, 12)
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    deviation = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    x = (images - mean) / deviation
    tensors = weights()
    for number, _, _ in CONVOLUTIONS:
        if number in (5, 10):
            x = functional.max_pool2d(x, 2)
        if number:
            x = functional.relu(x)
        x = functional.conv2d(x, tensors[f"features.{number}.weight"], tensors[f"features.{number}.bias"], padding=1)
    assert x.shape == (2, 256, 5, 3) and x.min() < 0
    torch.testing.assert_close(network(images), x)


def test_the_images_get_a_gradient_and_stay_as_they_are_and_the_weights_are_frozen() -> None:
    network = VGG19Features()
    images = torch.rand(1, 3, 8, 8)
    before = images.clone()
    network(images.requires_grad_()).square().mean().backward()
    assert images.grad is not None and images.grad.any()
    assert torch.equal(images, before)
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in network.parameters())


def test_its_names_are_torchvision_s() -> None:
    names = {name: tuple(tensor.shape) for name, tensor in VGG19Features().state_dict().items()}
    assert names == {name: tuple(tensor.shape) for name, tensor in weights().items() if int_of(name) <= 14}


def int_of(name: str) -> int:
    """The number of a layer in `features`; beyond all of them for the classifier."""
    kind, number, _ = name.split(".")
    return int(number) if kind == "features" else 1000


def test_safetensors_load_too(tmp_path: Path) -> None:
    safetensors.torch.save_file(weights(), tmp_path / "vgg.safetensors")
    found = load_vgg(tmp_path / "vgg.safetensors").state_dict()
    assert all(torch.equal(tensor, weights()[name]) for name, tensor in found.items())


def test_features_of_oxford_s_size_are_brought_to_torchvision_s(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ordinary = {name: tensor for name, tensor in weights().items() if int_of(name) <= 14}
    large = {name: 64 * one if name == "features.0.weight" or "bias" in name else one for name, one in ordinary.items()}
    safetensors.torch.save_file(large, tmp_path / "oxford.safetensors")
    plain = VGG19Features()
    plain.load_state_dict(large)
    images = torch.rand(1, 3, 16, 16)
    loaded = load_vgg(tmp_path / "oxford.safetensors")
    (line,) = caplog.messages
    assert "oxford.safetensors" in line and "128 times as large" in line
    assert torch.equal(loaded(images), plain(images) / 128)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_features_of_torchvision_s_size_are_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ordinary = weights()
    first = ordinary["features.0.weight"]
    ordinary["features.0.weight"] = first / first.std() * 0.2
    torch.save(ordinary, tmp_path / "vgg.pth")
    found = load_vgg(tmp_path / "vgg.pth").state_dict()
    assert all(torch.equal(tensor, ordinary[name]) for name, tensor in found.items())
    assert not caplog.messages


def test_a_file_without_a_layer_is_refused(tmp_path: Path) -> None:
    tensors = weights()
    del tensors["features.7.bias"]
    torch.save(tensors, tmp_path / "vgg.pth")
    assert "features.7.bias is missing" in refusal(tmp_path / "vgg.pth")


def test_another_network_s_file_is_refused(tmp_path: Path) -> None:
    torch.save(weights() | {"features.10.weight": torch.zeros(256, 64, 3, 3)}, tmp_path / "vgg.pth")
    message = refusal(tmp_path / "vgg.pth")
    assert "features.10.weight is (256, 64, 3, 3) and not (256, 128, 3, 3)" in message
    assert str(tmp_path / "vgg.pth") in message


def test_a_file_that_is_not_there_is_refused_and_nothing_is_fetched(tmp_path: Path, server: Server) -> None:
    assert "missing.pth" in refusal(tmp_path / "missing.pth")
    assert not server.paths


def test_weights_are_fetched_once_and_then_come_from_the_cache(server: Server, cache: Path) -> None:
    first = load_vgg().state_dict()
    again = load_vgg().state_dict()
    assert server.paths == [f"/models/{vgg.WEIGHTS_FILE}"]
    assert [path.name for path in cache.iterdir()] == [vgg.WEIGHTS_FILE]
    assert all(torch.equal(tensor, weights()[name]) for name, tensor in first.items())
    assert all(torch.equal(tensor, first[name]) for name, tensor in again.items())


def test_what_a_killed_fetch_has_left_goes_and_what_is_being_fetched_stays(server: Server, cache: Path) -> None:
    cache.mkdir(parents=True)
    left, growing = (cache / f".{vgg.WEIGHTS_FILE}.{number}.partial" for number in (1, 2))
    left.touch()
    os.utime(left, (0, 0))
    growing.touch()
    load_vgg()
    assert not left.exists() and growing.exists()


def test_without_xdg_the_cache_is_in_the_home_folder(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    load_vgg()
    assert (tmp_path / "home" / ".cache" / "deblur" / vgg.WEIGHTS_FILE).is_file()


@pytest.mark.parametrize("fault", ["altered", "cut short", "cut in the middle of the transfer", "not found", "nobody"])
def test_a_failed_fetch_names_both_ways_out_and_leaves_nothing(
    server: Server, cache: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault == "altered":
        server.body = server.body[:-1] + b"!"
    elif fault == "cut short":
        server.body = server.body[:1000]
    elif fault == "cut in the middle of the transfer":
        server.promised, server.body = len(server.body), server.body[:1000]
    elif fault == "not found":
        server.status = 404
    else:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            monkeypatch.setenv("DEBLUR_VGG_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")
    message = refusal()
    assert "127.0.0.1" in message and vgg.WEIGHTS_FILE in message
    assert "--vgg FILE" in message and "connect" in message
    assert ("HTTP Error 404" in message) == (fault == "not found")
    assert ("cut short" in message) == (fault in ("altered", "cut short", "cut in the middle of the transfer"))
    assert not list(cache.iterdir())


def test_after_a_failed_fetch_the_next_one_may_do(server: Server, cache: Path) -> None:
    server.status = 503
    refusal()
    server.status = 200
    load_vgg()
    assert [path.name for path in cache.iterdir()] == [vgg.WEIGHTS_FILE]


@pytest.mark.parametrize("url", ["nowhere", "http://"])
def test_what_is_no_url_is_said(cache: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("DEBLUR_VGG_URL", url)
    assert "--vgg FILE" in refusal()


def test_a_cache_that_cannot_be_written_is_said(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    message = refusal()
    assert str(tmp_path / "file") in message and "--vgg FILE" in message
