"""Networks whose answers can be worked out by hand, and a scene for them."""

import torch
from torch import nn

from refine.core.backbone import FrontRear
from refine.core.types import Features


class Toy(FrontRear):
    """z is a constant plane, ``start``; the rear hands it on, times ``gain``."""

    layers = ("plane", "other")
    multiple_of = 8
    native_size = 32
    minimum_side = 8

    def __init__(self, start=0.5, gain=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(gain))
        self.start = start
        self.fronts = 0
        self.freeze()

    def front(self, level):
        self.fronts += 1
        plane = torch.full_like(level.image, self.start)
        return Features({"plane": plane, "other": torch.zeros_like(plane)}, context=level.mask)

    def rear(self, features):
        return (features.z["plane"] + features.z["other"]) * self.weight


def scene(height=64, width=64, batch=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(batch, 3, height, width, generator=generator)
    mask = torch.zeros(batch, 1, height, width)
    mask[..., height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = 1
    return image, mask


class Shift(Toy):
    """The coarse prediction is 0.5, the fine one starts at 0.9: the guide pulls it down."""

    def front(self, level):
        value = 0.5 if max(level.size) <= 32 else 0.9
        plane = torch.full_like(level.image, value)
        return Features({"plane": plane, "other": torch.zeros_like(plane)})
