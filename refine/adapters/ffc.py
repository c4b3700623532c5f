"""The LaMa generators: fast Fourier convolutions (FFC) and the regular ResNet, written anew.

Facts follow advimman/lama at commit 786f5936 (``saicinpainting/training/modules``); parameter names equal those of the
official checkpoints, so ``generator.model.<i>...`` without its prefix loads.
"""

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from refine.rules import memory_format
from refine.weights import UnusableWeights

MAX_CHANNELS = 1024  # upstream's max_features
ACTIVATIONS: dict[str, type[nn.Module]] = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "identity": nn.Identity}


class Pair(NamedTuple):
    """The two branches of the FFC trunk; ``rest`` (global) is None before the trunk."""

    local: Tensor
    rest: Tensor | None


@dataclass(frozen=True)
class Sizes:
    """All that tells one LaMa generator from another.

    Attributes:
        kind: ``ffc`` or ``regular``.
        width: Channels after the first convolution (upstream's ngf).
        downsamplings: Number of stride-2 convolutions; the total stride is 2 to its power.
        blocks: Residual blocks of the trunk.
        global_channels: Channels of the trunk's global branch (FFC only).
    """

    kind: Literal["ffc", "regular"] = "ffc"
    width: int = 64
    downsamplings: int = 3
    blocks: int = 18
    global_channels: int = 384

    def channels(self, depth: int) -> int:
        """Channels after ``depth`` stride-2 convolutions."""
        return min(self.width << depth, MAX_CHANNELS)

    @property
    def first_block(self) -> int:
        """Index of the trunk's first block in ``model``."""
        return 2 + self.downsamplings if self.kind == "ffc" else 4 + 3 * self.downsamplings


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


class RegularBlock(nn.Module):
    """Residual block of two 3x3 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        conv = [
            [nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
            for _ in range(2)
        ]
        self.conv_block = nn.Sequential(*conv[0], *conv[1][:-1])

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)  # type: ignore[no-any-return]


def _ffc_stem(sizes: Sizes) -> list[nn.Module]:
    """Stem and trunk of the FFC generator."""
    n = sizes.downsamplings
    trunk = (sizes.channels(n) - sizes.global_channels, sizes.global_channels)
    stem = [FFCNormAct((4, 0), (sizes.width, 0), 7)]
    for depth in range(1, n + 1):
        outputs = trunk if depth == n else (sizes.channels(depth), 0)
        stem.append(FFCNormAct((sizes.channels(depth - 1), 0), outputs, 3, stride=2, pad=1))
    return [Split(nn.ReflectionPad2d(3)), *stem, *(FFCBlock(trunk) for _ in range(sizes.blocks)), Concat()]


def _regular_stem(sizes: Sizes) -> list[nn.Module]:
    """Stem and trunk of the ResNet generator; its strided convolutions pad with zeros."""
    n = sizes.downsamplings
    layers = [nn.ReflectionPad2d(3), nn.Conv2d(4, sizes.width, 7), nn.BatchNorm2d(sizes.width), nn.ReLU(inplace=True)]
    for depth in range(1, n + 1):
        channels = sizes.channels(depth)
        conv = nn.Conv2d(sizes.channels(depth - 1), channels, 3, stride=2, padding=1)
        layers += [conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
    return layers + [RegularBlock(sizes.channels(n)) for _ in range(sizes.blocks)]


def build(sizes: Sizes, activation: str = "sigmoid") -> nn.Sequential:
    """The generator as one sequence, indexed as the official ``generator.model``.

    Args:
        sizes: What to build.
        activation: Of the output, one of :data:`ACTIVATIONS`.

    Returns:
        ``cat([image * (1 - mask), mask])`` ``(B, 4, h, w)`` -> prediction ``(B, 3, h, w)``.
    """
    layers = (_ffc_stem if sizes.kind == "ffc" else _regular_stem)(sizes)
    for depth in range(sizes.downsamplings, 0, -1):
        channels = sizes.channels(depth - 1)
        up = nn.ConvTranspose2d(sizes.channels(depth), channels, 3, stride=2, padding=1, output_padding=1)
        layers += [up, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(sizes.width, 3, 7), ACTIVATIONS[activation]())


FFC_MARKER, REGULAR_MARKER = "model.1.ffc.convl2l.weight", "model.1.weight"


def read_sizes(state: dict[str, Tensor]) -> Sizes:
    """Read the architecture off the weights.

    Args:
        state: Of a generator, keys ``model.<i>...``.

    Raises:
        UnusableWeights: If the keys are not those of a LaMa generator.
    """
    kind: Literal["ffc", "regular"] = "ffc" if FFC_MARKER in state else "regular"
    marker, block = (
        (FFC_MARKER, r"model\.(\d+)\.conv1\.ffc\.convl2l\.weight")
        if kind == "ffc"
        else (REGULAR_MARKER, r"model\.(\d+)\.conv_block\.1\.weight")
    )
    blocks = sorted(int(match[1]) for key in state if (match := re.fullmatch(block, key)))
    if not blocks or state[marker].ndim != 4 or state[marker].shape[1] != 4:
        raise UnusableWeights(
            f"the weights have no residual blocks after '{marker}', or its input is not the 4 channels of image and "
            f"mask; expected the keys of a LaMa generator (FFC or regular ResNet)."
        )
    downsamplings = blocks[0] - 2 if kind == "ffc" else (blocks[0] - 4) // 3
    towards_global = state.get(f"model.{blocks[0] - 1}.ffc.convl2g.weight")
    return Sizes(
        kind=kind,
        width=state[marker].shape[0],
        downsamplings=downsamplings,
        blocks=len(blocks),
        global_channels=0 if towards_global is None else towards_global.shape[0],
    )
