"""Fractal noise over the plane: a sum of smoothly interpolated random lattices."""

import numpy as np

from training.scenes.layers import Array, Distance, Rng

LATTICE = 64  # cells after which the noise repeats; a power of two


def _octave(lattice: Array, x: Array, y: Array) -> Array:
    """Values of a periodic lattice between its points, smoothly interpolated."""
    column, row = np.floor(x), np.floor(y)
    fx, fy = x - column, y - row
    fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
    i, j = row.astype(np.int32) % LATTICE, column.astype(np.int32) % LATTICE
    below, beside = (i + 1) % LATTICE, (j + 1) % LATTICE
    top = lattice[i, j] + fx * (lattice[i, beside] - lattice[i, j])
    bottom = lattice[below, j] + fx * (lattice[below, beside] - lattice[below, j])
    return top + fy * (bottom - top)


def noise(rng: Rng, octaves: int = 5, roughness: float | None = None) -> Distance:
    """Fractal noise over the plane, about standard normal."""
    gain = rng.uniform(0.45, 0.75) if roughness is None else roughness
    gains = gain ** np.arange(octaves)
    gains = gains / np.sqrt((gains**2).sum()) * 1.6  # interpolation takes variance away
    lattices = rng.standard_normal((octaves, LATTICE, LATTICE), dtype=np.float32)

    def value(x: Array, y: Array) -> Array:
        terms = (
            np.float32(g) * _octave(lattice, x * np.float32(2**k), y * np.float32(2**k))
            for k, (g, lattice) in enumerate(zip(gains, lattices, strict=True))
        )
        return sum(terms, np.zeros_like(x))

    return value
