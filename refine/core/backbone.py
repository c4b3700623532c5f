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
from typing import Any, Self

import torch
from torch import Tensor, nn

from refine.core.fingerprint import arguments, plain, qualified_name
from refine.core.pyramid import make_level
from refine.core.sources import sources
from refine.core.types import Features, Level, Sample


class FrontRear(nn.Module, ABC):
    """A trained inpainting network, frozen and in eval mode, opened at a feature map.

    A subclass builds its network, sets the attributes and ends its ``__init__`` with :meth:`freeze`.

    Attributes:
        layers: Names of the tensors at the cut that may be optimized: the keys of ``front(...).z``.
        multiple_of: Divisor of the sides of a level, px.
        minimum_side: Least side of a level, px.
        native_size: Short side in px at which the pyramid starts.
        weights_hash: Hash of the weights, by which finished results are recognized.
        output_settings: Names of the attributes that change the prediction, for :meth:`fingerprint`. A class with an
            ``__init__`` of its own that does not name them has all arguments of its constructor recorded.
        name: Name in messages; that of its class if empty.
        strips: Whether layers at full size run in strips, see :meth:`stripped`.
        fills_parts: Whether a part of a photo can be filled by itself, as windows do; False where what it is told in
            ``conditions`` lies in files of the whole photo.
    """

    output_settings: tuple[str, ...] = ()
    layers: tuple[str, ...]
    multiple_of: int
    native_size: int
    minimum_side: int = 1
    weights_hash: str = ""
    name: str = ""
    fills_parts: bool = True
    strips: bool = False
    _arguments: Mapping[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Note the arguments of the constructor; see :meth:`fingerprint`."""
        self = super().__new__(cls)
        object.__setattr__(self, "_arguments", arguments(cls, *args, **kwargs))
        return self

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

    def fingerprint(self) -> dict[str, Any]:
        """What decides the prediction, as plain values for JSON: backbones that agree in it predict the same.

        Returns:
            ``class``, qualified; ``source``, SHA-256 by module of the adapter's and its network's code, torch's
            excepted, and of a user's modules that it imports; ``weights``, their hash; ``settings``, the attributes in
            ``output_settings`` or the arguments of the constructor, and what the pyramid needs to know.

        Raises:
            ValueError: If ``weights_hash`` is empty.
        """
        if not self.weights_hash:
            raise ValueError(
                f"backbone '{self.name or type(self).__name__}' has an empty weights_hash, so that finished results "
                "cannot be told from those of other weights. Set self.weights_hash = hash_state(self.state_dict()) at "
                "the end of its __init__ (from refine.weights import hash_state)."
            )
        classes = {kind for module in self.modules() for kind in type(module).__mro__ if kind not in FrontRear.__mro__}
        code = [kind for kind in classes if kind.__module__.partition(".")[0] not in ("torch", "builtins")]
        return {
            "class": qualified_name(type(self)),
            "source": sources(code),
            "weights": self.weights_hash,
            "settings": self._settings(),
        }

    def _settings(self) -> dict[str, Any]:
        lineage = type(self).__mro__
        constructed = next(kind for kind in lineage if "__init__" in vars(kind))
        declared = next(kind for kind in lineage if "output_settings" in vars(kind))
        names = ("native_size", "multiple_of", "minimum_side", *self.output_settings)
        settings = {name: plain(getattr(self, name)) for name in names}
        if issubclass(declared, constructed):
            return settings
        return {name: value for name, value in self._arguments.items() if name not in ("weights", "name")} | settings

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """Modules of the rear, none within another, of which ``refiner.gradient_checkpointing`` keeps the inputs alone.

        Worth naming where what a block keeps for its gradient outweighs its inputs, as in attention or group norm
        under the rules of :mod:`refine.autograd.selective`; a block must not overwrite its input. None: the rear as a
        whole.
        """
        return ()

    def stripped(self) -> "FrontRear | None":
        """This network with its layers at full size run in strips: the same prediction and gradient in less memory.

        Returns:
            A copy that shares the weights; None where nobody has said how to do that.
        """
        return None

    def checked_layers(self, names: Sequence[str] | str | None, needed: bool) -> tuple[str, ...]:
        """The names of ``refiner.optimize`` as layers of this network.

        Args:
            names: Some of ``layers``; None for all of them.
            needed: Whether there must be at least one.

        Raises:
            ValueError: If there is no such layer, or none at all.
        """
        selected = self.layers if names is None else (names,) if isinstance(names, str) else tuple(names)
        name, available = self.name or type(self).__name__, ", ".join(self.layers) or "none"
        for layer in selected:
            if layer not in self.layers:
                raise ValueError(
                    f"backbone '{name}' has no layer '{layer}'; it exposes: {available}. "
                    "Set refiner.optimize to some of these."
                )
        if needed and not selected:
            raise ValueError(
                f"backbone '{name}' is given nothing to optimize; it exposes: {available}. Use preset=plain, or set "
                "refiner.optimize to some of these."
            )
        return selected

    def cuts_available(self) -> "Iterator[tuple[str, FrontRear]]":
        """The places at which this network can be cut, for ``refine layers``.

        Yields:
            The place as one gives it to ``backbone.cut``, and this network, its weights shared, cut there alone; in
            the order of the run. Then, if it is cut at several places now, all of them at once. Where a subclass does
            not say: as it is cut now.
        """
        if self.layers:
            yield "(as it is)", self

    def _cut_together(self, cuts: Sequence[Any]) -> "Iterator[tuple[str, FrontRear]]":
        """The end of :meth:`cuts_available`: all places of now at once, if there are several."""
        if len(cuts) > 1:
            yield f"[{','.join(map(str, cuts))}]", self

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

    def level_of(self, sample: Sample, padding: str = "symmetric") -> Level:
        """A sample as one level: padded for the network, with the conditions it makes for it.

        Args:
            sample: Image and mask; its key seeds what is random.
            padding: Kind of padding, see :func:`refine.core.pyramid.pad`.
        """
        level = make_level(sample.image, sample.mask, self.multiple_of, self.minimum_side, padding)
        return replace(level, conditions=self.conditions(sample, [level])[0])

    def whole(self, level: Level) -> Tensor:
        """The network run uncut, for the contract to compare with; a subclass that can do so overrides this.

        Args:
            level: Image ``(B, 3, h, w)`` and mask ``(B, 1, h, w)``, padded.

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
        if conditions is None:
            level = self.level_of(Sample("", image, mask))
        else:
            level = replace(make_level(image, mask, self.multiple_of, self.minimum_side), conditions=conditions)
        return level.crop(self.rear(self.front(level)))

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
