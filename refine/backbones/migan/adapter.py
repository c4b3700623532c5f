"""MI-GAN (Sargsyan et al. 2023): separable convolutions in the manner of StyleGAN, for phones.

The network sees ``cat([known - 0.5, image * known])`` with RGB in [-1, 1] and 1 = known, and answers in about [-1, 1]
(Picsart-AI-Research/MI-GAN at commit ca4df2e). Its sizes are read from the weights.

The cut lies behind the block of a resolution. What crosses it: ``features``, the image so far ``rgb``, and, as context,
the encoder's features of the finer blocks.
"""

import copy
from collections.abc import Iterator, Sequence
from os import PathLike

import torch
from torch import Tensor

from refine.backbones.build import sized_network, unfilled
from refine.backbones.migan.generator import COARSEST, Generator, MIGANConfig, read_sizes
from refine.core.backbone import FrontRear
from refine.core.types import Features, Level
from refine.weights.checkpoint import hash_state, load_strictly, read_checkpoint, submodule


class MIGAN(FrontRear):
    """A MI-GAN generator, its sizes read from the weights.

    Args:
        weights: State dict (``.pt .safetensors``), or ``random`` for seeded random weights of the sizes given.
        cut: The network is opened behind the synthesis block of this resolution, 4 <= cut < that of the training
            images; a list opens it behind several.
        native_size: Short side in px at which the pyramid starts.
        sizes: Used with ``weights=random`` alone.
        seed: Seed of random weights.
        name: Name of the backbone in messages.

    Raises:
        UnusableWeights: If the file is no MI-GAN generator.
        ValueError: If there is no block to cut at.
    """

    output_settings = ("cuts", "sizes")

    def __init__(
        self,
        weights: str | PathLike[str] | None,
        cut: int | Sequence[int] = 32,
        native_size: int = 512,
        sizes: MIGANConfig | None = None,
        seed: int = 0,
        name: str = "migan",
    ) -> None:
        super().__init__()
        files = "the official state dict, .pt"
        self.sizes, self.network = sized_network(weights, _load, Generator, sizes or MIGANConfig(), seed, name, files)
        self.weights_hash = hash_state(self.network.state_dict())
        self.cuts = _checked_cuts(cut, self.sizes.resolutions)
        self.layers = tuple(self._name(part, r) for r in self.cuts for part in ("features", "rgb"))
        self.native_size = native_size
        self.minimum_side = self.sizes.resolutions[-1]  # it has only ever seen its coarsest features 4x4 px large
        self.multiple_of = self.minimum_side // COARSEST
        self.freeze()

    def cuts_available(self) -> Iterator[tuple[str, FrontRear]]:
        """See :class:`FrontRear`."""
        for r in self.sizes.resolutions[:-1]:
            opened = copy.copy(self)
            opened.cuts, opened.layers = (r,), ("features", "rgb")
            yield str(r), opened
        yield from self._cut_together(self.cuts)

    def front(self, level: Level) -> Features:
        """See :class:`FrontRear`."""
        first, *others = self.cuts
        x, rgb, skips = self._encoded(level), None, {}
        for r in reversed(self.sizes.resolutions):
            x, skips[r] = self.network.encoder.get_submodule(f"b{r}")(x)
        for r in self.sizes.resolutions:
            if r > first:
                break
            x, rgb = self.network.synthesis.get_submodule(f"b{r}")(x, rgb, skips.pop(r))
        z = self._named(first, x, rgb)
        for r in others:
            like = [x.new_zeros(x.shape[0], c, *skips[r].shape[-2:]) for c in (skips[r].shape[1], 3)]
            z |= self._named(r, *like)
        return Features(z, skips)

    def rear(self, features: Features) -> Tensor:
        """See :class:`FrontRear`."""
        x, rgb = self._at(self.cuts[0], features)
        for r, skip in sorted(features.context.items()):
            x, rgb = self.network.synthesis.get_submodule(f"b{r}")(x, rgb, skip)
            if r in self.cuts:
                more = self._at(r, features)
                x, rgb = x + more[0], rgb + more[1]
        return (rgb + 1) / 2

    def _encoded(self, level: Level) -> Tensor:
        """What the network sees of a level, in its own range."""
        known = 1 - level.mask
        return torch.cat([known - 0.5, (2 * level.image - 1) * known], dim=1)

    def _named(self, r: int, x: Tensor, rgb: Tensor | None) -> dict[str, Tensor]:
        assert rgb is not None  # each block makes one
        return {self._name("features", r): x, self._name("rgb", r): rgb}

    def _at(self, r: int, features: Features) -> tuple[Tensor, Tensor]:
        return features.z[self._name("features", r)], features.z[self._name("rgb", r)]

    def _name(self, part: str, r: int) -> str:
        return f"{part}.{r}" if len(self.cuts) > 1 else part


def _checked_cuts(cut: int | Sequence[int], resolutions: Sequence[int]) -> tuple[int, ...]:
    cuts = [cut] if isinstance(cut, int) or not isinstance(cut, Sequence) else list(cut)
    if not cuts or not set(cuts) <= set(resolutions[:-1]) or len(set(cuts)) < len(cuts):
        raise ValueError(
            f"backbone.cut={cut!r}: expected one of {', '.join(map(str, resolutions[:-1]))}, the resolutions of the "
            "blocks behind which this network can be cut, or a list of different ones."
        )
    return tuple(sorted(cuts))


MARKER = "synthesis.b4.conv1.conv2.weight"


def _load(weights: str | PathLike[str]) -> tuple[MIGANConfig, Generator]:
    checkpoint = read_checkpoint(weights)
    state = submodule(checkpoint, MARKER)
    sizes = read_sizes(state)
    network = unfilled(lambda: Generator(sizes))
    load_strictly(network, state, checkpoint.source)
    return sizes, network
