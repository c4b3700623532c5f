"""Helpers of one optimization: the tensors to optimize, the closure that some optimizers call, and its result."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import ASGD, SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, NAdam, RAdam, RMSprop, Rprop

from refine.core.pyramid import gaussian

ELEMENTWISE = (ASGD, SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, NAdam, RAdam, RMSprop, Rprop)


def keeps_images_apart(optimizer: Callable[..., object]) -> bool:
    """Whether an optimizer moves each element by its own gradients alone, so that images of a batch do not meet.

    Args:
        optimizer: Function that makes it; of a function that is not known, False.
    """
    while isinstance(optimizer, functools.partial):
        optimizer = optimizer.func
    return optimizer in ELEMENTWISE


def trainable_copy(tensor: Tensor) -> Tensor:
    """A leaf to optimize, at least in float32; contiguous, as L-BFGS wants it and its gradient.

    Args:
        tensor: Feature map at the cut, of any shape.
    """
    dtype = torch.promote_types(tensor.dtype, torch.float32)
    return tensor.detach().to(dtype, copy=True, memory_format=torch.contiguous_format).requires_grad_()


def single_evaluation(loss: Tensor) -> Callable[[], Tensor]:
    """A closure for ``optimizer.step`` that returns a loss whose gradient has been computed already.

    Args:
        loss: Scalar loss of this update, without a graph; it stays on its device.

    Raises:
        ValueError: From the closure, if the optimizer calls it a second time: an update is one evaluation.
    """
    pending = [loss]

    def closure() -> Tensor:
        if not pending:
            raise ValueError(
                "refiner.optimizer evaluates the loss several times per update, but an update is one evaluation; for "
                "torch.optim.LBFGS set +refiner.optimizer.max_iter=1 and no line search."
            )
        return pending.pop()

    return closure


def coarse_change(before: Tensor, after: Tensor, mask: Tensor, sigma: float) -> Tensor:
    """Change a prediction in its coarse structure alone: ``before + G * (after - before)`` with a Gaussian G.

    Args:
        before: Prediction whose detail is kept, ``(B, 3, H, W)``.
        after: Prediction whose coarse structure is taken, ``(B, 3, H, W)``.
        mask: Mask, ``(B, 1, H, W)``, 1 = hole; elsewhere nothing changes, and the change fades towards its edge.
        sigma: Standard deviation of the Gaussian, px, > 0.

    Returns:
        ``(B, 3, H, W)``.
    """
    return before + gaussian(torch.where(mask > 0, after - before, 0.0), sigma, round(3 * sigma))


def changed(before: Tensor, after: Tensor, mask: Tensor, refined: Tensor | None, sigma: float | None) -> Tensor:
    """What of the updates becomes the result.

    Args:
        before: Prediction before the first update, ``(B, 3, H, W)``.
        after: Prediction after the updates, ``(B, 3, H, W)``.
        mask: Mask, ``(B, 1, H, W)``, 1 = hole.
        refined: Parts of the hole that may change, ``(B, 1, H, W)`` of {0, 1}; None for all of it.
        sigma: Standard deviation of the Gaussian of :func:`coarse_change`, px; None to take ``after`` as it is.

    Returns:
        ``(B, 3, H, W)``.
    """
    if sigma is not None:
        return coarse_change(before, after, mask if refined is None else mask * refined, sigma)
    return after if refined is None else torch.where(refined > 0, after, before)
