"""Seconds and peak memory of each image."""

import time
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from refine.analysis.peak_memory import peak, restart_peak
from refine.core.types import Refinement, Sample
from refine.inference.run_folder import RunFolder


class CostMeter(Callback):
    """Notes what the refinement of an image took; reading, scoring and writing are not counted.

    Args:
        run_folder: Run folder in whose rows the numbers stand.
    """

    def __init__(self, run_folder: RunFolder) -> None:
        self.run_folder = run_folder
        self._started = time.perf_counter()

    def on_predict_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Start the clock of the next image."""
        restart_peak(pl_module.device)
        self._started = time.perf_counter()

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Note ``seconds``, ``peak_memory_mib`` and ``threads``."""
        seconds = time.perf_counter() - self._started
        if isinstance(batch, Sample) and batch.together and isinstance(outputs, Refinement):  # its share
            seconds = sum(level.seconds for level in outputs.levels)
        cost = {"seconds": round(seconds, 3), "peak_memory_mib": round(peak(pl_module.device))}
        self.run_folder.note(batch.key, cost | {"threads": torch.get_num_threads()})
