from .cuts import Cut, survey

__all__ = [
    "Cut",
    "survey",
]
