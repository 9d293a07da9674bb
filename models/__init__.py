"""Networks that make blurred images sharp: one registry, one file a network, weights beside them.

>>> import models
>>> network = models.create_model("test-tiny")
>>> models.model_info("lite").multiple_of
64
"""

from models import (  # noqa: F401  (importing a network registers it)
    base,
    baselines,
    deblurgan,
    deepdeblur,
    dscgan,
    lite,
    msr2b,
    msrn,
    nafnet,
    srn,
    tiny,
)
from models.registry import ModelError, ModelInfo, Score, create_model, list_models, model_info, register_model
from models.weights import LoadedModel, load_model

__all__ = [
    "LoadedModel",
    "ModelError",
    "ModelInfo",
    "Score",
    "create_model",
    "list_models",
    "load_model",
    "model_info",
    "register_model",
]
