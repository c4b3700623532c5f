"""Textures: two colors in a regular pattern, or mixed by noise."""

import math
from collections.abc import Callable

import numpy as np

from training.scenes.layers import Array, Coordinates, Rng, Texture
from training.scenes.noise import LATTICE, noise
from training.scenes.palette import Palette


def _coordinates(rng: Rng, low: float, high: float) -> Coordinates:
    """Rotated, scaled and in half of the cases tilted coordinates for a texture."""
    angle = rng.uniform(0, math.pi) if rng.uniform() < 0.5 else rng.choice([0, math.pi / 2]) + rng.normal(0, 0.03)
    scale = math.exp(rng.uniform(math.log(low), math.log(high)))
    cos, sin = (np.float32(scale * f(angle)) for f in (math.cos, math.sin))
    tilt = (rng.uniform(-0.8, 0.8, 2) * (rng.uniform() < 0.5)).astype(np.float32)
    shift = rng.uniform(0, LATTICE, 2).astype(np.float32)

    def place(u: Array, v: Array) -> tuple[Array, Array]:
        a, b = u - np.float32(0.5), v - np.float32(0.5)
        depth = np.maximum(1 + tilt[0] * a + tilt[1] * b, np.float32(0.15))
        a, b = a / depth, b / depth
        return cos * a - sin * b + shift[0], sin * a + cos * b + shift[1]

    return place


def _fraction(x: Array) -> Array:
    return x - np.floor(x)


def _cell(i: Array, j: Array) -> Array:
    """Pseudo-random number in [0, 1) of each cell."""
    return _fraction(np.sin(i % 61 * np.float32(12.9898) + j % 59 * np.float32(78.233)) * np.float32(437.585))


Pattern = Callable[[Array, Array, Array], Array]  # x, y, parameters (4,) -> share of the second color, 0 to 1


def _bricks(x: Array, y: Array, p: Array) -> Array:
    row = np.floor(y)
    x = x / (1.5 + 2 * p[0]) + 0.5 * (row % 2)
    joint = 0.04 + 0.08 * p[1]
    inside = (_fraction(x) > joint / 2) & (_fraction(y) > joint)
    return inside * (1 - 0.5 * p[2] * _cell(np.floor(x), row))


def _windows(x: Array, y: Array, p: Array) -> Array:
    y = y * (0.6 + p[2])
    across, down = 0.14 + 0.2 * p[0], 0.14 + 0.22 * p[1]
    a, b = np.abs(_fraction(x) - 0.5), np.abs(_fraction(y) - 0.5)
    pane = (a < 0.5 - across) & (b < 0.5 - down) & ((a > 0.03) | (p[3] < 0.5))
    return pane * (1 - 0.4 * _cell(np.floor(x), np.floor(y)))


def _planks(x: Array, y: Array, p: Array) -> Array:
    row = np.floor(y)
    end = _fraction(x * 0.2 + _cell(row, row)) < 0.01
    return (0.3 + 0.7 * _cell(row, row + 7)) * ~((_fraction(y) < 0.06) | end)


PATTERNS: dict[str, tuple[float, Pattern]] = {  # weight, pattern
    "flat": (0.10, lambda x, y, p: np.zeros_like(x)),
    "stripes": (0.13, lambda x, y, p: _fraction(x) < 0.2 + 0.6 * p[0]),
    "wave": (0.08, lambda x, y, p: 0.5 + 0.5 * np.sin(2 * np.pi * x)),
    "checks": (0.10, lambda x, y, p: (np.floor(x) + np.floor(y)) % 2),
    "bricks": (0.14, _bricks),
    "windows": (0.14, _windows),
    "planks": (0.10, _planks),
    "dots": (0.06, lambda x, y, p: np.hypot(_fraction(x) - 0.5, _fraction(y) - 0.5) < 0.15 + 0.25 * p[0]),
    "gradient": (0.15, lambda x, y, p: 0.5 + 0.5 * np.sin(x * (0.1 + 0.2 * p[0]))),
}


def pattern(rng: Rng, color: Palette, name: str | None = None, low: float = 3, high: float = 18) -> Texture:
    """Two colors in a pattern, roughened by noise and shaded across the image.

    Args:
        rng: Random generator.
        color: Palette that draws the two colors.
        name: Key of :data:`PATTERNS`; None draws one at random.
        low: Fewest cells across the image.
        high: Most cells across the image.
    """
    weights = np.array([weight for weight, _ in PATTERNS.values()])
    random_name = str(rng.choice(list(PATTERNS), p=weights / weights.sum()))
    share = PATTERNS[name or random_name][1]
    first, second, place = color(), color(), _coordinates(rng, low, high)
    parameters = rng.uniform(0, 1, 4).astype(np.float32)
    rough, rough_scale = float(rng.choice([0, 0.03, 0.08, 0.15])), np.float32(rng.uniform(0.3, 2))
    grain, slope = noise(rng), rng.normal(0, 0.2, 2).astype(np.float32)

    def paint(u: Array, v: Array) -> Array:
        x, y = place(u, v)
        t = np.asarray(share(x, y, parameters), np.float32)[..., None]
        light = 1 + slope[0] * (u - 0.5) + slope[1] * (v - 0.5)
        if rough:
            light = light + np.float32(rough) * grain(x * rough_scale, y * rough_scale)
        return (first + (second - first) * t) * light[..., None].astype(np.float32)

    return paint


def stone(rng: Rng, color: Palette) -> Texture:
    """Two colors mixed by noise, or veins of one in the other: rock, foliage, clouds, marble, wood."""
    first, second, place = color(), color(), _coordinates(rng, 2, 10)
    field, veined, stretch = noise(rng, 6), rng.uniform() < 0.35, np.float32(math.exp(rng.uniform(0, 1.5)))
    contrast, warp = np.float32(rng.uniform(0.15, 0.4)), np.float32(rng.uniform(0.1, 0.5))

    def paint(u: Array, v: Array) -> Array:
        x, y = place(u, v)
        n = field(x, y * stretch)
        t = 0.5 + 0.5 * np.sin(2 * np.pi * (x + warp * n)) if veined else np.clip(0.5 + contrast * n, 0, 1)
        return (first + (second - first) * t[..., None]).astype(np.float32)

    return paint


def any_texture(rng: Rng, color: Palette) -> Texture:
    """A pattern, or now and then stone."""
    return stone(rng, color) if rng.uniform() < 0.25 else pattern(rng, color)
