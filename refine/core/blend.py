"""Blending: the error of a prediction at the hole's rim, where it is known, is taken off the fill inside.

A network predicts the known pixels too, so its error just outside of the hole is known. The fill continues it: what is
too dark there is too dark inside. Known pixels stay as they are; they are not blended but composited afterwards.
"""

from collections.abc import Iterator
from typing import Literal, get_args

import cv2
import numpy as np
import torch
from torch import Tensor

from refine.core.harmonic import harmonic
from refine.core.window import Window

Blend = Literal["none", "membrane", "feather"]
BLUR = 2.0  # px, standard deviation: noise of single pixels would be drawn into the hole as streaks
REACH = 16  # px, of feather
CELL = 32  # px; holes nearer than that are done together


def checked_blend(blend: Blend) -> Blend:
    """The setting ``refiner.blend``.

    Args:
        blend: Setting as the user wrote it.

    Raises:
        ValueError: There is no such way to blend.
    """
    if blend not in get_args(Blend):
        raise ValueError(f"refiner.blend must be one of {', '.join(get_args(Blend))}; got {blend!r}.")
    return blend


def blended(prediction: Tensor, image: Tensor, mask: Tensor, blend: Blend) -> Tensor:
    """Take the error at the rim off a prediction inside the hole.

    The error is averaged over the known pixels near by. ``membrane`` spreads it into the hole by the harmonic function,
    as seamless cloning does (Perez, Gangnet and Blake, "Poisson image editing", 2003). ``feather`` takes that of the
    nearest known pixel, fading to none over 16 px.

    Args:
        prediction: Raw prediction, ``(B, 3, H, W)``.
        image: Input image, ``(B, 3, H, W)``.
        mask: Mask, ``(B, 1, H, W)``, 1 = hole.
        blend: Way to spread the error.

    Returns:
        ``(B, 3, H, W)``; outside of the hole the prediction, and all of it for ``none`` or where nothing is known.
    """
    if blend == "none":
        return prediction
    spread = {"membrane": harmonic, "feather": _feather}[blend]
    result = prediction.clone()
    for target, source, (unknown,) in zip(result, image, mask.cpu().numpy() > 0, strict=True):
        for box, own in _parts(unknown):
            hole = unknown[box.top : box.bottom, box.left : box.right]
            error = (box.of(source).to(target) - box.of(target)).permute(1, 2, 0).cpu().float().numpy()
            correction = np.where(own[..., None], spread(_averaged(error, ~hole), hole), np.float32(0))
            box.of(target).add_(torch.from_numpy(correction).permute(2, 0, 1).to(target))
    return result


def _parts(hole: np.ndarray) -> Iterator[tuple[Window, np.ndarray]]:
    """Boxes around holes that lie together, with surroundings, and which of a box's pixels belong to them."""
    height, width = hole.shape
    padded = np.pad(hole, ((0, -height % CELL), (0, -width % CELL)))
    cells = padded.reshape(padded.shape[0] // CELL, CELL, -1, CELL).any((1, 3))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(cells.astype(np.uint8), connectivity=8)
    for label in range(1, count):
        left, top, columns, rows = (int(value) * CELL for value in stats[label, :4])
        box = Window(top, left, top + rows, left + columns).grown(CELL // 2, (height, width))
        down, across = np.arange(box.top, box.bottom) // CELL, np.arange(box.left, box.right) // CELL
        own = hole[box.top : box.bottom, box.left : box.right] & (labels == label)[down[:, None], across]
        yield box, own


def _averaged(error: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Gaussian mean over the known pixels."""
    weight = known.astype(np.float32)
    total = cv2.GaussianBlur(error * weight[..., None], (0, 0), BLUR)
    return np.asarray(total / np.maximum(cv2.GaussianBlur(weight, (0, 0), BLUR), 1e-6)[..., None])


def _feather(error: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """The error of the nearest known pixel, less the farther it is."""
    if hole.all():
        return np.zeros_like(error)
    distance, nearest = cv2.distanceTransformWithLabels(
        hole.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE, labelType=cv2.DIST_LABEL_PIXEL
    )
    of_label = np.zeros((int(nearest.max()) + 1, 3), np.float32)
    of_label[nearest[~hole]] = error[~hole]
    return np.asarray(of_label[nearest] * np.clip(1 - distance / REACH, 0, 1)[..., None])
