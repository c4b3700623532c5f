from .module import InpaintingModule
from .pipeline import run

__all__ = [
    "InpaintingModule",
    "run",
]
