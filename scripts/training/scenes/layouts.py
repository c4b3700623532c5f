"""Layouts: which layers make a heap, a surface, a room, a street or a landscape."""

import math
from collections.abc import Sequence

import numpy as np

from training.scenes.layers import Layer, Rng, Shape, Texture
from training.scenes.palette import Palette
from training.scenes.shapes import any_shape, half_plane, line, rectangle, ridge
from training.scenes.textures import any_texture, pattern, stone


def _things(rng: Rng, color: Palette, count: int, low: float, high: float) -> list[Layer]:
    """Things of all sizes, small ones more often."""
    radii = low * (1 - rng.uniform(0, 1, count) * (1 - (low / high) ** 1.5)) ** (-1 / 1.5)
    return [
        Layer(any_shape(rng, float(r)), any_texture(rng, color), float(rng.choice([0, 0, 0.3, 0.5]))) for r in radii
    ]


def _background(texture: Texture) -> Layer:
    return Layer(Shape(lambda u, v: np.full_like(u, -1)), texture)


def _heap(rng: Rng, color: Palette) -> list[Layer]:
    """Things on things (the dead leaves model)."""
    return [_background(any_texture(rng, color)), *_things(rng, color, int(rng.integers(10, 45)), 0.04, 0.4)]


def _surface(rng: Rng, color: Palette) -> list[Layer]:
    """One material, perhaps with something on it."""
    return [_background(any_texture(rng, color)), *_things(rng, color, int(rng.integers(0, 3)), 0.05, 0.3)]


def _room(rng: Rng, color: Palette) -> list[Layer]:
    """Planes that meet in straight edges, and a few things."""
    layers = [_background(any_texture(rng, color))]
    for _ in range(int(rng.integers(1, 4))):
        upright = rng.uniform() < 0.6
        angle = rng.integers(4) * math.pi / 2 + rng.normal(0, 0.04) if upright else rng.uniform(0, 2 * math.pi)
        layers.append(Layer(half_plane(rng.uniform(0.2, 0.8, 2), angle), any_texture(rng, color)))
    return layers + _things(rng, color, int(rng.integers(0, 6)), 0.05, 0.3)


def _street(rng: Rng, color: Palette) -> list[Layer]:
    """Sky, ground, facades on the horizon, poles and wires."""
    horizon = rng.uniform(0.45, 0.85)
    layers = [_background(pattern(rng, color, "gradient") if rng.uniform() < 0.6 else stone(rng, color))]
    for _ in range(int(rng.integers(1, 5))):
        left, width, top = rng.uniform(-0.2, 0.9), rng.uniform(0.15, 0.6), horizon * rng.uniform(0, 0.75)
        facade = pattern(rng, color, str(rng.choice(["windows", "windows", "bricks", "stripes", "planks"])), 4, 20)
        center = (left + width / 2, (top + horizon) / 2)
        layers.append(Layer(rectangle(center, width / 2, (horizon - top) / 2, 0.0), facade, 0.2))
    layers.append(Layer(half_plane((0.5, horizon), -math.pi / 2 + rng.normal(0, 0.04)), any_texture(rng, color)))
    for x in rng.uniform(0, 1, int(rng.integers(0, 4))):
        pole = line((x, rng.uniform(0, horizon)), (x, horizon + 0.15), rng.uniform(0.005, 0.03))
        layers.append(Layer(pole, pattern(rng, color, "flat")))
    return layers + _things(rng, color, int(rng.integers(0, 3)), 0.03, 0.15)


def _landscape(rng: Rng, color: Palette) -> list[Layer]:
    """Sky and hills, one before the other."""
    layers = [_background(pattern(rng, color, "gradient") if rng.uniform() < 0.5 else stone(rng, color))]
    for height in np.sort(rng.uniform(0.25, 0.95, int(rng.integers(1, 5)))):
        layers.append(Layer(ridge(rng, float(height)), stone(rng, color)))
    return layers + _things(rng, color, int(rng.integers(0, 3)), 0.03, 0.2)


def _wires(rng: Rng, color: Palette) -> list[Layer]:
    """Long thin lines across the whole."""
    count = int(rng.integers(1, 4)) if rng.uniform() < 0.35 else 0
    return [
        Layer(line(*rng.uniform(-0.1, 1.1, (2, 2)), rng.uniform(0.004, 0.02)), pattern(rng, color, "flat"))
        for _ in range(count)
    ]


# Layouts and how often each is drawn.
LAYOUTS = {_heap: 0.25, _street: 0.25, _room: 0.22, _landscape: 0.18, _surface: 0.10}


def scene(seed: int | Sequence[int]) -> list[Layer]:
    """The layers of a scene, back to front; the same for every size.

    Args:
        seed: Seed of the scene, as :func:`numpy.random.default_rng` takes it.
    """
    rng = np.random.default_rng(seed)
    color = Palette(rng)
    layout = list(LAYOUTS)[rng.choice(len(LAYOUTS), p=list(LAYOUTS.values()))]
    return [*layout(rng, color), *_wires(rng, color)]
