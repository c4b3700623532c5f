"""Free memory that the C library keeps on its heap, given back to the system.

Every operation makes a tensor and frees another, and a graph puts small things between them: the holes fit the next
tensor seldom, and the heap grows to several times what is alive. Holes cannot be closed, but their pages can be given
back. Only glibc on Linux is asked; elsewhere nothing is done.
"""

import ctypes
import functools
import os
from pathlib import Path

SPARE = 2**28  # bytes that may lie free


class _Info(ctypes.Structure):
    """``struct mallinfo2`` of glibc."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    )


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(None)
        library.mallinfo2.restype = _Info  # since glibc 2.33
        return library if hasattr(library, "malloc_trim") and Path("/proc/self/statm").exists() else None
    except (AttributeError, OSError, TypeError):
        return None


def spare() -> int:
    """Bytes of this process's memory that its C library does not use, at most: the interpreter's own count too."""
    library = _glibc()
    if library is None:
        return 0
    info = library.mallinfo2()
    _, resident, shared, *_ = map(int, Path("/proc/self/statm").read_bytes().split())
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE") - info.uordblks - info.hblkhd  # type: ignore[no-any-return]


def trim(limit: int = SPARE) -> None:
    """Give free memory back if there is much.

    Args:
        limit: Bytes that may stay.
    """
    library = _glibc()
    if library is not None and spare() > limit:
        library.malloc_trim(0)
