"""The Lightning module: the Refiner in the predict loop."""

import traceback
import warnings
from collections.abc import Mapping, Sequence

import lightning as L
import torch

from refine.analysis.memory_limit import MemoryLimit
from refine.config import first_line
from refine.core.memory import refine_in_memory, release
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
        alone: Names of images that are to be refined by themselves, such as those of which pictures are kept.
    """

    def __init__(self, refiner: Refiner, limit: MemoryLimit | None = None) -> None:
        super().__init__()
        self.refiner = refiner
        self.limit = limit
        self.backbone = refiner.backbone  # registered, so that Lightning moves it
        self.expected: Mapping[str, float] = {}
        self.listeners: list[OnStep] = []
        self.alone: set[str] = set()
        self._results: dict[str, Refinement] = {}  # of images whose turn will come

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
            if batch.together and batch.together[0].key == batch.key:
                self._refine_together([sample for sample in batch.together if sample.key not in self.alone])
            if batch.key in self._results:
                return self._results.pop(batch.key)
            refiner, mask = self._way(batch), batch.network_mask
            return refine_in_memory(refiner, batch.image, mask, key=batch.key, on_step=self._tell)
        except Exception as error:
            return Failure(batch.key, f"{type(error).__name__}: {first_line(error)}", traceback.format_exc())

    def _way(self, sample: Sample, batch: int = 1) -> Refiner:
        if self.limit is None:
            return self.refiner
        size = (sample.image.shape[-2], sample.image.shape[-1])
        return self.limit.choose(size, sample.network_mask, batch).refiner

    def _refine_together(self, samples: Sequence[Sample]) -> None:
        """Refine several images at once; if that fails, each will be refined by itself in its turn."""
        if len(samples) < 2 or not self.refiner.together:
            return
        try:
            image = torch.cat([sample.image for sample in samples]).to(self.device)
            mask = torch.cat([sample.network_mask for sample in samples]).to(self.device)
            keys = [sample.key for sample in samples]
            refined = self._way(samples[0], len(samples))(image, mask, key=keys, on_step=self._tell)
        except Exception as error:
            reason = first_line(error, type(error).__name__)
            warnings.warn(f"{len(samples)} images together: {reason}; each by itself.", stacklevel=2)
        else:
            self._results = {key: refined.alone(index) for index, key in enumerate(keys)}
            return
        release(self.refiner)

    def _tell(self, step: Step) -> None:
        for listener in self.listeners:
            listener(step)
