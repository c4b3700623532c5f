from .contract import CHECKS, Check, Finding, check

__all__ = [
    "CHECKS",
    "Check",
    "Finding",
    "check",
]
