from .adapter import Replay

__all__ = [
    "Replay",
]
