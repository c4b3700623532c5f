"""Colors of a scene."""

import numpy as np

from training.scenes.layers import Color, Rng


class Palette:
    """Colors that go together: around a base, mostly muted, now and then a strong one."""

    def __init__(self, rng: Rng) -> None:
        self._rng = rng
        self._base = rng.uniform(0.15, 0.85) + rng.normal(0, 0.08, 3)

    def __call__(self) -> Color:
        """Draw one color, RGB in (0, 1)."""
        rng = self._rng
        kind = rng.choice(3, p=(0.47, 0.45, 0.08))
        color = (
            self._base + rng.normal(0, 0.2) + rng.normal(0, 0.05, 3)
            if kind == 0
            else rng.uniform(0.05, 0.95) + rng.normal(0, 0.05, 3)
            if kind == 1
            else rng.uniform(0, 1, 3)
        )
        return np.clip(color, 0.02, 0.98).astype(np.float32)
