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
    heap.trim(limit=0)
    before = heap.spare()
    kept = holes()
    assert heap.spare() > before + 150 * MIB
    for _ in range(heap.EVERY):  # it is counted now and then, though the process grows no more
        heap.trim(limit=100 * MIB)
    assert heap.spare() < before + 50 * MIB
    assert kept[0] == b"x" * 100_000


@glibc
def test_little_free_memory_is_left_alone():
    heap.trim(limit=0)
    kept, free = holes(), heap.spare()
    heap.trim(limit=free + 100 * MIB)
    assert heap.spare() > free - 20 * MIB
    del kept
    heap.trim(limit=0)


def test_elsewhere_nothing_is_done(monkeypatch):
    monkeypatch.setattr(heap, "_glibc", lambda: None)
    heap.trim(limit=0)
    assert heap.spare() == 0
