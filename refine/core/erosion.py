"""Erosion of the hole: which of its pixels are far enough from its edge to be compared with the coarser level."""

import math

import torch
import torch.nn.functional as F
from kornia.morphology import erosion
from torch import Tensor

from refine.core.pyramid import ALL_HOLE, shrink_mask


def circle(diameter: int) -> Tensor:
    """A filled circle as a flat structuring element, pixel for pixel OpenCV's ``MORPH_ELLIPSE``.

    Args:
        diameter: Diameter of the circle, px, odd.

    Returns:
        ``(diameter, diameter)`` of zeros and ones.
    """
    radius = diameter // 2
    kernel = torch.zeros(diameter, diameter, dtype=torch.float32)
    for row, dy in enumerate(range(-radius, radius + 1)):
        dx = round(math.sqrt(radius * radius - dy * dy))
        kernel[row, radius - dx : radius + dx + 1] = 1
    return kernel


def erode(mask: Tensor, diameter: int) -> Tensor:
    """Erode the hole by a circle, about ``diameter / 2`` px from each edge; the image border does not erode it.

    Args:
        mask: Mask, ``(B, 1, H, W)``, 1 = hole.
        diameter: Diameter of the circle, px, odd; 0 or 1 does not change the mask.

    Returns:
        ``(B, 1, H, W)`` with values {0, 1}.
    """
    if diameter <= 1:
        return mask
    eroded: Tensor = erosion(mask, circle(diameter).to(mask))
    return (eroded >= ALL_HOLE).to(mask.dtype)


def dilate_box(mask: Tensor, radius: int) -> Tensor:
    """Grow the hole by a square of ``2 * radius + 1`` px, one axis after the other.

    Args:
        mask: Mask, ``(B, 1, H, W)``, 1 = hole.
        radius: Growth on each side, px, >= 0.

    Returns:
        ``(B, 1, H, W)`` with values {0, 1}.
    """
    side = 2 * radius + 1
    rows = F.max_pool2d(mask, (side, 1), 1, (radius, 0))
    return F.max_pool2d(rows, (1, side), 1, (0, radius))


def wide_parts(mask: Tensor, width: int) -> Tensor:
    """The parts of a hole into which a circle fits: the hole without what is thinner.

    Args:
        mask: Mask, ``(B, 1, H, W)``, 1 = hole.
        width: Diameter of the circle, px, odd.

    Returns:
        ``(B, 1, H, W)`` with values {0, 1}.
    """
    return mask * dilate_box(erode(mask, width), width // 2)


def erode_adaptively(mask: Tensor, size: tuple[int, int], diameter: int) -> Tensor:
    """Shrink a mask and erode it by a circle that is smaller where the hole is too thin for it.

    With M the pixels that are hole all over at ``size``, T the pixels that touch the hole, and the diameters
    d_0 = ``diameter``, d_(i+1) = the odd number nearest to d_i / 2 from below (15, 7, 3, 1)::

        K_0     = erode(M, d_0)
        K_(i+1) = K_i + {p in erode(M, d_(i+1)): no pixel of K_j, j <= i, is within d_j px of p}

    Distances are the larger of the distances along rows and columns. What is left of T after d = 1 has no pixel that is
    hole all over, and is taken as it is. So each pixel of a hole has a kept pixel near it, and where ``erode`` keeps
    one within ``diameter`` px of every pixel of the hole the result is that of ``erode``, bit by bit.

    Args:
        mask: Mask, ``(B, 1, H, W)``, 1 = hole.
        size: Size ``(height, width)`` of the result, px.
        diameter: Largest diameter of the circle, px of the result, odd; 0 as 1.

    Returns:
        ``(B, 1, *size)`` with values {0, 1}; empty only where the mask is.
    """
    inside = shrink_mask(mask, size)
    kept = torch.zeros_like(inside)
    uncovered = F.adaptive_max_pool2d(mask, size)  # T: interpolation may step over a line of 1 px
    diameter = max(1, diameter)
    while diameter and bool(uncovered.any()):
        core = erode(inside, diameter) * uncovered
        kept = torch.maximum(kept, core)
        uncovered = uncovered * (1 - dilate_box(core, diameter))
        diameter = (diameter // 2 - 1) // 2 * 2 + 1 if diameter > 1 else 0
    return torch.maximum(kept, uncovered)
