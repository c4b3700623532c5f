"""Structural similarity (SSIM) at several scales: one pass over strips of rows gives its mean over all sets of pixels.

In float64, because the variances are small differences of large numbers: in float32 nearly flat images lose 5e-4. The
Gaussian is OpenCV's, which takes a tenth of the time of a convolution by torch or torchmetrics. Memory is that of a
strip, whatever the size of the photo.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch.nn.functional as F
from torch import Tensor

C1, C2 = 0.01**2, 0.03**2  # for values in [0, 1]
REACH = 5  # px that the window sees to each side
WINDOW = np.array([math.exp(-(x**2) / (2 * 1.5**2)) for x in range(-REACH, REACH + 1)])
WINDOW /= WINDOW.sum()
BETAS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # weights of the scales of MS-SSIM, fine to coarse
SSIM_SIDE, MS_SSIM_SIDE = REACH + 1, 176  # the shortest sides torchmetrics takes, px
ROWS = 64  # of a strip: its maps stay in the processor's cache
MIRRORED, ZEROS = cv2.BORDER_REFLECT_101, cv2.BORDER_CONSTANT


class Means(NamedTuple):
    """Means over the same pixels, NaN where there are none.

    Attributes:
        similarity: Mean of SSIM, at most 1.
        contrast: Mean of its part without the luminance, at most 1.
    """

    similarity: float
    contrast: float


def scales(image: Tensor, truth: Tensor, hole: Tensor, count: int = len(BETAS)) -> list[dict[str, Means]]:
    """Similarity and contrast of an image at several scales, each half the one before.

    Args:
        image: Result, ``(3, H, W)`` float32 in [0, 1].
        truth: Truth, of the same shape.
        hole: Weight of each pixel, ``(1, H, W)`` bool or float; at a coarser scale, its mean.
        count: Number of scales; fewer where the image is too small for five, none for a side below 6 px.

    Returns:
        Of each scale, fine to coarse, the means over ``image``, ``inside`` (without a rim of 5 px, where the window
        sees something beyond the border) and ``hole``.
    """
    side, found = min(image.shape[1:]), list[dict[str, Means]]()
    possible = 0 if side < SSIM_SIDE else 1 if side < MS_SSIM_SIDE else len(BETAS)
    for scale in range(min(count, possible)):
        if scale:
            image, truth, hole = (F.avg_pool2d(maps, 2) for maps in (image, truth, hole.float()))
        everything = np.ones(image.shape[1:], dtype=bool)
        (inside := np.zeros_like(everything))[REACH:-REACH, REACH:-REACH] = True
        weights = {"image": everything, "inside": inside, "hole": hole[0].numpy()}
        found.append(similarity(image.numpy(), truth.numpy(), weights))
    return found


def multiscale(found: Sequence[Mapping[str, Means]], hole: bool) -> float:
    """MS-SSIM: the contrast of all scales and the luminance of the coarsest, combined.

    Args:
        found: Means of each scale, of :func:`scales`.
        hole: Whether in the hole; else as torchmetrics has it, which cuts the rim off the contrast alone.

    Returns:
        At most 1; NaN where there are fewer than five scales.
    """
    if len(found) < len(BETAS):
        return math.nan
    parts = [scale["hole" if hole else "inside"].contrast for scale in found]
    parts[-1] = found[-1]["hole" if hole else "image"].similarity
    return math.prod(max(0.0, part) ** beta if part == part else part for part, beta in zip(parts, BETAS, strict=True))


def similarity(
    image: np.ndarray, truth: np.ndarray, weights: Mapping[str, np.ndarray], border: int = MIRRORED
) -> dict[str, Means]:
    """SSIM with a Gaussian window of 11x11, sigma 1.5, per channel.

    Args:
        image: Result, ``(C, H, W)`` float in [0, 1]; with a mirrored border no side is below 6 px.
        truth: Truth, of the same shape.
        weights: Weight of each pixel, ``(H, W)`` bool or float, by name; where it is 0, nothing counts, not even NaN.
        border: What the window sees beyond the border, :data:`MIRRORED` or :data:`ZEROS`.

    Returns:
        Means by the names of the weights.
    """
    totals = {name: np.zeros(3) for name in weights}
    channels, height, _ = image.shape
    for top in range(0, height, ROWS):
        bottom = min(top + ROWS, height)
        first, last = max(0, top - REACH), min(bottom + REACH, height)
        found = [_maps(image[c, first:last], truth[c, first:last], border) for c in range(channels)]
        maps = [np.sum(values, axis=0)[top - first : bottom - first] for values in zip(*found, strict=True)]
        for name, weight in weights.items():
            part = weight[top:bottom]
            totals[name] += [*(_sum(values, part) for values in maps), channels * part.sum(dtype=np.float64)]
    with np.errstate(invalid="ignore"):
        return {name: Means(*(total[:2] / total[2]).tolist()) for name, total in totals.items()}


def _maps(image: np.ndarray, truth: np.ndarray, border: int) -> tuple[np.ndarray, np.ndarray]:
    """Similarity and contrast of each pixel of a strip of one channel, ``(h, w)``."""

    def blurred(values: np.ndarray) -> np.ndarray:
        return np.asarray(cv2.sepFilter2D(values, -1, WINDOW, WINDOW, borderType=border))

    image, truth = image.astype(np.float64), truth.astype(np.float64)
    mean, other = blurred(image), blurred(truth)
    product, squares = 2 * mean * other, mean * mean + other * other
    contrast = (2 * blurred(image * truth) - product + C2) / (blurred(image * image + truth * truth) - squares + C2)
    return (product + C1) / (squares + C1) * contrast, contrast


def _sum(values: np.ndarray, weight: np.ndarray) -> float:
    if weight.dtype != np.bool_:
        return float((np.where(weight > 0, values, 0) * weight).sum())
    return float(values.sum(where=weight))
