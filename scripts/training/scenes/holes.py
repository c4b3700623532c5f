"""Holes to train with: brush strokes or boxes, as LaMa draws them."""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from training.scenes.layers import Rng


def _strokes(rng: Rng, hole: NDArray[np.uint8]) -> None:
    """Brush strokes as LaMa draws them for training at 256 px, scaled to the size at hand."""
    size = hole.shape[0]
    for stroke in range(int(rng.integers(1, 6))):
        point = rng.uniform(0, 1, 2)
        for _ in range(1 + int(rng.integers(5))):
            angle = 0.01 + rng.integers(4)
            angle = 2 * math.pi - angle if stroke % 2 == 0 else angle
            length, width = rng.uniform(10, 210) / 256, rng.uniform(5, 105) / 256
            end = np.clip(point + length * np.array([math.sin(angle), math.cos(angle)]), 0, 1)
            ends = [tuple(int(c) for c in np.rint(p * size * 16)) for p in (point, end)]
            cv2.line(hole, ends[0], ends[1], 1, max(1, round(width * size)), cv2.LINE_8, 4)
            point = end


def _boxes(rng: Rng, hole: NDArray[np.uint8]) -> None:
    size, margin = hole.shape[0], 10 / 256
    for _ in range(int(rng.integers(1, 5))):
        sides = rng.uniform(30, 150, 2) / 256
        corner = margin + rng.uniform(0, 1, 2) * (1 - 2 * margin - sides)
        (x0, y0), (x1, y1) = (np.rint(p * size).astype(int) for p in (corner, corner + sides))
        hole[y0:y1, x0:x1] = 1


def hole(seed: int | Sequence[int], size: int, least: float = 0.04, most: float = 0.5) -> NDArray[np.uint8]:
    """Draw a hole of strokes or boxes like those LaMa was trained on, scaled to the size.

    Args:
        seed: Seed of the hole.
        size: Side of the mask, in px.
        least: Smallest share of the image, in [0, 1], measured at 64 px so that all sizes agree.
        most: Largest share of the image, in [0, 1].

    Returns:
        Mask, ``(size, size)``, 1 = hole.
    """
    for attempt in range(100):
        state = [*np.atleast_1d(seed), attempt]
        draw = _strokes if np.random.default_rng(state).uniform() < 0.5 else _boxes
        small = np.zeros((64, 64), np.uint8)
        draw(np.random.default_rng([*state, 1]), small)
        if least <= small.mean() <= most:
            break
    full = np.zeros((size, size), np.uint8)
    draw(np.random.default_rng([*state, 1]), full)
    return full
