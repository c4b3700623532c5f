"""White noise for all levels of an image, drawn once.

Each level's noise must be white with unit variance, as at training, and must say the same as that of the others: the
content of a diffused image follows its noise, so that independent noise would put other content into each level, and
refinement would pull the fine levels towards something they do not show.

Averaging a draw bicubically correlates neighbors and shrinks the variance; picking every other element is white, but
aliases: a coarse element agrees with one fine element and not with the mean of those it covers. Sums do both. A coarse
element is the sum of the fine elements whose centers it covers, over the root of their number. No fine element is in
two sums, so that the coarse noise is white with unit variance, exactly, at every ratio of sizes; and it is the block
mean of the fine noise, scaled: the lower a frequency, the more exactly the levels agree in it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from refine.core.types import Level


def shared_noise(levels: Sequence[Level], stride: int, channels: Sequence[int], draw: torch.Generator) -> list[Tensor]:
    """Noise for each level, standard normal and white, that agrees in what the levels have in common.

    Args:
        levels: Padded levels of one image, coarse to fine.
        stride: Px of a level per element of its noise.
        channels: Dimensions in front of height and width.
        draw: Source of randomness, from which the finest level's noise is drawn.

    Returns:
        ``(*channels, h / stride, w / stride)`` for a level padded to ``h x w`` px.
    """
    finest = levels[-1].size
    cells = [tuple(side // stride for side in level.image.shape[-2:]) for level in levels]
    scaled = [[-(-c * f // s) for c, f, s in zip(cell, finest, level.size, strict=True)]
              for cell, level in zip(cells, levels, strict=True)]  # fmt: skip
    noise = torch.randn(*channels, *map(max, zip(*scaled, strict=True)), generator=draw)
    return [
        _summed(_summed(noise, -2, cell[0], level.size[0], finest[0]), -1, cell[1], level.size[1], finest[1])
        for cell, level in zip(cells, levels, strict=True)
    ]


def _summed(noise: Tensor, dim: int, cells: int, size: int, finest: int) -> Tensor:
    """Sums along one dimension over the elements whose centers a cell covers, over the root of their number."""
    cell = (2 * torch.arange(noise.shape[dim]) + 1) * size // (2 * finest)
    cell = cell[cell < cells]
    shape = list(noise.shape)
    shape[dim] = cells
    sums = torch.zeros(shape).index_add_(dim, cell, noise.narrow(dim, 0, len(cell)))
    number = torch.bincount(cell).view(-1, *[1] * (-1 - dim))
    return sums / number.sqrt()
