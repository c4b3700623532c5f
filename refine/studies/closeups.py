"""The hole of an example near by: what was refined, the network alone, the truth, and where the first two differ."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from refine.inference.panels import to_bytes

MARGIN = 0.1  # of the hole's box, on each side
SMALLEST = 48  # px, side of a box
WHOLE = 0.5  # share of the image above which a box brings nothing nearer
SCALES = (8, 16, 32, 64, 128, 255)  # of 255: differences that are the brightest color
SHARE = 0.99  # of the differences are no brighter than that
Box = tuple[int, int, int, int]  # left, top, right, bottom in px


class Closeup(NamedTuple):
    """Part of the pictures of an example.

    Attributes:
        box: Left, top, right and bottom of the part in px.
        size: Width and height of the whole image in px.
        pictures: Part of ``plain``, of the ``arm`` and, where it is known, of the ``truth``.
        differences: Mean over the colors of |arm − plain| in the part, ``(h, w)`` in [0, 1].
    """

    box: Box
    size: tuple[int, int]
    pictures: dict[str, Image.Image]
    differences: np.ndarray


def closeup(refined: Tensor, plain: Tensor, truth: Tensor | None, mask: Tensor | None) -> Closeup | None:
    """Cut out the largest hole; or, where it fills the image, the quarter in which the results differ most.

    Args:
        refined: Result of the arm, ``(1, 3, H, W)`` in [0, 1].
        plain: Result of the network alone, of the same shape.
        truth: Truth of the same shape, or None.
        mask: Mask ``(1, 1, H, W)``, 1 in the hole; None if it is not known.

    Returns:
        The part; None if the results have different sizes.
    """
    if refined.shape != plain.shape:
        return None
    differences = (refined - plain).abs().mean(dim=1)[0].numpy()
    fits = mask is not None and mask.shape[-2:] == refined.shape[-2:]
    hole = mask[0, 0].numpy() > 0 if mask is not None and fits else differences > 0
    left, top, right, bottom = box = _box(hole, differences)
    shown = {"plain": plain, "arm": refined}
    if truth is not None and truth.shape == refined.shape:
        shown["truth"] = truth
    pictures = {name: Image.fromarray(to_bytes(tensor)).crop(box) for name, tensor in shown.items()}
    height, width = differences.shape
    return Closeup(box, (width, height), pictures, differences[top:bottom, left:right])


def _box(hole: np.ndarray, differences: np.ndarray) -> Box:
    from scipy import ndimage

    height, width = hole.shape
    labels, count = ndimage.label(hole)
    if count:
        largest = int(np.argmax(np.bincount(labels.ravel())[1:]))
        vertical, horizontal = ndimage.find_objects(labels)[largest]
        top, bottom = _padded(vertical.start, vertical.stop, height)
        left, right = _padded(horizontal.start, horizontal.stop, width)
        if (bottom - top) * (right - left) <= WHOLE * height * width:
            return left, top, right, bottom
    side = max(1, min(height, width) // 2)
    sums = ndimage.uniform_filter(differences, side, mode="constant")
    inside = sums[side // 2 : height - side // 2, side // 2 : width - side // 2]  # centers whose square is inside
    top, left = (int(place) for place in np.unravel_index(np.argmax(inside), inside.shape))
    return left, top, left + side, top + side


def _padded(start: int, stop: int, length: int) -> tuple[int, int]:
    """A range with its margin, at least :data:`SMALLEST` long, inside of the image."""
    wanted = min(length, max(SMALLEST, round((stop - start) * (1 + 2 * MARGIN))))
    first = min(max(0, (start + stop - wanted) // 2), length - wanted)
    return first, first + wanted


def common_scale(closeups: Sequence[Closeup]) -> int:
    """The difference, of 255, that is the brightest color in all maps of a page.

    Args:
        closeups: What is shown.
    """
    high = max((float(np.quantile(near.differences, SHARE)) for near in closeups), default=0.0)
    return next((scale for scale in SCALES if scale >= 255 * high), SCALES[-1])


def difference_map(differences: np.ndarray, scale: int) -> Image.Image:
    """Differences as colors from black (none) over violet and orange to light yellow (the scale, or more).

    Args:
        differences: Differences ``(h, w)`` in [0, 1].
        scale: Difference, of 255, that is the brightest color.
    """
    from matplotlib import colormaps

    colors = colormaps["inferno"](np.clip(differences * 255 / scale, 0, 1))
    return Image.fromarray((colors[..., :3] * 255).round().astype(np.uint8))
