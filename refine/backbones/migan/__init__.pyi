from .adapter import MIGAN
from .generator import MIGANConfig

__all__ = [
    "MIGAN",
    "MIGANConfig",
]
