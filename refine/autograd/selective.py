"""Selective differentiation of frozen networks: the same gradients from a fraction of the memory.

A ``TorchFunctionMode`` around the rear sees every function call, from modules and functional code alike, and hands
those that have a rule (:mod:`refine.autograd.functions`) to it, provided that nothing but the input asks for a
gradient. Any other call keeps ordinary autograd, which is already frugal for most: sums, products with constants,
``cat``, ``linear``, ``interpolate``, constant padding and ``irfftn`` keep nothing of the input, ``sigmoid``,
``tanh`` and ``softmax`` only their output, ``scaled_dot_product_attention`` its inputs and its output, but not the map
of attention. Norms of an image's own statistics must keep their input, which then serves the activation behind as well.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

from refine.autograd.functions import (
    AfterNorm,
    BatchNorm,
    ByShape,
    Complex,
    Convolution,
    Gate,
    Norm,
    RealFFT,
    Reflection,
)
from refine.autograd.patching import replaced

R = TypeVar("R")
NORMS = {None: 0, "backward": 0, "ortho": 1, "forward": 2}  # of a Fourier transform, as torch's kernels number them
Rule = Callable[..., Any]  # of the bound call and its arguments; returns NotImplemented where the rule does not fit


class Frozen(TorchFunctionMode):
    """Inside, functions with a rule are differentiated by it. Without effect while no graph is built."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Apply the rule of a function, or call it where it has none that fits."""
        kwargs = kwargs or {}
        rule = RULES.get(func) if torch.is_grad_enabled() else None
        if rule is not None:
            result = rule(functools.partial(func, *args, **kwargs), *args, **kwargs)
            if result is not NotImplemented:
                return result
        return func(*args, **kwargs)


def run(
    function: Callable[..., R],
    *args: Any,
    rules: bool = True,
    blocks: Sequence[nn.Module] | None = None,
    within: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> R:
    """Call a function of a frozen network so that its graph is cheap. The result and its gradient are unchanged.

    Args:
        function: Function to call, such as the rear of a backbone.
        *args: Arguments of the function.
        rules: True differentiates by the rules of :data:`RULES`.
        blocks: Modules to checkpoint: each of their calls keeps its inputs alone and is computed again for the
            gradient. An empty list checkpoints the function as a whole; None checkpoints nothing.
        within: Function that makes the context in which the function runs, such as
            :func:`refine.autograd.precision.run_in`; it is entered again where something is recomputed.
    """

    @contextmanager
    def entered() -> Iterator[None]:
        with within(), Frozen() if rules else nullcontext():
            yield

    with entered():
        if blocks is None or not torch.is_grad_enabled():
            return function(*args)
        if not blocks:
            return _recomputed(function, entered)(*args)
        with replaced((block, functools.partial(_recomputed, again=entered)) for block in blocks):
            return function(*args)


def _recomputed(function: Callable[..., R], again: Callable[[], AbstractContextManager[Any]]) -> Callable[..., R]:
    """The function under a checkpoint; the context ``again`` is entered when it is recomputed."""
    return functools.partial(
        checkpoint,
        function,
        use_reentrant=False,
        preserve_rng_state=False,  # a frozen rear draws nothing, and a CUDA graph cannot ask for the state
        context_fn=lambda: (nullcontext(), again()),
    )


def _fits(x: Any, *parameters: Any) -> bool:
    """Whether x, and x alone, is to be differentiated."""
    return (
        isinstance(x, Tensor)
        and x.requires_grad
        and x.is_floating_point()
        and x.layout == torch.strided
        and x.numel() > 0
        and not any(isinstance(parameter, Tensor) and parameter.requires_grad for parameter in parameters)
    )


def _convolution(dims: int) -> Rule:
    def rule(
        call: Any, input: Any, weight: Any, bias: Any = None,
        stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
    ) -> Any:  # fmt: skip
        if isinstance(padding, str) or not _fits(input, weight, bias) or input.ndim != dims + 2:
            return NotImplemented
        geometry = (_each(stride, dims), _each(padding, dims), _each(dilation, dims), False, [0] * dims, groups)
        return Convolution.of(input, call, weight, geometry)

    return rule


def _transposed_convolution(dims: int) -> Rule:
    def rule(
        call: Any, input: Any, weight: Any, bias: Any = None,
        stride: Any = 1, padding: Any = 0, output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
    ) -> Any:  # fmt: skip
        if not _fits(input, weight, bias) or input.ndim != dims + 2:
            return NotImplemented
        sizes = (_each(stride, dims), _each(padding, dims), _each(dilation, dims))
        return Convolution.of(input, call, weight, (*sizes, True, _each(output_padding, dims), groups))

    return rule


def _each(value: Any, dims: int) -> list[int]:
    values = list(value) if isinstance(value, Sequence) else [int(value)]  # NumPy's integers too
    return values * dims if len(values) == 1 else values


def _batch_norm(
    call: Any, input: Any, running_mean: Any, running_var: Any, weight: Any = None, bias: Any = None,
    training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Any:  # fmt: skip
    if training or running_var is None or not _fits(input, weight, bias, running_mean, running_var):
        return NotImplemented
    return BatchNorm.of(input, call, weight, running_var, eps)


def _pad(call: Any, input: Any, pad: Sequence[int], mode: str = "constant", value: Any = None) -> Any:
    dims = len(pad) // 2
    kernel = {"reflect": "reflection_pad", "replicate": "replication_pad"}.get(mode)
    if kernel is None or not _fits(input) or input.ndim != dims + 2:
        return NotImplemented
    if torch.are_deterministic_algorithms_enabled():
        if mode == "replicate":  # torch then takes another way itself
            return NotImplemented
        if input.is_cuda and dims == 2 and min(pad) >= 0:
            return Reflection.of(input, call, list(pad))
    return ByShape.of(input, call, f"{kernel}{dims}d_backward", (list(pad),))


def _mean_pool(
    call: Any, input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Any:  # fmt: skip
    if not _fits(input) or input.ndim != 4:
        return NotImplemented
    size = _each(kernel_size, 2)
    sizes = (size, _each(stride, 2) if stride else size, _each(padding, 2))
    geometry = (*sizes, ceil_mode, count_include_pad, divisor_override)
    return ByShape.of(input, call, "avg_pool2d_backward", geometry)


def _norm(function: Callable[..., Tensor]) -> Rule:
    """Ordinary autograd, and a note on the result for the activation behind."""

    def rule(call: Any, input: Any, *args: Any, **kwargs: Any) -> Any:
        if not _fits(input, *args, *kwargs.values()):
            return NotImplemented
        output = call()
        if output.dtype != input.dtype:  # autocast widens the input; the copy that autograd then keeps serves both
            input = input.to(output.dtype)
            output = function(input, *args, **kwargs)
        Norm(input.detach(), lambda x: function(x, *args, **kwargs), output._version).note_on(output)
        return output

    return rule


def _silu(call: Any, input: Any, inplace: bool = False) -> Any:
    return NotImplemented if inplace else _after_norm(call, input, torch.ops.aten.silu_backward)


def _gelu(call: Any, input: Any, approximate: str = "none") -> Any:
    differentiate = functools.partial(torch.ops.aten.gelu_backward, approximate=approximate)
    return _after_norm(call, input, differentiate)


def _after_norm(call: Any, input: Any, differentiate: Callable[..., Tensor]) -> Any:
    norm = Norm.behind(input) if _fits(input) else None
    return NotImplemented if norm is None else AfterNorm.of(input, call, norm, differentiate)


def _relu(call: Any, input: Any, inplace: bool = False) -> Any:
    # As with autograd NaN passes. Asking the input whether it is above 0 takes five times as long.
    return _gate(call, input, inplace, lambda x, out: out.bool())


def _leaky_relu(call: Any, input: Any, negative_slope: float = 0.01, inplace: bool = False) -> Any:
    if negative_slope <= 0:  # the result would not tell the sign of the input that it overwrote
        return NotImplemented
    return _gate(call, input, inplace, lambda x, out: x > 0, negative_slope)


def _clamp(call: Any, input: Any, min: Any = None, max: Any = None, **kwargs: Any) -> Any:
    low, high = (-torch.inf if min is None else min), (torch.inf if max is None else max)
    if kwargs or isinstance(low, Tensor) or isinstance(high, Tensor):
        return NotImplemented
    return _gate(call, input, False, lambda x, out: (x >= low) & (x <= high))


def _gate(call: Any, input: Any, inplace: bool, open_at: Callable[[Tensor, Tensor], Tensor], slope: float = 0.0) -> Any:
    if not _fits(input) or (inplace and (input.is_leaf or input._is_view())):  # autograd knows what is allowed there
        return NotImplemented
    return Gate.of(input, call, open_at, slope)


def _rfft(default: int | tuple[int, ...] | None) -> Rule:
    def rule(call: Any, input: Any, s: Any = None, dim: Any = default, norm: str | None = None, **kwargs: Any) -> Any:
        if kwargs or s is not None or norm not in NORMS or not _fits(input):
            return NotImplemented
        dims = range(input.ndim) if dim is None else [dim] if isinstance(dim, int) else dim
        return RealFFT.of(input, call, [d % input.ndim for d in dims], NORMS[norm])

    return rule


def _complex(call: Any, real: Any, imag: Any, **kwargs: Any) -> Any:
    if kwargs or not _fits(real) or not _fits(imag) or real.shape != imag.shape:
        return NotImplemented
    return Complex.of(real, imag, call)


RULES: dict[Any, Rule] = {
    **{getattr(F, f"conv{dims}d"): _convolution(dims) for dims in (1, 2, 3)},
    **{getattr(F, f"conv_transpose{dims}d"): _transposed_convolution(dims) for dims in (1, 2, 3)},
    F.batch_norm: _batch_norm,
    **{norm: _norm(norm) for norm in (F.group_norm, F.layer_norm)},
    F.silu: _silu,
    F.gelu: _gelu,
    F.pad: _pad,
    F.avg_pool2d: _mean_pool,
    **dict.fromkeys((F.relu, torch.relu, Tensor.relu), _relu),
    **dict.fromkeys((torch.relu_, Tensor.relu_), functools.partial(_relu, inplace=True)),
    F.leaky_relu: _leaky_relu,
    F.leaky_relu_: functools.partial(_leaky_relu, inplace=True),
    **dict.fromkeys((torch.clamp, torch.clip, Tensor.clamp, Tensor.clip), _clamp),
    torch.fft.rfft: _rfft(-1),
    torch.fft.rfft2: _rfft((-2, -1)),
    torch.fft.rfftn: _rfft(None),
    torch.complex: _complex,
}
