"""What the tests of weights share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from models import ModelError, create_model, load_model


def small(name: str = "test-tiny", **options: Any) -> nn.Module:
    torch.manual_seed(1)
    network = create_model(name, **options)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.uniform_(-1, 1)
    return network.eval()


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as raised:
        load_model(path)
    message = str(raised.value)
    assert str(path) in message and "\n" not in message
    return message
