"""Layers of a scene: a shape (a signed distance) filled with a texture (a color for every point of the plane).

Coordinates ``(u, v)`` are in units of the image, from 0 to 1, v downwards; nothing here knows about pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Rng = np.random.Generator
Color = Array  # RGB, ``(3,)``
Coordinates = Callable[[Array, Array], tuple[Array, Array]]
Distance = Callable[[Array, Array], Array]
Texture = Callable[[Array, Array], Array]
Box = tuple[float, float, float, float]

EVERYWHERE = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class Shape:
    """Region of a layer.

    Attributes:
        distance: Signed distance of points ``(u, v)`` to the edge, in units of the image, negative inside.
        box: Bounding box ``(u0, v0, u1, v1)``.
    """

    distance: Distance
    box: Box = EVERYWHERE


@dataclass(frozen=True)
class Layer:
    """One thing in a scene.

    Attributes:
        shape: Region that it covers.
        texture: Color, ``(h, w, 3)``, of points ``(u, v)``.
        shadow: Strength of the shadow that it casts, 0 to 1.
    """

    shape: Shape
    texture: Texture
    shadow: float = 0.0
