"""Scores of one image: PSNR, SSIM, MS-SSIM, L1 and sharpness against the truth, and scores that need no truth.

Where a function takes ``mask``, None means the whole image; with a mask only the hole counts, each function says how.
No function rounds the images: for the numbers of other papers, score what an 8-bit file holds. A score that is not
defined (no hole, sides too short) is NaN; PSNR of a perfect result is infinite. A batch equals its images alone.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio

from refine.core.inputs import check_inputs
from refine.core.pyramid import downscale, shrink_mask
from refine.core.strips import strips
from refine.core.types import Refinement
from refine.metrics.seam import seam
from refine.metrics.structure import ZEROS, Means, multiscale, scales, similarity


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
    image, truth, pixels = _cropped(*_checked(image, truth, mask))
    parts = [(..., rows, slice(None)) for rows in strips(image)]
    sums = [_sums((image[part] - truth[part]).abs(), pixels[part]) for part in parts]
    return _ratio(torch.stack(sums).sum(0))


def psnr(image: Tensor, truth: Tensor, mask: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio (torchmetrics), peak 1.

    Args and Raises as :func:`l1`. In the hole: the squared error is averaged over the hole's pixels and channels only,
    so it does not depend on how large the hole is.

    Returns:
        ``(B,)`` dB, higher is better.
    """
    image, truth, pixels = _cropped(*_checked(image, truth, mask))
    pairs = list(zip(image, truth, strict=True))
    if mask is not None:
        pairs = [(a[:, hole], b[:, hole]) for (a, b), (hole,) in zip(pairs, pixels, strict=True)]
    return torch.stack([peak_signal_noise_ratio(a, b, data_range=1.0) for a, b in pairs])


def ssim(image: Tensor, truth: Tensor, mask: Tensor | None = None) -> Tensor:
    """Structural similarity: Gaussian window 11x11, sigma 1.5, mirrored border, per channel.

    Args and Raises as :func:`l1`. The score of the whole image is that of torchmetrics, with less rounding. In the hole
    it is the mean of the same map over the hole's pixels. The windows reach up to 5 px into the known surroundings, so
    seams count.

    Returns:
        ``(B,)``, at most 1, higher is better; NaN for a side below 6 px.
    """
    where = "image" if mask is None else "hole"
    return _each(lambda a, b, pixels: _ssim(scales(a, b, pixels, 1), where), *_checked(image, truth, mask))


def ssim_lama(image: Tensor, truth: Tensor, mask: Tensor | None = None) -> Tensor:
    """Structural similarity as LaMa's evaluation has it: as :func:`ssim`, but the window sees zeros beyond the border.

    Args, Returns and Raises as :func:`ssim`, for sides of any length.
    """
    return _each(_ssim_lama, *_checked(image, truth, mask))


def ms_ssim(image: Tensor, truth: Tensor, mask: Tensor | None = None) -> Tensor:
    """Structural similarity over five scales, each half the one before.

    Args and Raises as :func:`l1`. The score of the whole image is that of torchmetrics, with less rounding. In the
    hole, the map of every scale is averaged, each pixel weighted with its fraction of hole (the mask, averaged down
    like the images), then the scales are combined as usual; unlike in torchmetrics, no border is cut off the maps.

    Returns:
        ``(B,)`` in [0, 1], higher is better; NaN for a side below 176 px.
    """
    hole = mask is not None
    return _each(lambda *one: multiscale(scales(*one), hole), *_checked(image, truth, mask))


def sharpness(image: Tensor, truth: Tensor, mask: Tensor | None = None) -> Tensor:
    """Sharpness of the fill: its mean gradient magnitude divided by that of the truth.

    Args and Raises as :func:`l1`. The gradient is ``sqrt(dx^2 + dy^2)`` of each channel, with the differences to the
    right and the lower neighbor. Only pixels count that are hole together with both neighbors: seams do not.

    Returns:
        ``(B,)``, 1 = as sharp as the truth, less = blurred, more = noisy; NaN where the truth is flat.
    """
    image, truth, pixels = _cropped(*_checked(image, truth, mask))
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
    structure = [scales(*one) for one in _images(*_checked(image, truth, mask))]  # once for four scores
    return {
        "psnr_image_torchmetrics": psnr(image, truth),
        "psnr_hole_torchmetrics": psnr(image, truth, mask),
        "ssim_image_torchmetrics": _numbers([_ssim(found, "image") for found in structure], image),
        "ssim_hole_refine": _numbers([_ssim(found, "hole") for found in structure], image),
        "ssim_image_lama": ssim_lama(image, truth),
        "ms_ssim_image_torchmetrics": _numbers([multiscale(found, hole=False) for found in structure], image),
        "ms_ssim_hole_refine": _numbers([multiscale(found, hole=True) for found in structure], image),
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
    return {
        "known_l1_refine": known_l1(finest.prediction, image, mask),
        "guide_l1_hole_refine": guided,
        "seam_refine": seam(result.image, mask),
    }


def _checked(image: Tensor, truth: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Both images as float32 and the pixels that count, ``(B, 1, H, W)`` bool."""
    pixels = torch.ones_like(image[:, :1], dtype=torch.bool) if mask is None else mask > 0.5
    if image.ndim != 4 or image.shape != truth.shape or pixels.shape != (len(image), 1, *image.shape[2:]):
        got = f"{tuple(image.shape)}, {tuple(truth.shape)}" + ("" if mask is None else f" and {tuple(mask.shape)}")
        raise ValueError(f"scores need images (B,3,H,W) of one size and a mask (B,1,H,W); got {got}.")
    device = "cpu" if image.device.type == "mps" else image.device  # MPS has no float64
    return image.to(device).float(), truth.to(device).float(), pixels.to(device)


def _cropped(image: Tensor, truth: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The box of the pixels that count, of all three: a large photo with a small hole takes no time then."""
    found = pixels.any(dim=1).any(dim=0)
    if not found.any():
        return image, truth, pixels
    rows, columns = (torch.nonzero(found.any(dim=axis))[[0, -1], 0].tolist() for axis in (1, 0))
    box = (..., slice(rows[0], rows[1] + 1), slice(columns[0], columns[1] + 1))
    return image[box], truth[box], pixels[box]


def _mean(values: Tensor, pixels: Tensor) -> Tensor:
    """``(B,)`` float32: mean of ``(B, C, H, W)`` over the pixels ``(B, 1, H, W)``, NaN where there are none."""
    return _ratio(_sums(values, pixels))


def _sums(values: Tensor, pixels: Tensor) -> Tensor:
    """``(2, B)`` float64: sum of ``(B, C, H, W)`` over the pixels ``(B, 1, H, W)``, and how many values that are."""
    counted = torch.where(pixels, values, 0.0)  # where, so that NaN outside stays outside
    total = counted.flatten(1).sum(1, dtype=torch.float64)  # summed so, and not copied so: large photos
    return torch.stack([total, pixels.flatten(1).sum(1, dtype=torch.float64) * values.shape[1]])


def _ratio(sums: Tensor) -> Tensor:
    return (sums[0] / sums[1]).float()


def _undefined(image: Tensor) -> Tensor:
    return torch.full((len(image),), torch.nan, dtype=torch.float32, device=image.device)


def _each(score: Callable[[Tensor, Tensor, Tensor], float], image: Tensor, truth: Tensor, pixels: Tensor) -> Tensor:
    """``(B,)`` float32: the score of each image of a batch, on the CPU."""
    return _numbers([score(*one) for one in _images(image, truth, pixels)], image)


def _images(image: Tensor, truth: Tensor, pixels: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    return zip(image.cpu(), truth.cpu(), pixels.cpu(), strict=True)


def _numbers(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=like.device)


def _ssim(found: Sequence[Mapping[str, Means]], where: str) -> float:
    return found[0][where].similarity if found else math.nan


def _ssim_lama(image: Tensor, truth: Tensor, hole: Tensor) -> float:
    return similarity(image.numpy(), truth.numpy(), {"hole": hole[0].numpy()}, ZEROS)["hole"].similarity


def _gradient(image: Tensor) -> Tensor:
    corner = image[..., :-1, :-1]
    return torch.hypot(image[..., :-1, 1:] - corner, image[..., 1:, :-1] - corner)
