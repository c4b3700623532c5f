"""Rendering: a scene's layers, painted back to front with shadows and light, become an 8-bit image."""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from training.scenes.layers import Array, Box, Layer
from training.scenes.layouts import scene
from training.scenes.noise import noise


def _window(box: Box, side: int, margin: float) -> tuple[slice, slice]:
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
        seed: Seed of the scene.
        size: Side of the image, in px.
        oversample: Samples per px and direction, averaged.

    Returns:
        Image, ``(size, size, 3)``, RGB.
    """
    side = size * oversample
    axis = (np.arange(side, dtype=np.float32) + np.float32(0.5)) / np.float32(side)
    u, v = (np.ascontiguousarray(a) for a in np.meshgrid(axis, axis))
    canvas = np.zeros((side, side, 3), np.float32)
    for layer in scene(seed):
        _paint(canvas, layer, u, v)
    rng = np.random.default_rng([*np.atleast_1d(seed), 1])  # a generator apart: the light leaves the layers as they are
    light = np.exp(np.float32(rng.uniform(0, 0.2)) * noise(rng, 2)(u * 2, v * 2))
    canvas = np.clip(canvas * light[..., None], 0, 1) ** np.float32(rng.uniform(0.75, 1.3))
    canvas = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
    return np.rint(canvas * 255).astype(np.uint8)
