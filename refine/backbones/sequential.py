"""Networks that are one sequence with a trunk of blocks, cut before one of the blocks or before several.

Of several cuts the first gives its tensors as ``z``, each further one an offset to its own, zero at the start:
z_k = f(z_(k-1)) + d_k. With one cut the tensors have the names of :meth:`SequentialBackbone.parts`, with several
``<name>.<cut>``.
"""

import copy
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from refine.backbones.build import laid_out
from refine.core.backbone import FrontRear
from refine.core.types import Features, Level


class SequentialBackbone(FrontRear):
    """A sequence whose blocks have outputs of one shape.

    Attributes:
        cuts: The network is opened before these blocks, in rising order.
        first_block: Index of block 0 in :attr:`sequence`.
        sizes: Architecture of the network, with ``blocks``, their number.
        channels_last: Feature maps in channels-last format on a CPU, and on CUDA in half precision: convolutions there
            want it, and would change each input and output.
    """

    cuts: tuple[int, ...]
    first_block: int
    sizes: Any
    channels_last: bool = False
    output_settings: tuple[str, ...] = ("cuts", "sizes", "channels_last")
    _stages: tuple[Any, tuple[nn.Sequential, ...]] | None = None  # and the modules and ends they were made of

    @property
    @abstractmethod
    def sequence(self) -> nn.Sequential:
        """The network as one sequence."""

    @abstractmethod
    def enter(self, level: Level) -> Tensor:
        """What the network sees of a level, in its own range."""

    def leave(self, output: Tensor) -> Tensor:
        """The prediction, from the network's own range to the nominal one."""
        return output

    def parts(self, x: Any) -> dict[str, Tensor]:
        """What flows through the trunk, by name."""
        return {"features": x}

    def join(self, parts: Mapping[str, Tensor]) -> Any:
        """The inverse of :meth:`parts`."""
        return parts["features"]

    def cuts_available(self) -> Iterator[tuple[str, FrontRear]]:
        """See :class:`FrontRear`."""
        several = len(self.cuts) > 1
        parts = dict.fromkeys(name.rpartition(".")[0] if several else name for name in self.layers)
        for cut in range(self.sizes.blocks + 1):
            opened = copy.copy(self)
            opened.cuts = (cut,)
            opened.layers = opened._layers(*parts)
            yield str(cut), opened
        yield from self._cut_together(self.cuts)

    def front(self, level: Level) -> Features:
        """See :class:`FrontRear`."""
        first, *others = self.cuts
        trunk = self.sequence[self.first_block : self.first_block + first]
        parts = self.parts(trunk(self.stem(self._laid_out(self.enter(level)))))
        z = {self._name(name, first): tensor for name, tensor in parts.items()}
        offsets = {self._name(name, cut): torch.zeros_like(x) for cut in others for name, x in parts.items()}
        return Features(z | offsets)

    def rear(self, features: Features) -> Tensor:
        """See :class:`FrontRear`."""
        x: Any = None
        *trunk, _ = self.stages
        for cut, stage in zip(self.cuts, trunk, strict=True):
            x = stage(self._moved(x, features, cut))
        return self.leave(self.head(x))

    def stem(self, x: Tensor) -> Any:
        """The layers before the trunk."""
        return self.sequence[: self.first_block](x)

    def head(self, x: Any) -> Tensor:
        """The layers after the trunk."""
        return self.stages[-1](x)  # type: ignore[no-any-return]

    @property
    def stages(self) -> tuple[nn.Sequential, ...]:
        """What :meth:`rear` runs: the trunk from each cut to the next, or to its end, and what follows the trunk.

        The same objects from call to call, so that they can be checkpointed, until the network or its cuts change.
        """
        modules = tuple(self.sequence)
        ends = (*(self.first_block + cut for cut in (*self.cuts, self.sizes.blocks)), len(modules))
        if self._stages is None or self._stages[0] != (modules, ends):
            self._stages = (modules, ends), tuple(nn.Sequential(*modules[a:b]) for a, b in pairwise(ends))
        return self._stages[1]

    def whole(self, level: Level) -> Tensor:
        """See :class:`FrontRear`."""
        return self.leave(self.sequence(self._laid_out(self.enter(level))))

    def _moved(self, x: Any, features: Features, cut: int) -> Any:
        """What enters the block at a cut."""
        ending = f".{cut}" if len(self.cuts) > 1 else ""
        z = {k.removesuffix(ending): self._laid_out(v) for k, v in features.z.items() if k.endswith(ending)}
        if x is not None:
            z = {name: tensor + z[name] for name, tensor in self.parts(x).items()}
        return self.join(z)

    def _laid_out(self, x: Tensor) -> Tensor:
        return laid_out(x, self.channels_last)

    def _name(self, part: str, cut: int) -> str:
        return f"{part}.{cut}" if len(self.cuts) > 1 else part

    def _layers(self, *parts: str) -> tuple[str, ...]:
        return tuple(self._name(part, cut) for cut in self.cuts for part in parts)


def checked_cuts(cut: int | Sequence[int], blocks: int) -> tuple[int, ...]:
    """The cuts in rising order.

    Args:
        cut: One or several.
        blocks: Number of blocks of the trunk.

    Raises:
        ValueError: If there are none, or one is not between 0 and ``blocks``, or one is there twice.
    """
    cuts = [cut] if isinstance(cut, int) or not isinstance(cut, Sequence) else list(cut)
    fit = all(isinstance(index, int) and not isinstance(index, bool) and 0 <= index <= blocks for index in cuts)
    if not cuts or not fit or len(set(cuts)) < len(cuts):
        raise ValueError(
            f"backbone.cut={cut!r}: this network has {blocks} residual blocks; set backbone.cut to 0 "
            f"(before the first) ... {blocks} (after the last), or to a list of different ones."
        )
    return tuple(sorted(cuts))
