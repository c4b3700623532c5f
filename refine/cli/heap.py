"""The heap of the C library: large tensors reuse its pages, and what lies free there does not pile up.

glibc asks the system for each large block anew, page by page, which takes longer than many an operation on it: so
tensors are put on the heap (that of the main thread; others' are too small for large ones). There every operation makes
a tensor and frees another, and a graph puts small things between them: the holes fit the next tensor seldom, and the
heap grows to several times what is alive. Holes cannot be closed, but their pages can be given back. Only glibc on
Linux is asked; elsewhere nothing is done.
"""

import ctypes
import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SPARE = 2**30  # bytes that may lie free
LOOK = 2**26  # bytes of tensors made after which the process's size is asked, which takes a tenth of a millisecond
COUNT = 16  # looks after which free memory is counted in any case: it can grow while the process does not
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # glibc's numbers of what is given back at the heap's end, or not put there
NEVER = 2**31 - 1  # bytes, the largest value of both
OWN = {MMAP_THRESHOLD: 2**25, TRIM_THRESHOLD: 2**26}  # bytes, to which glibc raises them as large blocks are freed
_reused = False
_lowest = 0  # bytes resident, the least since free memory was counted
_made = 0  # bytes since the last look
_looks = 0


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


def made(size: int, limit: int = SPARE) -> None:
    """Tell that tensors are made: they are put on the heap from now on, and much free memory there is given back.

    Counting it takes milliseconds where the heap is full of holes, so it is counted only now and then, and when the
    process has grown by a quarter of the limit.

    Args:
        size: Bytes, about.
        limit: Bytes that may stay free.
    """
    global _looks, _lowest, _made, _reused
    _made += size
    library = _glibc()
    if _made < LOOK or library is None:
        return
    if not _reused:
        _reused = True
        if library.mallopt(MMAP_THRESHOLD, NEVER):  # some versions refuse
            library.mallopt(TRIM_THRESHOLD, NEVER)
    now = resident()
    _made, _lowest, _looks = 0, min(_lowest, now), _looks + 1
    if now - _lowest > limit // 4 or _looks % COUNT == 0:
        trim(limit)


def trim(limit: int = 0) -> None:
    """Give free memory back if there is more than this.

    Args:
        limit: Bytes that may stay.
    """
    global _lowest
    library = _glibc()
    if library is None:
        return
    if spare() > limit:
        library.malloc_trim(0)
    _lowest = resident()


@contextmanager
def restored() -> Iterator[None]:
    """At the end all free memory is given back, and the heap is left to glibc's own ways."""
    global _reused
    try:
        yield
    finally:
        library = _glibc()
        if _reused and library is not None:
            _reused = False
            for parameter, value in OWN.items():
                library.mallopt(parameter, value)
            trim()
