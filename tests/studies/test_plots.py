"""Plots show the results that are there."""

import numpy as np
import polars as pl
import pytest
from finished import planted, write_rows, write_study

from refine.studies import plots
from refine.studies.axes import limits, spread
from refine.studies.cost_plot import pareto
from refine.studies.effects import effects
from refine.studies.gain_map import gains
from refine.studies.loss_plot import curves
from refine.studies.spec import StudyRun, read_study
from refine.studies.statistics import StudyTables, compare, costs, read_rows


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
    assert {place: losses.tolist() for place, losses in curves(StudyRun("", "a", tmp_path, ())).items()} == {
        0: [[1, 0.5]],
        1: [[1]],
    }


def test_curves_are_by_level_from_the_finest_and_an_early_stop_keeps_its_last_loss(tmp_path):
    rows = [
        {"output": "a.png", "losses": [[8.0, 4.0], [2.0, 1.0, 0.5]]},
        {"output": "b.png", "losses": [[4.0, 3.0]]},  # a small photo has no coarser level
        {"output": "c.png", "losses": [[0.0, 0.0]]},  # nothing to take a share of
    ]
    write_rows(tmp_path, rows)
    found = curves(StudyRun("", "a", tmp_path, ()))
    assert found[0].tolist() == [[1, 0.5, 0.25], [1, 0.75, 0.75]] and found[1].tolist() == [[1, 0.5]]


def test_a_far_control_does_not_rule_a_range_and_a_near_one_is_inside():
    low, high = limits([0.1, 0.3], [-5.0])
    assert -0.1 < low <= 0 and 0.3 <= high < 0.4
    assert limits([0.1, 0.3], [-0.1])[0] <= -0.1
    low, high = limits([], [2.0])
    assert low <= 2 <= high
    assert np.all(np.isfinite(limits([float("nan")])))


def test_labels_keep_their_distance_and_their_order():
    wanted = [0.5, 0.52, 0.51, 0.99, 1.0, 0.0]
    found = spread(wanted, 0.1)
    assert np.diff(np.sort(found)).min() >= 0.1 - 1e-9 and found.min() >= 0 and found.max() <= 1 + 1e-9
    assert np.array_equal(np.argsort(found), np.argsort(wanted))
    assert np.array_equal(spread([0.2, 0.8], 0.1), [0.2, 0.8])
    assert spread([], 0.1).size == 0


@pytest.fixture
def where(tmp_path):
    """A study of two factors: thin holes lose, thick ones gain at the larger size, and else nothing is certain."""
    text = (
        "{question: '?', scores: [lpips], arms: {a: [refiner.steps=1]},"
        " each: {masks: [thin, thick], data.side: [256, 512]}}"
    )
    study = read_study(write_study(tmp_path / "q", text))
    worse = {"thin_256": 0.3, "thin_512": 0.2, "thick_256": 0.0, "thick_512": -0.4}
    noise = np.random.default_rng(0).normal(0, 0.01, 12)
    runs = []
    for group, more in worse.items():
        for arm in study.arms:
            scores = {f"{i}": {"lpips": 1 + (more + value if arm == "a" else 0)} for i, value in enumerate(noise)}
            planted(tmp_path / group / arm, scores)
            runs.append(StudyRun(group, arm, tmp_path / group / arm, ()))
    return study, runs


def test_the_map_says_where_an_arm_gains_and_where_it_loses(where):
    study, runs = where
    found = gains(study, read_rows(study, runs))
    assert [(one.levels["masks"], one.levels["data.side"], one.sign) for one in found] == [
        ("thin", "256", -1), ("thin", "512", -1), ("thick", "256", 0), ("thick", "512", 1),
    ]  # fmt: skip
    assert found[3].mean == pytest.approx(0.4, abs=0.01)  # of LPIPS less is better
    few = gains(study, read_rows(study, runs).filter(pl.col("key").is_in(["0", "1", "2"])))
    assert {one.sign for one in few} == {0}


def test_plots_hold_what_the_study_has(where, tmp_path):
    study, runs = where
    rows = read_rows(study, runs)
    tables = StudyTables(rows, compare(study, rows), costs(study, rows), effects(study, rows), pl.DataFrame())
    drawn = plots.draw(study, tables, runs)
    assert set(drawn) == {"differences.svg", "effects.svg", "map.svg", "cost.svg"}  # neither numbers nor losses
    assert all(text in drawn["map.svg"] for text in ("-0.30 ▼", "+0.40 ▲", ">thick<", ">512<"))
    assert "(thick − thin) × (512 − 256)" in drawn["effects.svg"]
    assert drawn == plots.draw(study, tables, runs)


def test_a_far_control_is_an_arrow_with_its_number(tmp_path):
    study = read_study(write_study(tmp_path / "q", "{question: '?', scores: [psnr], arms: {a: [refiner.steps=1]}}"))
    means = {"plain": 20.0, "upscaled": 5.0, "a": 20.1}
    runs = [planted(tmp_path / arm, {"x": {"psnr": mean}, "y": {"psnr": mean}}) for arm, mean in means.items()]
    rows = read_rows(study, runs)
    tables = StudyTables(rows, compare(study, rows), costs(study, rows), effects(study, rows), pl.DataFrame())
    drawn = plots.draw(study, tables, runs)
    assert ">-15<" in drawn["differences.svg"] and ">upscaled (5)<" in drawn["cost.svg"]
