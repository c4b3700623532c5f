"""The LaMa generators, of fast Fourier convolutions (FFC) and the regular ResNet, written anew.

Facts follow advimman/lama at commit 786f5936 (``saicinpainting/training/modules``); parameter names equal those of the
official checkpoints, so ``generator.model.<i>...`` without its prefix loads.
"""

import re
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from refine.backbones.lama.fourier import Concat, FFCBlock, FFCNormAct, Split
from refine.weights.checkpoint import UnusableWeights

MAX_CHANNELS = 1024  # upstream's max_features
ACTIVATIONS: dict[str, type[nn.Module]] = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "identity": nn.Identity}


@dataclass(frozen=True)
class LaMaConfig:
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


def _ffc_stem(sizes: LaMaConfig) -> list[nn.Module]:
    """Stem and trunk of the FFC generator."""
    n = sizes.downsamplings
    trunk = (sizes.channels(n) - sizes.global_channels, sizes.global_channels)
    stem = [FFCNormAct((4, 0), (sizes.width, 0), 7)]
    for depth in range(1, n + 1):
        outputs = trunk if depth == n else (sizes.channels(depth), 0)
        stem.append(FFCNormAct((sizes.channels(depth - 1), 0), outputs, 3, stride=2, pad=1))
    return [Split(nn.ReflectionPad2d(3)), *stem, *(FFCBlock(trunk) for _ in range(sizes.blocks)), Concat()]


def _regular_stem(sizes: LaMaConfig) -> list[nn.Module]:
    """Stem and trunk of the ResNet generator; its strided convolutions pad with zeros."""
    n = sizes.downsamplings
    layers = [nn.ReflectionPad2d(3), nn.Conv2d(4, sizes.width, 7), nn.BatchNorm2d(sizes.width), nn.ReLU(inplace=True)]
    for depth in range(1, n + 1):
        channels = sizes.channels(depth)
        conv = nn.Conv2d(sizes.channels(depth - 1), channels, 3, stride=2, padding=1)
        layers += [conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
    return layers + [RegularBlock(sizes.channels(n)) for _ in range(sizes.blocks)]


def build(sizes: LaMaConfig, activation: str = "sigmoid") -> nn.Sequential:
    """The generator as one sequence, indexed as the official ``generator.model``.

    Args:
        sizes: What to build.
        activation: Last activation, one of :data:`ACTIVATIONS`.

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


def read_sizes(state: dict[str, Tensor]) -> LaMaConfig:
    """Read the architecture off the weights.

    Args:
        state: State dict of a generator, keys ``model.<i>...``.

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
    return LaMaConfig(
        kind=kind,
        width=state[marker].shape[0],
        downsamplings=downsamplings,
        blocks=len(blocks),
        global_channels=0 if towards_global is None else towards_global.shape[0],
    )
