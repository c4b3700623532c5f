"""Settings of torch that hold for the whole process, for the time of a refinement: TF32, and repeatable kernels."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"  # without it cuBLAS may add in another order each time


@contextmanager
def numerics(device: torch.device, tf32: bool | None = None, deterministic: bool = False) -> Iterator[None]:
    """Set what decides the last bits on a GPU; put back afterwards what was there. A CPU needs none of it.

    Args:
        device: Torch device of the network.
        tf32: True lets convolutions and matrix products round their factors to TF32, False neither; None leaves what
            torch has set.
        deterministic: True takes kernels that give the same bytes each time; an operation without such a kernel is a
            RuntimeError that names it.
    """
    with ExitStack() as stack:
        if device.type == "cuda" and tf32 is not None:
            stack.enter_context(_set(torch.backends.cudnn, "allow_tf32", tf32))
            stack.enter_context(_rounded_products(tf32))
        if device.type != "cpu" and deterministic:
            stack.enter_context(repeatable())
        yield


@contextmanager
def repeatable() -> Iterator[None]:
    """Take deterministic kernels, on any device."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    workspace = os.environ.get(WORKSPACE)
    os.environ.setdefault(WORKSPACE, ":4096:8")
    with (
        _set(torch.backends.cudnn, "benchmark", False),
        _set(torch.utils.deterministic, "fill_uninitialized_memory", False),
    ):
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])
            if workspace is None:
                os.environ.pop(WORKSPACE, None)


@contextmanager
def _rounded_products(tf32: bool) -> Iterator[None]:
    """Of matrices; ``torch.backends.cuda.matmul.allow_tf32`` could not put "medium" back."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def _set(owner: Any, name: str, value: bool) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
