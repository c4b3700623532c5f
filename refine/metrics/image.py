"""Scores of one image: PSNR, SSIM, MS-SSIM, L1 and sharpness against the truth, and scores that need no truth.

Where a function takes ``mask``, None means the whole image; with a mask only the hole counts, each function says how.
No function rounds the images: for the numbers of other papers, score what an 8-bit file holds. A score that is not
defined (no hole, sides too short) is NaN; PSNR of a perfect result is infinite. A batch equals its images alone.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

from refine.core.inputs import check_inputs
from refine.core.pyramid import downscale, shrink_mask
from refine.core.types import Refinement

C1, C2 = 0.01**2, 0.03**2  # of SSIM, for values in [0, 1]
WINDOW = tuple(math.exp(-(x**2) / (2 * 1.5**2)) for x in range(-5, 6))
BETAS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of MS-SSIM, fine to coarse
SSIM_SIDE, MS_SSIM_SIDE = 6, 176  # the shortest sides torchmetrics takes, px


def l1(image: Tensor, truth: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean absolute difference.

    Args:
        image: Result, ``(B, 3, H, W)`` in [0, 1].
        truth: Truth, ``(B, 3, H, W)`` in [0, 1].
        mask: Mask, ``(B, 1, H, W)``, 1 = hole: only hole pixels count, all three channels of each.

    Returns:
        ``(B,)``, lower is better.

    Raises:
        ValueError: The sizes differ.
    """
    image, truth, pixels = _checked(image, truth, mask)
    return _mean((image - truth).abs(), pixels)


def psnr(image: Tensor, truth: Tensor, mask: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio (torchmetrics), peak 1.

    Args and Raises as :func:`l1`. In the hole: the squared error is averaged over the hole's pixels and channels only,
    so it does not depend on how large the hole is.

    Returns:
        ``(B,)`` dB, higher is better.
    """
    image, truth, pixels = _checked(image, truth, mask)
    pairs = [(a[:, hole], b[:, hole]) for a, b, (hole,) in zip(image, truth, pixels, strict=True)]
    return torch.stack([peak_signal_noise_ratio(a, b, data_range=1.0) for a, b in pairs])


def ssim(image: Tensor, truth: Tensor, mask: Tensor | None = None) -> Tensor:
    """Structural similarity: Gaussian window 11x11, sigma 1.5, mirrored border, per channel.

    Args and Raises as :func:`l1`. The score of the whole image is that of torchmetrics. In the hole it is the mean of
    the same map (torchmetrics' ``return_full_image`` in float64) over the hole's pixels. The windows reach up to 5 px
    into the known surroundings, so seams count.

    Returns:
        ``(B,)``, at most 1, higher is better; NaN for a side below 6 px.
    """
    image, truth, pixels = _checked(image, truth, mask)
    if min(image.shape[-2:]) < SSIM_SIDE:
        return _undefined(image)
    if mask is not None:
        return _mean(_similarity(image, truth, "reflect")[0], pixels)
    # Alone, because torchmetrics gives a batch of one without its dimension.
    return _alone(image, truth, structural_similarity_index_measure)


def ssim_lama(image: Tensor, truth: Tensor, mask: Tensor | None = None) -> Tensor:
    """Structural similarity as LaMa's evaluation has it: as :func:`ssim`, but the window sees zeros beyond the border.

    Args, Returns and Raises as :func:`ssim`, for sides of any length.
    """
    image, truth, pixels = _checked(image, truth, mask)
    return _mean(_similarity(image, truth, "constant")[0], pixels)


def ms_ssim(image: Tensor, truth: Tensor, mask: Tensor | None = None) -> Tensor:
    """Structural similarity over five scales, each half the one before.

    Args and Raises as :func:`l1`. The score of the whole image is that of torchmetrics. In the hole, the map of every
    scale is averaged, each pixel weighted with its fraction of hole (the mask, averaged down like the images), then the
    scales are combined as usual; unlike in torchmetrics, no border is cut off the maps.

    Returns:
        ``(B,)`` in [0, 1], higher is better; NaN for a side below 176 px.
    """
    image, truth, pixels = _checked(image, truth, mask)
    if min(image.shape[-2:]) < MS_SSIM_SIDE:
        return _undefined(image)
    if mask is None:
        return _alone(image, truth, multiscale_structural_similarity_index_measure, betas=BETAS, normalize="relu")
    score, weight = torch.ones(len(image), dtype=torch.float32, device=image.device), pixels.float()
    for scale, beta in enumerate(BETAS, start=1):
        similarity, contrast = _similarity(image, truth, "reflect")
        mean = _mean(similarity if scale == len(BETAS) else contrast, weight)
        score = score * mean.clamp(min=0) ** beta
        image, truth, weight = (F.avg_pool2d(maps, 2) for maps in (image, truth, weight))
    return score


def sharpness(image: Tensor, truth: Tensor, mask: Tensor | None = None) -> Tensor:
    """Sharpness of the fill: its mean gradient magnitude divided by that of the truth.

    Args and Raises as :func:`l1`. The gradient is ``sqrt(dx^2 + dy^2)`` of each channel, with the differences to the
    right and the lower neighbor. Only pixels count that are hole together with both neighbors: seams do not.

    Returns:
        ``(B,)``, 1 = as sharp as the truth, less = blurred, more = noisy; NaN where the truth is flat.
    """
    image, truth, pixels = _checked(image, truth, mask)
    inside = pixels[..., :-1, :-1] & pixels[..., :-1, 1:] & pixels[..., 1:, :-1]
    reference = _mean(_gradient(truth), inside)
    return _mean(_gradient(image), inside) / reference.where(reference > 0, torch.nan)


def known_l1(prediction: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute difference to the input over its known pixels: how well a network returns what it was shown.

    Args:
        prediction: Prediction, ``(B, 3, H, W)``, raw; the error of a composited result is 0, as it is outside of the
            windows of ``refiner.window``, which no network was shown.
        image: Input image, ``(B, 3, H, W)``.
        mask: Mask, ``(B, 1, H, W)``, 1 = hole.

    Returns:
        ``(B,)``, lower is better; NaN where nothing is known.
    """
    return l1(prediction, image, 1 - mask)


def guide_l1(image: Tensor, guide: Tensor, mask: Tensor, factor: float = 2.0) -> Tensor:
    """Mean absolute difference of the downscaled result to the guide: whether refinement did what it was asked to.

    The comparison of the paper's objective, but over all of the hole: every pixel of the guide's size that is hole
    through and through, without erosion.

    Args:
        image: Result of a level, ``(B, 3, H, W)``.
        guide: Result of the next coarser level, ``(B, 3, h, w)``.
        mask: Mask, ``(B, 1, H, W)``, 1 = hole.
        factor: Ratio of two levels of the pyramid.

    Returns:
        ``(B,)``, lower is better; NaN where no pixel is hole through and through.
    """
    size = (guide.shape[-2], guide.shape[-1])
    return l1(downscale(image.float(), size, factor), guide, shrink_mask(mask.float(), size))


def scores(image: Tensor, truth: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """All scores against the truth, as ``<score>_<image or hole>_<implementation>``.

    Args:
        image: Result, ``(B, 3, H, W)`` in [0, 1].
        truth: Truth, ``(B, 3, H, W)`` in [0, 1].
        mask: Mask, ``(B, 1, H, W)``, 1 = hole.

    Returns:
        ``(B,)`` each, float32.

    Raises:
        ValueError: Against the conventions, or the sizes differ.
    """
    check_inputs(truth, mask)
    return {
        "psnr_image_torchmetrics": psnr(image, truth),
        "psnr_hole_torchmetrics": psnr(image, truth, mask),
        "ssim_image_torchmetrics": ssim(image, truth),
        "ssim_hole_refine": ssim(image, truth, mask),
        "ssim_image_lama": ssim_lama(image, truth),
        "ms_ssim_image_torchmetrics": ms_ssim(image, truth),
        "ms_ssim_hole_refine": ms_ssim(image, truth, mask),
        "l1_image_refine": l1(image, truth),
        "l1_hole_refine": l1(image, truth, mask),
        "sharpness_hole_refine": sharpness(image, truth, mask),
    }


def scores_without_truth(result: Refinement, image: Tensor, mask: Tensor, factor: float = 2.0) -> dict[str, Tensor]:
    """What a result says about itself, named as in :func:`scores`.

    Args:
        result: Result of the refiner.
        image: Input image, ``(B, 3, H, W)``.
        mask: Mask, ``(B, 1, H, W)``, 1 = hole.
        factor: Ratio of two levels of the pyramid.

    Returns:
        ``(B,)`` each, float32; the agreement with the guide is NaN where there is one level only.
    """
    finest, *coarser = reversed(result.levels)
    guided = guide_l1(result.image, coarser[0].image, mask, factor) if coarser else _undefined(image)
    return {"known_l1_refine": known_l1(finest.prediction, image, mask), "guide_l1_hole_refine": guided}


def _checked(image: Tensor, truth: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Both images as float32 and the pixels that count, ``(B, 1, H, W)`` bool."""
    pixels = torch.ones_like(image[:, :1], dtype=torch.bool) if mask is None else mask > 0.5
    if image.ndim != 4 or image.shape != truth.shape or pixels.shape != (len(image), 1, *image.shape[2:]):
        got = f"{tuple(image.shape)}, {tuple(truth.shape)}" + ("" if mask is None else f" and {tuple(mask.shape)}")
        raise ValueError(f"scores need images (B,3,H,W) of one size and a mask (B,1,H,W); got {got}.")
    device = "cpu" if image.device.type == "mps" else image.device  # MPS has no float64
    return image.to(device).float(), truth.to(device).float(), pixels.to(device)


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    """``(B,)`` float32: mean of ``(B, C, H, W)`` weighted with ``(B, 1, H, W)``, NaN where all weights are 0."""
    weighted = torch.where(weight > 0, values, 0.0)  # where, so that NaN outside stays outside
    if weight.dtype != torch.bool:
        weight = weight.double()
        weighted = weighted * weight
    total = weighted.flatten(1).sum(1, dtype=torch.float64)  # summed so, and not copied so: large photos
    return (total / (weight.flatten(1).sum(1, dtype=torch.float64) * values.shape[1])).float()


def _undefined(image: Tensor) -> Tensor:
    return torch.full((len(image),), torch.nan, dtype=torch.float32, device=image.device)


def _alone(image: Tensor, truth: Tensor, score: Callable[..., Any], **settings: Any) -> Tensor:
    pairs = zip(image[:, None], truth[:, None], strict=True)
    return torch.stack([score(a, b, data_range=1.0, **settings) for a, b in pairs])


def _similarity(image: Tensor, truth: Tensor, border: str) -> tuple[Tensor, Tensor]:
    """SSIM at every pixel and its part without the luminance, ``(B, 3, H, W)`` each.

    In float64: the variances are small differences of large numbers, and in float32 nearly flat images lose 5e-4.
    Torchmetrics computes the same map, but with a convolution, which in float64 takes 20 times as long and 7 times the
    memory; it has neither the zero border of LaMa's evaluation nor the map without the luminance.
    """
    image, truth = image.double(), truth.double()
    maps = [_blurred(values, border) for values in (image, truth, image**2, truth**2, image * truth)]
    mean, other_mean, square, other_square, product = maps
    variances = square - mean**2 + other_square - other_mean**2
    contrast = (2 * (product - mean * other_mean) + C2) / (variances + C2)
    return (2 * mean * other_mean + C1) / (mean**2 + other_mean**2 + C1) * contrast, contrast


def _blurred(maps: Tensor, border: str) -> Tensor:
    """The 11x11 Gaussian, one axis after the other; shifts, since convolution in float64 is slow."""
    maps = F.pad(maps, (5, 5, 5, 5), mode=border)
    for axis in (-2, -1):
        side = maps.shape[axis] - 10
        total = torch.zeros_like(maps.narrow(axis, 0, side))
        for shift, weight in enumerate(WINDOW):
            total.add_(maps.narrow(axis, shift, side), alpha=weight / sum(WINDOW))
        maps = total
    return maps


def _gradient(image: Tensor) -> Tensor:
    corner = image[..., :-1, :-1]
    return torch.hypot(image[..., :-1, 1:] - corner, image[..., 1:, :-1] - corner)
