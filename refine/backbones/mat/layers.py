"""The layers that both stages of MAT are made of, written anew.

Facts follow fenglinglwb/MAT at commit d273d89; parameter names equal those of the official network. Weights are stored
at unit variance and scaled when they are used. A modulated convolution has a weight per image upstream; here its
input is scaled by the style and its output by the demodulation, which is the same up to rounding, keeps one frozen
weight, and so can be differentiated at the price of the image alone.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refine.backbones.stylegan import activated, binomial, upsampled


class Linear(nn.Module):
    """An affine map of the last dimension.

    Args:
        inputs: Input channels.
        outputs: Output channels.
        active: Whether the activation follows.
        rate: Factor of weight and bias, by which upstream slows their training.
        bias: Initial value of the bias.
    """

    def __init__(self, inputs: int, outputs: int, active: bool = False, rate: float = 1.0, bias: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), bias))
        self.active, self.rate = active, rate

    def forward(self, x: Tensor) -> Tensor:
        """``(..., inputs)`` -> ``(..., outputs)``."""
        scale = self.rate / math.sqrt(self.weight.shape[1])
        x = F.linear(x, self.weight * scale, self.bias * self.rate)
        return activated(x) if self.active else x


class Conv(nn.Module):
    """A convolution, possibly with a filtered change of resolution, and the activation.

    Args:
        inputs: Input channels.
        outputs: Output channels.
        side: Side of the kernel; 3 for a change of resolution.
        factor: Change of the resolution: 0.5, 1 or 2.
    """

    resample_filter: Tensor

    def __init__(self, inputs: int, outputs: int, side: int = 3, factor: float = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, side, side))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("resample_filter", binomial())  # official files have it where nothing is resampled too
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, h, w)`` -> ``(B, outputs, factor * h, factor * w)``."""
        weight = self.weight / math.sqrt(self.weight[0].numel())
        return activated(convolved(x, weight, self.factor, self.resample_filter, self.bias))


def convolved(x: Tensor, weight: Tensor, factor: float, taps: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve, and filter where the resolution changes: before it is halved, after it was doubled.

    Args:
        x: ``(B, inputs, h, w)``.
        weight: ``(outputs, inputs, k, k)``.
        factor: Change of the resolution: 0.5, 1 or 2.
        taps: Filter, ``(4, 4)``, symmetric, of sum 1.
        bias: Added in the end, ``(outputs,)``; None for none.

    Returns:
        ``(B, outputs, factor * h, factor * w)``.
    """
    if factor == 2:
        x = F.conv_transpose2d(x, weight.flip(2, 3).transpose(0, 1), stride=2)
        return F.conv2d(x, depthwise(4 * taps, x.shape[1]), bias, padding=1, groups=x.shape[1])
    if factor == 0.5:
        x = F.conv2d(x, depthwise(taps, x.shape[1]), padding=2, groups=x.shape[1])
        return F.conv2d(x, weight, bias, stride=2)
    return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)


def depthwise(taps: Tensor, channels: int) -> Tensor:
    """One filter for each channel: ``(4, 4)`` -> ``(channels, 1, 4, 4)``."""
    return taps.expand(channels, 1, *taps.shape)


def _per_channel(values: Tensor) -> Tensor:
    """``(C,)`` or ``(B, C)`` -> with two dimensions more, to go with ``(B, C, h, w)``."""
    return values[..., None, None]


class PartialConv(nn.Module):
    """A convolution that counts how much of what it sees is known."""

    def __init__(self, inputs: int, outputs: int, factor: float = 1) -> None:
        super().__init__()
        self.conv = Conv(inputs, outputs, factor=factor)

    def forward(self, x: Tensor, known: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Features and what is known of them.

        Args:
            x: ``(B, inputs, h, w)``.
            known: ``(B, 1, h, w)``, 1 = known; None: all, and the convolution is an ordinary one.

        Returns:
            Features of the new resolution, scaled up where little is known and 0 where nothing is; and known, 1 where
            the kernel has met anything known.
        """
        y = self.conv(x)
        if known is None:
            return y, None
        side = self.conv.weight.shape[-1]
        count = F.conv2d(known, known.new_ones(1, 1, side, side), stride=round(1 / self.conv.factor), padding=side // 2)
        known = count.clamp(0, 1)
        return y * (side * side / count.clamp(min=1) * known), known


class ModulatedConv(nn.Module):
    """A convolution whose input channels are scaled by a style.

    Args:
        inputs: Input channels.
        outputs: Output channels.
        style: Channels of the style.
        side: Side of the kernel.
        factor: Change of the resolution: 1 or 2.
        demodulated: Whether the output has unit variance again.
    """

    resample_filter: Tensor

    def __init__(
        self, inputs: int, outputs: int, style: int, side: int = 3, factor: float = 1, demodulated: bool = True
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, outputs, inputs, side, side))
        self.register_buffer("resample_filter", binomial())
        self.affine = Linear(style, inputs, bias=1.0)
        self.factor, self.demodulated = factor, demodulated

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """``(B, inputs, h, w)`` and ``(B, style)`` -> ``(B, outputs, factor * h, factor * w)``."""
        weight = self.weight[0]
        style, inputs = self.affine(style), weight[0].numel()
        y = convolved(x * _per_channel(style / math.sqrt(inputs)), weight, self.factor, self.resample_filter)
        if not self.demodulated:
            return y
        power = F.linear(style.square(), weight.square().sum((2, 3))) / inputs
        return y * _per_channel((power + 1e-8).rsqrt())


class StyledConv(nn.Module):
    """A modulated convolution, noise, a bias and the activation.

    Args:
        inputs: Input channels.
        outputs: Output channels.
        style: Channels of the style.
        factor: Change of the resolution: 1 or 2.
        noise: Side of the stored noise, px; 0 for a layer without noise.
    """

    noise_const: Tensor

    def __init__(self, inputs: int, outputs: int, style: int, factor: float = 1, noise: int = 0) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, outputs, style, factor=factor)
        self.bias = nn.Parameter(torch.zeros(outputs))
        if noise:
            self.register_buffer("noise_const", torch.randn(noise, noise))
            self.noise_strength = nn.Parameter(torch.zeros([]))

    def forward(self, x: Tensor, style: Tensor, noise: Tensor | None = None) -> Tensor:
        """``(B, inputs, h, w)``, ``(B, style)`` and noise to be added, ``(B, 1, ...)`` -> ``(B, outputs, ...)``."""
        x = self.conv(x, style)  # made there and kept by nobody, so that it may be overwritten
        if noise is not None:
            x += noise * self.noise_strength
        x += _per_channel(self.bias)
        return activated(x)


class ToRGB(nn.Module):
    """What features add to the image."""

    resample_filter: Tensor

    def __init__(self, inputs: int, style: int) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, 3, style, side=1, demodulated=False)
        self.bias = nn.Parameter(torch.zeros(3))
        self.register_buffer("resample_filter", binomial())

    def forward(self, x: Tensor, style: Tensor, rgb: Tensor | None) -> Tensor:
        """``(B, inputs, h, w)`` and the image so far, ``(B, 3, h / 2, w / 2)`` or None -> ``(B, 3, h, w)``."""
        added: Tensor = self.conv(x, style) + _per_channel(self.bias)
        return added if rgb is None else upsampled(rgb, depthwise(4 * self.resample_filter, 3)) + added
