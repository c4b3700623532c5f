"""Results to files, and what is known of them to rows."""

import time
import traceback
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from refine.data import Source
from refine.encode import encode
from refine.images import fill
from refine.records import Failure, Records
from refine.types import Refinement, Sample


class ResultWriter(Callback):
    """Writes each result as soon as it is there.

    Args:
        records: Where results and failures are kept.
        format: Of the files.
    """

    def __init__(self, records: Records, format: str) -> None:
        self.records = records
        self.format = format
        self._started = time.perf_counter()

    def on_predict_batch_start(self, *_: Any) -> None:
        """Start the sample's clock."""
        self._started = time.perf_counter()

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Write the result; what cannot be written is a failure of this sample alone."""
        if isinstance(outputs, Failure):
            self.records.fail(outputs)
            return
        try:
            self._write(outputs, batch)
        except Exception as error:
            self.records.fail(Failure(batch.key, f"cannot be written ({error})", traceback.format_exc()))

    def _write(self, refinement: Refinement, sample: Sample) -> None:
        source: Source = sample.source
        hole = (sample.mask[0, 0] > 0).cpu().numpy()
        picture = fill(source.picture, refinement.image.cpu(), hole)
        name = f"{source.job.key}.{self.format}"
        row = describe(refinement, sample, time.perf_counter() - self._started)
        self.records.finish(name, source.inputs, encode(picture, self.format), row)


def describe(refinement: Refinement, sample: Sample, seconds: float) -> dict[str, Any]:
    """What is known of one result, as plain values for a table.

    Args:
        refinement: Of one image.
        sample: That image.
        seconds: Wall time, reading left out.
    """
    height, width = sample.image.shape[-2:]
    refined = refinement.levels[1:]
    return {
        "key": sample.key,
        "image": str(sample.source.job.image),
        "mask": str(sample.source.job.mask),
        "width": width,
        "height": height,
        "hole": round(sample.mask.mean().item(), 6),
        "levels": len(refinement.levels),
        "updates": " ".join(str(level.updates.item()) for level in refined),
        "kept": " ".join(str(level.kept.item()) for level in refined),
        "guided": " ".join(f"{level.guided_fraction.item():.3f}" for level in refined),
        "first_loss": " ".join(f"{level.losses[0].item():.6g}" for level in refined if len(level.losses)),
        "last_loss": " ".join(f"{level.losses[-1].item():.6g}" for level in refined if len(level.losses)),
        "seconds": round(seconds, 3),
    }
