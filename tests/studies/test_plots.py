"""Plots show the results that are there."""

from finished import write_rows

from refine.studies.plots import _curves, pareto
from refine.studies.spec import StudyRun


def test_pareto_front():
    assert pareto([(1, 1), (2, 3), (3, 2), (0.5, 0), (2, 2), (4, 4)]) == [3, 0, 1, 5]


def test_curves_are_those_of_the_current_configuration(tmp_path):
    old = [
        {"output": "x.png", "sha256": "1", "losses": [[4.0, 3.0, 2.0]]},
        {"output": "removed.png", "sha256": "2", "losses": [[4.0, 4.0]]},
    ]
    write_rows(tmp_path, old, "old")
    write_rows(tmp_path, [{"output": "x.png", "sha256": "3", "losses": [[9.0], [2.0, 1.0]]}])
    write_rows(tmp_path, [{"output": "x.png", "sha256": "1", "losses": [[4.0, 1.0]]}], "later")
    write_rows(tmp_path, [{"output": "x.png", "sha256": "3", "losses": [[9.0], [2.0, 1.0]]}])
    assert _curves(StudyRun("", "a", tmp_path, ())) == [[1, 0.5]]
