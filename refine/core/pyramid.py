"""The image pyramid, and the downscaling and padding it is made of."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from kornia.filters import filter2d_separable, gaussian_blur2d, get_gaussian_kernel1d
from torch import Tensor

from refine.core.strips import is_large, strips
from refine.core.types import Level

ANY_CONTACT = 1e-8  # the smallest blurred contact with a hole is far larger, float noise far smaller
ALL_HOLE = 1 - 1e-4  # bilinear downscaling of ones may give 0.99999994; equality with 1 would punch holes
FASTER = 256 * 256  # px from which on kornia has a faster way on a CPU, where no gradient is wanted
PADDINGS = ("reflect", "symmetric", "replicate")


def downscale(image: Tensor, size: tuple[int, int], factor: float = 2.0) -> Tensor:
    """Shrink by a Gaussian filter followed by bilinear interpolation (paper section 2).

    With ``factor=2`` this is the published code's 5x5 filter with sigma 1.

    Args:
        image: Image, ``(B, C, H, W)``.
        size: Size ``(height, width)`` of the result, px.
        factor: Nominal ratio, from which the width of the filter follows (sigma = factor / 2 px).

    Returns:
        ``(B, C, *size)``.
    """
    if image.shape[1] > 1 and is_large(image):  # each channel alone, so that less lies there at a time
        return torch.cat([downscale(image[:, c : c + 1], size, factor) for c in range(image.shape[1])], dim=1)
    sigma = factor / 2
    return F.interpolate(gaussian(image, sigma, round(2 * sigma)), size=size, mode="bilinear", align_corners=False)


def gaussian(image: Tensor, sigma: float, radius: int) -> Tensor:
    """Blur by a Gaussian filter.

    Args:
        image: Image, ``(B, C, H, W)``.
        sigma: Standard deviation, px, > 0.
        radius: Radius at which the filter is cut off, px.

    Returns:
        ``(B, C, H, W)``.
    """
    border = "reflect" if min(image.shape[-2:]) > radius else "replicate"
    if image.requires_grad or not is_large(image):
        return _blur(image, sigma, radius, border)
    result, height = torch.empty_like(image), image.shape[-2]
    for rows in strips(image):  # each with the rows that the filter reaches
        first, last = max(0, rows.start - radius), min(rows.stop + radius, height)
        part = image[..., first:last, :].contiguous()  # or convolutions take several times as long
        result[..., rows, :] = _blur(part, sigma, radius, border)[..., rows.start - first : rows.stop - first, :]
    return result


def _blur(image: Tensor, sigma: float, radius: int, border: str) -> Tensor:
    size, height, width = 2 * radius + 1, *image.shape[-2:]
    on_cpu = image.device.type == "cpu" and not image.requires_grad and height * width >= FASTER
    blurred: Tensor
    if on_cpu or image.dtype not in (torch.float32, torch.float64):
        blurred = gaussian_blur2d(image, size, (sigma, sigma), border_type=border)
    else:  # as kornia would do it, without making and checking the kernel in each update
        kernel = _kernel(size, sigma, image.dtype, image.device)
        blurred = filter2d_separable(image, kernel, kernel, border)
    return blurred


@functools.cache
def _kernel(size: int, sigma: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A Gaussian, ``(1, size)``, that may take part in differentiation wherever it was made."""
    with torch.inference_mode(False):
        kernel: Tensor = get_gaussian_kernel1d(size, torch.full((1, 1), sigma, dtype=dtype, device=device))
    return kernel


def enlarge(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Bicubic enlargement of ``(B, 3, h, w)`` to ``(B, 3, *size)``."""
    return F.interpolate(image, size=size, mode="bicubic", align_corners=False)


def downscale_mask(mask: Tensor, size: tuple[int, int], factor: float = 2.0) -> Tensor:
    """Shrink a mask; a pixel of the result is hole if any pixel it is made of is: no hole leaks into known pixels.

    Args:
        mask: Mask, ``(B, 1, H, W)``, 1 = hole.
        size: Size ``(height, width)`` of the result, px.
        factor: Nominal ratio, as in :func:`downscale`.

    Returns:
        ``(B, 1, *size)`` with values {0, 1}.
    """
    return (downscale(mask, size, factor) >= ANY_CONTACT).to(mask.dtype)


def shrink_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Shrink a mask; a pixel of the result is hole only if all pixels it is made of are.

    Args:
        mask: Mask, ``(B, 1, H, W)``, 1 = hole.
        size: Size ``(height, width)`` of the result, px.

    Returns:
        ``(B, 1, *size)`` with values {0, 1}.
    """
    small = F.interpolate(mask, size=size, mode="bilinear", align_corners=False)
    return (small >= ALL_HOLE).to(mask.dtype)


def padded_side(side: int, multiple_of: int, minimum: int) -> int:
    """Smallest multiple of ``multiple_of`` that is at least ``side`` and ``minimum`` px."""
    return math.ceil(max(side, minimum) / multiple_of) * multiple_of


def _indices(side: int, padded: int, padding: str) -> Tensor:
    """Source index of every padded position along one axis."""
    index = torch.arange(padded)
    extra = padded - side
    if padding == "reflect" and extra < side:
        return torch.where(index < side, index, 2 * side - 2 - index)
    if padding == "symmetric" and extra <= side:
        return torch.where(index < side, index, 2 * side - 1 - index)
    return index.clamp(max=side - 1)  # replication: always defined, also for 1 px


def pad(image: Tensor, size: tuple[int, int], padding: str = "symmetric") -> Tensor:
    """Grow at the bottom and right; sides too short for ``padding`` are padded by replication.

    Args:
        image: Image, ``(B, C, H, W)``.
        size: Size ``(height, width)`` of the result, px, at least that of the image.
        padding: Kind of padding. ``symmetric`` mirrors with the edge pixel (LaMa's prediction script), ``reflect``
            mirrors without it (LaMa's refiner), ``replicate`` repeats the edge pixel.

    Returns:
        ``(B, C, *size)``; the image itself if nothing is to be added.
    """
    height, width = image.shape[-2:]
    if (height, width) == size:
        return image
    rows = _indices(height, size[0], padding).to(image.device)
    columns = _indices(width, size[1], padding).to(image.device)
    return image.index_select(-2, rows).index_select(-1, columns)


@dataclass(frozen=True)
class Pyramid:
    """The image and its mask at every scale, coarse to fine (``build_pyramid`` of the paper's Algorithm 1).

    Args:
        smallest_side: Short side in px that the coarsest level should come nearest to; the number of levels is
            ``1 + round(log(short side / smallest_side) / log(factor))``, the published code's rule.
        max_levels: Largest number of levels, >= 1; the finest are kept. None for as many as fit.
        factor: Ratio of the sizes of neighboring levels, > 1.
        padding: Kind of padding to the backbone's multiple: ``symmetric``, ``reflect`` or ``replicate``.

    Raises:
        ValueError: For values outside these ranges.
    """

    smallest_side: int
    max_levels: int | None = None
    factor: float = 2.0
    padding: str = "symmetric"

    def __post_init__(self) -> None:
        if self.smallest_side < 1:
            raise ValueError(f"pyramid.smallest_side must be at least 1 px; got {self.smallest_side}.")
        if self.max_levels is not None and self.max_levels < 1:
            raise ValueError(f"pyramid.max_levels must be at least 1 or null (all); got {self.max_levels}.")
        if self.factor <= 1:
            raise ValueError(f"pyramid.factor must be larger than 1; got {self.factor}.")
        if self.padding not in PADDINGS:
            raise ValueError(f"pyramid.padding must be one of {', '.join(PADDINGS)}; got {self.padding!r}.")

    def depth(self, height: int, width: int) -> int:
        """Number of levels of an image of this size."""
        octaves = math.log(min(height, width) / self.smallest_side) / math.log(self.factor)
        levels = 1 + round(max(0.0, octaves))
        return levels if self.max_levels is None else min(levels, self.max_levels)

    def sizes(self, height: int, width: int) -> tuple[tuple[int, int], ...]:
        """True ``(height, width)`` of the levels of an image of this size, coarse to fine."""
        sizes = [(height, width)]
        for _ in range(self.depth(height, width) - 1):
            height, width = (max(1, int(side / self.factor)) for side in sizes[0])
            sizes.insert(0, (height, width))
        return tuple(sizes)

    def __call__(self, image: Tensor, mask: Tensor, multiple_of: int = 1, minimum_side: int = 1) -> tuple[Level, ...]:
        """Build the levels.

        Args:
            image: Image, ``(B, 3, H, W)``.
            mask: Mask, ``(B, 1, H, W)``, 1 = hole.
            multiple_of: Divisor of the sides of every padded level, px.
            minimum_side: Smallest side of a padded level, px.

        Returns:
            The levels, coarse to fine; the last holds the image and mask themselves, padded.
        """
        scales = self.scales(image, mask)
        return tuple(make_level(*scale, multiple_of, minimum_side, self.padding) for scale in scales)

    def scales(self, image: Tensor, mask: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Image and mask at every scale, coarse to fine, not padded; the last are the image and mask themselves.

        Args:
            image: Image, ``(B, 3, H, W)``.
            mask: Mask, ``(B, 1, H, W)``, 1 = hole.
        """
        return list(zip(self._scaled(image, downscale), self.masks(mask), strict=True))

    def masks(self, mask: Tensor) -> list[Tensor]:
        """The mask at every scale, coarse to fine, not padded.

        Args:
            mask: Mask, ``(B, 1, H, W)``, 1 = hole.
        """
        return self._scaled(mask, downscale_mask)

    def _scaled(self, tensor: Tensor, shrink: Callable[[Tensor, tuple[int, int], float], Tensor]) -> list[Tensor]:
        scales = [tensor]
        for size in self.sizes(*tensor.shape[-2:])[-2::-1]:
            scales.insert(0, shrink(scales[0], size, self.factor))
        return scales


def make_level(
    image: Tensor, mask: Tensor, multiple_of: int = 1, minimum_side: int = 1, padding: str = "symmetric"
) -> Level:
    """Pad one scale to what a network accepts.

    Args:
        image: Image, ``(B, 3, h, w)``.
        mask: Mask, ``(B, 1, h, w)``, 1 = hole.
        multiple_of: Divisor of the sides after padding, px.
        minimum_side: Smallest side after padding, px.
        padding: Kind of padding, see :func:`pad`.

    Returns:
        The level, with its true size.
    """
    height, width = image.shape[-2:]
    size = (padded_side(height, multiple_of, minimum_side), padded_side(width, multiple_of, minimum_side))
    return Level(pad(image, size, padding), pad(mask, size, padding), (height, width))
