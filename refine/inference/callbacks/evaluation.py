"""Scores of each result, before its row is written."""

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from refine.core.types import Refinement, Sample
from refine.inference.run_folder import RunFolder
from refine.io.picture import fill, to_tensor
from refine.metrics.evaluator import Evaluation, Evaluator


class Scoring(Callback):
    """Holds each result against the truth and the controls.

    Args:
        run_folder: Run folder in whose rows the scores stand.
        evaluator: Evaluator that computes them.

    Attributes:
        latest: Evaluation of the image that was scored last, with the controls' images; for pictures.
    """

    def __init__(self, run_folder: RunFolder, evaluator: Evaluator) -> None:
        self.run_folder = run_folder
        self.evaluator = evaluator
        self.latest = Evaluation({})

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Score a result; one that cannot be scored is a result still."""
        self.latest = Evaluation({})
        if not isinstance(outputs, Refinement):
            return
        with _scored(batch.key):
            self.latest = self.evaluator(outputs, batch)
            self.run_folder.note(batch.key, self.latest.row)
            if batch.truth is not None:
                images = {"": outputs.image, **self.latest.controls}
                on_cpu = {name: image.cpu() for name, image in images.items()}
                self.run_folder.note(batch.key, partial(self._against_truth, on_cpu, batch.to("cpu")))

    def _against_truth(self, images: Mapping[str, Tensor], sample: Sample) -> Mapping[str, Any]:
        """What takes the CPU alone, and is done when the row is written."""
        with _scored(sample.key):
            return self.evaluator.against_truth(images, sample, lambda image: as_written(image, sample))
        return {}


@contextlib.contextmanager
def _scored(key: str) -> Iterator[None]:
    """Inside, what goes wrong is said and costs the scores alone."""
    try:
        yield
    except Exception as error:
        warnings.warn(f"{key}: cannot be scored ({type(error).__name__}: {error}).", stacklevel=4)


def as_written(image: Tensor, sample: Sample) -> Tensor:
    """An image as its file would hold it: rounded, and with the input's own known pixels.

    Args:
        image: Result, ``(1, 3, H, W)`` in [0, 1].
        sample: The image that was filled.
    """
    return to_tensor(fill(sample.source.picture, image.cpu(), (sample.mask[0, 0] > 0).cpu().numpy()))
