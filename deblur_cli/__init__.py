"""deblur: make blurred photos and videos sharp.

from deblur_cli import Restorer

restorer = Restorer("lite")
sharp = restorer.restore(pixels)  # H×W×3 uint8, uint16 or float32 in [0, 1]; the same comes back
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deblur_cli.restoration.restorer import Restorer

try:
    __version__ = version("deblur-cli")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"

__all__ = ["Restorer", "__version__"]


def __getattr__(name: str) -> Any:
    # Restorer is fetched on first use: it imports torch, and `deblur --help` has no need of it.
    if name == "Restorer":
        try:
            from deblur_cli.restoration.restorer import Restorer
        except ImportError as error:
            from deblur_cli.errors import other_models

            if shadowed := other_models(error):
                raise ImportError(shadowed, name=error.name, path=error.path) from error
            raise
        return Restorer
    raise AttributeError(f"module 'deblur_cli' has no attribute '{name}'")
