"""VGG19 up to its convolution conv3_3, whose features the perceptual loss compares, and where its weights come from.

Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015
(https://arxiv.org/abs/1409.1556); trained on ImageNet. Names of parameters are torchvision's.
"""

from __future__ import annotations

import hashlib
import http.client
import logging
import math
import os
import shutil
import time
import urllib.request
from pathlib import Path

import torch
from torch import Tensor, nn

from models.checkpoints import read_checkpoint
from models.registry import ModelError

WEIGHTS_FILE = "vgg19-dcbb9e9d.pth"
"""As torchvision calls it: between the hyphen and the dot is how the SHA-256 of the file begins."""

_BASE_URL = "https://download.pytorch.org/models"
_TIMEOUT = 30.0
"""Seconds without a byte after which a server is given up."""
_ABANDONED = 3600.0
"""Seconds after which nobody writes to a part of the file any more."""

# Deviation of the first layer's weights. Torchvision's is about 0.2. Oxford's own were learned on pixels from 0 to 255,
# and for normalised ones their first layer is some sixty times as large.
_FITTED_FROM = 2.0
# With which Oxford's features are of torchvision's size, a deviation of 5 or so.
_FITTED_TO = 0.1

_log = logging.getLogger(__name__)


class VGG19Features(nn.Module):
    """RGB images N×3×H×W in [0, 1] to the features of conv3_3, N×256×(H/4)×(W/4); height and width at least 4.

    The features are those before the ReLU, as in the released code of DeblurGAN (Kupyn et al., CVPR 2018), whose loss
    this is: after it, whatever is below zero in both images would count for nothing. The images are normalised with
    ImageNet's mean and deviation, as in VGG19's own training. The weights are frozen; gradients reach the images.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_convolved(3, 64),
            *_convolved(64, 64),
            nn.MaxPool2d(2),
            *_convolved(64, 128),
            *_convolved(128, 128),
            nn.MaxPool2d(2),
            *_convolved(128, 256),
            *_convolved(256, 256),
            nn.Conv2d(256, 256, 3, padding=1),
        )
        # Not among the weights, as torchvision's files do not have them.
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1), persistent=False)
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        return self.features((images - self.mean) / self.deviation)


def _convolved(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True)]


def load_vgg(path: Path | None = None) -> VGG19Features:
    """VGG19 with its weights on the processor, from `path` or, without one, from the cache.

    The file is safetensors or PyTorch's, with torchvision's names; what it holds beyond conv3_3 is ignored. The cache
    is `$XDG_CACHE_HOME/deblur`, or `~/.cache/deblur`. What it lacks is fetched once (575 MB) from where torchvision
    keeps it, or from the folder of the same name at the URL in `$DEBLUR_VGG_URL`.

    Oxford's original weights give features a hundred times as large as torchvision's, which the recipes' weights of the
    perceptual loss are chosen for. They are known by their first layer and brought to that size, which is logged.

    Raises:
        ModelError: the file cannot be read or is not VGG19's, or it cannot be fetched, or what came is another.
    """
    path = path or _cached()
    tensors = read_checkpoint(path).tensors
    network = VGG19Features()
    weights = {}
    for name, expected in network.state_dict().items():
        if name not in tensors:
            raise ModelError(f"{path} does not hold the weights of VGG19: {name} is missing")
        if tensors[name].shape != expected.shape:
            raise ModelError(
                f"{path} does not hold the weights of VGG19: {name} is {tuple(tensors[name].shape)} "
                f"and not {tuple(expected.shape)}"
            )
        weights[name] = tensors[name]
    network.load_state_dict(weights)
    deviation = float(weights["features.0.weight"].float().std())
    if _FITTED_FROM < deviation < math.inf:
        factor = 2.0 ** round(math.log2(deviation / _FITTED_TO))  # a power of two leaves all digits as they are
        _divide_features(network, factor)
        _log.warning(
            "%s: its features are some %.0f times as large as torchvision's, which the recipes are made for, "
            "and are divided by that",
            path,
            factor,
        )
    return network


@torch.no_grad()
def _divide_features(network: VGG19Features, divisor: float) -> None:
    """Let the features be smaller by a positive factor, and nothing else change.

    What ReLU and pooling give grows as what they are given, so it is enough that the first layer's weights do, and each
    layer's bias.
    """
    for name, parameter in network.named_parameters():
        if name == "features.0.weight" or name.endswith(".bias"):
            parameter.div_(divisor)


def _cached() -> Path:
    """The file in the cache, fetched if it is not there yet."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = cache / "deblur" / WEIGHTS_FILE
    if not path.is_file():
        url = f"{os.environ.get('DEBLUR_VGG_URL') or _BASE_URL}/{WEIGHTS_FILE}"
        _log.info("fetching the weights of VGG19, 575 MB, from %s to %s", url, path)
        try:
            _download(url, path)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ModelError(
                f"the weights of VGG19 could not be fetched from {url} to {path} ({error}); "
                f"connect to the network and try again, or give a file with --vgg FILE"
            ) from error
    return path


def _download(url: str, path: Path) -> None:
    """Write what is at `url` to `path`, which is whole or not there at any time.

    Raises:
        OSError, HTTPException: the transfer or the writing failed.
        ValueError: no URL, or what came is not what the name of the file promises.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{path.name}.*.partial"):  # by a run that was killed, unless it grows
        if time.time() - left.stat().st_mtime > _ABANDONED:
            left.unlink(missing_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as response, beside.open("wb") as file:
            shutil.copyfileobj(response, file)
        with beside.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        promised = path.stem.rpartition("-")[2]
        if not sha256.startswith(promised):
            raise ValueError(f"what came is cut short or another file: its SHA-256 begins with {sha256[:8]}")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
