"""deblur: make blurred photos and videos sharp.

from deblur_cli import Restorer

restorer = Restorer("lite")
sharp = restorer.restore(pixels)  # H×W×3 uint8, uint16 or float32 in [0, 1]; the same comes back
"""

from __future__ import annotations

TYPE_CHECKING = False  # known to type checkers; what is imported here is so ahead of what deals with Ctrl-C
if TYPE_CHECKING:
    from typing import Any

    from deblur_cli.restoration.restorer import Restorer

    __version__: str

__all__ = ["Restorer", "__version__"]


def __getattr__(name: str) -> Any:
    # Fetched on first use: Restorer imports torch, and `deblur --help` has no need of it.
    if name == "__version__":
        return _version()
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


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("deblur-cli")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "0+unknown"
