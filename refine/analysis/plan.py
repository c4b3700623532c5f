"""What will be done with an image: its levels, and the parts of each that the network is given."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from refine.core.per_level import at_level
from refine.core.pyramid import padded_side
from refine.core.refiner import Refiner
from refine.core.windows import Groups


@dataclass(frozen=True)
class LevelPlan:
    """What is done at one level.

    Attributes:
        size: True ``(height, width)``, px.
        parts: Padded ``(height, width)`` of what the network is given: the level, or its windows; empty for no hole.
        updates: Updates of each part.
    """

    size: tuple[int, int]
    parts: tuple[tuple[int, int], ...]
    updates: int


def plan_levels(refiner: Refiner, size: tuple[int, int], mask: Tensor | None = None) -> list[LevelPlan]:
    """What a refiner will do with an image.

    Args:
        refiner: Refiner, whose settings decide.
        size: ``(height, width)`` of the image, px.
        mask: Mask, ``(1, 1, H, W)``, 1 = hole; needed only for windows. Without it levels are taken whole.

    Returns:
        The levels, coarse to fine. Updates that an early stop or a thin hole will save are counted.
    """
    sizes = refiner.pyramid.sizes(*size)
    cover: list[Groups] = [()] * len(sizes)
    if refiner.windows is not None and mask is not None:
        cover = refiner.windows.cover(refiner.pyramid.masks(mask))
    levels = []
    for index, (level, groups) in enumerate(zip(sizes, cover, strict=True)):
        grid = sizes[max(0, index - 1)]
        windows = [window.scaled(grid, level).size for group in groups for window in group]
        parts = tuple(padded(refiner, part) for part in windows or [level])
        levels.append(LevelPlan(level, parts, at_level(refiner.steps, index) if index else 0))
    return levels


def work(levels: Sequence[LevelPlan]) -> float:
    """What a plan takes where the machine was not measured, so that images can be compared.

    One pass through the network at the coarsest level; at a refined one the front, the final prediction, and two per
    update, since a frozen network's backward pass costs about a forward pass.

    Args:
        levels: Levels of an image, coarse to fine.

    Returns:
        Pixels times passes; only ratios mean anything.
    """
    passes = [1 if index == 0 else 2 + 2 * level.updates for index, level in enumerate(levels)]
    return sum(count * math.prod(part) for count, level in zip(passes, levels, strict=True) for part in level.parts)


def padded(refiner: Refiner, size: tuple[int, int]) -> tuple[int, int]:
    """The size that the network is given for a level or a window.

    Args:
        refiner: Refiner with the network.
        size: True ``(height, width)``, px.
    """
    backbone = refiner.backbone
    height, width = (padded_side(side, backbone.multiple_of, backbone.minimum_side) for side in size)
    return height, width
