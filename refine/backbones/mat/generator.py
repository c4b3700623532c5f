"""The MAT generator, written anew: mapping, first stage, and a second stage that paints over its result.

Facts follow fenglinglwb/MAT at commit d273d89; parameter names equal those of the official generator. Upstream repeats
the mapped latent for each layer; all its copies are equal, so that here there is one.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refine.autograd.functions import memory_format
from refine.backbones.mat.first_stage import SQUARE, FirstStage, mixed
from refine.backbones.mat.layers import Conv, Linear, StyledConv, ToRGB
from refine.backbones.mat.sizes import COARSEST, MATConfig, noise_names


class Mapping(nn.Module):
    """From a latent to what styles are made of."""

    w_avg: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        for i in range(8):
            self.add_module(f"fc{i}", Linear(channels, channels, active=True, rate=0.01))
        self.register_buffer("w_avg", torch.zeros(channels))

    def forward(self, z: Tensor, truncation: float) -> Tensor:
        """Latent ``(B, latent)`` -> the same shape; a truncation below 1 moves it towards the mean of all."""
        x = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        for layer in self.children():
            x = layer(x)
        return self.w_avg + truncation * (x - self.w_avg)


class EncoderBlock(nn.Module):
    """Features of one resolution."""

    def __init__(self, inputs: int, outputs: int, finest: bool) -> None:
        super().__init__()
        self.conv0 = Conv(inputs, outputs, 1) if finest else Conv(inputs, outputs, factor=0.5)
        self.conv1 = Conv(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, h, w)`` -> ``(B, outputs, h, w)``, or of half the resolution."""
        return self.conv1(self.conv0(x))  # type: ignore[no-any-return]


class ToStyle(nn.Module):
    """What the coarsest features say of the image as a whole."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(*(Conv(channels, channels, factor=0.5) for _ in range(3)))
        self.fc = Linear(channels, 2 * channels, active=True)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, h, w)`` -> ``(B, 2C)``."""
        return self.fc(self.conv(x).mean((2, 3)))  # type: ignore[no-any-return]


class CoarsestBlock(nn.Module):
    """The first block of the decoder."""

    def __init__(self, channels: int, style: int) -> None:
        super().__init__()
        self.conv0 = Conv(channels, channels)
        self.conv1 = StyledConv(channels, channels, style, noise=COARSEST)
        self.toRGB = ToRGB(channels, style)

    def forward(
        self, x: Tensor, rgb: Tensor | None, skip: Tensor, style: Tensor, noise: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Features -> features and image; there is no image yet."""
        x = self.conv1(self.conv0(x) + skip, style, noise[0])
        return x, self.toRGB(x, style, rgb)


class DecoderBlock(nn.Module):
    """Doubles the resolution, takes the encoder's features in and adds to the image."""

    def __init__(self, inputs: int, outputs: int, style: int, resolution: int) -> None:
        super().__init__()
        self.conv0 = StyledConv(inputs, outputs, style, factor=2, noise=resolution)
        self.conv1 = StyledConv(outputs, outputs, style, noise=resolution)
        self.toRGB = ToRGB(outputs, style)

    def forward(
        self, x: Tensor, rgb: Tensor | None, skip: Tensor, style: Tensor, noise: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Features and image so far, and the encoder's features -> features and image at twice the resolution."""
        x = self.conv1(self.conv0(x, style, noise[0]) + skip, style, noise[1])
        return x, self.toRGB(x, style, rgb)


class Synthesis(nn.Module):
    """Both stages."""

    def __init__(self, sizes: MATConfig) -> None:
        super().__init__()
        channels = dict(zip(sizes.resolutions, sizes.channels, strict=True))
        finest, coarsest = sizes.resolutions[-1], sizes.channels[0]
        style = sizes.latent + 2 * coarsest
        self.first_stage = FirstStage(sizes)
        self.enc, self.dec = nn.Module(), nn.Module()
        for r, c in reversed(channels.items()):
            self.enc.add_module(f"EncConv_Block_{r}x{r}", EncoderBlock(channels.get(2 * r, 7), c, finest=r == finest))
        self.to_square = Linear(sizes.latent, SQUARE**2, active=True)
        self.to_style = ToStyle(coarsest)
        for r, c in channels.items():
            block = CoarsestBlock(c, style) if r == COARSEST else DecoderBlock(channels[r // 2], c, style, r)
            self.dec.add_module(f"Dec_{r}x{r}", block)


class Generator(nn.Module):
    """Mapping and synthesis, with the official names.

    Args:
        sizes: What to build.
    """

    def __init__(self, sizes: MATConfig) -> None:
        super().__init__()
        self.resolutions = sizes.resolutions
        self.synthesis = Synthesis(sizes)
        self.mapping = Mapping(sizes.latent)

    def encode(self, image: Tensor, known: Tensor, painted: Tensor, w: Tensor, keep: Tensor) -> dict[int, Tensor]:
        """The encoder of the second stage.

        Args:
            image: ``(B, 3, h, w)`` in [-1, 1].
            known: ``(B, 1, h, w)``, 1 = known.
            painted: Result of the first stage, ``(B, 3, h, w)``.
            w: Mapped latent, ``(B, latent)``.
            keep: Mask of dropout of the coarsest features, ``(B, C, h, w)`` of these.

        Returns:
            Features by resolution, fine to coarse; the coarsest mixed with the style.
        """
        x = torch.cat([known - 0.5, painted * (1 - known) + image * known, image * known], dim=1)
        x = x.contiguous(memory_format=memory_format(image))
        features = {}
        for r in reversed(self.resolutions):
            x = features[r] = self.synthesis.enc.get_submodule(f"EncConv_Block_{r}x{r}")(x)
        square = self.synthesis.to_square(w).view(-1, 1, SQUARE, SQUARE)
        code = F.interpolate(square, x.shape[-2:], mode="bilinear")
        return features | {COARSEST: mixed(x, code, keep)}

    def decode(
        self, r: int, x: Tensor, rgb: Tensor | None, skip: Tensor, style: Tensor, noise: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The decoder's block of resolution ``r``; see :class:`DecoderBlock`."""
        return self.synthesis.dec.get_submodule(f"Dec_{r}x{r}")(x, rgb, skip, style, noise)  # type: ignore[no-any-return]

    @property
    def stored_noise(self) -> dict[str, Tensor]:
        """The noise of the training resolution by name, ``(1, r, r)`` each."""
        stored: dict[str, Tensor] = {}
        for r, names in noise_names(self.resolutions).items():
            layers = self.synthesis.dec.get_submodule(f"Dec_{r}x{r}").children()
            noisy = [layer for layer in layers if isinstance(layer, StyledConv)]
            stored |= {name: layer.noise_const[None] for name, layer in zip(names, noisy, strict=True)}
        return stored
