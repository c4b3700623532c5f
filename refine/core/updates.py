"""The updates of one level: its features z, the function that moves them, and the iterates that may become its result.

This is the only file that computes gradients. All that an update needs and leaves lies on the device, and it asks the
device nothing, so that it can be captured once as a CUDA graph (:mod:`refine.core.graphs`). The host reads
:attr:`Updates.report` when it likes to: an image that has ended takes no part any more, however many updates follow.
"""

import math
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import Tensor
from torch.optim import Optimizer

from refine.autograd.selective import Frozen
from refine.core.execution import Execution
from refine.core.objective import Comparison
from refine.core.optimization import single_evaluation, trainable_copy
from refine.core.types import Features, Level

WINDOW = 3  # updates over which the decrease of the loss is judged


class Updates:
    """The optimization of the features of one level, of one image or of several of one size.

    Images do not meet: the loss that is differentiated is the sum of theirs, and each has its own best iterate and end.

    Args:
        run: Network and the settings it runs under.
        level: Level, ``(B, 3, h, w)`` padded.
        features: Tensors at the cut, what :meth:`Execution.front` gave.
        comparison: Loss of this level.
        optimizer: Function that makes the optimizer of a list of tensors; None where nothing will be moved.
        tolerance: Relative decrease of the loss over 3 updates below which an image ends, in [0, 1); 0 never.

    Attributes:
        z: Tensors that are optimized.
        prediction: Latest iterate of each image before its end, raw at true size, ``(B, 3, h, w)``.
        best: Iterate of the lowest loss, ``(B, 3, h, w)``.
        report: Numbers of the latest iterate, ``(4, B)``: its loss; 1 where it is finite, else 0; 1 where it is the
            best so far; 1 where the image goes on.
    """

    def __init__(
        self,
        run: Execution,
        level: Level,
        features: Features,
        comparison: Comparison,
        optimizer: Callable[[Iterable[Tensor]], Optimizer] | None = None,
        tolerance: float = 0.0,
    ) -> None:
        z = {name: trainable_copy(features.z[name]) for name in run.optimize}
        self.run, self.level, self.comparison, self.tolerance = run, level, comparison, tolerance
        self.features = replace(features, z={**features.z, **z})
        self.z = list(z.values())
        self.optimizer = optimizer(self.z) if optimizer else None
        image = level.image
        exact = torch.float32 if image.device.type == "mps" else torch.float64  # which MPS lacks
        self.prediction = image.new_zeros(image.shape[0], 3, *level.size)
        self.best = torch.zeros_like(self.prediction)
        self.report = image.new_zeros(4, image.shape[0], dtype=exact)
        self._lowest = image.new_empty(image.shape[0], dtype=exact)
        self._recent = image.new_empty(WINDOW + 1, image.shape[0], dtype=exact)  # losses, the latest at the end
        self._active = image.new_empty(image.shape[0], dtype=torch.bool)
        self._loss: Tensor | None = None  # of the latest iterate, with its graph
        self.forget()

    def forget(self) -> None:
        """Forget all iterates."""
        self._lowest.fill_(math.inf)
        self._recent.fill_(math.nan)
        self._active.fill_(True)

    def update(self, go_on: Callable[[], bool] = lambda: True) -> None:
        """Evaluate the loss, then move z against its gradient.

        Args:
            go_on: Function, called between the two, that tells whether to move z.
        """
        try:
            with torch.enable_grad():
                self._evaluate()
            if go_on():
                self._move()
        finally:
            self._loss = None  # and with it all that was kept for the gradient

    def finish(self, after: Callable[[], object] = lambda: True) -> None:
        """Evaluate the loss once more, without a gradient.

        Args:
            after: Function that is called then.
        """
        self._evaluate()
        self._loss = None
        after()

    def _evaluate(self) -> None:
        prediction = self.run.rear(self.level, self.features)
        # The rules know a repeatable gradient of reflection, with which the loss pads before it blurs; torch has none.
        with Frozen() if torch.are_deterministic_algorithms_enabled() else nullcontext():
            losses = self.comparison.loss(prediction)
        if losses.shape != prediction.shape[:1]:
            raise ValueError(
                f"the loss of an objective must be one number per image, shape {tuple(prediction.shape[:1])}; got "
                f"{tuple(losses.shape)}. Take the mean over the other dimensions."
            )
        if torch.is_grad_enabled() and not losses.requires_grad:
            what = "loss of the objective" if prediction.requires_grad else "prediction of the network's rear"
            raise ValueError(f"the {what} has no gradient: it does not depend on what goes into it, or detaches it.")
        self._loss = losses.sum()
        with torch.no_grad():
            self._note(losses.detach().to(self.report.dtype), self.level.crop(prediction.detach()))

    def _note(self, loss: Tensor, prediction: Tensor) -> None:
        """Keep what is known of an iterate."""
        finite = loss.isfinite() & prediction.isfinite().flatten(1).all(1)
        better = self._active & finite & (loss < self._lowest)
        torch.where(self._active.view(-1, 1, 1, 1), prediction, self.prediction, out=self.prediction)
        torch.where(better.view(-1, 1, 1, 1), prediction, self.best, out=self.best)
        torch.where(better, loss, self._lowest, out=self._lowest)
        self._recent.copy_(torch.cat([self._recent[1:], loss[None]]))
        self._active &= finite & self.comparison.has_pixels
        if self.tolerance > 0:
            before = self._recent[0]  # NaN at first, of which nothing is true
            self._active &= ~(before - loss < self.tolerance * before)
        torch.stack([loss, *(flag.to(loss) for flag in (finite, better, self._active))], out=self.report)

    def _move(self) -> None:
        """Give z its gradient, and the optimizer its turn."""
        assert self._loss is not None and self.optimizer is not None
        self.optimizer.zero_grad()
        loss, scale = self._loss, self.run.loss_scale
        loss.backward(torch.full_like(loss, scale))  # type: ignore[no-untyped-call]
        for tensor in self.z if scale > 1 else ():
            if tensor.grad is not None:
                tensor.grad /= scale
        self.optimizer.step(single_evaluation(loss.detach()))  # type: ignore[arg-type]
