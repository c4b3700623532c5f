"""The course of the optimization at one level, and which of its iterates becomes the result."""

import math
from collections.abc import Callable
from typing import Literal

from torch import Tensor

WINDOW = 3  # updates over which the decrease of the loss is judged


class OptimizationHistory:
    """Losses of one level, and the predictions that may become its result.

    Args:
        keep: Rule that picks the result, ``best`` or ``last``, see :class:`refine.core.refiner.Refiner`.

    Attributes:
        losses: Loss after 0, 1, 2 ... updates; NaN where an iterate was not finite.
    """

    def __init__(self, keep: Literal["best", "last"]) -> None:
        self.keep = keep
        self.losses: list[float] = []
        self._best: tuple[int, Tensor] | None = None
        self._last: tuple[int, Tensor] | None = None

    def add(self, loss: float, prediction: Tensor) -> bool:
        """Record one iterate; False if it is not finite and the level has to end.

        Args:
            loss: Value of the objective.
            prediction: Raw prediction, ``(1, 3, h, w)``.
        """
        finite = math.isfinite(loss) and bool(prediction.isfinite().all())
        update = len(self.losses)
        self.losses.append(loss if finite else math.nan)
        self._last = (update, prediction) if finite else None
        if finite and (self._best is None or loss < self.losses[self._best[0]]):
            self._best = (update, prediction)
        return finite

    def result(self, fallback: Callable[[], Tensor]) -> tuple[Tensor, int]:
        """The prediction to keep and the number of updates behind it.

        Args:
            fallback: Function that makes a prediction where no iterate is finite; the number is -1 then.
        """
        iterate = self._best
        if self.keep == "last" and self._last is not None and self.losses[-1] <= self.losses[0]:
            iterate = self._last
        if iterate is None:
            return fallback(), -1
        update, prediction = iterate
        return prediction, update

    def settled(self, tolerance: float) -> bool:
        """Whether the loss fell by less than this share of itself over the last few updates; never for 0."""
        if tolerance <= 0 or len(self.losses) <= WINDOW:
            return False
        before, now = self.losses[-1 - WINDOW], self.losses[-1]
        return before - now < tolerance * before
