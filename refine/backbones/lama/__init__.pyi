from .adapter import LaMa
from .generator import LaMaConfig

__all__ = [
    "LaMa",
    "LaMaConfig",
]
