"""Intervals cover what they say, and noise is not called certain."""

import numpy as np
import pytest
from scipy import stats

from refine.metrics.bootstrap import FEWEST_IMAGES, holm, interval, sign_flip_p

SIMULATIONS = 1000


@pytest.mark.parametrize("n", [12, 24, 62])
def test_intervals_cover_what_they_say(n):
    differences = np.random.default_rng(n).normal(0.3, 1, (SIMULATIONS, n))
    low, high = interval(differences, resamples=2000)
    assert 0.93 <= np.mean((low <= 0.3) & (high >= 0.3)) <= 0.98


@pytest.mark.parametrize(("draw", "least"), [("standard_t", 0.93), ("exponential", 0.91)])
def test_intervals_of_other_shapes_are_as_the_docstring_says(draw, least):
    random = np.random.default_rng(1)
    differences = (
        random.standard_t(3, (SIMULATIONS, 62)) if draw == "standard_t" else random.exponential(1, (1000, 62)) - 1
    )
    low, high = interval(differences, resamples=2000)
    assert least <= np.mean((low <= 0) & (high >= 0)) <= 0.98


@pytest.mark.parametrize("effect", [0.0, 0.4, 0.8])
def test_planted_differences_are_found_as_often_as_theory_says(effect):
    n = 24
    low, _ = interval(np.random.default_rng(7).normal(effect, 1, (SIMULATIONS, n)), resamples=2000)
    expected = 1 - stats.nct.cdf(stats.t.ppf(0.975, n - 1), n - 1, effect * np.sqrt(n))  # power of Student's t test
    assert -0.08 < np.mean(low > 0) - expected < 0.02  # a little less: the interval is for skewed differences too


def test_intervals_are_the_same_every_time_and_undefined_for_one_image():
    differences = np.random.default_rng(0).normal(size=9)
    assert interval(differences) == interval(differences)
    assert np.isnan(interval(np.ones(1))).all()


@pytest.mark.parametrize("kind", ["normal", "laplace", "exponential"])
@pytest.mark.parametrize("n", [8, 9, 12, 16, 24, 32])
def test_noise_is_certain_in_at_most_6_percent_of_cases(kind, n):
    random = np.random.default_rng(n)
    differences = getattr(random, kind)(size=(2000, n)) - (kind == "exponential")
    low, high = interval(differences, resamples=1000)
    assert n >= FEWEST_IMAGES and 0.01 < np.mean((low > 0) | (high < 0)) <= 0.065  # 6 %, and one error of 2000 draws


def test_equal_differences_have_an_interval_without_length_and_ties_a_finite_one():
    assert interval(np.full(9, 0.5)) == (0.5, 0.5)
    low, high = interval(np.array([0.0] * 7 + [1]))
    assert np.isfinite(low) and low < 0.125 < high


def test_sign_flips_are_counted():
    assert sign_flip_p(np.array([1.0, 2, 3])) == 0.25  # all plus and all minus of 8
    assert sign_flip_p(np.array([1.0])) == 1
    assert sign_flip_p(np.arange(1.0, 31)) == 1e-4  # none of 9999 goes so far
    assert np.isnan(sign_flip_p(np.array([])))


def test_holm_adjusts_for_the_number_of_comparisons():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([float("nan"), 0.5])[1] == 0.5
    assert holm([0.6, 0.9]) == [1, 1]
