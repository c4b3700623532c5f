"""Pictures of selected images, kept on disk until the end of the run."""

import traceback
import warnings
from collections.abc import Collection, Mapping
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from refine.core.refiner import Refiner
from refine.core.types import Refinement, Sample, Step
from refine.inference.callbacks.evaluation import Scoring
from refine.inference.logging.console import log
from refine.inference.panels import Frame, composited, marked, resized, shown_size, to_bytes
from refine.inference.run_folder import RunFolder
from refine.io.encode import encode
from refine.io.picture import Picture


class Panels(Callback):
    """Keeps input, controls, result, truth and evolution of selected images; what cannot be kept never hurts a result.

    While an image is refined only small 8-bit copies are made, so that its time and memory stay what they are; the
    files are written when it is done.

    Args:
        run_folder: Run folder that keeps the pictures.
        selected: Names (keys) of the images.
        plain: Refiner without updates, for the network's own prediction where the scoring makes none.
        scoring: Callback whose latest evaluation holds the controls' images; None where nothing is scored.
        every: Updates between two pictures of the evolution, 1 or more.
        side: Longest side of a picture, px; None for the image's own.
    """

    def __init__(
        self,
        run_folder: RunFolder,
        selected: Collection[str],
        plain: Refiner,
        scoring: Scoring | None = None,
        every: int = 5,
        side: int | None = 768,
    ) -> None:
        self.run_folder = run_folder
        self.selected = frozenset(selected)
        self.plain = plain
        self.scoring = scoring
        self.every = every
        self.side = side
        self._frames: dict[str, np.ndarray] = {}
        self._image: Tensor | None = None  # of the selected image under work, as it is shown
        self._mask: Tensor | None = None

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listen to the refinement."""
        if self.selected:
            pl_module.listeners.append(self.on_step)  # type: ignore[union-attr,operator]
            pl_module.alone |= self.selected  # type: ignore[operator]

    def on_predict_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, *_: Any) -> None:
        """See whether the next image is a selected one."""
        self._frames, self._image, self._mask = {}, None, None
        if isinstance(batch, Sample) and batch.key in self.selected:
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

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Write the pictures of a selected image."""
        if self._image is None or not isinstance(outputs, Refinement):
            return
        try:
            self._write(batch, outputs, self._image, self.scoring.latest.controls if self.scoring else {})
        except Exception as error:
            warnings.warn(f"no pictures of {batch.key}: {error}; its result is complete.", stacklevel=2)
            log.debug("%s", traceback.format_exc())

    def _write(
        self, sample: Sample, refinement: Refinement, input_image: Tensor, controls: Mapping[str, Tensor]
    ) -> None:
        assert self._mask is not None
        size = (input_image.shape[-2], input_image.shape[-1])
        images = {"refined": refinement.image, "truth": sample.truth, **controls}
        if "plain" not in images:
            images["plain"] = self.plain(sample.image, sample.network_mask, key=sample.key).image
        parts = {f"{name}.png": resized(image, size) for name, image in images.items() if image is not None}
        parts["input.png"] = marked(input_image, self._mask)
        parts[Frame.name(0, 0)] = composited(refinement.levels[0].prediction, input_image, self._mask)
        for name, picture in ({name: to_bytes(part) for name, part in parts.items()} | self._frames).items():
            self.run_folder.write_panel(sample.key, sample.source.inputs, name, encode(Picture(picture), "png"))
