"""Procedural scenes and holes: seeded, in unit coordinates, so that one seed gives the same scene at any size.

A scene is a list of layers painted back to front. A layer is a shape (a signed distance, negative inside) filled with
a texture (a color for every point of the plane); nothing in it knows about pixels.

    python scripts/training/scenes.py output=scenes count=100 side=1024
"""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from options import read

from refine.io.files import write_atomic

Array = NDArray[np.float32]
Rng = np.random.Generator
Distance = Callable[[Array, Array], Array]
Texture = Callable[[Array, Array], Array]
Color = Array

EVERYWHERE = (0.0, 0.0, 1.0, 1.0)
UNSEEN = 10**9 + 1000  # training draws scenes of lower numbers, validation the thousand before
LATTICE = 64  # cells after which the noise repeats; a power of two


@dataclass(frozen=True)
class Shape:
    """Where a layer is.

    Attributes:
        distance: Of points ``(u, v)`` to its edge in units of the image, negative inside.
        box: ``(u0, v0, u1, v1)`` that holds it.
    """

    distance: Distance
    box: tuple[float, float, float, float] = EVERYWHERE


@dataclass(frozen=True)
class Layer:
    """One thing in a scene.

    Attributes:
        shape: Where it is.
        texture: What it looks like.
        shadow: Strength of the shadow that it casts, 0 to 1.
    """

    shape: Shape
    texture: Texture
    shadow: float = 0.0


# ---------------------------------------------------------------- color


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


# ---------------------------------------------------------------- noise


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


# ---------------------------------------------------------------- textures


def _frame(rng: Rng, low: float, high: float) -> Callable[[Array, Array], tuple[Array, Array]]:
    """Turned, scaled and in half of the cases tilted coordinates for a texture."""
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
    """A number in [0, 1) that belongs to a cell."""
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
        rng: Where chance comes from.
        color: Draws the colors.
        name: One of :data:`PATTERNS`; None draws it.
        low: Fewest cells across the image.
        high: Most cells across the image.
    """
    weights = np.array([weight for weight, _ in PATTERNS.values()])
    drawn = str(rng.choice(list(PATTERNS), p=weights / weights.sum()))
    share = PATTERNS[name or drawn][1]
    first, second, place = color(), color(), _frame(rng, low, high)
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
    first, second, place = color(), color(), _frame(rng, 2, 10)
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


# ---------------------------------------------------------------- shapes


def _turned(center: Sequence[float], angle: float) -> Callable[[Array, Array], tuple[Array, Array]]:
    cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))

    def local(u: Array, v: Array) -> tuple[Array, Array]:
        a, b = u - np.float32(center[0]), v - np.float32(center[1])
        return cos * a + sin * b, cos * b - sin * a

    return local


def _around(center: Sequence[float], radius: float) -> tuple[float, float, float, float]:
    return center[0] - radius, center[1] - radius, center[0] + radius, center[1] + radius


def ellipse(center: Sequence[float], a: float, b: float, angle: float) -> Shape:
    """An ellipse with half axes a and b."""
    local = _turned(center, angle)

    def distance(u: Array, v: Array) -> Array:
        x, y = local(u, v)
        return (np.hypot(x / np.float32(a), y / np.float32(b)) - 1) * np.float32(min(a, b))

    return Shape(distance, _around(center, max(a, b)))


def rectangle(center: Sequence[float], a: float, b: float, angle: float) -> Shape:
    """A rectangle with half sides a and b."""
    local = _turned(center, angle)

    def distance(u: Array, v: Array) -> Array:
        x, y = local(u, v)
        return np.maximum(np.abs(x) - np.float32(a), np.abs(y) - np.float32(b))

    return Shape(distance, _around(center, math.hypot(a, b)))


def blob(rng: Rng, center: Sequence[float], radius: float) -> Shape:
    """A wobbly round shape."""
    waves = [(k, rng.normal(0, 0.22 / k), rng.uniform(0, 2 * math.pi)) for k in (2, 3, 4, 5, 7)]
    local = _turned(center, 0)

    def distance(u: Array, v: Array) -> Array:
        x, y = local(u, v)
        turn = np.arctan2(y, x)
        edge = 1 + sum(np.float32(size) * np.cos(k * turn + np.float32(at)) for k, size, at in waves)
        return np.hypot(x, y) - np.float32(radius) * np.maximum(edge, np.float32(0.3))

    return Shape(distance, _around(center, 1.7 * radius))


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
    local = _turned(point, angle)
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


# ---------------------------------------------------------------- scenes


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


LAYOUTS = {_heap: 0.25, _street: 0.25, _room: 0.22, _landscape: 0.18, _surface: 0.10}


def scene(seed: int | Sequence[int]) -> list[Layer]:
    """The layers of a scene, back to front; the same for every size.

    Args:
        seed: Which scene, as :func:`numpy.random.default_rng` takes it.
    """
    rng = np.random.default_rng(seed)
    color = Palette(rng)
    layout = list(LAYOUTS)[rng.choice(len(LAYOUTS), p=list(LAYOUTS.values()))]
    return [*layout(rng, color), *_wires(rng, color)]


def _window(box: tuple[float, float, float, float], side: int, margin: float) -> tuple[slice, slice]:
    low = [max(0, math.floor((edge - margin) * side) - 1) for edge in box[:2]]
    high = [min(side, math.ceil((edge + margin) * side) + 1) for edge in box[2:]]
    return slice(low[1], max(low[1], high[1])), slice(low[0], max(low[0], high[0]))


def _paint(canvas: Array, layer: Layer, u: Array, v: Array) -> None:
    """Put a layer, with its shadow, onto the canvas (in place)."""
    side, reach = canvas.shape[0], 0.05 if layer.shadow else 0.0
    at = _window(layer.shape.box, side, reach)
    if canvas[at].size == 0:
        return
    if layer.shadow:
        shifted = layer.shape.distance(u[at] - np.float32(0.012), v[at] - np.float32(0.018))
        dark = layer.shadow * np.clip(1 - shifted / np.float32(0.03), 0, 1)
        canvas[at] *= (1 - dark[..., None]).astype(np.float32)
    cover = np.clip(0.5 - layer.shape.distance(u[at], v[at]) * side, 0, 1)[..., None]
    canvas[at] += cover * (layer.texture(u[at], v[at]) - canvas[at])


def render(seed: int | Sequence[int], size: int, oversample: int = 2) -> NDArray[np.uint8]:
    """Render a scene.

    Args:
        seed: Which scene.
        size: Side in px.
        oversample: Points per px and direction, averaged.

    Returns:
        ``(size, size, 3)`` RGB.
    """
    side = size * oversample
    axis = (np.arange(side, dtype=np.float32) + np.float32(0.5)) / np.float32(side)
    u, v = (np.ascontiguousarray(a) for a in np.meshgrid(axis, axis))
    canvas = np.zeros((side, side, 3), np.float32)
    for layer in scene(seed):
        _paint(canvas, layer, u, v)
    rng = np.random.default_rng([*np.atleast_1d(seed), 1])  # the light is apart from the things
    light = np.exp(np.float32(rng.uniform(0, 0.2)) * noise(rng, 2)(u * 2, v * 2))
    canvas = np.clip(canvas * light[..., None], 0, 1) ** np.float32(rng.uniform(0.75, 1.3))
    canvas = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
    return np.rint(canvas * 255).astype(np.uint8)


# ---------------------------------------------------------------- holes


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
    """Strokes or boxes like those LaMa was trained on, scaled to the size.

    Args:
        seed: Which hole.
        size: Side in px.
        least: Smallest share of the image, judged at 64 px so that all sizes agree.
        most: Largest share.

    Returns:
        ``(size, size)``, 1 = hole.
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


def main(arguments: Sequence[str]) -> None:
    """Write scenes as PNG files; those that are there already stay.

    Args:
        arguments: ``output=<folder>``, and where they differ ``count=100`` and ``side=1024``.
    """
    options = read({"output": "", "count": 100, "side": 1024}, arguments, {"output": "a folder"})
    folder = Path(options["output"])
    folder.mkdir(parents=True, exist_ok=True)
    side = int(options["side"])
    for i in range(int(options["count"])):
        path = folder / f"scene_{i:04}.png"  # masks are drawn by name: the same at any size
        if path.exists():
            there = cv2.imread(str(path))
            if there is None or there.shape[:2] != (side, side):
                raise SystemExit(f"{path} is there already and is no scene of {side} px; choose another output.")
            continue
        encoded = cv2.imencode(".png", render([0, UNSEEN + i], side)[..., ::-1])[1]
        write_atomic(path, encoded.tobytes(), folder)


if __name__ == "__main__":
    main(sys.argv[1:])
