"""MAT (Li et al. 2022): a mask-aware transformer fills the hole, a network in the manner of StyleGAN paints over it.

The network sees ``cat([known - 0.5, image * known])`` with RGB in [-1, 1] and 1 = known, and answers in about [-1, 1],
composited with the image (fenglinglwb/MAT at commit d273d89); here the last composition is left out. Its sizes are read
from the weights. Its authors' code and weights are for non-commercial use alone (CC BY-NC 4.0); this code is written
anew.

Sides are multiples of the training resolution, as upstream: at 512 px the transformer's coarsest grid is one window of
16 x 16 tokens, 32 px each. At a smaller multiple windows would be partly empty, which the network has never seen.

What is random is given by ``level.conditions``, in the network's own layout: ``z``, the latent ``(B, latent)``;
``dropout_1`` ``(B, tokens, dim)`` and ``dropout_2`` ``(B, C, h, w)``, 1 = keep and 0 = drop, for the coarsest features
of each stage; and the decoder's noise, layer by layer, ``noise_0``, ``noise_1`` ... ``(B, 1, h, w)``. What is not among
them is drawn as for an image without a name (:mod:`refine.backbones.mat.conditions`).

It can be cut, in the order of the run, at

- ``tokens``, the transformer's coarsest features. Nearly all of the network lies behind, both decoders and the encoder
  between them, so that structure can change, at several times the time and memory of the others;
- ``stage1``, the first stage's image, which the second encodes anew: a latent of three channels, without attention
  behind it;
- ``fea16``, the second stage's coarsest features, of which the style of the whole image is made too: the default, the
  farthest cut behind which only the decoder lies. ``skip32``, ``skip64`` ... are the encoder's finer features. They
  show the decoder the first stage's image and hold the result there unless they move too: ``[fea16,skip32,skip64]``;
- ``dec16``, ``dec32`` ..., features and image (``rgb32``) behind a block of the decoder: the style stays, and with it
  goes what its gradient keeps; the finer the cheaper, and the less they reach.

Of several cuts the first, and what the same stage makes, give their tensors as ``z``; each later one gives an offset to
its own, zero at the start.
"""

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from os import PathLike

from torch import Tensor, nn

from refine.backbones.build import laid_out, sized_network, unfilled
from refine.backbones.mat.conditions import drawn, shapes
from refine.backbones.mat.generator import Generator
from refine.backbones.mat.sizes import MATConfig, read_sizes
from refine.backbones.mat.stages import Stage, checked_cuts, layers, stages
from refine.core.backbone import FrontRear
from refine.core.types import Features, Level, Sample
from refine.weights.checkpoint import hash_state, load_strictly, read_checkpoint, submodule


class MAT(FrontRear):
    """A MAT, its sizes read from the weights.

    Args:
        weights: State dict (``.pth .safetensors``), the official ``.pkl``, or ``random`` for seeded random weights of
            the sizes given.
        cut: The network is opened here (see the module); a list opens it at several places.
        truncation: Share of a mapped latent's distance from the mean of all that is kept: 1 for all, as upstream.
        native_size: Short side in px at which the pyramid starts.
        sizes: Used with ``weights=random`` alone.
        seed: Seed of random weights, and with an image's key of what is drawn for it.
        name: Name of the backbone in messages.
        channels_last: Feature maps in channels-last format on a CPU, and on CUDA in half precision: less time, the same
            prediction up to rounding.

    Raises:
        UnusableWeights: If the file is no MAT.
        ValueError: If there is no such place to cut at.
    """

    output_settings = ("cuts", "sizes", "truncation", "seed", "channels_last")

    def __init__(
        self,
        weights: str | PathLike[str] | None,
        cut: str | Sequence[str] = "fea16",
        truncation: float = 1.0,
        native_size: int = 512,
        sizes: MATConfig | None = None,
        seed: int = 0,
        name: str = "mat",
        channels_last: bool = True,
    ) -> None:
        super().__init__()
        files = "a plain state dict, .pth, or the official .pkl"
        self.sizes, self.network = sized_network(weights, _load, Generator, sizes or MATConfig(), seed, name, files)
        if str(weights) != "random":
            terms = "MAT's weights are for non-commercial use alone (CC BY-NC 4.0)"
            warnings.warn(f"backbone '{name}': {terms}.", stacklevel=2)
        self.weights_hash = hash_state(self.network.state_dict())
        self.cuts = checked_cuts(cut, self._stages)
        self.layers = layers(self.cuts, self._stages)
        self.truncation, self.seed, self.native_size, self.name = truncation, seed, native_size, name
        self.channels_last = channels_last
        self.multiple_of = self.minimum_side = self.sizes.resolutions[-1]
        self.freeze()

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """Layers and blocks: what each keeps for the gradient of the style outweighs its inputs.

        Those that lie in the front are not called where these matter.
        """
        synthesis = self.network.synthesis
        first = synthesis.first_stage
        return [*first.tran, *first.dec_conv, *synthesis.enc.children(), *synthesis.dec.children()]

    def cuts_available(self) -> Iterator[tuple[str, FrontRear]]:
        """See :class:`FrontRear`."""
        for cut in (place for stage in self._stages for place in stage.places):
            opened = copy.copy(self)
            opened.cuts, opened.layers = (cut,), layers((cut,), self._stages)
            yield cut, opened
        yield from self._cut_together(self.cuts)

    def conditions(self, sample: Sample, levels: Sequence[Level]) -> list[Mapping[str, Tensor]]:
        """See :class:`FrontRear` and :mod:`refine.backbones.mat.conditions`."""
        return list(drawn(self.sizes, self.seed, sample.key, levels, self.network.stored_noise))

    def front(self, level: Level) -> Features:
        """See :class:`FrontRear`.

        Raises:
            ValueError: If the level has a size that does not fit the network, or conditions of other names or shapes.
        """
        before, after = self._halves
        state = self._begun(level)
        for stage in before:
            stage.run(state)
        batch, _, height, width = level.image.shape
        later = {name: size for stage in after for name, size in stage.makes.items() if name in self.layers}
        offsets = {k: level.image.new_zeros(batch, c, height // px, width // px) for k, (c, px) in later.items()}
        return Features({name: state.pop(name) for name in self.layers if name not in later} | offsets, state)

    def rear(self, features: Features) -> Tensor:
        """See :class:`FrontRear`."""
        before, after = self._halves
        z = {name: laid_out(tensor, self.channels_last) for name, tensor in features.z.items()}
        state = features.context | {name: tensor for name, tensor in z.items() if name in before[-1].makes}
        for stage in after:
            stage.run(state)
            state |= {name: state[name] + z[name] for name in stage.makes if name in self.layers}
        return self._ended(state)

    def whole(self, level: Level) -> Tensor:
        """See :class:`FrontRear`."""
        state = self._begun(level)
        for stage in self._stages:
            stage.run(state)
        return self._ended(state)

    @property
    def _stages(self) -> tuple[Stage, ...]:
        return stages(self.network, self.sizes)

    @property
    def _halves(self) -> tuple[tuple[Stage, ...], tuple[Stage, ...]]:
        """The stages up to that which makes the first of the layers, and those behind it."""
        cut = next(i for i, stage in enumerate(self._stages) if self.layers[0] in stage.makes)
        return self._stages[: cut + 1], self._stages[cut + 1 :]

    def _begun(self, level: Level) -> dict[str, Tensor]:
        """What the first stage finds, in the network's own range."""
        inputs = self._inputs(level)
        w = self.network.mapping(inputs.pop("z"), self.truncation)
        return {"image": laid_out(2 * level.image - 1, self.channels_last), "known": 1 - level.mask, "w": w, **inputs}

    def _ended(self, state: Mapping[str, Tensor]) -> Tensor:
        """The prediction, of what the last stage leaves."""
        return (state[f"rgb{self.sizes.resolutions[-1]}"] + 1) / 2

    def _inputs(self, level: Level) -> dict[str, Tensor]:
        """The conditions of a level as the front takes them; what is not given is drawn."""
        batch, _, height, width = level.image.shape
        if height % self.multiple_of or width % self.multiple_of:
            raise ValueError(
                f"a level of {width}x{height} px does not fit backbone '{self.name}', whose windows are whole at "
                f"multiples of {self.multiple_of} px. Pad it with refine.core.pyramid.make_level."
            )
        expected = {name: (batch, *shape) for name, shape in shapes(self.sizes, height, width).items()}
        for name, tensor in level.conditions.items():
            if tuple(tensor.shape) != expected.get(name):
                raise ValueError(
                    f"backbone '{self.name}' is given a condition '{name}' of shape {tuple(tensor.shape)}; at "
                    f"{width}x{height} px it takes {', '.join(f'{k} {v}' for k, v in expected.items())}."
                )
        given = dict(level.conditions)
        if given.keys() != expected.keys():
            given = {**self.conditions(Sample("", level.image, level.mask), [level])[0], **given}
        return {name: tensor.to(level.image) for name, tensor in given.items()}


MARKER = "synthesis.first_stage.conv_first.conv.weight"
DERIVED = ".attn_mask"  # end of names of buffers that follow from the sizes


def _load(weights: str | PathLike[str]) -> tuple[MATConfig, Generator]:
    checkpoint = read_checkpoint(weights)
    averaged = {name: value for name, value in checkpoint.state.items() if name.startswith("G_ema.")}
    state = submodule(replace(checkpoint, state=averaged or checkpoint.state), MARKER)
    state = {name: value for name, value in state.items() if not name.endswith(DERIVED)}
    sizes = read_sizes(state)
    network = unfilled(lambda: Generator(sizes))
    load_strictly(network, state, checkpoint.source)
    return sizes, network
