"""Half precision for the network, full precision where half would do harm.

Inside, convolutions and the like run in bfloat16 or float16 (autocast), while Fourier transforms and the packing of
complex numbers stay islands of float32: half precision has no transform of arbitrary size on any device. Loss, ``z``
and optimizer live outside and are float32 anyway.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

DTYPES = {"32": torch.float32, "bf16": torch.bfloat16, "16": torch.float16}
_TRANSFORMS = {getattr(torch.fft, name) for name in torch.fft.__all__ if "fft" in name and "freq" not in name}
_ISLANDS = _TRANSFORMS - {torch.fft.fftshift, torch.fft.ifftshift} | {torch.view_as_complex, torch.complex}


class Islands(TorchFunctionMode):
    """Converts the arguments of functions that need full precision to float32."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Convert half-precision arguments, then call the function."""
        if func in _ISLANDS:
            args = tuple(_widened(argument) for argument in args)
            kwargs = {name: _widened(argument) for name, argument in (kwargs or {}).items()}
        return func(*args, **(kwargs or {}))


def _widened(argument: Any) -> Any:
    half = isinstance(argument, Tensor) and argument.dtype in (torch.bfloat16, torch.float16)
    return argument.float() if half else argument


@contextmanager
def run_in(name: str, device: torch.device) -> Iterator[None]:
    """Run a network in this precision; ``32`` leaves everything as it is.

    On CUDA that is torch's own setting, unless ``refiner.tf32`` says otherwise
    (:func:`refine.core.numerics.numerics`): cuDNN's convolutions may use TF32, matrix
    products may not (``torch.set_float32_matmul_precision``).

    Args:
        name: Name of the precision, ``32``, ``bf16`` or ``16``.
        device: Device of the network.
    """
    if name == "32":
        yield
        return
    with torch.autocast(device.type, DTYPES[name], cache_enabled=False), Islands():
        yield


def checked_precision(value: Any) -> str:
    """The name of a precision.

    Args:
        value: Name of the precision, ``32``, ``bf16`` or ``16``, as text or number.

    Raises:
        ValueError: If there is no such precision.
    """
    if str(value) not in DTYPES:
        raise ValueError(f"refiner.precision must be one of {', '.join(DTYPES)}; got {value!r}.")
    return str(value)
