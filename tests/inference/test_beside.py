"""Reading ahead and writing behind: order, bounds, and what is left when a run ends early."""

import threading
from types import SimpleNamespace

import pytest
import torch

from refine.config import ConfigError
from refine.inference import beside, session
from refine.inference.beside import ReadAhead, WriteBehind, threads_beside


class Images:
    """Stands for a dataset of images of these sizes; notes which were read."""

    def __init__(self, *pixels):
        self.sizes, self.begun, self.wait = pixels, [], threading.Event()
        self.wait.set()

    def pixels(self, index):
        return self.sizes[index]

    def __getitem__(self, index):
        self.begun.append(index)
        assert self.wait.wait(20)
        return index


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_images_come_in_their_order(threads):
    order = [4, 1, 0, 3, 2, 6, 5]
    images = ReadAhead(Images(*[1] * 7), order, threads)
    assert len(images) == 7 and list(images) == list(images) == order


def test_no_more_is_read_ahead_than_is_allowed():
    images = Images(*[1] * 9)
    reader = iter(ReadAhead(images, range(9), threads=2))
    assert next(reader) == 0
    reader.close()
    assert set(images.begun) <= {0, 1, 2, 3}  # two at work and two that wait


def test_what_is_read_ahead_is_bounded_in_pixels(monkeypatch):
    monkeypatch.setattr(beside, "PIXELS", 10)
    images = Images(4, 6, 1, 11, 1, 1)
    reader = iter(ReadAhead(images, range(6), threads=4))
    assert next(reader) == 0 and set(images.begun) <= {0, 1}
    assert next(reader) == 1 and next(reader) == 2
    assert 3 not in images.begun  # larger than the bound: alone, when its turn comes
    assert next(reader) == 3 and max(images.begun) == 3
    assert list(reader) == [4, 5]


def test_a_reader_that_is_closed_reads_no_further():
    images = Images(*[1] * 8)
    images.wait.clear()
    reader = iter(ReadAhead(images, range(8), threads=1))
    threading.Timer(0.2, images.wait.set).start()
    assert next(reader) == 0
    images.wait.clear()
    threading.Timer(0.2, images.wait.set).start()
    reader.close()
    assert set(images.begun) <= {0, 1}


def test_without_threads_work_is_done_at_once():
    done = []
    WriteBehind()(lambda: done.append(threading.current_thread()), 10**9)
    assert done == [threading.main_thread()]


def test_work_is_done_without_gradients_and_all_of_it():
    done, behind = [], WriteBehind(2)
    with torch.enable_grad():
        for number in range(9):
            behind(lambda number=number: done.append((number, torch.is_grad_enabled())), 1)
        behind.wait()
    assert sorted(done) == [(number, False) for number in range(9)]


@pytest.mark.parametrize(("sizes", "room"), [([1] * 9, 4), ([3] * 9, 3), ([1, 11, 1], 1)])
def test_unfinished_work_is_bounded(monkeypatch, sizes, room):
    monkeypatch.setattr(beside, "PIXELS", 10)
    behind, gate, unfinished, most = WriteBehind(2), threading.Event(), set(), []

    def work(number):
        assert gate.wait(20)
        unfinished.discard(number)

    threading.Timer(0.3, gate.set).start()
    for number, pixels in enumerate(sizes):
        unfinished.add(number)
        behind(lambda number=number: work(number), pixels)
        most.append(len(unfinished))
    behind.wait()
    assert not unfinished and max(most) == room


def test_a_fault_of_ours_is_heard():
    behind = WriteBehind(1)
    with pytest.raises(ZeroDivisionError):
        behind(lambda: 1 / 0, 1)
        behind.wait()


@pytest.mark.parametrize(("workers", "device", "threads"), [("auto", "cpu", 0), ("auto", "cuda", 4), (3, "cpu", 3)])
def test_a_cpu_that_refines_has_no_time_to_spare(workers, device, threads):
    assert threads_beside(workers, SimpleNamespace(type=device)) == threads


@pytest.mark.parametrize(("threads", "mib"), [(0, 0), (2, beside.PIXELS * beside.BYTES / 2**20)])
def test_a_limit_of_memory_counts_what_lies_beside(monkeypatch, threads, mib):
    monkeypatch.setattr(session, "resident", lambda device: 300)
    monkeypatch.setattr(session, "calibrated_ways", lambda refiner, config, say: ["way"])
    refiner = SimpleNamespace(backbone=SimpleNamespace(device=torch.device("cpu")))
    config = SimpleNamespace(memory=8192, threads=1)
    limit = session.memory_limit(SimpleNamespace(config=config, refiner=refiner, threads=threads))
    with pytest.raises(ConfigError, match=r"memory=200MiB: the process itself takes 300 MiB already"):
        config.memory = 200
        session.memory_limit(SimpleNamespace(config=config, refiner=refiner, threads=threads))
    assert limit.mib == 8192 and limit.ways == ["way"] and limit.before == pytest.approx(300 + mib)
