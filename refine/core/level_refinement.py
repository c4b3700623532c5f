"""``predict_and_refine`` of Algorithm 1: one level, of one image or of several of one size."""

import functools
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from refine.core.capture import Run
from refine.core.choices import Keep, choice
from refine.core.execution import Execution
from refine.core.graphs import Graphs, NotCapturable
from refine.core.history import OptimizationHistory, Reader, Tell
from refine.core.objective import Comparison, Objective
from refine.core.optimization import changed
from refine.core.pyramid import enlarge
from refine.core.types import Features, Level, LevelResult
from refine.core.updates import Updates


def unrefined(level: Level, prediction: Tensor, start: float) -> LevelResult:
    """The result of a level that is not refined.

    Args:
        level: Level, of one image or several.
        prediction: Raw prediction at the level's true size, ``(B, 3, h, w)``.
        start: Value of ``time.perf_counter`` when the level began, seconds.
    """
    images = torch.split(prediction, 1)
    results = [LevelResult.of(level.alone(b), image, start, batch=len(images)) for b, image in enumerate(images)]
    return LevelResult.stack(results)


@dataclass(frozen=True)
class LevelRefinement:
    """How one level is refined.

    Attributes:
        run: Network and the settings it runs under.
        objective: Loss between a prediction and the result of the coarser level.
        steps: Updates, >= 0.
        lr: Learning rate, > 0.
        optimizer: Function that makes an optimizer of a list of tensors and ``lr``.
        keep: Iterate that becomes the result, ``best`` or ``last``.
        sigma: Standard deviation of the Gaussian of ``keep_detail``, px of the level; None for no such thing.
        tolerance: Relative decrease of the loss below which an image ends, in [0, 1); 0 never.
        graphs: Captured updates; None where updates are started one by one.
    """

    run: Execution
    objective: Objective
    steps: int
    lr: float
    optimizer: Callable[..., Optimizer]
    keep: Keep
    sigma: float | None
    tolerance: float
    graphs: Graphs | None

    def __call__(self, level: Level, guide: Tensor, tell: Tell | None) -> LevelResult:
        """Optimize the features of a level so that its prediction agrees with the guide.

        Args:
            level: Level, ``(B, 3, h, w)`` padded.
            guide: Composited result of the next coarser level, ``(B, 3, h', w')``.
            tell: Function that is told every iterate; None where nobody listens.
        """
        start = time.perf_counter()
        comparison = self.objective.prepare(level, guide)
        steps = self.steps if bool(comparison.has_pixels.any()) else 0
        updates, update, finish = self._prepared(level, guide, comparison, steps)
        keep_first = self.sigma is not None or comparison.refined is not None
        reader = Reader(updates, tell, choice(level.image.device).late, keep_first)
        for _ in range(steps):
            update(reader.read)
            if reader.ended:
                break
        else:
            finish(reader.read)
        reader.read_all()
        images = [self._result(level, guide, comparison, reader, b, start) for b in range(len(reader.histories))]
        return LevelResult.stack(images)

    def _result(
        self, level: Level, guide: Tensor, comparison: Comparison, reader: Reader, b: int, start: float
    ) -> LevelResult:
        """The result of one image of the batch."""
        one, history = slice(b, b + 1), reader.histories[b]
        prediction, kept = self._kept(reader.updates, history, one, guide)
        if kept > 0 and reader.first is not None:
            refined = None if comparison.refined is None else comparison.refined[one]
            prediction = changed(reader.first[one], prediction, level.crop(level.mask[one]), refined, self.sigma)
        compared = bool(comparison.has_pixels[b])
        losses = history.losses if compared else []
        guided, skipped = float(comparison.guided_fraction[b]), not compared and self.steps > 0
        return LevelResult.of(
            level.alone(b), prediction, start, losses, kept, guided, skipped, batch=len(reader.histories)
        )

    def _kept(self, updates: Updates, history: OptimizationHistory, one: slice, guide: Tensor) -> tuple[Tensor, int]:
        """The prediction of an image to keep, and the updates behind it."""
        kept = history.kept(self.keep)
        if kept < 0:
            return enlarge(guide[one], updates.level.size), kept
        latest = kept == len(history.losses) - 1
        return (updates.prediction if latest else updates.best)[one].clone(), kept

    def _prepared(self, level: Level, guide: Tensor, comparison: Comparison, steps: int) -> tuple[Updates, Run, Run]:
        """The updates of a level, and how one is made and the last iterate evaluated: captured or as they are."""
        features = self.run.front(level)
        optimizer = functools.partial(self.optimizer, lr=self.lr) if steps else None

        def made(level: Level, features: Features, comparison: Comparison) -> Updates:
            return Updates(self.run, level, features, comparison, optimizer, self.tolerance)

        def of_its_own(level: Level, features: Features) -> Updates:
            return made(level, features, self.objective.prepare(level, guide.clone()))

        if self.graphs is not None and steps:
            try:
                captured = self.graphs.prepare(
                    self._settings(), self.run.backbone, level, features, comparison, of_its_own
                )
                return captured.updates, captured.update, captured.finish
            except NotCapturable as reason:
                self.graphs.tell(str(reason))
        updates = made(level, features, comparison)
        return updates, updates.update, updates.finish

    def _settings(self) -> Hashable:
        """What an update depends on besides weights and sizes."""
        return self.run, id(self.objective), self.optimizer, self.lr, self.tolerance
