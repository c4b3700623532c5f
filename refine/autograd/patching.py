"""Modules whose ``forward`` is replaced for a while."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

Forward = Callable[..., Any]


@contextmanager
def replaced(modules: Iterable[tuple[nn.Module, Callable[[Forward], Forward]]]) -> Iterator[None]:
    """Inside, each module calls what is made of its ``forward``; afterwards it has again what it had, its own or none.

    Args:
        modules: Each with a function that takes its ``forward`` and gives what stands in for it.
    """
    changed: list[tuple[nn.Module, Forward | None]] = []
    try:
        for module, substitute in modules:
            changed.append((module, module.__dict__.get("forward")))
            module.__dict__["forward"] = substitute(module.forward)  # in front of its class's method
        yield
    finally:
        for module, own in reversed(changed):
            module.__dict__.pop("forward", None)
            if own is not None:
                module.__dict__["forward"] = own
