"""Shapes as signed distances: ellipse, rectangle, blob, line, half plane, ridge."""

import math
from collections.abc import Sequence

import numpy as np

from training.scenes.layers import Array, Box, Coordinates, Rng, Shape
from training.scenes.noise import noise


def _local(center: Sequence[float], angle: float) -> Coordinates:
    """Coordinates around a center, rotated by an angle."""
    cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))

    def local(u: Array, v: Array) -> tuple[Array, Array]:
        a, b = u - np.float32(center[0]), v - np.float32(center[1])
        return cos * a + sin * b, cos * b - sin * a

    return local


def _box(center: Sequence[float], radius: float) -> Box:
    """Bounding box of a disk."""
    return center[0] - radius, center[1] - radius, center[0] + radius, center[1] + radius


def ellipse(center: Sequence[float], a: float, b: float, angle: float) -> Shape:
    """An ellipse with half axes a and b."""
    local = _local(center, angle)

    def distance(u: Array, v: Array) -> Array:
        x, y = local(u, v)
        return (np.hypot(x / np.float32(a), y / np.float32(b)) - 1) * np.float32(min(a, b))

    return Shape(distance, _box(center, max(a, b)))


def rectangle(center: Sequence[float], a: float, b: float, angle: float) -> Shape:
    """A rectangle with half sides a and b."""
    local = _local(center, angle)

    def distance(u: Array, v: Array) -> Array:
        x, y = local(u, v)
        return np.maximum(np.abs(x) - np.float32(a), np.abs(y) - np.float32(b))

    return Shape(distance, _box(center, math.hypot(a, b)))


def blob(rng: Rng, center: Sequence[float], radius: float) -> Shape:
    """A wobbly round shape."""
    waves = [(k, rng.normal(0, 0.22 / k), rng.uniform(0, 2 * math.pi)) for k in (2, 3, 4, 5, 7)]
    local = _local(center, 0)

    def distance(u: Array, v: Array) -> Array:
        x, y = local(u, v)
        turn = np.arctan2(y, x)
        edge = 1 + sum(np.float32(size) * np.cos(k * turn + np.float32(at)) for k, size, at in waves)
        return np.hypot(x, y) - np.float32(radius) * np.maximum(edge, np.float32(0.3))

    return Shape(distance, _box(center, 1.7 * radius))


def line(start: Sequence[float], end: Sequence[float], width: float) -> Shape:
    """A straight line of a width: a wire, a pole, a rail."""
    start, step = np.float32(start), np.float32(end) - np.float32(start)
    length = max(float(step @ step), 1e-9)

    def distance(u: Array, v: Array) -> Array:
        a, b = u - start[0], v - start[1]
        along = np.clip((a * step[0] + b * step[1]) / np.float32(length), 0, 1)
        return np.hypot(a - along * step[0], b - along * step[1]) - np.float32(width / 2)

    low, high = np.minimum(start, start + step) - width, np.maximum(start, start + step) + width
    return Shape(distance, (float(low[0]), float(low[1]), float(high[0]), float(high[1])))


def half_plane(point: Sequence[float], angle: float) -> Shape:
    """All on one side of a line through a point."""
    local = _local(point, angle)
    return Shape(lambda u, v: local(u, v)[0])


def ridge(rng: Rng, height: float) -> Shape:
    """Everything below an uneven horizon."""
    field, scale, size = noise(rng, 6, 0.5), np.float32(rng.uniform(1, 4)), np.float32(rng.uniform(0.01, 0.12))

    def distance(u: Array, v: Array) -> Array:
        return np.float32(height) + size * field(u[:1] * scale, np.zeros_like(u[:1])) - v

    return Shape(distance)


def any_shape(rng: Rng, radius: float) -> Shape:
    """An ellipse, a rectangle or a blob somewhere in the image."""
    center, kind = rng.uniform(-0.05, 1.05, 2), rng.choice(3, p=(0.35, 0.4, 0.25))
    flat, angle = math.exp(rng.uniform(-1.2, 0)), rng.uniform(0, math.pi)
    if kind == 0:
        return ellipse(center, radius, radius * flat, angle)
    if kind == 1:
        upright = rng.uniform() < 0.5
        return rectangle(center, radius, radius * flat, rng.normal(0, 0.03) if upright else angle)
    return blob(rng, center, radius)
