"""Starting a process of a run without the time that Python's garbage collector takes."""

import contextlib
import gc
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def collector_at_rest() -> Iterator[None]:
    """Inside, what a run needs is imported, for once without the garbage collector.

    It would look at all that is new again and again, and find nothing: about two of the seven seconds that a process
    needs to start and end (torch 2.13, Lightning 2.6, with the packages of all extras). Modules stay until the process
    ends, so nor does it look at them later. A process that has Lightning already is left as it is.
    """
    if "lightning" in sys.modules:
        yield
        return
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()
