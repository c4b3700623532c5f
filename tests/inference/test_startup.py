"""The garbage collector rests while a process starts, and only then."""

import gc
import sys

import pytest

from refine.inference.startup import collector_at_rest


@pytest.fixture
def frozen(monkeypatch):
    """A process without Lightning; how often it froze what it has (here it would keep the other tests' garbage)."""
    times = []
    monkeypatch.delitem(sys.modules, "lightning")
    monkeypatch.setattr(gc, "freeze", lambda: times.append(gc.isenabled()))
    return times


def test_the_collector_rests_inside(frozen):
    with collector_at_rest():
        assert not gc.isenabled()
    assert gc.isenabled() and frozen == [False]


def test_it_works_on_after_an_error(frozen):
    with pytest.raises(ImportError), collector_at_rest():
        raise ImportError
    assert gc.isenabled() and frozen == []


def test_a_process_that_has_started_is_left_as_it_is(frozen, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning", gc)
    with collector_at_rest():
        assert gc.isenabled()
    assert frozen == []
