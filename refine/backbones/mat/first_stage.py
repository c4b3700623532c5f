"""The first stage of MAT: a transformer that fills the hole at an eighth of the resolution, and a decoder.

Written anew from fenglinglwb/MAT at commit d273d89; parameter names equal those of the official network.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refine.autograd.functions import memory_format
from refine.backbones.mat.attention import Layer
from refine.backbones.mat.layers import Conv, Linear, PartialConv, StyledConv, ToRGB
from refine.backbones.mat.sizes import MATConfig

SQUARE = 16  # side of the square that a style is mapped to
FACTORS = (1, 0.5, 0.5, 2, 2)  # of the resolution, layer by layer of the transformer
MIDDLE = 2  # its coarsest layer


def mixed(x: Tensor, code: Tensor, keep: Tensor) -> Tensor:
    """What a mask of dropout keeps, and elsewhere what a style says.

    Args:
        x: Features, ``(B, C, h, w)``.
        code: ``(B, 1, h, w)``, what stands in for what is dropped.
        keep: ``(B, C, h, w)``, 1 = keep, 0 = drop.
    """
    return x * keep + code * (1 - keep)


class StyledBlock(nn.Module):
    """Doubles the resolution, takes the encoder's features in and adds to the image; no noise."""

    def __init__(self, channels: int, style: int) -> None:
        super().__init__()
        self.conv0 = StyledConv(channels, channels, style, factor=2)
        self.conv1 = StyledConv(channels, channels, style)
        self.toRGB = ToRGB(channels, style)

    def forward(self, x: Tensor, rgb: Tensor | None, skip: Tensor, style: Tensor) -> tuple[Tensor, Tensor]:
        """Features and image so far, and features to add -> features and image at twice the resolution."""
        x = self.conv1(self.conv0(x, style) + skip, style)
        return x, self.toRGB(x, style, rgb)


class FirstStage(nn.Module):
    """Encoder, transformer and decoder.

    Args:
        sizes: What to build.
    """

    def __init__(self, sizes: MATConfig) -> None:
        super().__init__()
        c = sizes.dim
        steps = sizes.first_stage_steps
        self.conv_first = PartialConv(4, c)
        self.enc_conv = nn.ModuleList(PartialConv(c, c, 0.5) for _ in range(steps))
        layers = zip(sizes.depths, sizes.windows, sizes.grids, FACTORS, strict=True)
        self.tran = nn.ModuleList(
            Layer(c, sizes.heads, depth, window, grid > window, factor) for depth, window, grid, factor in layers
        )
        self.down_conv = nn.Sequential(*(Conv(c, c, factor=0.5) for _ in range(sizes.grids[MIDDLE].bit_length() - 1)))
        self.to_style = Linear(c, 2 * c, active=True)
        self.ws_style = Linear(sizes.latent, c, active=True)
        self.to_square = Linear(c, SQUARE**2, active=True)
        self.dec_conv = nn.ModuleList(StyledBlock(c, 3 * c) for _ in range(steps))

    def attend(self, image: Tensor, known: Tensor, w: Tensor, keep: Tensor) -> tuple[Tensor, list[Tensor]]:
        """From the image to the transformer's coarsest layer.

        Args:
            image: ``(B, 3, h, w)`` in [-1, 1].
            known: ``(B, 1, h, w)``, 1 = known.
            w: Mapped latent, ``(B, latent)``.
            keep: Mask of dropout, ``(B, tokens, C)``.

        Returns:
            Features ``(B, C, h / 32, w / 32)``, and the finer ones that :meth:`paint` adds, fine to coarse.
        """
        seen = torch.cat([known - 0.5, image * known], dim=1)
        x, at = self.conv_first(seen.contiguous(memory_format=memory_format(image)), known)
        finer = [x]
        for conv in self.enc_conv:
            x, at = conv(x, at)
            finer.append(x)
        finer.pop()  # the transformer's input, not its output, at its own resolution
        for layer in self.tran[:MIDDLE]:
            x, at = layer(x, at)
            finer.append(x)
        x, _ = self.tran[MIDDLE](x, None)
        tokens = x.shape[2] * x.shape[3]
        code = F.interpolate(self.to_square(self.ws_style(w)).unsqueeze(1), tokens, mode="linear")
        x = mixed(x, code.view(-1, 1, *x.shape[2:]), keep.transpose(1, 2).view(-1, *x.shape[1:]))
        return x, finer

    def paint(self, x: Tensor, finer: list[Tensor], w: Tensor) -> Tensor:
        """From the coarsest layer to the image.

        Args:
            x: Features, ``(B, C, h / 32, w / 32)``.
            finer: The finer ones, as :meth:`attend` returns them.
            w: Mapped latent, ``(B, latent)``.

        Returns:
            ``(B, 3, h, w)``, about in [-1, 1], not composited.
        """
        style = torch.cat([self.to_style(self.down_conv(x).mean((2, 3))), self.ws_style(w)], dim=1)
        skips = reversed(finer)
        for layer in self.tran[MIDDLE + 1 :]:
            x = layer(x, None)[0] + next(skips)
        rgb: Tensor | None = None
        for block in self.dec_conv:
            x, rgb = block(x, rgb, next(skips), style)
        assert rgb is not None  # there is at least one block
        return rgb
