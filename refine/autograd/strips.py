"""Layers at full size strip by strip: the same numbers from a fraction of the memory.

Once a network's trunk keeps little for the gradient, its first and last layers take the most memory: few channels, but
every pixel. They see a few pixels far, so a strip of rows with some more on each side, the *halo*, gives the rows that
all rows together give. Near a cut they see another border than there is; that lies in the halo and is thrown away.

The gradient is made in strips too: of each strip the layers run once more, with twice the halo, since what comes of the
wrong rows must not reach the strip either. Nothing but the input is kept for it.
"""

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from refine.autograd.selective import run

Layers = Callable[..., Sequence[Tensor]]


def in_strips(layers: Layers, inputs: Sequence[Tensor], scale: Fraction, rows: int, halo: int) -> tuple[Tensor, ...]:
    """Run layers that see no farther than the halo; their parameters must be frozen.

    Args:
        layers: Function of tensors ``(B, C, h, W)`` that gives tensors ``(B, c, h * scale, w)``.
        inputs: Tensors ``(B, C, H, W)``.
        scale: Rows of the output for each row of the input.
        rows: Rows of the input in a strip, a multiple of the denominator of the scale.
        halo: Rows of the input that layers see beyond a row, also such a multiple.

    Returns:
        What ``layers(*inputs)`` gives.
    """
    return tuple(_Strips.apply(layers, scale, rows, halo, *inputs))  # type: ignore[no-untyped-call]


class _Strips(Function):
    """Keeps the inputs alone."""

    @staticmethod
    def forward(ctx: Any, layers: Layers, scale: Fraction, rows: int, halo: int, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run the layers on one strip after the other."""
        ctx.save_for_backward(*inputs)
        ctx.layers, ctx.scale, ctx.rows, ctx.halo = layers, scale, rows, halo
        device = inputs[0].device.type
        ctx.precision = (device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device))
        height = inputs[0].shape[-2]
        outputs: list[Tensor] = []
        for strip, wide in _strips(height, rows, halo):
            kept = slice(int((strip.start - wide.start) * scale), int((strip.stop - wide.start) * scale))
            parts = [part[..., kept, :] for part in layers(*(x[..., wide, :] for x in inputs))]
            outputs = outputs or [_taller(part, int(height * scale)) for part in parts]
            for output, part in zip(outputs, parts, strict=True):
                output[..., int(strip.start * scale) : int(strip.stop * scale), :] = part
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Run the layers once more on each strip, and differentiate them there."""
        inputs = ctx.saved_tensors
        results = [torch.empty_like(x) for x in inputs]
        for strip, wide in _strips(inputs[0].shape[-2], ctx.rows, 2 * ctx.halo):
            parts = [x[..., wide, :].detach().requires_grad_() for x in inputs]
            there = slice(int(wide.start * ctx.scale), int(wide.stop * ctx.scale))
            with torch.enable_grad(), torch.autocast(*ctx.precision):
                outputs = run(ctx.layers, *parts)
            found = torch.autograd.grad(outputs, parts, [grad[..., there, :] for grad in grads])
            for result, part in zip(results, found, strict=True):
                result[..., strip, :] = part[..., strip.start - wide.start : strip.stop - wide.start, :]
        return None, None, None, None, *results


def _strips(height: int, rows: int, halo: int) -> Iterator[tuple[slice, slice]]:
    """Rows of each strip, without and with the halo; with it all are equally tall, for which kernels are the same."""
    tall = min(height, rows + 2 * halo)
    for top in range(0, height, rows):
        first = min(max(0, top - halo), height - tall)
        yield slice(top, min(height, top + rows)), slice(first, first + tall)


def _taller(part: Tensor, height: int) -> Tensor:
    """An empty tensor like a part, of another height and in the same memory format."""
    like = part.new_empty((*part.shape[:-2], height, part.shape[-1]))
    last = part.ndim == 4 and part.stride(1) == 1 and part.shape[1] > 1
    return like.contiguous(memory_format=torch.channels_last) if last else like
