"""Inpainting without a network, from OpenCV: controls that a refined network has to beat.

There is no feature map to optimize: ``layers`` is empty, so these run with ``preset=plain`` and not otherwise.
"""

from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from refine.core.backbone import FrontRear
from refine.core.types import Features, Level

METHODS = {"telea": cv2.INPAINT_TELEA, "ns": cv2.INPAINT_NS}


class Cv2(FrontRear):
    """``cv2.inpaint``, which works with 8 bits a channel.

    Args:
        method: ``telea`` for fast marching (Telea 2004), ``ns`` for Navier-Stokes (Bertalmio et al. 2001).
        radius: Radius of the neighborhood that is considered, px.
        native_size: Short side in px of the coarsest level, for the control ``preset=upscaled``.
        name: Name of the backbone in messages.

    Raises:
        ValueError: If there is no such method.
    """

    output_settings = ("method", "radius")

    def __init__(
        self, method: Literal["telea", "ns"], radius: float = 3, native_size: int = 512, name: str = "cv2"
    ) -> None:
        super().__init__()
        if method not in METHODS:
            raise ValueError(f"backbone.method={method}: expected one of {', '.join(METHODS)}.")
        self.method, self.radius = method, radius
        self.layers, self.multiple_of, self.native_size = (), 1, native_size
        self.weights_hash = f"cv2.{method}"
        self.register_buffer("place", torch.zeros(1), persistent=False)  # remembers device and precision
        self.freeze()

    def front(self, level: Level) -> Features:
        """See :class:`FrontRear`."""
        return Features({}, (level.image, level.mask))

    def rear(self, features: Features) -> Tensor:
        """See :class:`FrontRear`."""
        pairs = zip(*features.context, strict=True)
        return torch.stack([self._filled(image, mask) for image, mask in pairs])

    def _filled(self, image: Tensor, mask: Tensor) -> Tensor:
        pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
        hole = (mask[0] > 0).byte().cpu().numpy()
        filled = cv2.inpaint(np.ascontiguousarray(pixels), hole, self.radius, METHODS[self.method])
        return torch.from_numpy(filled).permute(2, 0, 1).to(image) / 255
