"""Compositing: a prediction inside the hole, the input everywhere else."""

import torch
from torch import Tensor

from refine.core.strips import strips


def composite(prediction: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """Clamp a prediction to [0, 1] and put it into the hole; known pixels stay bit-exact.

    Args:
        prediction: Raw prediction, ``(B, 3, H, W)``; it may lie on another device or be of another dtype.
        image: Input image, ``(B, 3, H, W)`` RGB in [0, 1].
        mask: Mask, ``(B, 1, H, W)``, 1 = hole.

    Returns:
        ``(B, 3, H, W)`` in [0, 1], with the image's dtype and device.
    """
    result = torch.empty_like(image)
    for rows in strips(image):
        part = (..., rows, slice(None))
        result[part] = torch.where(mask[part] > 0, prediction[part].clamp(0, 1).to(image), image[part])
    return result
