import subprocess
import sys

import pytest

from refine import heap

MIB = 2**20
glibc = pytest.mark.skipif(heap._glibc() is None, reason="needs glibc")


def holes():
    """About 190 MiB free on the heap, under a block that is not."""
    blocks = [bytearray(b"x" * 100_000) for _ in range(2000)]  # too small for pages of their own
    return blocks[-1:]


@glibc
def test_free_memory_is_given_back():
    heap.trim()
    before = heap.spare()
    kept = holes()
    assert heap.spare() > before + 150 * MIB
    for _ in range(heap.COUNT):  # it is counted now and then, though the process grows no more
        heap.made(heap.LOOK, limit=100 * MIB)
    assert heap.spare() < before + 50 * MIB
    assert kept[0] == b"x" * 100_000


@glibc
@pytest.mark.parametrize("tell", [heap.trim, lambda limit: heap.made(heap.COUNT * heap.LOOK, limit)])
def test_little_free_memory_is_left_alone(tell):
    heap.trim()
    kept, free = holes(), heap.spare()
    tell(limit=free + 100 * MIB)
    assert heap.spare() > free - 20 * MIB
    del kept
    heap.trim()


PAGES = """
import resource, torch
from refine import heap

def faults(floats):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(floats)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults(2**25)
print(faults(2**24), end=" ")
heap.made(heap.LOOK)
faults(2**25)
print(faults(2**24))
"""


@glibc
def test_large_tensors_reuse_pages():
    """In a process of its own, which has told of nothing yet; huge pages would leave no faults to count."""
    before, after = map(int, subprocess.check_output([sys.executable, "-c", PAGES], text=True).split())
    assert after < 100 and (before > 20 * after or before < 100)


def test_elsewhere_nothing_is_done(monkeypatch):
    monkeypatch.setattr(heap, "_glibc", lambda: None)
    heap.made(heap.LOOK, limit=0)
    heap.trim()
    assert heap.spare() == 0
