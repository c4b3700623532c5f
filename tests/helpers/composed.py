"""Every configuration is composed by Hydra once per test process: that takes longer than most tests do."""

import contextlib
import copy
import functools
from collections.abc import Iterator

from omegaconf import DictConfig

from refine.config import overrides

CHANGING = ("hydra.", "backbone=file_")  # composed of files that a test wrote, and may write again


@contextlib.contextmanager
def composed_once() -> Iterator[None]:
    """Inside, the same overrides of the same command give copies; errors, and what tests wrote, are composed again."""
    compose, kept = overrides._compose, dict[tuple[str, ...], DictConfig]()

    @functools.wraps(compose)
    def once(command: str, given: list[str]) -> DictConfig:
        if any(override.startswith(CHANGING) for override in given):
            return compose(command, given)
        key = command, *given
        if key not in kept:
            kept[key] = compose(command, given)
        return copy.deepcopy(kept[key])

    overrides._compose = once
    try:
        yield
    finally:
        overrides._compose = compose
