"""While a process starts, the garbage collector rests and what no run needs is not imported; and only then."""

import gc
import subprocess
import sys

import pytest

from refine.inference.startup import lean_start


@pytest.fixture
def frozen(monkeypatch):
    """A process without Lightning; how often it froze what it has (here it would keep the other tests' garbage)."""
    times = []
    monkeypatch.delitem(sys.modules, "lightning")
    monkeypatch.setattr(gc, "freeze", lambda: times.append(gc.isenabled()))
    return times


def test_the_collector_rests_inside(frozen):
    with lean_start():
        assert not gc.isenabled()
    assert gc.isenabled() and frozen == [False]


def test_it_works_on_after_an_error(frozen):
    with pytest.raises(ImportError), lean_start():
        raise ImportError
    assert gc.isenabled() and frozen == []


def test_a_process_that_has_started_is_left_as_it_is(frozen, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning", gc)
    with lean_start():
        assert gc.isenabled()
    assert frozen == []


def test_what_plots_and_sounds_need_is_not_imported():
    """Both are installed here; a metric is there all the same, and Lightning's packages find them later."""
    program = (
        "import sys; from refine.inference.startup import lean_start\n"
        "with lean_start():\n    import refine.inference.pipeline\n"
        "assert not {'scipy.signal', 'matplotlib'} & set(sys.modules)\n"
        "from torchmetrics.functional.image import structural_similarity_index_measure\n"
        "from lightning_utilities.core.imports import RequirementCache, package_available\n"
        "assert package_available('scipy') and RequirementCache('matplotlib>=3')\n"
        "import scipy.signal, matplotlib.pyplot"
    )
    outcome = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr
