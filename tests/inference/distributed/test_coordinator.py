"""What processes tell each other, with threads in the place of processes and a store in memory."""

import threading
import time

import pytest
from torch.distributed import HashStore

import refine.inference.distributed.coordinator
from refine.inference.distributed.coordinator import Coordinator, CoordinatorGone, open_store


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    monkeypatch.setattr(refine.inference.distributed.coordinator, "BEAT", 0.02)
    monkeypatch.setattr(refine.inference.distributed.coordinator, "LOOK", 0.005)
    monkeypatch.setattr(refine.inference.distributed.coordinator, "FAREWELL", 0.3)


@pytest.fixture
def store():
    return HashStore()


def rolls(store, patience=30.0, departed=lambda rank: False):
    return [Coordinator(store, rank, 3, patience, departed) for rank in range(3)]


def test_shares_and_ends_arrive(store):
    first, *others = rolls(store)
    first.assign([["a"], ["b", "ü\udce4\n"], []])
    assert [roll.assigned() for roll in (first, *others)] == [["a"], ["b", "ü\udce4\n"], []] == first.assignments
    for roll in others:
        roll.report({"finished": {f"{roll.rank}.png": "0"}})
    assert first.gather_reports() == {rank: {"finished": {f"{rank}.png": "0"}} for rank in (1, 2)}


def test_a_share_may_come_late_and_be_large(store, monkeypatch):
    monkeypatch.setattr(refine.inference.distributed.coordinator, "PIECE", 1000)
    first, second, _ = rolls(store)
    keys = [f"image {number * 7919 % 100003}" for number in range(3000)]
    threading.Timer(0.05, first.assign, [[[], keys, []]]).start()
    assert second.assigned() == keys


def test_nobody_waits_for_who_is_known_to_have_ended(store):
    first, second, _ = rolls(store, departed=lambda rank: True)
    second.report("what it told first")
    assert first.gather_reports() == {1: "what it told first"}


def test_patience_ends_where_signs_of_life_do(store):
    first, living, silent = rolls(store, patience=0.3)
    first.assign([0, 0, 0])
    living.assigned()
    threading.Timer(0.9, living.report, ["late, but it lived"]).start()
    assert first.gather_reports() == {1: "late, but it lived"}
    assert silent.rank == 2


def test_dismissed_processes_get_a_signal_and_little_time(store, monkeypatch):
    sent = []
    monkeypatch.setattr(refine.inference.distributed.coordinator.os, "kill", lambda pid, number: sent.append(number))
    first, second, third = rolls(store)
    first.assign([0, 0, 0])
    second.assigned()
    time.sleep(0.1)
    start = time.monotonic()
    assert first.stop_others() == {} and time.monotonic() - start < 5
    assert sent == [refine.inference.distributed.coordinator.signal.SIGTERM] and first.stopped_others
    with pytest.raises(CoordinatorGone, match="process 2 came too late"):
        third.assigned()
    assert second.stop_others() == {} == second.gather_reports()  # only rank 0 asks


class Broken(HashStore):
    """As a store whose process died."""

    def check(self, *_):
        raise RuntimeError("Connection reset by peer")

    add = set = check


def test_without_process_0_the_others_stop(monkeypatch):
    sent = []
    monkeypatch.setattr(refine.inference.distributed.coordinator.os, "kill", lambda pid, number: sent.append(number))
    roll = Coordinator(Broken(), 1, 2, 1.0)
    with pytest.raises(CoordinatorGone, match="rank 0 ended before it assigned the work"):
        roll.assigned()
    time.sleep(0.3)
    assert set(sent) == {refine.inference.distributed.coordinator.signal.SIGTERM}
    roll.report("unheard")


def test_a_real_store_and_a_port_that_is_taken():
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ValueError, match="Set MASTER_PORT to a free port"):
            open_store("127.0.0.1", taken.getsockname()[1], serve=True, timeout=1)
        port = taken.getsockname()[1]
    with pytest.raises(ValueError, match="Set MASTER_PORT"):  # nobody is there, and nobody will be
        open_store("127.0.0.1", port, serve=False, timeout=600, orphaned=lambda: True)
    served = open_store("127.0.0.1", port, serve=True, timeout=5)
    first, second = (
        Coordinator(served, 0, 2, 5.0),
        Coordinator(open_store("127.0.0.1", port, serve=False, timeout=5), 1, 2, 5.0),
    )
    first.assign([["a"], ["b"]])
    assert second.assigned() == ["b"]
    second.report({"stopped": 0})
    assert first.gather_reports() == {1: {"stopped": 0}}
