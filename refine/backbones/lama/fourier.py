"""Fast Fourier convolutions (FFC), the layers of LaMa's generators that see the whole picture at once, written anew.

Facts follow advimman/lama at commit 786f5936 (``saicinpainting/training/modules/ffc.py``); parameter names equal those
of the official checkpoints.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from refine.autograd.functions import memory_format


class Pair(NamedTuple):
    """The two branches of the FFC trunk; ``rest`` (global) is None before the trunk."""

    local: Tensor
    rest: Tensor | None


class FourierUnit(nn.Module):
    """A 1x1 convolution in the frequency domain: every output pixel sees every input pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_layer = nn.Conv2d(2 * channels, 2 * channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        spectrum = torch.view_as_real(torch.fft.rfftn(x, dim=(-2, -1), norm="ortho"))
        # Real and imaginary parts are interleaved channel by channel: c0.re, c0.im, c1.re, ...
        spectrum = spectrum.permute(0, 1, 4, 2, 3).reshape(batch, 2 * channels, height, -1)
        spectrum = torch.relu_(self.bn(self.conv_layer(spectrum)))
        spectrum = spectrum.view(batch, channels, 2, height, -1).permute(0, 1, 3, 4, 2).contiguous()
        output: Tensor = torch.fft.irfftn(
            torch.view_as_complex(spectrum), s=(height, width), dim=(-2, -1), norm="ortho"
        )
        return output.contiguous(memory_format=memory_format(x))  # added to x, for which formats should agree


class SpectralTransform(nn.Module):
    """Global to global: a Fourier unit in a 1x1 bottleneck."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        hidden = outputs // 2
        self.conv1 = nn.Sequential(
            nn.Conv2d(inputs, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU(inplace=True)
        )
        self.fu = FourierUnit(hidden)
        self.conv2 = nn.Conv2d(hidden, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        return self.conv2(self.fu(x).add_(x))  # type: ignore[no-any-return]


class FFC(nn.Module):
    """Fast Fourier convolution: each branch convolves itself and the other; global to global goes by spectrum."""

    def __init__(self, inputs: tuple[int, int], outputs: tuple[int, int], kernel: int, stride: int, pad: int) -> None:
        super().__init__()

        mode: Literal["reflect", "zeros"] = "reflect" if pad else "zeros"

        def conv(channels_in: int, channels_out: int) -> nn.Conv2d | None:
            if not (channels_in and channels_out):
                return None
            return nn.Conv2d(channels_in, channels_out, kernel, stride, pad, bias=False, padding_mode=mode)

        self.convl2l = conv(inputs[0], outputs[0])
        self.convl2g = conv(inputs[0], outputs[1])
        self.convg2l = conv(inputs[1], outputs[0])
        self.convg2g = SpectralTransform(inputs[1], outputs[1]) if inputs[1] and outputs[1] else None

    def forward(self, x: Pair) -> Pair:
        # The convolutions' outputs are nobody else's: sum in place.
        local = _sum(_apply(self.convl2l, x.local), _apply(self.convg2l, x.rest), inplace=True)
        assert local is not None  # a LaMa trunk always has local channels
        return Pair(local, _sum(_apply(self.convl2g, x.local), _apply(self.convg2g, x.rest), inplace=True))


def _apply(module: nn.Module | None, x: Tensor | None) -> Tensor | None:
    return None if module is None or x is None else module(x)


def _sum(a: Tensor | None, b: Tensor | None, inplace: bool = False) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a.add_(b) if inplace else a + b


class FFCNormAct(nn.Module):
    """FFC, then batch norm and ReLU on each branch."""

    def __init__(
        self, inputs: tuple[int, int], outputs: tuple[int, int], kernel: int, stride: int = 1, pad: int = 0
    ) -> None:
        super().__init__()
        self.ffc = FFC(inputs, outputs, kernel, stride, pad)
        self.bn_l = nn.BatchNorm2d(outputs[0])
        self.bn_g = nn.BatchNorm2d(outputs[1]) if outputs[1] else None

    def forward(self, x: Pair) -> Pair:
        local, rest = self.ffc(x)
        if self.bn_g is not None:
            rest = torch.relu_(self.bn_g(rest))
        return Pair(torch.relu_(self.bn_l(local)), rest)


class FFCBlock(nn.Module):
    """Residual block of two FFCs; no activation after the sum."""

    def __init__(self, channels: tuple[int, int]) -> None:
        super().__init__()
        self.conv1 = FFCNormAct(channels, channels, 3, pad=1)
        self.conv2 = FFCNormAct(channels, channels, 3, pad=1)

    def forward(self, x: Pair) -> Pair:
        y = self.conv2(self.conv1(x))
        return Pair(x.local + y.local, _sum(x.rest, y.rest))


class Split(nn.Module):
    """A single tensor enters the pair as its local branch."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Pair:
        return Pair(self.module(x), None)


class Concat(nn.Module):
    """Local and global channels in one tensor again."""

    def forward(self, x: Pair) -> Tensor:
        return x.local if x.rest is None else torch.cat([x.local, x.rest], dim=1)
