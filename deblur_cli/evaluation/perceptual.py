"""LPIPS, the perceptual distance of Zhang et al. 2018, computed by its authors' package where the user has it."""

from __future__ import annotations

import warnings
from importlib import metadata
from typing import Any

import torch
from torch import Tensor

from deblur_cli.errors import DatasetError, UsageError

NET, VERSION = "alex", "0.1"
NAME = f"lpips_{NET}_{VERSION}"
"""Says in every report which of the LPIPS that papers print this one is."""
LEAST = 31
"""Side in pixels that AlexNet's convolutions and poolings need."""


class Lpips:
    """How different two images look: the weighted distance of AlexNet's features; 0 for identical images.

    Args:
        device: where the features are computed, in float32.

    Attributes:
        description: the metric, its network and the package that computes it, in words.

    Raises:
        UsageError: the package is not installed, or the weights of its network cannot be fetched.
    """

    def __init__(self, device: torch.device) -> None:
        try:
            from lpips import LPIPS
        except ImportError as error:
            raise UsageError(f"LPIPS takes a package: pip install lpips ({error})") from error
        except RuntimeError as error:
            raise UsageError(
                f"LPIPS needs a torchvision that was built for this torch, {torch.__version__}; install the one of the "
                f"same release and kind ({error})"
            ) from error
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the package calls torchvision in a way that has grown old
            try:
                network = LPIPS(net=NET, version=VERSION, verbose=False)
            except OSError as error:
                raise UsageError(f"the weights of AlexNet, which LPIPS needs, cannot be fetched: {error}") from error
        self._network: Any = network.to(device).eval()
        self._device = device
        package = f"the package lpips {metadata.version('lpips')}"
        self.description = f"LPIPS of net {NET}, version {VERSION}, computed by {package}; less is better"

    @torch.inference_mode()
    def __call__(self, image: Tensor, sharp: Tensor) -> float:
        """The distance between an image and its sharp one.

        Args:
            image: 1×3×H×W with values of 0 to 255, on any device.
            sharp: the same.

        Raises:
            DatasetError: they are too small for the network.
        """
        if min(image.shape[2:]) < LEAST:
            raise DatasetError(f"LPIPS needs images of at least {LEAST}×{LEAST} pixels")
        one, other = (values.to(self._device).float() / 127.5 - 1 for values in (image, sharp))
        return float(self._network(one, other))
