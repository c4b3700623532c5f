from .adapter import LDM
from .networks import LDMConfig

__all__ = [
    "LDM",
    "LDMConfig",
]
