"""LaMa (Suvorov et al. 2022): Big-LaMa, LaMa-Fourier and the regular ResNet generator.

The network sees ``cat([image * (1 - mask), mask])`` with RGB in [0, 1] and 1 = hole, and answers in [0, 1] through a
sigmoid (advimman/lama at commit 786f5936). Its kind and sizes are read from the weights.

The cut lies before a residual block; ``cut=0``, the output of the downscaler, is where the paper cuts. The FFC trunk
carries two tensors, ``local`` and ``global``; the regular trunk one, ``features``.
"""

import copy
from collections.abc import Mapping, Sequence
from fractions import Fraction
from os import PathLike

import torch
from torch import Tensor, nn

from refine.autograd.strips import in_strips
from refine.backbones.build import sized_network, unfilled
from refine.backbones.lama.fold import fold as fold_norms
from refine.backbones.lama.fourier import Pair
from refine.backbones.lama.generator import ACTIVATIONS, FFC_MARKER, REGULAR_MARKER, LaMaConfig, build, read_sizes
from refine.backbones.sequential import SequentialBackbone, checked_cuts
from refine.core.types import Level
from refine.weights.checkpoint import Checkpoint, UnusableWeights, hash_state, load_strictly, read_checkpoint, submodule

STRIP = 128  # px, height of a strip
HALO = 3  # rows of the trunk that the layers beside it see beyond a row; with one downsampling 2.5, with three 2.1


class LaMa(SequentialBackbone):
    """A LaMa generator, its kind and sizes read from the weights.

    Args:
        weights: Official folder or zip, state dict (``.pt .pth .ckpt .safetensors``), TorchScript file, or ``random``
            for seeded random weights of the sizes given.
        cut: The network is opened before this residual block, 0 <= cut <= blocks; a list opens it before several.
        native_size: Short side in px at which the pyramid starts. 512 for Big-LaMa as in the paper's Algorithm 1,
            though it was trained on 256 px crops.
        multiple_of: Sides of a level are padded to multiples of this; None for the network's total stride.
        sizes: Used with ``weights=random`` alone.
        seed: Seed of random weights.
        name: Name of the backbone in messages.
        fold: Fold batch norm into the convolutions (:mod:`refine.backbones.lama.fold`): less time, the same prediction
            up to rounding. False for the state dict with the keys of the weights; a folded one cannot be given others.
        channels_last: Feature maps in channels-last format on a CPU, and on CUDA in half precision: less time, the same
            prediction up to rounding.
        strips: Run the layers before and after the trunk in strips of rows: the same prediction, bit by bit, in less
            memory and more time.

    Raises:
        UnusableWeights: If the file is no LaMa generator; the message says what is missing.
        ValueError: If ``cut`` or ``multiple_of`` does not fit the network.
    """

    output_settings = (*SequentialBackbone.output_settings, "fold", "activation")

    def __init__(
        self,
        weights: str | PathLike[str] | None,
        cut: int | Sequence[int] = 0,
        native_size: int = 512,
        multiple_of: int | None = None,
        sizes: LaMaConfig | None = None,
        seed: int = 0,
        name: str = "lama",
        fold: bool = True,
        channels_last: bool = True,
        strips: bool = False,
    ) -> None:
        super().__init__()
        files = "official folder, its zip, a state dict, or the TorchScript big-lama.pt"
        self.sizes, self.model = sized_network(weights, _load, build, sizes or LaMaConfig(), seed, name, files)
        self.weights_hash = hash_state(_values(self.model))
        self.activation = type(self.model[-1]).__name__
        self.fold = fold
        if fold:
            fold_norms(self.model)
        self.channels_last = channels_last
        self.strips = strips
        stride = 2**self.sizes.downsamplings
        self.cuts = checked_cuts(cut, self.sizes.blocks)
        self.first_block = self.sizes.first_block
        self.multiple_of = _checked_multiple(multiple_of, stride)
        self.minimum_side = 2 * stride  # the trunk's 3x3 convolutions pad by reflection, which takes 2 px
        self.native_size = native_size
        self.layers = self._layers(*_parts(self.sizes))
        self.freeze()

    @property
    def sequence(self) -> nn.Sequential:
        """See :class:`SequentialBackbone`."""
        return self.model

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The trunk and what follows it, where the map between them is less than what the trunk keeps.

        The rules keep one bit per element of a ReLU: in an FFC block 3.5 bits for each of the map's elements of 32. So
        a single block never pays, and nor does a short trunk or that of the regular generator.
        """
        pays = self.sizes.kind == "ffc" and 3.5 * self.sizes.blocks > 32
        return (self.stages[:-1] if self.strips else self.stages) if pays else ()

    def stripped(self) -> "LaMa":
        """See :class:`refine.core.backbone.FrontRear`."""
        stripped = copy.copy(self)
        stripped.strips = True
        return stripped

    def stem(self, x: Tensor) -> Pair | Tensor:
        """See :class:`SequentialBackbone`."""
        if not self.strips:
            return super().stem(x)  # type: ignore[no-any-return]
        layers, stride = super().stem, 2**self.sizes.downsamplings
        found = in_strips(
            lambda x: tuple(self.parts(layers(x)).values()), [x], Fraction(1, stride), STRIP, HALO * stride
        )
        return self.join(dict(zip(_parts(self.sizes), found, strict=True)))

    def head(self, x: Pair | Tensor) -> Tensor:
        """See :class:`SequentialBackbone`."""
        if not self.strips:
            return super().head(x)
        layers, (names, tensors) = super().head, zip(*self.parts(x).items(), strict=True)

        def of_tensors(*tensors: Tensor) -> tuple[Tensor]:
            return (layers(self.join(dict(zip(names, tensors, strict=True)))),)

        stride = 2**self.sizes.downsamplings
        return in_strips(of_tensors, tensors, Fraction(stride), STRIP // stride, HALO)[0]

    def enter(self, level: Level) -> Tensor:
        """See :class:`SequentialBackbone`."""
        return torch.cat([level.image * (1 - level.mask), level.mask], dim=1)

    def parts(self, x: Pair | Tensor) -> dict[str, Tensor]:
        """See :class:`SequentialBackbone`."""
        if isinstance(x, Tensor):
            return {"features": x}
        return {"local": x.local} if x.rest is None else {"local": x.local, "global": x.rest}

    def join(self, parts: Mapping[str, Tensor]) -> Pair | Tensor:
        """See :class:`SequentialBackbone`."""
        return parts["features"] if "features" in parts else Pair(parts["local"], parts.get("global"))


def _values(model: nn.Module) -> dict[str, Tensor]:
    """All that a prediction depends on: not the counters of batch norm, which some files lack."""
    return {name: value for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked")}


def _parts(sizes: LaMaConfig) -> tuple[str, ...]:
    if sizes.kind == "regular":
        return ("features",)
    return ("local", "global") if sizes.global_channels else ("local",)


def _checked_multiple(multiple_of: int | None, stride: int) -> int:
    if multiple_of is None:
        return stride
    if multiple_of < 1 or multiple_of % stride:
        raise ValueError(f"backbone.multiple_of={multiple_of}: must be a multiple of the network's stride {stride}.")
    return multiple_of


def _activation(checkpoint: Checkpoint) -> str:
    """Activation of the output, from the config.yaml beside the weights; all released networks have a sigmoid."""
    if not checkpoint.config:
        return "sigmoid"
    setting = checkpoint.config.get("add_out_act", True)
    name = "tanh" if setting is True else str(setting or "identity")  # upstream's meaning of these
    if name not in ACTIVATIONS:
        raise UnusableWeights(
            f"{checkpoint.source}: generator.add_out_act={setting} in its config.yaml; expected one of "
            f"{', '.join(ACTIVATIONS)}."
        )
    return name


def _load(weights: str | PathLike[str]) -> tuple[LaMaConfig, nn.Sequential]:
    checkpoint = read_checkpoint(weights)
    state = submodule(checkpoint, FFC_MARKER, REGULAR_MARKER)
    sizes = read_sizes(state)
    model = unfilled(lambda: build(sizes, _activation(checkpoint)))
    load_strictly(model, {key.removeprefix("model."): value for key, value in state.items()}, checkpoint.source)
    return sizes, model
