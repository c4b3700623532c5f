"""A sign of life to the loggers with every image."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from refine.core.types import Refinement
from refine.inference.logging.curves import Point
from refine.inference.logging.loggers import Loggers, log_point


class LiveProgress(Callback):
    """Tells the loggers of this process every image it has done.

    Args:
        loggers: Loggers that are open.
    """

    def __init__(self, loggers: Loggers) -> None:
        self.loggers = loggers
        self._finished = 0

    def on_predict_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *_: Any) -> None:
        """One more is done."""
        if not self.loggers:
            return
        self._finished += 1
        values = {"progress/done": float(self._finished)}
        if isinstance(outputs, Refinement):
            values["progress/seconds"] = sum(level.seconds for level in outputs.levels)
            if len(losses := outputs.levels[-1].losses):
                values["progress/last_loss"] = losses[-1].mean().item()
        point = Point("progress", self._finished, values)
        self.loggers.each(lambda logger: log_point(logger, point))
