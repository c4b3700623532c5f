"""What networks in the manner of StyleGAN have in common (Karras et al. 2020, NVlabs/stylegan2-ada-pytorch)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

TAPS = (1, 3, 3, 1)  # of the binomial filter for changes of resolution


def binomial() -> Tensor:
    """The filter for changes of resolution, ``(4, 4)``, symmetric, its sum 1."""
    taps = torch.tensor(TAPS, dtype=torch.float32)
    return torch.outer(taps, taps) / taps.sum() ** 2


def activated(x: Tensor) -> Tensor:
    """Leaky ReLU of slope 0.2, scaled so that it keeps the variance of noise."""
    return F.leaky_relu(x, 0.2).mul_(math.sqrt(2))


def upsampled(x: Tensor, kernel: Tensor) -> Tensor:
    """Twice the resolution: zeros between the pixels, then a filter, in one transposed convolution.

    Args:
        x: ``(B, C, h, w)``.
        kernel: Filter, ``(C, 1, 4, 4)``; one of sum 4 keeps the brightness.

    Returns:
        ``(B, C, 2h, 2w)``.
    """
    return F.conv_transpose2d(x, kernel.flip(2, 3), stride=2, padding=1, groups=x.shape[1])
