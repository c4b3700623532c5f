"""The harmonic function of a hole: as smooth as can be, with given values at the hole's rim.

In a hole of n pixels it solves n linear equations: every pixel is the mean of its neighbors. Multigrid (Briggs, Henson
and McCormick, "A Multigrid Tutorial", 2000) does so in time and memory linear in n. SciPy's conjugate gradients need
more steps the larger the hole is, and PyAMG took 10 times the time and 9 times the memory (``experiments/seams``).
"""

from collections.abc import Sequence

import cv2
import numpy as np

NEIGHBORS = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.float32) / 4
DAMPING, SMOOTHINGS = 0.8, 4  # of a Jacobi step, and their number before and after a coarser grid
LAST = 60  # steps on the coarsest grid, which has a few pixels
CYCLES = 5  # an error of 0.1 gray levels of 255 was left, of values with noise of 13


def harmonic(values: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Fill a hole with the harmonic function that continues the values around it.

    Where the hole touches the border of the array, the border is free: the function runs level into it.

    Args:
        values: Values, ``(H, W, 3)`` float32; those in the hole are not read.
        hole: Hole, ``(H, W)`` bool.

    Returns:
        ``(H, W, 3)`` float32: the values, in the hole the function; 0 if all is hole.
    """
    holes = [np.repeat(hole[..., None], 3, axis=2).astype(np.float32)]
    known = [np.where(hole[..., None], np.float32(0), values)]
    while holes[-1].any() and max(holes[-1].shape[:2]) > 2:
        weight = _added(1 - holes[-1])
        known.append(_added(known[-1]) / np.maximum(weight, 1))
        holes.append((weight == 0).astype(np.float32))
    x = known[-1]
    for grid in reversed(range(len(holes))):
        if grid < len(holes) - 1:
            x = known[grid] + _doubled(x, known[grid]) * holes[grid]
        for _ in range(1 if grid else CYCLES):
            _cycle(x, np.float32(0), holes[grid:])
    return x


def _cycle(x: np.ndarray, source: np.ndarray | np.float32, holes: Sequence[np.ndarray]) -> None:
    """Bring ``x`` nearer to ``mean of neighbors - x + source = 0`` in the hole, in place; elsewhere it stays."""
    hole, *coarser = holes
    _smooth(x, source, hole, SMOOTHINGS if coarser else LAST)
    if coarser:
        rest = _added(_residual(x, source, hole)) * coarser[0]  # the sum of 4: the square of twice the distance
        correction = np.zeros_like(rest)
        _cycle(correction, rest, coarser)
        x += _doubled(correction, x) * hole
        _smooth(x, source, hole, SMOOTHINGS)


def _smooth(x: np.ndarray, source: np.ndarray | np.float32, hole: np.ndarray, steps: int) -> None:
    for _ in range(steps):
        x += DAMPING * _residual(x, source, hole)


def _residual(x: np.ndarray, source: np.ndarray | np.float32, hole: np.ndarray) -> np.ndarray:
    rest = cv2.filter2D(x, -1, NEIGHBORS, borderType=cv2.BORDER_REPLICATE)  # a pixel's own value beyond the border
    rest -= x
    rest += source
    rest *= hole
    return np.asarray(rest)


def _added(x: np.ndarray) -> np.ndarray:
    """Sums over 2x2 pixels; beyond the border of an odd side nothing is added."""
    x = np.pad(x, ((0, x.shape[0] % 2), (0, x.shape[1] % 2), (0, 0)))
    return np.asarray(x[::2, ::2] + x[1::2, ::2] + x[::2, 1::2] + x[1::2, 1::2])


def _doubled(x: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Bilinear enlargement to twice the size, cut to that of another array."""
    large = cv2.resize(x, (2 * x.shape[1], 2 * x.shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(large[: like.shape[0], : like.shape[1]])
