"""Any network, cut at named layers by YAML alone; nothing is taken apart.

    _target_: refine.adapters.replay.Replay
    network: {_target_: my_package.MyNetwork, width: 64}
    weights: my_weights.pt
    cut: trunk.3                  # or trunk#2 for the second call of trunk, or a list of such
    inputs: [image, hole]         # concatenated in this order
    image_range: [-1, 1]
    output_range: [-1, 1]
    multiple_of: 8

How it works is said in :mod:`refine.adapters.recording`. Of several cuts the first (in the order of the run) gives its
tensors as ``z``, each further one an offset to its own, zero at the start: z_k = f(z_(k-1)) + d_k.
"""

import copy
import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import Any

import torch
from torch import Tensor, nn

from refine.adapters.base import FrontRear, random_weights
from refine.adapters.interface import Interface
from refine.adapters.memo import Memo, Place, random_state, seed_random, set_random_state
from refine.adapters.places import fired
from refine.adapters.recording import NeverReached, Recorder, Replayer
from refine.pyramid import padded_side
from refine.types import Features, Level
from refine.weights import hash_state, load_strictly, read_checkpoint, submodule


class Replay(FrontRear):
    """A network cut at named layers.

    It is tried on construction, at the smallest size: cutting must not change what it says, and a gradient must reach
    every cut.

    Args:
        network: A module, or a callable that builds one (in YAML ``_target_``, with ``_partial_: true`` for a
            callable).
        cut: Layer whose output becomes ``z``: a submodule's dotted name, ``name#2`` for its second call. A list opens
            the network at several.
        weights: Any file :mod:`refine.weights` reads; None if the network brings its own, ``random`` to try.
        inputs: What the network takes, in order: ``image`` (its hole filled), ``hole`` (mask, 1 = hole), ``known``
            (mask, 1 = known), ``ones``. A mapping gives them as keyword arguments.
        concatenate: Whether they go in as one tensor, by channels, or as separate arguments.
        image_range: Range of the image the network takes.
        mask_range: Likewise of the masks.
        fill: Value of the hole in the image the network takes, in its own range; None leaves the image as it is.
        output: Index or key of the prediction in what the network returns, or a list of such, from outer to inner.
        output_range: Range of the prediction.
        native_size: Short side in px at which the pyramid starts.
        multiple_of: Sides must be multiples of this.
        minimum_side: And at least this, px.
        seed: Of a network that draws random numbers: the same in every run.
        name: Of the backbone, for messages.

    Raises:
        ValueError: If there is no such layer, it is not called, no gradient reaches it, cutting changes what the
            network says, or an argument is out of range.
        UnusableWeights: If the file does not fit.
    """

    def __init__(
        self,
        network: nn.Module | Callable[[], nn.Module] | None,
        cut: str | Sequence[str] | None,
        weights: str | PathLike[str] | None = None,
        inputs: Sequence[str] | Mapping[str, str] = ("image", "hole"),
        concatenate: bool = True,
        image_range: Sequence[float] = (0, 1),
        mask_range: Sequence[float] = (0, 1),
        fill: float | None = 0,
        output: str | int | Sequence[str | int] | None = None,
        output_range: Sequence[float] = (0, 1),
        native_size: int = 512,
        multiple_of: int = 1,
        minimum_side: int = 1,
        seed: int = 0,
        name: str = "replay",
    ) -> None:
        super().__init__()
        self.name, self.seed = name, seed
        self.network = _network(network, weights, seed, name)
        self.weights_hash = hash_state({k: v for k, v in self.network.state_dict().items() if isinstance(v, Tensor)})
        self.interface = Interface(inputs, concatenate, image_range, mask_range, fill, output, output_range)
        self.native_size, self.multiple_of, self.minimum_side = native_size, multiple_of, minimum_side
        self.freeze()
        self.places = self._checked_places([cut] if isinstance(cut, str | int) else cut or [])
        self.layers = ()
        self._try()

    def cuts_available(self) -> Iterator[tuple[str, FrontRear]]:
        """See :class:`FrontRear`. Calls at which the trial fails are left out."""
        probe = self._probe(0)
        for place in fired(self.network, lambda: self.whole(probe)):
            opened = copy.copy(self)
            opened.places, opened.layers = (place,), ()
            try:
                opened._try()
            except (ValueError, RuntimeError):
                continue
            yield str(place), opened

    def front(self, level: Level) -> Features:
        """See :class:`FrontRear`."""
        memo = self._record(level)
        return Features(memo.take(self.layers), memo)

    def rear(self, features: Features) -> Tensor:
        """See :class:`FrontRear`."""
        with _no_inference():
            return self.interface.prediction(Replayer(self.network, features.context, features.z, self.device).replay())

    def whole(self, level: Level) -> Tensor:
        """See :class:`FrontRear`."""
        args, kwargs = self.interface.arguments(level)
        with torch.no_grad(), self._seeded():
            return self.interface.prediction(self.network(*args, **kwargs))

    def _record(self, level: Level) -> Memo:
        with _no_inference(), torch.no_grad(), self._seeded():
            args, kwargs = self.interface.arguments(level)
            try:
                return Recorder(self.network, self.places, self.device).record(*args, **kwargs)
            except NeverReached as error:
                raise ValueError(
                    f"backbone '{self.name}' never comes to its cut: {error} in one run at "
                    f"{level.image.shape[-1]}x{level.image.shape[-2]}. Set backbone.cut to a layer, or a call of it, "
                    "that takes part in every prediction."
                ) from None

    @contextmanager
    def _seeded(self) -> Iterator[None]:
        before = random_state(self.device)
        try:
            seed_random(self.device, self.seed)
            yield
        finally:
            set_random_state(self.device, before)

    def _checked_places(self, cuts: Sequence[str]) -> tuple[Place, ...]:
        """The places meant, each layer by the first name it has."""
        names = {id(module): name for name, module in reversed(list(self.network.named_modules())) if name}
        known = [name for name, _ in self.network.named_modules(remove_duplicate=False) if name]
        places = []
        for place in (Place.parse(str(cut)) for cut in cuts):
            if place.layer not in known:
                near = difflib.get_close_matches(place.layer, known, n=3, cutoff=0.3) or known[:3]
                raise ValueError(
                    f"backbone '{self.name}' has no layer '{place.layer}' to cut at; nearest: {', '.join(near)}. "
                    "Set backbone.cut to one of its submodules."
                )
            places.append(Place(names[id(self.network.get_submodule(place.layer))], place.call))
        if not places or len(set(places)) < len(places):
            raise ValueError(f"backbone.cut={list(cuts)}: expected one layer or several different ones.")
        return tuple(places)

    # --- the trial on construction ---

    def _try(self) -> None:
        """Find the tensors at the cuts, and hold the two halves against the whole."""
        level, other = self._probe(0), self._probe(1)
        tensors = self._record(level).tensors
        names = {place: [n for n, t in found.items() if t.is_floating_point()] for place, found in tensors.items()}
        self.layers = tuple(name for found in names.values() for name in found)
        features, whole = self.front(level), self.whole(level)
        self.front(other)
        with torch.no_grad():
            difference = (self.rear(features) - whole).abs().max().item()
        if whole.shape != level.image.shape:
            raise ValueError(
                f"backbone '{self.name}' answers {tuple(level.image.shape)} with {tuple(whole.shape)}; expected the "
                "same size. Set backbone.multiple_of and backbone.minimum_side to what the network needs."
            )
        if not difference <= 1e-5 * max(1, whole.abs().max().item()):
            raise ValueError(
                f"backbone '{self.name}', cut at {', '.join(map(str, self.places))}, differs from the whole network by "
                f"{difference:.2g}: it keeps something from one run to the next, or hands features past its "
                "submodules' outputs. Cut elsewhere, or write an adapter (refine/adapters/lama.py is a model)."
            )
        self.layers = self._reached(features, names)

    def _probe(self, seed: int) -> Level:
        side = padded_side(1, self.multiple_of, self.minimum_side)
        image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(seed))
        mask = torch.zeros(1, 1, side, side)
        mask[..., side // 4 : side // 4 + max(1, side // 2), side // 3 : side // 3 + max(1, side // 3)] = 1
        return Level(image.to(self.device, self.dtype), mask.to(self.device, self.dtype), (side, side))

    def _reached(self, features: Features, names: Mapping[Place, Sequence[str]]) -> tuple[str, ...]:
        """Names of the tensors that the prediction depends on."""
        z = {name: tensor.clone().requires_grad_() for name, tensor in features.z.items()}
        with torch.enable_grad():
            prediction = self.rear(Features(z, features.context))
        gradients: Sequence[Tensor | None] = [None] * len(z)
        if prediction.requires_grad:
            gradients = torch.autograd.grad(prediction.square().sum(), list(z.values()), allow_unused=True)
        reached = {name for name, grad in zip(z, gradients, strict=True) if grad is not None and bool(grad.any())}
        for place, found in names.items():
            if reached.isdisjoint(found):
                raise ValueError(
                    f"no gradient reaches layer '{place}' of backbone '{self.name}': behind it the network detaches "
                    "its features, runs under no_grad, or does not use them. Set backbone.cut to a layer further on."
                )
        return tuple(name for name in z if name in reached)


def _network(network: Any, weights: str | PathLike[str] | None, seed: int, name: str) -> nn.Module:
    if network is None:
        raise ValueError(f"backbone '{name}' needs a network: set backbone.network to a _target_ that makes it.")

    def build() -> nn.Module:
        made = network if isinstance(network, nn.Module) else network()
        if not isinstance(made, nn.Module):
            raise ValueError(f"backbone '{name}': network made a {type(made).__name__}; expected a torch.nn.Module.")
        return made

    def drawn() -> nn.Module:
        made = build()
        for module in made.modules():  # the network may have been made before its seed was set
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
        return made

    if str(weights) == "random":
        return random_weights(drawn, seed, name)
    made = build()
    if weights is not None:
        checkpoint = read_checkpoint(weights)
        load_strictly(made, submodule(checkpoint, next(iter(made.state_dict()))), checkpoint.source)
    return made


@contextmanager
def _no_inference() -> Iterator[None]:
    """Leave inference mode, whose tensors neither count their changes nor take part in differentiation."""
    if not torch.is_inference_mode_enabled():
        yield
        return
    with torch.inference_mode(False), torch.no_grad():
        yield
