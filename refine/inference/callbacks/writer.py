"""Results to files, and what is known of them to rows."""

import time
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from refine.core.types import Refinement, Sample
from refine.data.dataset import Source
from refine.data.masks import MaskGenerator, mask_hash
from refine.data.pairs import Failure, ImageMaskPair
from refine.inference.peak_memory import peak, restart_peak
from refine.inference.run_folder import RunFolder
from refine.io.encode import encode
from refine.io.picture import Picture, fill, to_tensor
from refine.metrics.evaluator import Evaluation, Evaluator

Keep = Callable[[Sample, Refinement, Evaluation], None]


class ResultWriter(Callback):
    """Writes each result as soon as it is there, and scores it.

    Args:
        records: Where results and failures are kept.
        format: Of the files.
        evaluator: Scores the results; None for no scores.
        keep: Shown every result with its evaluation, once it is written; for pictures of chosen images.
    """

    def __init__(self, records: RunFolder, format: str, evaluator: Evaluator | None, keep: Keep | None = None) -> None:
        self.records = records
        self.format = format
        self.evaluator = evaluator
        self.keep = keep
        self._started = time.perf_counter()

    def on_predict_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Start the sample's clock."""
        restart_peak(pl_module.device)
        self._started = time.perf_counter()

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Write the result; what cannot be written is a failure of this sample alone."""
        if isinstance(outputs, Failure):
            self.records.fail(outputs)
            return
        seconds = time.perf_counter() - self._started
        cost = {"seconds": round(seconds, 3), "peak_memory_mib": round(peak(pl_module.device))}
        cost["threads"] = torch.get_num_threads()
        try:
            self._write(outputs, batch, cost)
        except Exception as error:
            self.records.fail(Failure(batch.key, f"cannot be written ({error})", traceback.format_exc()))

    def _write(self, refinement: Refinement, sample: Sample, cost: dict[str, Any]) -> None:
        source: Source = sample.source
        hole = (sample.mask[0, 0] > 0).cpu().numpy()

        def filled(image: Tensor) -> Picture:
            return fill(source.picture, image.cpu(), hole)

        evaluation = self._evaluated(refinement, sample, lambda image: to_tensor(filled(image)))
        row = describe(refinement, sample) | cost | dict(evaluation.row)
        if isinstance(source.pair.mask, MaskGenerator):
            row["mask_hash"] = mask_hash(sample.key, hole)
        data = encode(filled(refinement.image), self.format)
        self.records.finish(f"{source.pair.key}.{self.format}", source.inputs, data, row)
        if self.keep is not None:
            self.keep(sample, refinement, evaluation)

    def _evaluated(self, refinement: Refinement, sample: Sample, written: Callable[[Tensor], Tensor]) -> Evaluation:
        """The scores; a result for which there are none is a result still."""
        try:
            return Evaluation({}) if self.evaluator is None else self.evaluator(refinement, sample, written)
        except Exception as error:
            warnings.warn(f"{sample.key}: cannot be scored ({type(error).__name__}: {error}).", stacklevel=2)
            return Evaluation({})


def describe(refinement: Refinement, sample: Sample) -> dict[str, Any]:
    """What is known of one result, as plain values for a table; ``losses`` per refined level is a list of lists.

    Args:
        refinement: Of one image.
        sample: That image.
    """
    job: ImageMaskPair = sample.source.pair
    height, width = sample.image.shape[-2:]
    refined = refinement.levels[1:]
    return {
        "key": sample.key,
        "image": str(job.image),
        "mask": str(job.mask),
        "width": width,
        "height": height,
        "hole": round(sample.mask.mean().item(), 6),
        "levels": len(refinement.levels),
        "updates": " ".join(str(level.updates.item()) for level in refined),
        "kept": " ".join(str(level.kept.item()) for level in refined),
        "guided": " ".join(f"{level.guided_fraction.item():.3f}" for level in refined),
        "first_loss": " ".join(f"{level.losses[0].item():.6g}" for level in refined if len(level.losses)),
        "last_loss": " ".join(f"{level.losses[-1].item():.6g}" for level in refined if len(level.losses)),
        "losses": [[float(f"{loss:.6g}") for loss in level.losses[:, 0].tolist()] for level in refined],
    }
