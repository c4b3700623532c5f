"""Callbacks of the predict loop: results to files, progress to the terminal."""

import time
import traceback
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from refine.data import Source
from refine.encode import encode
from refine.images import fill
from refine.records import Failure, Records
from refine.types import Refinement, Sample, Step


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


class ProgressBar(Callback):
    """One line: images done, and of the current one its level, step, loss and name. Nothing without a terminal.

    Args:
        total: Number of samples this process has to do.
        console: Where to draw.
    """

    def __init__(self, total: int, console: Console | None = None) -> None:
        console = console or Console(stderr=True)
        text = TextColumn("{task.description} {task.fields[key]}", markup=False)
        columns = (BarColumn(12), MofNCompleteColumn(), TimeRemainingColumn(), text)
        self.progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self.total = total
        self._task: TaskID | None = None

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the bar and listen to the refinement."""
        self._task = self.progress.add_task("", total=self.total, key="")
        self.progress.start()
        pl_module.listeners.append(self.on_step)  # type: ignore[union-attr,operator]

    def on_predict_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, *_: Any) -> None:
        """Show which image is under work."""
        key, room = repr(batch.key)[1:-1], max(8, self.progress.console.width - 66)  # no control characters, one line
        self._update(description="", key=key if len(key) <= room else f"…{key[1 - room :]}")

    def on_step(self, step: Step) -> None:
        """Show where its refinement stands."""
        self._update(
            description=f"level {step.level + 1}/{step.levels} step {step.step}/{step.steps} loss {step.loss:.4f}"
        )

    def on_predict_batch_end(self, *_: Any) -> None:
        """One more is done."""
        if self._task is not None:
            self.progress.advance(self._task)

    def on_predict_end(self, *_: Any) -> None:
        """Take the bar away."""
        self.progress.stop()

    def on_exception(self, *_: Any) -> None:
        """Leave the terminal usable."""
        self.progress.stop()

    def _update(self, **shown: str) -> None:
        if self._task is not None:
            self.progress.update(self._task, **shown)  # type: ignore[arg-type]
