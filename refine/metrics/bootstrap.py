"""Confidence intervals and p-values: of a mean over images, and of a statistic of one image over its blocks."""

import hashlib
import itertools
from collections.abc import Callable, Sequence

import numpy as np

CONFIDENCE = 0.95
FEWEST_IMAGES = 8  # below, no difference is called certain
RESAMPLES = 10_000  # of images
EXACT = 12  # up to as many images, all 2^n sign flips are counted
BLOCK_RESAMPLES = 2000  # of blocks; the error of the interval's ends is then about 2 % of its length


def interval(
    differences: np.ndarray, confidence: float = CONFIDENCE, resamples: int = RESAMPLES
) -> tuple[np.ndarray, np.ndarray]:
    """Interval of the mean, over the last axis: Student's t joined with the studentized bootstrap; needs SciPy.

    Student's t excludes 0 too often where differences are skewed, and the studentized bootstrap (Efron and Tibshirani
    1993, section 12.5) too often where their tails are long. The interval that holds both excludes 0 in at most 6 % of
    cases without a difference, for 8 to 32 normal, Laplace or exponential differences
    (``scripts/benchmarks/null_rates.py``). Below 8 images the bootstrap has too few different resamples, so that the
    interval is Student's t alone, which holds for normal differences only.

    Args:
        differences: Paired differences ``(..., n)``, one per image, finite.
        confidence: Share of such intervals that hold the true mean, in (0, 1).
        resamples: Number of resamples of n out of n images, drawn from a fixed seed.

    Returns:
        Lower and upper ends, ``(...)``; NaN for fewer than two images.
    """
    from scipy import stats  # an extra of studies; the verdict below does without

    n = differences.shape[-1]
    if n < 2:
        undefined = np.full(differences.shape[:-1], np.nan)
        return undefined, undefined
    mean = differences.mean(axis=-1)
    error = differences.std(axis=-1, ddof=1) / np.sqrt(n)
    t = stats.t.ppf((1 + confidence) / 2, n - 1)
    if n < FEWEST_IMAGES:
        return mean - t * error, mean + t * error
    tail = 0.8 * (1 - confidence) / 2  # with the whole, 6.2 % of cases with 8 exponential differences exclude 0
    below, above = np.quantile(_studentized(differences, resamples), (tail, 1 - tail), axis=-1)
    return mean - np.maximum(above, t) * error, mean - np.minimum(below, -t) * error


def _studentized(differences: np.ndarray, resamples: int) -> np.ndarray:
    """Deviations of the resamples' means in standard errors of each resample, ``(..., resamples)``."""
    n = differences.shape[-1]
    shares = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), resamples).T / n
    centered = differences - differences.mean(axis=-1, keepdims=True)
    means = centered @ shares
    spreads = np.sqrt(np.maximum(centered**2 @ shares - means**2, 0))
    known = spreads > 1e-6 * centered.std(axis=-1, keepdims=True)  # equal values only say nothing of a spread
    return np.asarray(np.sqrt(n - 1) * np.divide(means, spreads, out=np.zeros_like(means), where=known))


def sign_flip_p(differences: np.ndarray) -> float:
    """Two-sided p-value of the sign-flip permutation test: how often chance gives a mean so far from 0.

    Args:
        differences: Paired differences ``(n,)``, finite. All sign flips are counted up to 12, else 9999 are drawn from
            a fixed seed.

    Returns:
        Value in (0, 1]; NaN without a difference.
    """
    n = len(differences)
    if not n:
        return float("nan")
    if n <= EXACT:
        signs = np.array(list(itertools.product((1, -1), repeat=n)))
    else:
        drawn = np.random.default_rng(0).choice((1, -1), (RESAMPLES - 1, n))
        signs = np.vstack([np.ones((1, n)), drawn])  # what was observed is one of them
    far = abs(differences.sum()) * (1 - 1e-9)  # rounding must not split ties
    return float(np.mean(np.abs(signs @ differences) >= far))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for standing side by side (Holm 1979); NaN stays NaN and does not count.

    Args:
        p_values: P-values of one family, in [0, 1].
    """
    adjusted = np.array(p_values, dtype=float)
    order = [index for index in np.argsort(adjusted) if np.isfinite(adjusted[index])]
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * adjusted[index]))
        adjusted[index] = highest
    return [float(value) for value in adjusted]


def block_interval(blocks: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], key: str) -> tuple[float, float]:
    """95 % percentile interval of a statistic of sums over the blocks of one image, which are drawn with replacement.

    Args:
        blocks: Sums of each block, ``(n, k)``.
        statistic: Function of sums over all blocks, ``(resamples, k)`` -> ``(resamples,)``.
        key: Name of the image, which seeds the draws.

    Returns:
        Lower and upper end.
    """
    seed = np.frombuffer(hashlib.sha256(key.encode(errors="surrogateescape")).digest(), "<u4")
    n = len(blocks)
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), BLOCK_RESAMPLES)
    low, high = np.quantile(statistic(counts @ blocks), (0.025, 0.975))
    return float(low), float(high)
