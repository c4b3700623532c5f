"""Bootstrap confidence intervals: of a mean over images, and of a statistic of one image over its blocks."""

import hashlib
from collections.abc import Callable

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 10_000  # of images
BLOCK_RESAMPLES = 2000  # of blocks; the error of the interval's ends is then about 2 % of its length


def interval(
    differences: np.ndarray, confidence: float = CONFIDENCE, resamples: int = RESAMPLES
) -> tuple[np.ndarray, np.ndarray]:
    """Bootstrap interval of the mean, over the last axis; needs SciPy.

    The percentile interval is too short for few images: with 12 normal differences it covers 91 % instead of 95 %, and
    BCa is no better. So its tails are widened as far as Student's t is wider than the normal (Hesterberg 2015, "What
    Teachers Should Know About the Bootstrap", the expanded percentile interval). From 8 images on, that covers 94-95 %
    for normal and 93-94 % for long-tailed (Student's t, 3 degrees of freedom) differences; for strongly skewed ones
    (exponential) 90-93 % with 8 to 24 images and 94 % with 62 (5000 simulations each).

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
    tail = stats.norm.cdf(np.sqrt(n / (n - 1)) * stats.t.ppf((1 - confidence) / 2, n - 1))
    settings = {"confidence_level": 1 - 2 * tail, "method": "percentile", "rng": np.random.default_rng(0)}
    ends = stats.bootstrap(
        (differences,), np.mean, axis=-1, n_resamples=resamples, batch=100, **settings
    ).confidence_interval
    return ends.low, ends.high


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
