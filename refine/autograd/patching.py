"""Temporary replacement of the ``forward`` of modules."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

Forward = Callable[..., Any]


@contextmanager
def replaced(modules: Iterable[tuple[nn.Module, Callable[[Forward], Forward]]]) -> Iterator[None]:
    """Replace the ``forward`` of each module inside the context; restore it afterwards.

    Args:
        modules: Pairs of a module and a function that maps its ``forward`` to the replacement.
    """
    changed: list[tuple[nn.Module, Forward | None]] = []
    try:
        for module, substitute in modules:
            changed.append((module, module.__dict__.get("forward")))
            module.__dict__["forward"] = substitute(module.forward)  # in front of its class's method
        yield
    finally:
        for module, instance_forward in reversed(changed):
            module.__dict__.pop("forward", None)
            if instance_forward is not None:
                module.__dict__["forward"] = instance_forward
