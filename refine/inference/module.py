"""The Lightning module: the Refiner in the predict loop."""

import traceback
from collections.abc import Mapping

import lightning as L
import torch

from refine.analysis.plan import MemoryLimit
from refine.core.memory import refine_in_memory
from refine.core.refiner import OnStep, Refiner
from refine.core.types import Refinement, Sample, Step
from refine.data.pairs import Failure


class InpaintingModule(L.LightningModule):
    """Refines one sample per step.

    Args:
        refiner: Does the work.
        limit: Limit of the memory, which chooses how each image is refined; None for no limit.

    Attributes:
        expected: Predicted seconds of this process's images, by key; empty where nobody knows.
        listeners: Told every evaluation of the loss; callbacks add themselves here.
    """

    def __init__(self, refiner: Refiner, limit: MemoryLimit | None = None) -> None:
        super().__init__()
        self.refiner = refiner
        self.limit = limit
        self.backbone = refiner.backbone  # registered, so that Lightning moves it
        self.expected: Mapping[str, float] = {}
        self.listeners: list[OnStep] = []

    def on_predict_start(self) -> None:
        """Refuse a trainer under which nothing could be differentiated."""
        if torch.is_inference_mode_enabled():
            raise ValueError(
                "refinement differentiates: use Trainer(inference_mode=False), or trainer.inference_mode=false."
            )

    def predict_step(self, batch: Sample | Failure, batch_idx: int) -> Refinement | Failure:
        """Refine a sample; an image that cannot be done becomes a failure and the run goes on."""
        if isinstance(batch, Failure):
            return batch
        try:
            refiner, mask = self.refiner, batch.network_mask
            if self.limit is not None:
                refiner = self.limit.choose((batch.image.shape[-2], batch.image.shape[-1]), mask).refiner
            return refine_in_memory(refiner, batch.image, mask, key=batch.key, on_step=self._tell)
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else "no message"
            return Failure(batch.key, f"{type(error).__name__}: {reason}", traceback.format_exc())

    def _tell(self, step: Step) -> None:
        for listener in self.listeners:
            listener(step)
