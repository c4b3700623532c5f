from .adapter import ZITS
from .networks import ZITSConfig

__all__ = [
    "ZITS",
    "ZITSConfig",
]
