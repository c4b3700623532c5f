"""What Lightning sets for the whole process, and a run needs otherwise."""

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from refine.inference.signals import exit_on_sigterm


class ProcessSettings(Callback):
    """Puts back the number of CPU threads, and lets SIGTERM end the predict loop.

    Lightning's launcher divides the cores among the processes of a node; the last bits of the results would follow. Its
    handler of SIGTERM lets the predict loop go on, and among several processes waits for all of them.

    Args:
        threads: Number of CPU threads, 1 or more.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Set both; Lightning itself puts back the handlers that it found."""
        torch.set_num_threads(self.threads)
        exit_on_sigterm()
