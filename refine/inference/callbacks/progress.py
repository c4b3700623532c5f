"""Progress to the terminal."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from refine.config.verbosity import is_quiet
from refine.core.types import Step


class ProgressBar(Callback):
    """One line: images done, and of the current one its level, step, loss and name. Rank 0 alone, on a terminal.

    Args:
        console: Terminal to draw on; standard error if None.
    """

    def __init__(self, console: Console | None = None) -> None:
        console = console or Console(stderr=True)
        text = TextColumn("{task.description} {task.fields[key]}", markup=False)
        columns = (BarColumn(12), MofNCompleteColumn(), TimeRemainingColumn(), text)
        hidden = is_quiet() or not console.is_terminal
        self.progress = Progress(*columns, console=console, transient=True, disable=hidden)
        self._task: TaskID | None = None

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the bar and listen to the refinement."""
        if not trainer.is_global_zero:
            return
        self._task = self.progress.add_task("", total=sum(map(int, trainer.num_predict_batches)), key="")
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

    def _update(self, **fields: str) -> None:
        if self._task is not None:
            self.progress.update(self._task, **fields)  # type: ignore[arg-type]
