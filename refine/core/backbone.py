"""The contract of a backbone: ``net = rear ∘ front``, always, for every input.

*Front* turns image and mask into the feature map ``z`` at the cut; *rear* turns ``z`` into the prediction. Both are
pure: the same input gives the same output, whatever was called before, and nothing is kept on the adapter between the
two. Only the adapter knows its network's own range, mask polarity and fill; outside, the conventions of
:mod:`refine.core.types` hold.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain

import torch
from torch import Tensor, nn

from refine.core.pyramid import make_level
from refine.core.types import Features, Level, Sample


class FrontRear(nn.Module, ABC):
    """A trained inpainting network, frozen and in eval mode, opened at a feature map.

    A subclass builds its network, sets the attributes and ends its ``__init__`` with :meth:`freeze`.

    Attributes:
        layers: Names of the tensors at the cut that may be optimized: the keys of ``front(...).z``.
        multiple_of: Sides of a level must be multiples of this many px.
        minimum_side: And at least this long, px.
        native_size: Short side in px at which the pyramid starts.
        weights_hash: Hash of the weights, by which finished results are recognized.
        name: As messages call it; that of its class if empty.
    """

    layers: tuple[str, ...]
    multiple_of: int
    native_size: int
    minimum_side: int = 1
    weights_hash: str = ""
    name: str = ""

    def freeze(self) -> None:
        """Put the network in eval mode and take its parameters out of differentiation."""
        self.eval()
        self.requires_grad_(False)

    def train(self, mode: bool = True) -> "FrontRear":
        """Stay in eval mode: the weights are frozen, and batch statistics would tie the images of a batch together."""
        return super().train(False)

    def conditions(self, sample: Sample, levels: Sequence[Level]) -> list[Mapping[str, Tensor]]:
        """Extra inputs of the network (edge maps, noise, latents), made once per sample.

        Args:
            sample: The image at full size; its key seeds what is random.
            levels: The padded levels, coarse to fine.

        Returns:
            One mapping per level, given to the front as ``level.conditions``.
        """
        return [{} for _ in levels]

    def fingerprint(self) -> dict[str, str]:
        """STUB."""
        return {"weights": self.weights_hash}

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """Modules of the rear, none within another, of which ``refiner.checkpoint`` keeps the inputs alone.

        Worth naming where what a block keeps for its gradient outweighs its inputs, as in attention or group norm
        under the rules of :mod:`refine.autograd.selective`; a block must not overwrite its input. None: the rear as a
        whole.
        """
        return ()

    def cuts_available(self) -> "Iterator[tuple[str, FrontRear]]":
        """The places at which this network can be cut, for ``refine layers``.

        Yields:
            The place as one gives it to ``backbone.cut``, and this network, its weights shared, cut there alone; in
            the order of the run. Where a subclass does not say: as it is cut now.
        """
        if self.layers:
            yield "(as it is)", self

    @abstractmethod
    def front(self, level: Level) -> Features:
        """Run the network up to the cut.

        Args:
            level: Image ``(B, 3, h, w)`` and mask ``(B, 1, h, w)``, sides multiples of ``multiple_of``.

        Returns:
            The tensors at the cut, ``z`` by layer name, and the context the rear needs.
        """

    @abstractmethod
    def rear(self, features: Features) -> Tensor:
        """Run the network from the cut on.

        Args:
            features: What :meth:`front` gave, ``z`` possibly replaced; it is not modified.

        Returns:
            Raw prediction ``(B, 3, h, w)`` on the nominal [0, 1] scale: unclamped, uncomposited.
        """

    def whole(self, level: Level) -> Tensor:
        """The network run uncut, for the contract to compare with; a subclass that can do so overrides this.

        Args:
            level: As for :meth:`front`.

        Returns:
            As :meth:`rear`.
        """
        return self.rear(self.front(level))

    def forward(self, image: Tensor, mask: Tensor, conditions: Mapping[str, Tensor] | None = None) -> Tensor:
        """The plain prediction, the network as it is: ``rear(front(...))``.

        Args:
            image: ``(B, 3, H, W)`` RGB in [0, 1], any size; padded for the network and cropped again.
            mask: ``(B, 1, H, W)``, 1 = hole.
            conditions: Extra inputs for this one level, if the network has any.

        Returns:
            Raw prediction ``(B, 3, H, W)``.
        """
        level = make_level(image, mask, self.multiple_of, self.minimum_side)
        if conditions is None:
            conditions = self.conditions(Sample("", image, mask), [level])[0]
        return level.crop(self.rear(self.front(replace(level, conditions=conditions))))

    @property
    def device(self) -> torch.device:
        """Where the network lies; the CPU if it has no weights."""
        return next((tensor.device for tensor in self._tensors()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """The precision of its weights; float32 if it has none."""
        return next((tensor.dtype for tensor in self._tensors() if tensor.is_floating_point()), torch.float32)

    def _tensors(self) -> Iterator[Tensor]:
        return chain(self.parameters(), self.buffers())
