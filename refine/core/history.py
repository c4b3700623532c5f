"""What the host knows of the updates of a level, and which of the iterates becomes its result."""

import math
from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

from refine.core.choices import Keep
from refine.core.updates import Updates

Tell = Callable[[int, int, float, Tensor], None]  # image, update, loss and prediction


class OptimizationHistory:
    """The course of one image at one level.

    Attributes:
        losses: Loss after 0, 1, 2 ... updates; NaN where an iterate was not finite.
        best: Updates behind the iterate of the lowest loss; -1 where none was finite.
        ended: Whether nothing more is to come.
    """

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.best = -1
        self.ended = False

    def add(self, loss: float, finite: float, better: float, active: float) -> None:
        """Take in one iterate.

        Args:
            loss: Value of the objective.
            finite: Flag, 1 where loss and prediction are finite, else 0.
            better: Flag, 1 where the loss is the lowest so far.
            active: Flag, 1 where the image goes on.
        """
        if better:
            self.best = len(self.losses)
        self.losses.append(loss if finite else math.nan)
        self.ended = not active

    def kept(self, keep: Keep) -> int:
        """Updates behind the iterate to keep; -1 where none is finite.

        Args:
            keep: Rule that picks it, see :class:`refine.core.refiner.Refiner`.
        """
        last = len(self.losses) - 1
        return last if keep == "last" and self.losses[last] <= self.losses[0] else self.best


class Reader:
    """Reads the reports of the device, and tells the listener.

    Args:
        updates: Updates that report.
        tell: Function that is told every iterate; None where nobody listens.
        late: Number of updates by which a report is read late, so that the host need not wait for the device.
        keep_first: Whether the prediction before the first update will be asked for.

    Attributes:
        histories: Course of each image.
        first: Prediction before the first update, ``(B, 3, h, w)``; None unless it is kept.
    """

    def __init__(self, updates: Updates, tell: Tell | None, late: int, keep_first: bool) -> None:
        self.updates, self.tell, self.late, self.keep_first = updates, tell, late, keep_first
        self.histories = [OptimizationHistory() for _ in range(updates.prediction.shape[0])]
        self.first: Tensor | None = None
        self._coming: deque[tuple[Callable[[], list[list[float]]], Tensor | None]] = deque()

    @property
    def ended(self) -> bool:
        """Whether all images have ended, as far as is known."""
        return all(history.ended for history in self.histories)

    def read(self) -> bool:
        """Take note of the iterate just made; whether to go on."""
        if self.keep_first and self.first is None:
            self.first = self.updates.prediction.clone()
        prediction = None if self.tell is None else self.updates.prediction.clone()
        self._coming.append((_fetched(self.updates.report), prediction))
        while len(self._coming) > self.late:
            self._take()
        return not self.ended

    def read_all(self) -> None:
        """Wait for all reports that are still to come."""
        while self._coming:
            self._take()

    def _take(self) -> None:
        values, prediction = self._coming.popleft()
        for image, report in enumerate(zip(*values(), strict=True)):
            history = self.histories[image]
            if history.ended:
                continue
            history.add(*report)
            if self.tell is not None and prediction is not None:
                self.tell(image, len(history.losses) - 1, report[0], prediction[image : image + 1])


def _fetched(report: Tensor) -> Callable[[], list[list[float]]]:
    """Send a report to the host; the function that is returned waits for it."""
    if report.device.type != "cuda":
        values = report.tolist()
        return lambda: values
    landed = torch.empty(report.shape, dtype=report.dtype, pin_memory=True)
    landed.copy_(report, non_blocking=True)
    arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
    arrived.record(torch.cuda.current_stream(report.device))  # not that of the current device

    def wait() -> list[list[float]]:
        arrived.synchronize()
        return landed.tolist()

    return wait
