"""Losses and scores inside the hole: L1, gradients, PSNR, sharpness."""

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d


def in_hole(difference: Tensor, mask: Tensor) -> Tensor:
    """Mean of a difference ``(B, C, h, w)`` over the pixels of a mask ``(B, 1, h, w)``."""
    return (difference * mask).sum() / (mask.sum() * difference.shape[1]).clamp(min=1)


def gradient_loss(prediction: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """L1 of the differences between neighbors in the hole."""
    error = prediction - image
    across, down = error.diff(dim=-1).abs(), error.diff(dim=-2).abs()
    return in_hole(across, mask[..., 1:]) + in_hole(down, mask[..., 1:, :])


def hole_psnr(prediction: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """PSNR of each image inside its hole, dB, ``(B,)``."""
    squared = ((prediction.clamp(0, 1) - image) ** 2 * mask).sum(dim=(1, 2, 3)) / (3 * mask.sum(dim=(1, 2, 3)))
    return -10 * torch.log10(squared.clamp(min=1e-10))


def sharpness(prediction: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """Gradients in the hole, predicted over true; 1 is as sharp as the image."""
    inner = mask[..., 1:] * mask[..., :-1]
    return in_hole(prediction.diff(dim=-1).abs(), inner) / in_hole(image.diff(dim=-1).abs(), inner).clamp(min=1e-6)


def patches(mask: Tensor, score: Tensor) -> Tensor:
    """The mask at the size of the discriminator's score: a patch is fake where it touches the hole."""
    factor = mask.shape[-1] // score.shape[-1]
    small = max_pool2d(mask, factor)
    return nn.functional.interpolate(small, score.shape[-2:])
