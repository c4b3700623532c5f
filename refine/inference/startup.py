"""Starting a process of a run without the time that goes into what a run does not need."""

import contextlib
import gc
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError
from typing import Any

UNNEEDED = ("scipy", "matplotlib")  # by a run; torchmetrics imports both, for plots and one metric of speech


@contextlib.contextmanager
def lean_start() -> Iterator[None]:
    """Inside, what a run needs is imported, and for once little else.

    The garbage collector would look at all that is new again and again, and find nothing: about two of the seven
    seconds that a process needs to start and end (torch 2.13, Lightning 2.6, with the packages of all extras). Modules
    stay until the process ends, so nor does it look at them later. And torchmetrics, which Lightning needs, is imported
    as if SciPy and Matplotlib were not installed: where they are, that is another 0.8 s of CPU time.

    A process that has Lightning already is left as it is.
    """
    if "lightning" in sys.modules:
        yield
        return
    gc.disable()
    try:
        with _not_installed(*UNNEEDED):
            yield
        gc.freeze()
    finally:
        gc.enable()


@contextlib.contextmanager
def _not_installed(*packages: str) -> Iterator[None]:
    """Inside, these packages do not count as installed where Lightning's own packages ask."""
    asked: Any = import_module("lightning_utilities.core.imports")
    if not hasattr(asked, "_version"):  # a later release, which looks in another way: all is imported
        yield
        return
    version, available = asked._version, asked.package_available

    def hidden(package: str) -> str:
        if package in packages:
            raise PackageNotFoundError(package)
        return str(version(package))

    asked._version, asked.package_available = hidden, lambda package: package not in packages and available(package)
    try:
        yield
    finally:
        asked._version, asked.package_available = version, available
