"""The loss of the refinement: how far a prediction is from the result of the next coarser level.

An objective is stateless: level and guide are arguments. ``prepare`` does once per level what does not depend on the
prediction (masks, erosion); the comparison it returns is called once per update.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from refine.core.erosion import dilate_box, erode, erode_adaptively, wide_parts
from refine.core.pyramid import downscale, shrink_mask
from refine.core.types import Level


@dataclass(frozen=True)
class Comparison:
    """The loss of one level, with its masks and guide bound.

    Attributes:
        loss: Function of the raw padded prediction, ``(B, 3, h, w)``, that returns the loss, ``(B,)``; a term without
            pixels is 0.
        guided_fraction: Share of the hole that is compared with the guide, ``(B,)`` in [0, 1].
        has_pixels: Bool, ``(B,)``; False where no term has a pixel and there is nothing to optimize.
        refined: Parts of the hole that may change, ``(B, 1, h, w)`` of {0, 1} at the level's true size; the others keep
            the prediction from before the first update. None for all of it.
        tensors: All tensors that ``loss`` reads and that differ from image to image. With them a captured update
            (:mod:`refine.core.graphs`) serves all images of a size: the next image's are copied into them, and ``loss``
            must take the same course. None where that cannot be said; then nothing is captured.
    """

    loss: Callable[[Tensor], Tensor]
    guided_fraction: Tensor
    has_pixels: Tensor
    refined: Tensor | None = None
    tensors: tuple[Tensor, ...] | None = None


class Objective(Protocol):
    """A loss between prediction and guide; any class with this method is one."""

    def prepare(self, level: Level, guide: Tensor) -> Comparison:
        """Bind the loss to one level.

        Args:
            level: Level to refine.
            guide: Composited result of the next coarser level, ``(B, 3, h', w')``, at its true size.
        """
        ...


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the pixels of a mask, 0 where it has none (a mean of nothing is NaN).

    Args:
        values: Tensor, ``(B, C, h, w)``.
        mask: Bool mask, ``(B, 1, h, w)``.

    Returns:
        ``(B,)``.
    """
    # torch.where rather than a product, so that a non-finite value outside the mask cannot leak in.
    total = torch.where(mask, values, values.new_zeros(())).flatten(1).sum(1)
    return total / (mask.flatten(1).sum(1) * values.shape[1]).clamp(min=1)


def scaled_erosion(erosion: int, native_size: int | None) -> int:
    """The erosion's diameter for a network of another native size: the nearest odd ``erosion * native_size / 512``."""
    if native_size is None or erosion <= 1:
        return erosion
    return 2 * round((erosion * native_size / 512 - 1) / 2) + 1


class MultiscaleL1:
    """L1 distance of the downscaled prediction to the guide, inside the eroded hole (paper, sections 2 and 3).

    For features z, a guide y_guide and an input image x the loss is::

        L(z) = mean over G of |D(rear(z)) - y_guide|  +  w * mean over K of |rear(z) - x|

    D downscales to the size of the guide, by a Gaussian filter and bilinear interpolation (section 2). G are the guided
    pixels: those that are hole all over at the guide's resolution, eroded by a circle so that thin parts of the hole,
    which the network fills well anyway, are left out (section 3). K are the known pixels of the padded level, with
    weight w = ``known_weight``; the paper has no such term. Each mean runs over pixels and color channels.

    Args:
        erosion: Diameter of the circle, px at the guide's resolution, odd; 0 for no erosion. The paper has 15.
        native_size: Native size of the network, px; ``erosion`` is then scaled by ``native_size / 512``. None does not
            scale it.
        known_weight: Weight of the term over the known pixels, >= 0. The published code has 1.
        factor: Ratio of neighboring levels of the pyramid, from which the Gaussian filter follows.
        adaptive: True erodes by smaller circles where the hole is too thin for ``erosion``, see
            :func:`refine.core.erosion.erode_adaptively`, so that no hole goes without guided pixels. False erodes all
            parts alike, as the paper does: a thin hole may lose all guided pixels, and its level is not refined.
        narrowest: Width, px of the level, below about which a part of the hole is left out and keeps the network's own
            prediction, > 0; its wide parts are refined as ever. None leaves nothing out.

    Raises:
        ValueError: For an even or negative erosion, a negative weight, a width that is not above 0, or a width together
            with ``adaptive``.
    """

    def __init__(
        self,
        erosion: int = 15,
        native_size: int | None = None,
        known_weight: float = 0.0,
        factor: float = 2.0,
        adaptive: bool = False,
        narrowest: float | None = None,
    ) -> None:
        if erosion < 0 or (erosion > 0 and erosion % 2 == 0):
            raise ValueError(f"objective.erosion must be an odd number of px, or 0 for none; got {erosion}.")
        if known_weight < 0:
            raise ValueError(f"objective.known_weight must not be negative; got {known_weight}.")
        if narrowest is not None and not narrowest > 0:
            raise ValueError(f"objective.narrowest must be px > 0, or null for none; got {narrowest}.")
        if narrowest is not None and adaptive:
            raise ValueError(
                f"objective.adaptive=true refines thin parts of a hole, objective.narrowest={narrowest} leaves them to "
                "the network; set one of the two: objective.narrowest=null, or objective.adaptive=false."
            )
        self.narrowest = narrowest
        self.erosion = scaled_erosion(erosion, native_size)
        self.known_weight = known_weight
        self.factor = factor
        self.adaptive = adaptive

    def prepare(self, level: Level, guide: Tensor) -> Comparison:
        """See :class:`Objective`."""
        size = (guide.shape[-2], guide.shape[-1])
        mask = level.crop(level.mask)
        if self.adaptive:
            guided = erode_adaptively(mask, size, self.erosion) > 0
        else:
            guided = erode(shrink_mask(mask, size), self.erosion) > 0
        refined = None
        if self.narrowest is not None:
            width = 2 * round((self.narrowest / self.factor - 1) / 2) + 1  # px of the guide
            wide = wide_parts(shrink_mask(mask, size), width)
            guided = guided & (wide > 0)
            reach = math.ceil(self.factor) + 1  # the rim, of which no pixel of the guide is hole all over
            refined = mask * dilate_box(F.interpolate(wide, size=level.size), reach)
        known = level.mask == 0

        def loss(prediction: Tensor) -> Tensor:
            small = downscale(level.crop(prediction), size, self.factor)
            value = masked_mean((small - guide).abs(), guided)
            if self.known_weight:
                value = value + self.known_weight * masked_mean((prediction - level.image).abs(), known)
            return value

        pixels = guided.flatten(1).sum(1)
        has_pixels = pixels > 0
        if self.known_weight:
            has_pixels = has_pixels | known.flatten(1).any(1)
        area = mask.flatten(1).mean(1) * size[0] * size[1]  # of the hole, in px of the guide
        fraction = (pixels / area.clamp(min=1)).clamp(max=1)
        return Comparison(loss, fraction, has_pixels, refined, (guide, guided, level.image, known))
