"""Autograd functions that compute the gradient of the input alone and keep little memory for it.

Autograd keeps the input of a convolution for the gradient of its weight, which a frozen network never asks for, and
the input of a padding or of a Fourier transform for its shape. Each rule here calls the original function and the
backward kernel that autograd would call (bit-equal results), and keeps only what that kernel reads: a frozen weight by
reference, one bit per element of a ReLU, otherwise numbers. Of a norm and the activation behind it, which read a full
input each, one is kept. See Bhatia and Dangel, "Lowering PyTorch's Memory
Consumption for Selective Differentiation" (2024).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from refine.autograd.bits import pack, unpack

THRESHOLD, LEAKY = torch.ops.aten.threshold_backward, torch.ops.aten.leaky_relu_backward
Call = Callable[[], Tensor]  # the original function with its arguments bound


class _Rule(Function):
    """Base class of all rules; they can be differentiated once."""

    @classmethod
    def of(cls, *args: Any) -> Tensor:
        """``apply``, typed."""
        return cls.apply(*args)  # type: ignore[no-any-return, no-untyped-call]


class Convolution(_Rule):
    """Convolution and transposed convolution; keeps the weight by reference."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, call: Call, weight: Tensor, geometry: tuple[Any, ...]) -> Tensor:
        """``geometry``: stride, padding, dilation, transposed, output_padding, groups."""
        ctx.save_for_backward(weight)
        ctx.shape, ctx.format, ctx.geometry = x.shape, memory_format(x), geometry
        return call()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Under autocast the gradient has the dtype the convolution ran in; the weight follows it."""
        (weight,) = ctx.saved_tensors
        x = torch.empty(ctx.shape, dtype=grad.dtype, device=grad.device, memory_format=ctx.format)  # only its shape
        weight = weight if weight.dtype == grad.dtype else weight.to(grad.dtype)
        only_input = (True, False, False)
        dx = torch.ops.aten.convolution_backward(grad, x, weight, None, *ctx.geometry, only_input)[0]
        return dx, None, None, None


class BatchNorm(_Rule):
    """Batch norm in eval mode, a scale per channel; keeps its parameters by reference."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, call: Call, weight: Tensor | None, variance: Tensor, eps: float) -> Tensor:
        """Call the original batch norm."""
        ctx.save_for_backward(weight, variance)
        ctx.eps = eps
        return call()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Rounded as ATen's kernels do: on the CPU one product after the other, on CUDA with the product of the two."""
        weight, variance = ctx.saved_tensors
        channels = (-1, *[1] * (grad.ndim - 2))
        on_cpu = grad.device.type == "cpu"
        inverse = (1 / ((variance.double() if on_cpu else variance) + ctx.eps).sqrt()).to(variance.dtype)
        if weight is None:
            dx = grad * inverse.view(channels)
        elif on_cpu:
            dx = (grad * inverse.view(channels)).mul_(weight.view(channels))
        else:
            dx = grad * (inverse * weight).view(channels)
        return dx.to(grad.dtype), None, None, None, None


class ByShape(_Rule):
    """Padding by reflection or replication, and mean pooling; keeps nothing."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, call: Call, kernel: str, geometry: tuple[Any, ...]) -> Tensor:
        """``kernel``: name of the ATen function that differentiates it; ``geometry``: its further arguments."""
        ctx.shape, ctx.format, ctx.kernel, ctx.geometry = x.shape, memory_format(x), kernel, geometry
        return call()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The kernel reads nothing of the input but its shape."""
        x = torch.empty(ctx.shape, dtype=grad.dtype, device=grad.device, memory_format=ctx.format)
        return getattr(torch.ops.aten, ctx.kernel)(grad, x, *ctx.geometry), None, None, None


class Reflection(_Rule):
    """Padding by reflection of ``(B, C, H, W)``, added up in the same order each time; CUDA's own kernel is not."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, call: Call, pad: Sequence[int]) -> Tensor:
        """``pad``: px at the left, right, top and bottom."""
        ctx.pad = pad
        return call()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Each border is folded back onto what it mirrors."""
        left, right, top, bottom = ctx.pad
        return _folded(_folded(grad, -1, left, right), -2, top, bottom), None, None


def _folded(grad: Tensor, dim: int, before: int, after: int) -> Tensor:
    side = grad.shape[dim] - before - after
    inner = grad.narrow(dim, before, side).clone()
    if before > 0:
        inner.narrow(dim, 1, before).add_(grad.narrow(dim, 0, before).flip(dim))
    if after > 0:
        inner.narrow(dim, side - 1 - after, after).add_(grad.narrow(dim, before + side, after).flip(dim))
    return inner


class Gate(_Rule):
    """ReLU, leaky ReLU and clamp: the gradient passes, or is scaled by ``slope``; keeps one bit per element."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, call: Call, open_at: Callable[[Tensor, Tensor], Tensor], slope: float) -> Tensor:
        """``open_at``: from the input, or the result that overwrote it, and the result: where the gradient passes."""
        out = call()
        if out is x:
            ctx.mark_dirty(x)
        ctx.shape, ctx.format, ctx.slope = x.shape, memory_format(x), slope
        ctx.save_for_backward(pack(_dense(open_at(x, out), ctx.format)))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The stand-in for the input, 1 where open and 0 where closed, is overwritten by the gradient."""
        (bits,) = ctx.saved_tensors
        x = _logical(unpack(bits, ctx.shape.numel()), ctx.shape, ctx.format)
        if grad.is_cuda:  # whose kernels take flags as they are
            kernel, *numbers = (LEAKY, ctx.slope, False) if ctx.slope else (THRESHOLD, 0)
            return kernel(grad, x, *numbers), None, None, None
        x = x.to(grad.dtype)
        if ctx.slope:
            LEAKY.grad_input(grad, x, ctx.slope, False, grad_input=x)
        else:
            THRESHOLD.grad_input(grad, x, 0, grad_input=x)
        return x, None, None, None


class AfterNorm(_Rule):
    """SiLU and GELU of what a norm made; keeps the norm's input, as the norm does, and makes its output again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, call: Call, norm: "Norm", differentiate: Callable[..., Tensor]) -> Tensor:
        """``differentiate``: ATen's function of the gradient and ``x``."""
        ctx.save_for_backward(norm.input)
        ctx.function, ctx.differentiate = norm.function, differentiate
        return call()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """A norm costs next to nothing beside the convolutions around it."""
        (x,) = ctx.saved_tensors
        with torch.autocast(x.device.type, enabled=False):  # the input has the dtype in which the norm ran
            x = ctx.function(x)
        return ctx.differentiate(grad, x), None, None, None


@dataclass(frozen=True)
class Norm:
    """How the output of a norm is made again.

    Attributes:
        input: Input of the norm, without its graph.
        function: The norm, its frozen parameters bound.
        version: What torch counts of changes in place, of the output when it was made.
    """

    input: Tensor
    function: Callable[[Tensor], Tensor]
    version: int

    def note_on(self, output: Tensor) -> None:
        """Leave a note for :meth:`behind` on an output, which is forgotten with it."""
        output.__dict__["_norm"] = self

    @staticmethod
    def behind(x: Tensor) -> "Norm | None":
        """The norm that made this very tensor; None if none did, or if it was overwritten since."""
        norm: Norm | None = x.__dict__.get("_norm")
        return norm if norm is not None and norm.version == x._version else None


class RealFFT(_Rule):
    """``rfft``, ``rfft2`` and ``rfftn``; keeps nothing."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, call: Call, dim: list[int], norm: int) -> Tensor:
        """``norm``: ATen's number of the normalization."""
        ctx.shape, ctx.format, ctx.dim, ctx.norm = x.shape, memory_format(x), dim, norm
        return call()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The half that was not computed has gradient 0; then the adjoint of the full transform.

        It comes out contiguous; in the format of the input it is added to other gradients of it in less time.
        """
        full = grad.new_zeros(ctx.shape)
        full.narrow(ctx.dim[-1], 0, grad.shape[ctx.dim[-1]]).copy_(grad)
        dx = torch.ops.aten._fft_c2c(full, ctx.dim, ctx.norm, False).real
        return dx.contiguous(memory_format=ctx.format), None, None, None


class Complex(_Rule):
    """``torch.complex``; keeps nothing."""

    @staticmethod
    def forward(ctx: Any, real: Tensor, imaginary: Tensor, call: Call) -> Tensor:
        """Call the original function."""
        return call()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Real and imaginary part."""
        return grad.real, grad.imag, None


def memory_format(x: Tensor) -> torch.memory_format:
    """The memory format, channels last or contiguous, that a kernel would choose for a tensor like this."""
    last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


def _dense(x: Tensor, format: torch.memory_format) -> Tensor:
    """``x`` flat, in the order of its memory."""
    return (x.permute(0, 2, 3, 1) if format == torch.channels_last else x).flatten()


def _logical(flat: Tensor, shape: torch.Size, format: torch.memory_format) -> Tensor:
    """Undo :func:`_dense`."""
    if format != torch.channels_last:
        return flat.view(shape)
    batch, channels, height, width = shape
    return flat.view(batch, height, width, channels).permute(0, 3, 1, 2)
