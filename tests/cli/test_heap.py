import subprocess
import sys
from types import SimpleNamespace

import pytest

from refine.cli import heap

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
from refine.cli import heap

def faults(floats):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(floats)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def reuse():
    faults(2**25)
    return faults(2**24)

heap.made(0)
mapped = reuse()
with heap.restored():
    heap.made(heap.LOOK)
    reused = reuse()
spare = heap.spare()
print(mapped, reused, reuse(), spare, heap._glibc().mallopt(heap.MMAP_THRESHOLD, heap.NEVER))
"""


@glibc
def test_large_tensors_reuse_pages_for_a_while():
    """In a process of its own, which has told of nothing yet."""
    told = subprocess.check_output([sys.executable, "-c", PAGES])
    mapped, reused, restored, spare, accepted = map(int, told.split())
    if mapped < 100 or not accepted:
        pytest.skip("huge pages leave no faults to count" if accepted else "this glibc refuses so large a threshold")
    assert reused < mapped / 20
    assert restored > mapped / 2
    assert spare < 100 * MIB


@glibc
def test_where_the_threshold_is_refused_the_other_is_left_too(monkeypatch):
    """Set alone, it would stop glibc from raising the one that was refused."""
    asked = []
    library = SimpleNamespace(mallopt=lambda parameter, value: asked.append(parameter) or 0)
    monkeypatch.setattr(heap, "_glibc", lambda: library)
    monkeypatch.setattr(heap, "trim", lambda limit: None)
    monkeypatch.setattr(heap, "_reused", False)
    heap.made(heap.LOOK)
    assert asked == [heap.MMAP_THRESHOLD]


def test_elsewhere_nothing_is_done(monkeypatch):
    monkeypatch.setattr(heap, "_glibc", lambda: None)
    heap.made(heap.LOOK, limit=0)
    heap.trim()
    assert heap.spare() == 0
