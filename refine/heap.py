"""Free memory that the C library keeps on its heap, given back to the system.

Every operation makes a tensor and frees another, and a graph puts small things between them: the holes fit the next
tensor seldom, and the heap grows to several times what is alive. Holes cannot be closed, but their pages can be given
back. Only glibc on Linux is asked; elsewhere nothing is done.
"""

import ctypes
import functools
import os
from pathlib import Path

SPARE = 2**29  # bytes that may lie free
EVERY = 100  # calls after which free memory is counted in any case: it can grow while the process does not
_lowest = 0  # bytes resident, the least since free memory was counted
_calls = 0


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


def resident() -> int:
    """Bytes of memory that are this process's own."""
    _, pages, shared, *_ = map(int, Path("/proc/self/statm").read_bytes().split())
    return (pages - shared) * os.sysconf("SC_PAGE_SIZE")


def spare() -> int:
    """Bytes of this process's memory that its C library does not use, at most: the interpreter's own count too."""
    library = _glibc()
    if library is None:
        return 0
    info = library.mallinfo2()
    return resident() - info.uordblks - info.hblkhd  # type: ignore[no-any-return]


def trim(limit: int = SPARE) -> None:
    """Give free memory back if there is much.

    Counting it takes milliseconds where the heap is full of holes, so it is counted only now and then, and when the
    process has grown by a quarter of the limit.

    Args:
        limit: Bytes that may stay; 0 to give all back now.
    """
    global _calls, _lowest
    library = _glibc()
    if library is None:
        return
    now = resident()
    _lowest, _calls = min(_lowest, now), _calls + 1
    if limit and now - _lowest <= limit // 4 and _calls % EVERY:
        return
    if spare() > limit:
        library.malloc_trim(0)
    _lowest = resident()
