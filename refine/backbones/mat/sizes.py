"""All that tells one MAT from another, and how it is read off the weights."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from refine.weights.checkpoint import UnusableWeights

COARSEST = 16  # px a side of the second stage's coarsest features, at the training resolution


@dataclass(frozen=True)
class MATConfig:
    """All that tells one MAT from another.

    Attributes:
        channels: Channels of the second stage at 16, 32, 64 ... px; the last is the training resolution.
        dim: Channels of the first stage.
        depths: Blocks of the transformer's layers.
        grid: Side of the transformer's finest grid at the training resolution, tokens.
        heads: Heads of its attention, which the weights do not tell.
        latent: Channels of the latent and of what it is mapped to.
    """

    channels: tuple[int, ...] = (512, 512, 512, 256, 128, 64)
    dim: int = 180
    depths: tuple[int, ...] = (2, 3, 4, 3, 2)
    grid: int = 64
    heads: int = 6
    latent: int = 512

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Of the second stage, coarse to fine; the last is that of the training images."""
        return tuple(COARSEST * 2**i for i in range(len(self.channels)))

    @property
    def grids(self) -> tuple[int, ...]:
        """Sides of the transformer's grids at the training resolution, layer by layer, tokens."""
        return tuple(self.grid // factor for factor in (1, 2, 4, 2, 1))

    @property
    def windows(self) -> tuple[int, ...]:
        """Sides of the windows, layer by layer, tokens; the coarsest grid is one window."""
        return tuple(self.grid // factor for factor in (8, 4, 4, 4, 8))

    @property
    def token_side(self) -> int:
        """Px that a token of the coarsest grid stands for."""
        return self.resolutions[-1] // self.grids[2]

    @property
    def first_stage_steps(self) -> int:
        """Halvings of the resolution from the image to the finest grid."""
        return (self.resolutions[-1] // self.grid).bit_length() - 1


def noise_names(resolutions: Sequence[int]) -> dict[int, list[str]]:
    """Names of the noise of each block of the decoder, in the network's order.

    Args:
        resolutions: Those of the blocks, coarse to fine.
    """
    return {r: [f"noise_{2 * i + j}" for j in ((0,) if r == COARSEST else (-1, 0))] for i, r in enumerate(resolutions)}


def read_sizes(state: dict[str, Tensor]) -> MATConfig:
    """Read the architecture off the weights.

    Args:
        state: State dict of a generator.

    Raises:
        UnusableWeights: If it is no MAT.
    """

    def numbers(pattern: str) -> list[tuple[int, ...]]:
        found = (re.fullmatch(pattern, key) for key in state)
        return sorted({tuple(map(int, match.groups())) for match in found if match})

    channels = {r: _rows(state, f"synthesis.enc.EncConv_Block_{r}x{r}.conv1.weight") for r, in
                numbers(r"synthesis\.enc\.EncConv_Block_(\d+)x\d+\.conv1\.weight")}  # fmt: skip
    blocks = numbers(r"synthesis\.first_stage\.tran\.(\d+)\.blocks\.(\d+)\.fuse\.weight")
    depths = tuple(sum(layer == i for layer, _ in blocks) for i in range(5))
    steps = len(numbers(r"synthesis\.first_stage\.enc_conv\.(\d+)\.conv\.weight"))
    expected = [COARSEST * 2**i for i in range(len(channels))]
    if len(channels) < 2 or sorted(channels) != expected or not steps or not all(depths):
        raise UnusableWeights(
            f"the weights have encoder blocks of {sorted(channels)} px, {steps} convolutions before the transformer "
            f"and {depths} blocks in it; expected 16, 32, 64 ... px, and some of each, of a MAT."
        )
    return MATConfig(
        channels=tuple(channels[r] for r in expected),
        dim=_rows(state, "synthesis.first_stage.conv_first.conv.weight"),
        depths=depths,
        grid=expected[-1] // 2**steps,
        latent=_rows(state, "mapping.fc0.weight"),
    )


def _rows(state: dict[str, Tensor], name: str) -> int:
    """Output channels of a layer."""
    if name not in state or not state[name].ndim:
        raise UnusableWeights(f"the weights lack {name!r} of a MAT.")
    return state[name].shape[0]
