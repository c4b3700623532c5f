"""Test-time feature refinement for high-resolution image inpainting, for any network."""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refine.api import inpaint, load
    from refine.refiner import Refiner
    from refine.types import Features, Level, LevelResult, Refinement, Sample, Step

__all__ = ["Features", "Level", "LevelResult", "Refinement", "Refiner", "Sample", "Step", "inpaint", "load"]

try:
    __version__ = version("refine-inpainting")
except PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = "0"


def __getattr__(name: str) -> Any:
    """Import on first use, so that ``refine --help`` need not wait for torch."""
    from importlib import import_module

    if name not in __all__:
        raise AttributeError(f"module 'refine' has no attribute {name!r}")
    places = {"inpaint": "api", "load": "api", "Refiner": "refiner"}
    return getattr(import_module(f"refine.{places.get(name, 'types')}"), name)
