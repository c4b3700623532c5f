"""How often a study would call pure noise certain, by number of images and shape of the differences.

python scripts/benchmarks/null_rates.py
"""

import numpy as np

from refine.metrics.bootstrap import FEWEST_IMAGES, interval

DRAWS = 4000
RESAMPLES = 2000
IMAGES = (2, 3, 4, 6, 7, 8, 9, 10, 12, 16, 24, 32)


def rate(kind: str, n: int, draws: int = DRAWS) -> tuple[float, float]:
    """Share of intervals that exclude 0, and of those that a study prints bold.

    Args:
        kind: ``normal``, ``laplace`` or ``exponential``, all with mean 0.
        n: Images of a comparison.
        draws: Number of comparisons.
    """
    random = np.random.default_rng(n)
    differences = getattr(random, kind)(size=(draws, n)) - (kind == "exponential")
    low, high = interval(differences, resamples=RESAMPLES)
    excludes = float(np.mean((low > 0) | (high < 0)))
    return excludes, excludes if n >= FEWEST_IMAGES else 0.0


if __name__ == "__main__":
    print("images  distribution  excludes 0  bold")
    for images in IMAGES:
        for name in ("normal", "laplace", "exponential"):
            print("{:6}  {:12}  {:10.1%}  {:.1%}".format(images, name, *rate(name, images)))
