"""Progress to the terminal."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from refine.config.verbosity import is_quiet
from refine.core.types import Step


class TimeLeft:
    """Time until all images are done: the predicted, times what those that are done took of their own prediction.

    Args:
        expected: Predicted seconds of each image, by key.
        clock: Function that gives the time, seconds.
    """

    def __init__(self, expected: Mapping[str, float], clock: Callable[[], float] = time.monotonic) -> None:
        self._waiting, self._clock = dict(expected), clock
        self._predicted = self._taken = self._current = 0.0  # seconds, of images that are done, and of the one at work
        self._began = clock()

    def begin(self, key: str) -> None:
        """An image is begun.

        Args:
            key: Key of the image; one without a prediction counts for nothing.
        """
        self._current, self._began = self._waiting.pop(key, 0.0), self._clock()

    def end(self) -> None:
        """The image at work is done."""
        if self._current:
            self._predicted += self._current
            self._taken += self._clock() - self._began
        self._current = 0.0

    def seconds(self) -> float:
        """Seconds left; the image at work may take longer than predicted, but not less than none."""
        ratio = self._taken / self._predicted if self._predicted else 1.0
        at_work = ratio * self._current - (self._clock() - self._began) if self._current else 0.0
        return max(0.0, at_work) + ratio * sum(self._waiting.values())


class _TimeColumn(TimeRemainingColumn):
    """The time that is left by prediction; without one, by the number of images."""

    left: TimeLeft | None = None

    def render(self, task: Task) -> Text:
        """One cell."""
        if self.left is None:
            return super().render(task)
        minutes, seconds = divmod(round(self.left.seconds()), 60)
        return Text(f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}", style="progress.remaining")


class ProgressBar(Callback):
    """One line: images done, time left, and of the current one level, step, loss and name. Rank 0 alone, on a terminal.

    Args:
        console: Terminal to draw on; standard error if None.
    """

    def __init__(self, console: Console | None = None) -> None:
        console = console or Console(stderr=True)
        text = TextColumn("{task.description} {task.fields[key]}", markup=False)
        self._time = _TimeColumn()
        columns = (BarColumn(12), MofNCompleteColumn(), self._time, text)
        hidden = is_quiet() or not console.is_terminal
        self.progress = Progress(*columns, console=console, transient=True, disable=hidden)
        self._task: TaskID | None = None

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the bar and listen to the refinement."""
        if not trainer.is_global_zero:
            return
        if pl_module.expected:
            self._time.left = TimeLeft(pl_module.expected)  # type: ignore[arg-type]
        self._task = self.progress.add_task("", total=sum(map(int, trainer.num_predict_batches)), key="")
        self.progress.start()
        pl_module.listeners.append(self.on_step)  # type: ignore[union-attr,operator]

    def on_predict_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, *_: Any) -> None:
        """Show which image is under work."""
        key, room = repr(batch.key)[1:-1], max(8, self.progress.console.width - 66)  # no control characters, one line
        if self._time.left:
            self._time.left.begin(batch.key)
        self._update(description="", key=key if len(key) <= room else f"…{key[1 - room :]}")

    def on_step(self, step: Step) -> None:
        """Show where its refinement stands."""
        self._update(
            description=f"level {step.level + 1}/{step.levels} step {step.step}/{step.steps} loss {step.loss:.4f}"
        )

    def on_predict_batch_end(self, *_: Any) -> None:
        """One more is done."""
        if self._time.left:
            self._time.left.end()
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
