"""AOT-GAN (Zeng et al. 2021): dilated convolutions at several rates, aggregated and gated in each block.

The network sees ``cat([image with the hole white, mask])`` with RGB in [-1, 1] and 1 = hole, and answers in [-1, 1]
through a tanh (researchmm/AOT-GAN-for-Inpainting at commit 2cd1afd). Parameter names equal those of the official
generator; widths and depth are read from the weights.

One tensor crosses each boundary between blocks: ``features``, at a quarter of the resolution.
"""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refine.backbones.build import sized_network, unfilled
from refine.backbones.sequential import SequentialBackbone, checked_cuts
from refine.core.types import Level
from refine.weights.checkpoint import UnusableWeights, hash_state, load_strictly, read_checkpoint, submodule

STRIDE = 4  # of the trunk


@dataclass(frozen=True)
class AOTGANConfig:
    """All that tells one AOT-GAN generator from another.

    Attributes:
        width: Channels after the first convolution; the trunk has four times as many.
        blocks: AOT blocks.
        rates: Dilations within a block.
    """

    width: int = 64
    blocks: int = 8
    rates: tuple[int, ...] = (1, 2, 4, 8)


def _reflected(inputs: int, outputs: int, rate: int = 1) -> list[nn.Module]:
    return [nn.ReflectionPad2d(rate), nn.Conv2d(inputs, outputs, 3, dilation=rate)]


class AOTBlock(nn.Module):
    """Aggregated contextual transformations: branches of several dilations fused, and a gate on the block's input."""

    def __init__(self, channels: int, rates: Sequence[int]) -> None:
        super().__init__()
        for i, rate in enumerate(rates):
            self.add_module(f"block0{i}", nn.Sequential(*_reflected(channels, channels // len(rates), rate), nn.ReLU()))
        self.fuse = nn.Sequential(*_reflected(channels, channels))
        self.gate = nn.Sequential(*_reflected(channels, channels))
        self.branches = len(rates)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, h, w)`` -> the same shape."""
        branches = [self.get_submodule(f"block0{i}")(x) for i in range(self.branches)]
        gate = torch.sigmoid(_normalized(self.gate(x)))
        return x * (1 - gate) + self.fuse(torch.cat(branches, dim=1)) * gate  # type: ignore[no-any-return]


def _normalized(gate: Tensor) -> Tensor:
    """Mean -5 and deviation 10 in each image and channel: few pixels of the gate are open."""
    mean = gate.mean((2, 3), keepdim=True)
    deviation = gate.std((2, 3), keepdim=True)  # unbiased, as upstream
    return 5 * (2 * (gate - mean) / (deviation + 1e-9) - 1)


class UpConv(nn.Module):
    """Twice the resolution, then a convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, h, w)`` -> ``(B, outputs, 2h, 2w)``."""
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        return self.conv(x)  # type: ignore[no-any-return]


class Generator(nn.Module):
    """Encoder, trunk and decoder, with the official names.

    Args:
        sizes: What to build.
    """

    def __init__(self, sizes: AOTGANConfig) -> None:
        super().__init__()
        c = sizes.width
        down = [nn.Conv2d(c, 2 * c, 4, 2, 1), nn.ReLU(), nn.Conv2d(2 * c, 4 * c, 4, 2, 1), nn.ReLU()]
        self.encoder = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(4, c, 7), nn.ReLU(), *down)
        self.middle = nn.Sequential(*(AOTBlock(4 * c, sizes.rates) for _ in range(sizes.blocks)))
        up = [UpConv(4 * c, 2 * c), nn.ReLU(), UpConv(2 * c, c), nn.ReLU()]
        self.decoder = nn.Sequential(*up, nn.Conv2d(c, 3, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, 4, h, w)`` -> ``(B, 3, h, w)`` in [-1, 1]."""
        return torch.tanh(self.decoder(self.middle(self.encoder(x))))


class AOTGAN(SequentialBackbone):
    """An AOT-GAN generator, its sizes read from the weights.

    Args:
        weights: State dict (``.pt .pth .safetensors``), or ``random`` for seeded random weights of the sizes given.
        cut: The network is opened before this block, 0 <= cut <= blocks; a list opens it before several.
        native_size: Short side in px at which the pyramid starts; trained at 512.
        rates: Dilations within a block, which the weights do not tell; None for 1, 2, 4 ... as upstream.
        sizes: Used with ``weights=random`` alone.
        seed: Seed of random weights.
        name: Name of the backbone in messages.
        channels_last: Feature maps in channels-last format on a CPU, and on CUDA in half precision: less time, the same
            prediction up to rounding.

    Raises:
        UnusableWeights: If the file is no AOT-GAN generator.
        ValueError: If ``cut`` or ``rates`` does not fit the network.
    """

    first_block = 7  # modules of the encoder
    output_settings = SequentialBackbone.output_settings

    def __init__(
        self,
        weights: str | PathLike[str] | None,
        cut: int | Sequence[int] = 1,
        native_size: int = 512,
        rates: Sequence[int] | None = None,
        sizes: AOTGANConfig | None = None,
        seed: int = 0,
        name: str = "aot_gan",
        channels_last: bool = True,
    ) -> None:
        super().__init__()
        read = functools.partial(_load, rates=rates)
        files = "the official state dict, .pt"
        self.sizes, self.network = sized_network(weights, read, Generator, sizes or AOTGANConfig(), seed, name, files)
        self.weights_hash = hash_state(self.network.state_dict())
        self.tanh = nn.Tanh()
        self.channels_last = channels_last
        self.cuts = checked_cuts(cut, self.sizes.blocks)
        self.layers = self._layers("features")
        self.native_size = native_size
        self.multiple_of = STRIDE
        self.minimum_side = STRIDE * (max(self.sizes.rates) + 1)  # the widest dilation pads by reflection
        self.freeze()

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The trunk's: each keeps several maps of the size of its input for its gate."""
        return list(self.network.middle)

    @property
    def sequence(self) -> nn.Sequential:
        """See :class:`SequentialBackbone`."""
        network = self.network
        return nn.Sequential(*network.encoder, *network.middle, *network.decoder, self.tanh)

    def enter(self, level: Level) -> Tensor:
        """See :class:`SequentialBackbone`."""
        return to_network(level.image, level.mask)

    def leave(self, output: Tensor) -> Tensor:
        """See :class:`SequentialBackbone`."""
        return from_network(output)


def to_network(image: Tensor, mask: Tensor) -> Tensor:
    """What the generator sees, ``(B, 4, h, w)``: RGB in [-1, 1], the hole white, then the mask, 1 = hole.

    Args:
        image: ``(B, 3, h, w)`` in [0, 1].
        mask: ``(B, 1, h, w)``, 1 = hole.
    """
    return torch.cat([(2 * image - 1) * (1 - mask) + mask, mask], dim=1)


def from_network(output: Tensor) -> Tensor:
    """The generator's answer ``(B, 3, h, w)``, from [-1, 1] to [0, 1]."""
    return (output + 1) / 2


MARKER = "middle.0.fuse.1.weight"


def read_sizes(state: dict[str, Tensor], rates: Sequence[int] | None = None) -> AOTGANConfig:
    """Read the architecture off the weights.

    Args:
        state: State dict of a generator.
        rates: Dilations, which are not in it; None for 1, 2, 4 ...

    Raises:
        UnusableWeights: If it is no AOT-GAN generator.
        ValueError: If there are more or fewer dilations than branches.
    """
    blocks = {match[1] for key in state if (match := re.fullmatch(r"middle\.(\d+)\.fuse\.1\.weight", key))}
    branches = {match[1] for key in state if (match := re.fullmatch(r"middle\.0\.block(\d+)\.1\.weight", key))}
    width = state.get("encoder.1.weight")
    if width is None or width.ndim != 4 or not branches:
        raise UnusableWeights("the weights lack 'encoder.1.weight' or 'middle.0.block00.1.weight' of an AOT-GAN.")
    rates = tuple(rates) if rates is not None else tuple(2**i for i in range(len(branches)))
    if len(rates) != len(branches):
        raise ValueError(f"backbone.rates={list(rates)}: the network's blocks have {len(branches)} branches.")
    return AOTGANConfig(width.shape[0], len(blocks), rates)


def _load(weights: str | PathLike[str], rates: Sequence[int] | None) -> tuple[AOTGANConfig, Generator]:
    checkpoint = read_checkpoint(weights)
    state = submodule(checkpoint, MARKER)
    sizes = read_sizes(state, rates)
    network = unfilled(lambda: Generator(sizes))
    load_strictly(network, state, checkpoint.source)
    return sizes, network
