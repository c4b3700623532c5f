from .precision import run_in
from .selective import Frozen, run

__all__ = [
    "Frozen",
    "run",
    "run_in",
]
