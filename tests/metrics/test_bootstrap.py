"""Intervals by bootstrap cover what they say."""

import numpy as np
import pytest
from scipy import stats

from refine.metrics.bootstrap import interval

SIMULATIONS = 1000


@pytest.mark.parametrize("n", [12, 24, 62])
def test_intervals_cover_what_they_say(n):
    differences = np.random.default_rng(n).normal(0.3, 1, (SIMULATIONS, n))
    low, high = interval(differences, resamples=2000)
    assert 0.93 <= np.mean((low <= 0.3) & (high >= 0.3)) <= 0.97


@pytest.mark.parametrize(("draw", "least"), [("standard_t", 0.93), ("exponential", 0.91)])
def test_intervals_of_other_shapes_are_as_the_docstring_says(draw, least):
    random = np.random.default_rng(1)
    differences = (
        random.standard_t(3, (SIMULATIONS, 62)) if draw == "standard_t" else random.exponential(1, (1000, 62)) - 1
    )
    low, high = interval(differences, resamples=2000)
    assert least <= np.mean((low <= 0) & (high >= 0)) <= 0.97


@pytest.mark.parametrize("effect", [0.0, 0.4, 0.8])
def test_planted_differences_are_found_as_often_as_theory_says(effect):
    n = 24
    low, _ = interval(np.random.default_rng(7).normal(effect, 1, (SIMULATIONS, n)), resamples=2000)
    expected = 1 - stats.nct.cdf(stats.t.ppf(0.975, n - 1), n - 1, effect * np.sqrt(n))  # power of Student's t test
    assert abs(np.mean(low > 0) - expected) < 0.03


def test_intervals_are_the_same_every_time_and_undefined_for_one_image():
    differences = np.random.default_rng(0).normal(size=9)
    assert interval(differences) == interval(differences)
    assert np.isnan(interval(np.ones(1))).all()
