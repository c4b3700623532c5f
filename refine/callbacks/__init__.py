"""Callbacks of the predict loop."""

from refine.callbacks.loggers import Loggers, opened
from refine.callbacks.panels import Panels
from refine.callbacks.progress import ProgressBar
from refine.callbacks.tracking import LiveProgress, publish
from refine.callbacks.writer import ResultWriter

__all__ = ["LiveProgress", "Loggers", "Panels", "ProgressBar", "ResultWriter", "opened", "publish"]
