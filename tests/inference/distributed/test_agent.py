"""What the agent makes of how its processes end; runs that are killed: tests/e2e/test_processes.py."""

import logging
import signal

import pytest
from workers import rank_one_raises, rank_one_returns_two

from refine.inference.distributed.agent import run_workers
from refine.inference.distributed.trainer import ProcessLost
from refine.inference.distributed.worker import run_as_worker


@pytest.fixture
def agent(monkeypatch):
    """Run workers in this process, which keeps nothing of what an agent sets for good."""
    monkeypatch.setenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "10")
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    levels = {name: logging.getLogger(name).level for name in list(logging.root.manager.loggerDict)}
    yield run_workers
    for number, handler in handlers.items():
        if handler is not signal.getsignal(number):
            signal.signal(number, handler)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.mark.slow
def test_an_exception_in_one_process_is_told(agent):
    with pytest.raises(ProcessLost, match=r"^process 1 died \(MemoryError: a fault of ours\)$"):
        agent(rank_one_raises, [], 2, 0)


@pytest.mark.slow
def test_a_status_of_any_process_is_that_of_all_and_no_reason_to_start_again(agent):
    assert agent(rank_one_returns_two, [], 2, 1) == 2


def test_what_every_process_finds_wrong_is_told_by_the_first(capfd, monkeypatch):
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        assert run_as_worker(["input=/no/such/folder", "output=out"]) == 2
    assert capfd.readouterr().err.count("refine: error: ") == 1
