"""Results to files, and what is known of them to rows."""

import contextlib
import traceback
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from refine.core.types import Refinement, Sample
from refine.data.dataset import Source, encoded
from refine.data.masks import MaskGenerator, mask_hash
from refine.data.pairs import Failure
from refine.inference.beside import WriteBehind
from refine.inference.run_folder import Note, RunFolder


class ResultWriter(Callback):
    """Writes each result as soon as it is there; what cannot be written is a failure of this image alone.

    Args:
        run_folder: Run folder that keeps results, rows and failures.
        format: Suffix of the files, such as ``png``.
        threads: Number of threads that score and write while the next image is refined; 0 for none.

    Attributes:
        behind: What has been begun and is not written yet.
    """

    def __init__(self, run_folder: RunFolder, format: str, threads: int = 0) -> None:
        self.run_folder = run_folder
        self.format = format
        self.behind = WriteBehind(threads)

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Write one result and its row, or note why there is none."""
        if isinstance(outputs, Failure):
            self.run_folder.fail(outputs)
            return
        with self._costs_one_image(batch.key):
            row = describe(outputs, batch) | {"contents": [*batch.source.contents.items()]}
            notes = [row, *self.run_folder.take_notes(batch.key)]
            image, hole = outputs.image.cpu(), (batch.mask[0, 0] > 0).cpu().numpy()  # nothing of it on the device
            self.behind(partial(self._write, batch.key, batch.source, image, hole, notes), hole.size)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Wait for the last results."""
        self.behind.wait()

    def _write(self, key: str, source: Source, image: Tensor, hole: np.ndarray, notes: Sequence[Note]) -> None:
        with self._costs_one_image(key):
            row: dict[str, Any] = {}
            for note in notes:
                row |= note() if callable(note) else note
            if isinstance(source.pair.mask, MaskGenerator):
                row["mask_hash"] = mask_hash(key, hole)
            data = encoded(image, hole, source, self.format)
            self.run_folder.finish(f"{key}.{self.format}", source.inputs, data, row)

    @contextlib.contextmanager
    def _costs_one_image(self, key: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.run_folder.fail(Failure(key, f"cannot be written ({error})", traceback.format_exc()))


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
        "not_finite": sum(level.kept.item() < 0 for level in refined),
        "updates": " ".join(str(level.updates.item()) for level in refined),
        "kept": " ".join(str(level.kept.item()) for level in refined),
        "guided": " ".join(f"{level.guided_fraction.item():.3f}" for level in refined),
        "first_loss": " ".join(f"{level.losses[0].item():.6g}" for level in refined if len(level.losses)),
        "last_loss": " ".join(f"{level.losses[-1].item():.6g}" for level in refined if len(level.losses)),
        "losses": [[float(f"{loss:.6g}") for loss in level.losses[:, 0].tolist()] for level in refined],
    }
