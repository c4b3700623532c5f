"""Masked positional encoding (MPE): how deep in the hole a pixel lies, and from which sides known pixels reach it.

Both are defined on the mask resized to :data:`GRID` px a side, whatever the size of the image, so all levels of a
pyramid agree. Facts follow ``load_masked_position_encoding`` of DQiaole/ZITS_inpainting, which grows the known pixels
step by step; the number of the step is the chessboard distance, and a corner of the 3x3 neighborhood reaches a pixel if
a pixel of it has been reached before.
"""

import cv2
import numpy as np
import torch
from torch import Tensor

from refine.backbones.zits.structure import POSITIONS

GRID = 256  # px a side
CORNERS = tuple(
    np.pad(np.ones((2, 2), np.uint8), (rows, columns)) for columns in ((0, 1), (1, 0)) for rows in ((0, 1), (1, 0))
)  # of the 3x3 neighborhood: top left, bottom left, top right, bottom right


def masked_positions(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Distance and directions of each pixel of the hole; 0 outside of it.

    Args:
        mask: One mask, ``(h, w)``, 1 = hole.

    Returns:
        Distance ``(h, w)`` int64, 0 to 127, in pixels of the grid; and directions ``(h, w, 4)`` of the mask's dtype,
        {0, 1}: top left, bottom left, top right, bottom right. Where nothing is known, the distance is the largest and
        there are no directions.
    """
    hole = mask.cpu().numpy() > 0
    small = cv2.resize(hole.astype(np.uint8) * 255, (GRID, GRID), interpolation=cv2.INTER_AREA) > 0
    if small.all():
        return torch.full_like(mask, POSITIONS - 1, dtype=torch.long) * (mask > 0), mask.new_zeros(*mask.shape, 4)
    depth = cv2.distanceTransform(small.astype(np.uint8), cv2.DIST_C, 3)
    reached = [cv2.erode(depth, corner, borderType=cv2.BORDER_REFLECT_101) < depth for corner in CORNERS]
    planes = np.dstack([depth.clip(max=POSITIONS - 1), *reached]).astype(np.uint8)
    planes = cv2.resize(planes, hole.shape[::-1], interpolation=cv2.INTER_NEAREST) * hole[..., None]
    tensor = torch.from_numpy(planes).to(mask.device)
    return tensor[..., 0].long(), tensor[..., 1:].to(mask.dtype)
