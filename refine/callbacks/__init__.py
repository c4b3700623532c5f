"""Callbacks of the predict loop."""

from refine.callbacks.progress import ProgressBar
from refine.callbacks.writer import ResultWriter

__all__ = ["ProgressBar", "ResultWriter"]
