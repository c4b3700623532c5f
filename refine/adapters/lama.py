"""LaMa (Suvorov et al. 2022): Big-LaMa, LaMa-Fourier and the regular ResNet generator.

The network sees ``cat([image * (1 - mask), mask])`` with RGB in [0, 1] and 1 = hole, and answers in [0, 1] through a
sigmoid (advimman/lama at commit 786f5936). Its kind and sizes are read from the weights.

The cut lies before a residual block; ``cut=0``, the output of the downscaler, is where the paper cuts. The FFC trunk
carries two tensors, ``local`` and ``global``; the regular trunk one, ``features``.
"""

import warnings
from os import PathLike

import torch
from torch import Tensor, nn

from refine.adapters.base import FrontRear
from refine.adapters.ffc import FFC_MARKER, REGULAR_MARKER, Pair, Sizes, build, read_sizes
from refine.types import Features, Level
from refine.weights import UnusableWeights, hash_state, load_strictly, read_checkpoint, submodule


class LaMa(FrontRear):
    """A LaMa generator, its kind and sizes read from the weights.

    Args:
        weights: Official folder or zip, state dict (``.pt .pth .ckpt .safetensors``), TorchScript file, or ``random``
            for seeded random weights of the sizes given.
        cut: The network is opened before this residual block, 0 <= cut <= blocks.
        native_size: Short side in px at which the pyramid starts. 512 for Big-LaMa as in the paper's Algorithm 1,
            though it was trained on 256 px crops.
        multiple_of: Sides of a level are padded to multiples of this; None for the network's total stride.
        sizes: Used with ``weights=random`` alone.
        seed: Likewise.
        name: Of the backbone, for messages.

    Raises:
        UnusableWeights: If the file is no LaMa generator; the message says what is missing.
        ValueError: If ``cut`` or ``multiple_of`` does not fit the network.
    """

    def __init__(
        self,
        weights: str | PathLike[str] | None,
        cut: int = 0,
        native_size: int = 512,
        multiple_of: int | None = None,
        sizes: Sizes | None = None,
        seed: int = 0,
        name: str = "lama",
    ) -> None:
        super().__init__()
        if weights is None:
            raise UnusableWeights(
                f"backbone '{name}' needs its weights: set backbone.weights=<official folder, its zip, a state dict, "
                "or the TorchScript big-lama.pt>, or backbone.weights=random to try the machinery."
            )
        if str(weights) == "random":
            self.sizes = sizes or Sizes()
            self.model = _random(self.sizes, seed, name)
        else:
            self.sizes, self.model = _load(weights)
        self.weights_hash = hash_state(_values(self.model))
        stride = 2**self.sizes.downsamplings
        self.cut = _checked_cut(cut, self.sizes.blocks)
        self.multiple_of = _checked_multiple(multiple_of, stride)
        self.minimum_side = 2 * stride  # the trunk's 3x3 convolutions pad by reflection, which takes 2 px
        self.native_size = native_size
        self.layers = _layers(self.sizes)
        self.freeze()

    def front(self, level: Level) -> Features:
        """See :class:`FrontRear`."""
        x = torch.cat([level.image * (1 - level.mask), level.mask], dim=1)
        z = self.model[: self._split](x)
        if isinstance(z, Pair):
            return Features(
                {name: tensor for name, tensor in zip(("local", "global"), z, strict=True) if tensor is not None}
            )
        return Features({"features": z})

    def rear(self, features: Features) -> Tensor:
        """See :class:`FrontRear`."""
        z = features.z
        x = z["features"] if "features" in z else Pair(z["local"], z.get("global"))
        return self.model[self._split :](x)  # type: ignore[no-any-return]

    @property
    def _split(self) -> int:
        return self.sizes.first_block + self.cut


def _values(model: nn.Module) -> dict[str, Tensor]:
    """All that a prediction depends on: not the counters of batch norm, which some files lack."""
    return {name: value for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked")}


def _layers(sizes: Sizes) -> tuple[str, ...]:
    if sizes.kind == "regular":
        return ("features",)
    return ("local", "global") if sizes.global_channels else ("local",)


def _checked_cut(cut: int, blocks: int) -> int:
    if not (isinstance(cut, int) and 0 <= cut <= blocks):
        raise ValueError(
            f"backbone.cut={cut!r}: this network has {blocks} residual blocks; set backbone.cut to 0 "
            f"(before the first, where the paper cuts) ... {blocks} (after the last)."
        )
    return cut


def _checked_multiple(multiple_of: int | None, stride: int) -> int:
    if multiple_of is None:
        return stride
    if multiple_of < 1 or multiple_of % stride:
        raise ValueError(f"backbone.multiple_of={multiple_of}: must be a multiple of the network's stride {stride}.")
    return multiple_of


def _load(weights: str | PathLike[str]) -> tuple[Sizes, nn.Sequential]:
    checkpoint = read_checkpoint(weights)
    state = submodule(checkpoint, FFC_MARKER, REGULAR_MARKER)
    sizes = read_sizes(state)
    activation = checkpoint.config.get("add_out_act", "sigmoid")
    with torch.device("meta"):  # no time spent on initial values that the file replaces
        model = build(sizes, "sigmoid" if activation is True else str(activation))
    model = model.to_empty(device="cpu")
    load_strictly(model, {key.removeprefix("model."): value for key, value in state.items()}, checkpoint.source)
    return sizes, model


def _random(sizes: Sizes, seed: int, name: str) -> nn.Sequential:
    warnings.warn(
        f"backbone '{name}' has RANDOM weights (backbone.weights=random): fine for measuring time and memory, "
        "useless for filling images.",
        stacklevel=3,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(sizes)
