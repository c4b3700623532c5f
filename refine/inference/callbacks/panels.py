"""Pictures of chosen images, kept on disk until the end of the run."""

import traceback
import warnings
from collections.abc import Collection
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from refine.core.refiner import Refiner
from refine.core.types import Refinement, Sample, Step
from refine.inference.logging.console import log
from refine.inference.panels import FOLDER, Frame, composited, marked, place, resized, shown_size, to_bytes
from refine.inference.run_folder import RunFolder
from refine.io.encode import encode
from refine.io.picture import Picture
from refine.metrics.evaluator import Evaluation


class Panels(Callback):
    """Keeps input, controls, result, truth and evolution of chosen images; what cannot be kept never hurts a result.

    While an image is refined only small 8-bit copies are made, so that its time and memory stay what they are; the
    files are written when it is done.

    Args:
        records: Knows where.
        chosen: Keys of the images.
        plain: Makes the network's own prediction, where the evaluation does not.
        every: Updates between two pictures of the evolution.
        side: Longest side of a picture, px; None for the image's own.
    """

    def __init__(
        self,
        records: RunFolder,
        chosen: Collection[str],
        plain: Refiner,
        every: int = 5,
        side: int | None = 768,
    ) -> None:
        for name, value in (("every", every), ("side", side)):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f"panels.{name}={value}: expected a whole number, 1 or more.")
        self.records = records
        self.chosen = frozenset(chosen)
        self.plain = plain
        self.every = every
        self.side = side
        self._frames: dict[str, np.ndarray] = {}
        self._image: Tensor | None = None  # of the chosen image under work, as it is shown
        self._mask: Tensor | None = None

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listen to the refinement."""
        if self.chosen:
            pl_module.listeners.append(self.on_step)  # type: ignore[union-attr,operator]

    def on_predict_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, *_: Any) -> None:
        """See whether the next image is a chosen one."""
        self._frames, self._image, self._mask = {}, None, None
        if isinstance(batch, Sample) and batch.key in self.chosen:
            size = shown_size((batch.image.shape[-2], batch.image.shape[-1]), self.side)
            self._image, self._mask = resized(batch.image, size), resized(batch.mask, size)

    def on_step(self, step: Step) -> None:
        """Keep an iterate now and then, and the last."""
        if self._image is None or self._mask is None or (step.step % self.every and step.step != step.steps):
            return
        try:
            picture = composited(step.prediction(), self._image, self._mask)
            self._frames[Frame.name(step.level, step.step)] = to_bytes(picture)
        except Exception as error:
            self._image = None
            warnings.warn(f"no pictures of this image: {error}; its result will be complete.", stacklevel=2)

    def keep(self, sample: Sample, refinement: Refinement, evaluation: Evaluation) -> None:
        """Write what there is of a chosen image; see :class:`refine.inference.callbacks.writer.ResultWriter`."""
        if self._image is None:
            return
        try:
            self._keep(sample, refinement, evaluation)
        except Exception as error:
            warnings.warn(f"no pictures of {sample.key}: {error}; its result is complete.", stacklevel=2)
            log.debug("%s", traceback.format_exc())

    def _keep(self, sample: Sample, refinement: Refinement, evaluation: Evaluation) -> None:
        assert self._image is not None and self._mask is not None
        size = (self._image.shape[-2], self._image.shape[-1])
        images = {"refined": refinement.image, "truth": sample.truth, **evaluation.controls}
        if "plain" not in images:
            images["plain"] = self.plain(sample.image, sample.mask, key=sample.key).image
        parts = {f"{name}.png": resized(image, size) for name, image in images.items() if image is not None}
        parts["input.png"] = marked(self._image, self._mask)
        parts[Frame.name(0, 0)] = composited(refinement.levels[0].prediction, self._image, self._mask)
        folder = f"{FOLDER}/{place(sample.key, self.records.configuration, sample.source.inputs)}"
        for name, picture in ({name: to_bytes(part) for name, part in parts.items()} | self._frames).items():
            self.records.write_bytes(f"{folder}/{name}", encode(Picture(picture), "png"))
