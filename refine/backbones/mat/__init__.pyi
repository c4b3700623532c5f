from .adapter import MAT
from .sizes import MATConfig

__all__ = [
    "MAT",
    "MATConfig",
]
