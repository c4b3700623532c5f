"""Results to files, and what is known of them to rows."""

import traceback
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import BasePredictionWriter

from refine.core.types import Refinement, Sample
from refine.data.dataset import encoded
from refine.data.masks import MaskGenerator, mask_hash
from refine.data.pairs import Failure
from refine.inference.run_folder import RunFolder


class ResultWriter(BasePredictionWriter):
    """Writes each result as soon as it is there; what cannot be written is a failure of this image alone.

    Args:
        run_folder: Run folder that keeps results, rows and failures.
        format: Suffix of the files, such as ``png``.
    """

    def __init__(self, run_folder: RunFolder, format: str) -> None:
        super().__init__("batch")
        self.run_folder = run_folder
        self.format = format

    def write_on_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, prediction: Any, indices: Any, batch: Any, *_: Any
    ) -> None:
        """Write one result and its row, or note why there is none."""
        if isinstance(prediction, Failure):
            self.run_folder.fail(prediction)
            return
        try:
            self._write(prediction, batch)
        except Exception as error:
            self.run_folder.fail(Failure(batch.key, f"cannot be written ({error})", traceback.format_exc()))

    def _write(self, refinement: Refinement, sample: Sample) -> None:
        row = describe(refinement, sample) | {"contents": [*sample.source.contents.items()]}
        row |= self.run_folder.take_notes(sample.key)
        if isinstance(sample.source.pair.mask, MaskGenerator):
            row["mask_hash"] = mask_hash(sample.key, (sample.mask[0, 0] > 0).cpu().numpy())
        data = encoded(refinement, sample, self.format)
        self.run_folder.finish(f"{sample.key}.{self.format}", sample.source.inputs, data, row)


def describe(refinement: Refinement, sample: Sample) -> dict[str, Any]:
    """What is known of one result, as plain values for a table; ``losses`` per refined level is a list of lists.

    Args:
        refinement: Refinement of one image.
        sample: The image, its mask and where they come from.
    """
    height, width = sample.image.shape[-2:]
    refined = refinement.levels[1:]
    return {
        "key": sample.key,
        "image": str(sample.source.pair.image),
        "mask": str(sample.source.pair.mask),
        "width": width,
        "height": height,
        "hole": round(sample.mask.mean().item(), 6),
        "hole_pixels": int(torch.count_nonzero(sample.mask)),
        "mask_kind": sample.source.mask_kind,
        "levels": len(refinement.levels),
        "levels_refined": sum(level.updates.item() > 0 for level in refined),
        "nothing_refined": int(refinement.nothing_refined),
        "updates": " ".join(str(level.updates.item()) for level in refined),
        "kept": " ".join(str(level.kept.item()) for level in refined),
        "guided": " ".join(f"{level.guided_fraction.item():.3f}" for level in refined),
        "first_loss": " ".join(f"{level.losses[0].item():.6g}" for level in refined if len(level.losses)),
        "last_loss": " ".join(f"{level.losses[-1].item():.6g}" for level in refined if len(level.losses)),
        "losses": [[float(f"{loss:.6g}") for loss in level.losses[:, 0].tolist()] for level in refined],
    }
