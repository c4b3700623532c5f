"""Main effects and interactions are those that one works out by hand."""

import numpy as np
import polars as pl
import pytest
from finished import planted, write_study

from refine.metrics.bootstrap import holm, interval, sign_flip_p
from refine.studies.effects import effects
from refine.studies.spec import StudyRun, read_study
from refine.studies.statistics import read_rows

GRID = (
    "{question: '?', scores: [psnr],"
    " grid: {refiner.steps: [5, 15], refiner.lr: [0.1, 0.2], refiner.keep: [best, last]}}"
)
EACH = (
    "{question: '?', each: {masks: [thin, thick]}, arms: {a: [refiner.steps=1], b: [refiner.steps=2]}, scores: [psnr]}"
)


@pytest.fixture
def cube(tmp_path):
    """A 2x2x2 study of nine images: steps gain 2, the rate 1, and steps gain 0.5 more at the higher rate."""
    study = read_study(write_study(tmp_path / "q", GRID))
    noise = np.random.default_rng(0).normal(0, 0.1, (8, 9))
    scores, jobs = {}, []
    for number, arm in enumerate(study.grid):
        steps, rate, keep = (number >> 2) & 1, (number >> 1) & 1, number & 1
        scores[steps, rate, keep] = 20 + np.arange(9) + 2 * steps + rate + 0.5 * steps * rate + noise[number]
        jobs.append(planted(tmp_path / arm, {f"{i}": {"psnr": scores[steps, rate, keep][i]} for i in range(9)}))
    return study, jobs, scores


def test_effects_of_a_cube_are_those_by_hand(cube):
    study, jobs, scores = cube
    found = effects(study, read_rows(study, jobs))
    y = scores
    by_hand = {
        "refiner.steps": ((y[1, 0, 0] + y[1, 0, 1] + y[1, 1, 0] + y[1, 1, 1])
                          - (y[0, 0, 0] + y[0, 0, 1] + y[0, 1, 0] + y[0, 1, 1])) / 4,
        "refiner.lr": ((y[0, 1, 0] + y[0, 1, 1] + y[1, 1, 0] + y[1, 1, 1])
                       - (y[0, 0, 0] + y[0, 0, 1] + y[1, 0, 0] + y[1, 0, 1])) / 4,
        "refiner.keep": ((y[0, 0, 1] + y[0, 1, 1] + y[1, 0, 1] + y[1, 1, 1])
                         - (y[0, 0, 0] + y[0, 1, 0] + y[1, 0, 0] + y[1, 1, 0])) / 4,
        "refiner.steps × refiner.lr": ((y[1, 1, 0] - y[0, 1, 0] - y[1, 0, 0] + y[0, 0, 0])
                                       + (y[1, 1, 1] - y[0, 1, 1] - y[1, 0, 1] + y[0, 0, 1])) / 2,
        "refiner.steps × refiner.keep": ((y[1, 0, 1] - y[0, 0, 1] - y[1, 0, 0] + y[0, 0, 0])
                                         + (y[1, 1, 1] - y[0, 1, 1] - y[1, 1, 0] + y[0, 1, 0])) / 2,
        "refiner.lr × refiner.keep": ((y[0, 1, 1] - y[0, 0, 1] - y[0, 1, 0] + y[0, 0, 0])
                                      + (y[1, 1, 1] - y[1, 0, 1] - y[1, 1, 0] + y[1, 0, 0])) / 2,
    }  # fmt: skip
    assert found["factor"].to_list() == list(by_hand)
    for row, differences in zip(found.iter_rows(named=True), by_hand.values(), strict=True):
        assert row["n"] == 9
        assert row["difference"] == pytest.approx(differences.mean(), abs=1e-9)
        assert (row["low"], row["high"]) == pytest.approx([float(end) for end in interval(differences)], abs=1e-9)
    p_values = [sign_flip_p(differences) for differences in by_hand.values()]
    assert found["p_holm"].to_list() == pytest.approx(holm(p_values))
    steps, rate = found["difference"][0], found["difference"][1]
    assert steps == pytest.approx(2.25, abs=0.15) and rate == pytest.approx(1.25, abs=0.15)
    assert found["change"].to_list()[::3] == ["15 − 5", "(15 − 5) × (0.2 − 0.1)"]
    assert found["combinations"].to_list() == [4, 4, 4, 2, 2, 2]


def test_of_an_unfinished_grid_there_are_the_effects_whose_levels_are_there(cube):
    study, jobs, scores = cube
    found = effects(study, read_rows(study, jobs[:5]))  # all of 5 steps, one of 15
    assert found.select("factor", "combinations").rows() == [
        ("refiner.steps", 1), ("refiner.lr", 2), ("refiner.keep", 2), ("refiner.lr × refiner.keep", 1),
    ]  # fmt: skip
    assert found["difference"][0] == pytest.approx((scores[1, 0, 0] - scores[0, 0, 0]).mean())


def test_groups_are_compared_by_what_an_arm_gains_in_them(tmp_path):
    study = read_study(write_study(tmp_path / "q", EACH))
    gains = {"thin": (0, 0, 0), "thick": (1, 2, 6)}
    jobs = []
    for group, more in gains.items():
        for arm, base in (("plain", 10), ("a", 11), ("b", 12)):
            # other holes: the images have the same names, their inputs have not
            scores = {f"{i}": {"psnr": base + (more[i] if arm == "a" else 0), "inputs": group} for i in range(3)}
            folder = tmp_path / group / arm
            planted(folder, scores)
            jobs.append(StudyRun(group, arm, folder, ()))
    found = effects(study, read_rows(study, jobs))
    assert found.select("group", "arm", "factor", "change", "n", "difference").rows() == [
        ("", "a", "masks", "thick − thin", 3, 3.0), ("", "b", "masks", "thick − thin", 3, 0.0),
    ]  # fmt: skip


def test_arms_without_a_grid_have_no_effects(tmp_path):
    study = read_study(write_study(tmp_path / "q", "{question: '?', arms: {a: [refiner.steps=1]}, scores: [psnr]}"))
    jobs = [planted(tmp_path / arm, {"x": {"psnr": 1}}) for arm in ("plain", "a")]
    assert effects(study, read_rows(study, jobs)).is_empty()
    assert isinstance(effects(study, pl.DataFrame()), pl.DataFrame)
