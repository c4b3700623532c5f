"""The MI-GAN generator, written anew.

Facts follow Picsart-AI-Research/MI-GAN at commit ca4df2e; parameter names equal those of the official inference
generator. Upstream runs at its training resolution alone; here the zeros between upsampled pixels are made for any
size and the stored noise is tiled, which is the same at that resolution.
"""

import re
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from refine.backbones.stylegan import TAPS, activated, binomial, upsampled
from refine.weights.checkpoint import UnusableWeights

COARSEST = 4  # px a side, at the training resolution


@dataclass(frozen=True)
class MIGANConfig:
    """All that tells one MI-GAN generator from another.

    Attributes:
        channels: Channels at resolutions 4, 8, 16 ... px.
    """

    channels: tuple[int, ...] = (512, 512, 512, 512, 512, 256, 128, 64)

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Of the blocks, coarse to fine; the last is that of the training images."""
        return tuple(COARSEST * 2**i for i in range(len(self.channels)))


def _activated(x: Tensor) -> Tensor:
    return activated(x).clamp(-256, 256)


def _filter(channels: int, gain: float) -> nn.Conv2d:
    conv = nn.Conv2d(channels, channels, len(TAPS), stride=2, padding=1, groups=channels, bias=False)
    with torch.no_grad():
        conv.weight.copy_(gain * binomial())
    return conv


class Downsample(nn.Module):
    """Half the resolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.filter = _filter(channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, 2h, 2w)`` -> ``(B, C, h, w)``."""
        return self.filter(x)  # type: ignore[no-any-return]


class Upsample(nn.Module):
    """Twice the resolution: zeros between the pixels, then the filter, in one transposed convolution."""

    filter_const: Tensor

    def __init__(self, channels: int, resolution: int) -> None:
        super().__init__()
        self.filter = _filter(channels, 4)
        pattern = torch.zeros(1, 1, resolution, resolution)
        pattern[..., ::2, ::2] = 1
        self.register_buffer("filter_const", pattern)  # official files have it; it fixes their size

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, h, w)`` -> ``(B, C, 2h, 2w)``."""
        return upsampled(x, self.filter.weight)


class SeparableConv(nn.Module):
    """A depthwise and a pointwise convolution, possibly with a change of resolution and noise.

    Args:
        inputs: Input channels.
        outputs: Output channels.
        down: Halve the resolution.
        up: Double it; at training, to this many px a side.
        noise: Side of the noise that is added, px; 0 for none.
    """

    noise_const: Tensor

    def __init__(self, inputs: int, outputs: int, down: bool = False, up: int = 0, noise: int = 0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs)
        self.conv2 = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.downsample = Downsample(inputs) if down else None
        self.upsample = Upsample(outputs, up) if up else None
        self.noise_strength = nn.Parameter(torch.zeros([])) if noise else None
        if noise:
            self.register_buffer("noise_const", torch.randn(noise, noise))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, h, w)`` -> ``(B, outputs, ...)``."""
        x = _activated(self.conv1(x))
        x = self.conv2(x if self.downsample is None else self.downsample(x))
        x = x if self.upsample is None else self.upsample(x)
        if self.noise_strength is not None:
            x = x + _tiled(self.noise_const, x.shape[-2], x.shape[-1]) * self.noise_strength
        return _activated(x)


def _tiled(noise: Tensor, height: int, width: int) -> Tensor:
    rows, columns = -(-height // noise.shape[0]), -(-width // noise.shape[1])
    return noise.repeat(rows, columns)[:height, :width]


class EncoderBlock(nn.Module):
    """Features of one resolution, and what goes on to the next coarser one."""

    def __init__(self, inputs: int, outputs: int, finest: bool, coarsest: bool) -> None:
        super().__init__()
        self.fromrgb = nn.Conv2d(4, inputs, 1) if finest else None
        self.conv1 = SeparableConv(inputs, inputs)
        self.conv2 = SeparableConv(inputs, outputs, down=not coarsest)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Input -> output, features."""
        features = self.conv1(x if self.fromrgb is None else _activated(self.fromrgb(x)))
        return self.conv2(features), features


class SynthesisBlock(nn.Module):
    """Doubles the resolution, takes the encoder's features in and adds to the image."""

    def __init__(self, inputs: int, outputs: int, resolution: int) -> None:
        super().__init__()
        finer = resolution if resolution > COARSEST else 0
        self.conv1 = SeparableConv(inputs, outputs, up=finer, noise=finer)
        self.conv2 = SeparableConv(outputs, outputs, noise=finer)
        self.torgb = nn.Conv2d(outputs, 3, 1)
        self.upsample = Upsample(3, resolution) if finer else None

    def forward(self, x: Tensor, rgb: Tensor | None, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features and image so far, and the encoder's features -> features and image at this resolution."""
        x = self.conv2(self.conv1(x) + features)
        contribution = self.torgb(x)
        return x, contribution if rgb is None or self.upsample is None else self.upsample(rgb) + contribution


class Generator(nn.Module):
    """Encoder and synthesis, with the official names.

    Args:
        sizes: What to build.
    """

    def __init__(self, sizes: MIGANConfig) -> None:
        super().__init__()
        channels = dict(zip(sizes.resolutions, sizes.channels, strict=True))
        finest = sizes.resolutions[-1]
        self.encoder, self.synthesis = nn.Module(), nn.Module()
        for r, c in channels.items():
            coarser = channels.get(r // 2, c)
            self.encoder.add_module(f"b{r}", EncoderBlock(c, coarser, finest=r == finest, coarsest=r == COARSEST))
            self.synthesis.add_module(f"b{r}", SynthesisBlock(coarser, c, r))


def read_sizes(state: dict[str, Tensor]) -> MIGANConfig:
    """Read the architecture off the weights.

    Args:
        state: State dict of a generator.

    Raises:
        UnusableWeights: If it is no MI-GAN generator.
    """
    pattern = re.compile(r"encoder\.b(\d+)\.conv1\.conv2\.weight")
    channels = {int(match[1]): state[key].shape[0] for key in state if (match := pattern.fullmatch(key))}
    sizes = MIGANConfig(tuple(channels[r] for r in sorted(channels)))
    if len(channels) < 2 or set(sizes.resolutions) != set(channels):
        raise UnusableWeights(
            f"the weights have encoder blocks of resolutions {sorted(channels)}; expected 4, 8, 16 ... of a MI-GAN."
        )
    return sizes
