"""Any network, cut at named layers by YAML alone; nothing is taken apart.

    _target_: refine.backbones.replay.adapter.Replay
    network: {_target_: my_package.MyNetwork, width: 64}
    weights: my_weights.pt
    cut: trunk.3                  # or trunk#2 for the second call of trunk, or a list of such
    inputs: [image, hole]         # concatenated in this order
    image_range: [-1, 1]
    output_range: [-1, 1]
    multiple_of: 8

How it works is said in :mod:`refine.backbones.replay.record`. Of several cuts the first (in the order of the run)
gives its tensors as ``z``, each further one an offset to its own, zero at the start: z_k = f(z_(k-1)) + d_k.
"""

import copy
import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import Any

import torch
from torch import Tensor, nn

from refine.backbones.replay.cut_points import feature_names, fired, mask_names
from refine.backbones.replay.io_spec import Inputs, IOSpec
from refine.backbones.replay.network import user_network
from refine.backbones.replay.record import NeverReached, Recorder, Replayer
from refine.backbones.replay.trace import (
    CutPoint,
    Trace,
    no_inference,
    plain_attention,
    random_state,
    seed_random,
    set_random_state,
)
from refine.core.backbone import FrontRear
from refine.core.pyramid import padded_side
from refine.core.types import Features, Level
from refine.weights.checkpoint import hash_state

LARGE = 32  # px; at the smallest size a norm may see one pixel, and all of a layer may happen to be 0
LARGEST = 512  # px, up to which a size that the network takes is looked for
ELSEWHERE = "Cut elsewhere, or write an adapter (refine/backbones/aot_gan.py is a model)."


class Replay(FrontRear):
    """A network cut at named layers.

    It is tried on construction: it must run at the smallest size, cutting must not change what it says, and a gradient
    must reach every cut.

    Args:
        network: A module, or a callable that builds one (in YAML ``_target_``, with ``_partial_: true`` for a
            callable).
        cut: Layer whose output becomes ``z``: a submodule's dotted name, ``name#2`` for its second call. A list opens
            the network at several.
        weights: File of its weights; None if the network brings its own, ``random`` to try.
        inputs: What the network takes, in order: ``image`` (its hole filled), ``hole`` (mask, 1 = hole), ``known``
            (mask, 1 = known), ``ones``; a list of such for one tensor; or a constant: a number, bool or None as it is,
            a list of numbers as a tensor. A mapping gives them as keyword arguments, such as ``{sample: [image, hole],
            timestep: 0}``. None: image and hole.
        concatenate: Whether those named in a sequence go in as one tensor, by channels, before all constants; or each
            as an argument of its own.
        image_range: Range of the image the network takes.
        mask_range: Values of 0 and 1 in the network's masks.
        fill: Value of the hole in the image the network takes, in its own range; None leaves the image as it is.
        output: Index or key of the prediction in what the network returns, or a list of such, from outer to inner.
        output_range: Range of the prediction.
        native_size: Short side in px at which the pyramid starts.
        multiple_of: Sides must be multiples of this.
        minimum_side: Shortest side that the network takes, px.
        seed: Seed of a network that draws random numbers: the same in every run.
        name: Name of the backbone in messages.

    Raises:
        ValueError: If the network fails on what it is given, there is no such layer, it is not called, no gradient
            reaches it, cutting changes what the network says, or an argument is out of range.
        UnusableWeights: If the file does not fit.
    """

    output_settings = ("cut_points", "io_spec", "network", "seed")

    def __init__(
        self,
        network: nn.Module | Callable[[], nn.Module] | None,
        cut: str | Sequence[str] | None,
        weights: str | PathLike[str] | None = None,
        inputs: Inputs | None = None,
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
        self.network = user_network(network, weights, seed, name)
        self.weights_hash = hash_state({k: v for k, v in self.network.state_dict().items() if isinstance(v, Tensor)})
        self.io_spec = IOSpec(inputs, concatenate, image_range, mask_range, fill, output, output_range)
        self.native_size, self.multiple_of, self.minimum_side = native_size, multiple_of, minimum_side
        self.freeze()
        self.cut_points = self._checked_cut_points([cut] if isinstance(cut, str | int) else cut or [])
        self.layers = ()
        self._check_whole()
        self._try()

    def cuts_available(self) -> Iterator[tuple[str, FrontRear]]:
        """See :class:`FrontRear`. Calls at which the trial fails are left out."""
        probe = self._probe(0, LARGE)
        for cut_point in fired(self.network, lambda: self.whole(probe)):
            opened = copy.copy(self)
            opened.cut_points, opened.layers = (cut_point,), ()
            try:
                opened._try()
            except ValueError:
                continue
            yield str(cut_point), opened
        yield from self._cut_together(self.cut_points)

    def front(self, level: Level) -> Features:
        """See :class:`FrontRear`."""
        trace = self._record(level)
        return Features(trace.take(self.layers), trace)

    def rear(self, features: Features) -> Tensor:
        """See :class:`FrontRear`."""
        with no_inference(), plain_attention():
            return self.io_spec.prediction(Replayer(self.network, features.context, features.z, self.device).replay())

    def whole(self, level: Level) -> Tensor:
        """See :class:`FrontRear`."""
        return self.io_spec.prediction(self._raw_output(level))

    def _raw_output(self, level: Level) -> Any:
        """What the uncut network returns for a level."""
        args, kwargs = self.io_spec.arguments(level)
        with torch.no_grad(), plain_attention(), self._seeded():
            return self.network(*args, **kwargs)

    def _record(self, level: Level) -> Trace:
        with no_inference(), torch.no_grad(), plain_attention(), self._seeded():
            args, kwargs = self.io_spec.arguments(level)
            try:
                return Recorder(self.network, self.cut_points, self.device).record(*args, **kwargs)
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

    def _checked_cut_points(self, cuts: Sequence[str]) -> tuple[CutPoint, ...]:
        """The cut points meant, each layer by the first name it has."""
        names = {id(module): name for name, module in reversed(list(self.network.named_modules())) if name}
        layer_names = [name for name, _ in self.network.named_modules(remove_duplicate=False) if name]
        cut_points = []
        for cut_point in (CutPoint.parse(str(cut)) for cut in cuts):
            if cut_point.layer not in layer_names:
                near = difflib.get_close_matches(cut_point.layer, layer_names, n=3, cutoff=0.3) or layer_names[:3]
                raise ValueError(
                    f"backbone '{self.name}' has no layer '{cut_point.layer}' to cut at; nearest: {', '.join(near)}. "
                    "Set backbone.cut to one of its submodules."
                )
            cut_points.append(CutPoint(names[id(self.network.get_submodule(cut_point.layer))], cut_point.call))
        if not cut_points or len(set(cut_points)) < len(cut_points):
            raise ValueError(f"backbone.cut={list(cuts)}: expected one layer or several different ones.")
        return tuple(cut_points)

    # --- the trial on construction ---

    def _check_whole(self) -> None:
        """Run the network uncut at the smallest size, and say what it needs rather than what it stumbles over."""
        level = self._probe(0)
        side = level.size[0]
        try:
            self._raw_output(level)
        except Exception as error:
            self._check_mode(error)
            raise ValueError(
                f"the network of backbone '{self.name}' fails at {side}x{side} ({_first_line(error)}). "
                f"{self._way_out(side)}"
            ) from error
        whole = self.whole(level)
        if not whole.isfinite().all():
            raise ValueError(
                f"the network of backbone '{self.name}' gives values that are not finite, of noise at {side}x{side}. "
                "Check its weights, backbone.image_range and backbone.output_range."
            )
        self._check_mode()
        if whole.shape != level.image.shape:
            raise ValueError(
                f"backbone '{self.name}' answers {tuple(level.image.shape)} with {tuple(whole.shape)}; expected the "
                "same size. Set backbone.multiple_of and backbone.minimum_side to what the network needs."
            )

    def _check_mode(self, error: Exception | None = None) -> None:
        """Refuse a network that trains when it runs; ``error`` is what its run has ended in."""
        if any(module.training for module in self.network.modules()) or "when training" in str(error):
            raise ValueError(
                f"the network of backbone '{self.name}' runs in training mode, in which batch norms take the "
                "statistics of the images at hand and dropout draws. Take train() or training=True out of it."
            ) from error

    def _way_out(self, side: int) -> str:
        """What to change where the network fails at a size: the size, if it does not fail at a larger one."""
        for larger in (2**k for k in range(side.bit_length(), LARGEST.bit_length())):
            probe = self._probe(0, larger)
            try:
                self._raw_output(probe)
            except Exception:
                continue
            return f"It takes {probe.size[0]}x{probe.size[0]}: set backbone.minimum_side={probe.size[0]}."
        arguments = self.io_spec.described(self._probe(0))
        return f"It is called with {arguments}: set backbone.inputs and backbone.concatenate to what it takes."

    def _try(self) -> None:
        """Find the tensors at the cuts, and hold the two halves against the whole."""
        try:
            names, features, difference = self._halves()
            self.layers = self._reached(features, names)
        except (RuntimeError, TypeError) as error:
            raise ValueError(
                f"backbone '{self.name}' fails when it is cut at {self._cuts()} ({_first_line(error)}). {ELSEWHERE}"
            ) from error
        if not difference <= 1e-5:
            raise ValueError(
                f"backbone '{self.name}', cut at {self._cuts()}, differs from the whole network by {difference:.2g}: "
                f"it keeps something from one run to the next, or hands features past its submodules' outputs. "
                f"{ELSEWHERE}"
            )

    def _halves(self) -> tuple[dict[CutPoint, list[str]], Features, float]:
        """Names of the tensors at each cut, the features there, and how far the halves are from the whole."""
        level, second_level = self._probe(0, LARGE), self._probe(1, LARGE)
        trace, whole = self._record(level), self.whole(level)
        second = self._record(second_level)  # which also replaces what the network may keep from one run to the next
        masks = mask_names(trace.tensors) & mask_names(second.tensors)
        names = {cut_point: feature_names(tensors, masks) for cut_point, tensors in trace.tensors.items()}
        self.layers = tuple(name for cut_names in names.values() for name in cut_names)
        features = Features(trace.take(self.layers), trace)
        with torch.no_grad():
            difference = (self.rear(features) - whole).abs().max().item()
        return names, features, difference / max(1, whole.abs().max().item())

    def _cuts(self) -> str:
        return ", ".join(map(str, self.cut_points))

    def _probe(self, seed: int, side: int = 1) -> Level:
        """Noise with a hole, of the smallest size that the network takes and that is no smaller than ``side``."""
        side = padded_side(side, self.multiple_of, self.minimum_side)
        image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(seed))
        mask = torch.zeros(1, 1, side, side)
        mask[..., side // 4 : side // 4 + max(1, side // 2), side // 3 : side // 3 + max(1, side // 3)] = 1
        return Level(image.to(self.device, self.dtype), mask.to(self.device, self.dtype), (side, side))

    def _reached(self, features: Features, names: Mapping[CutPoint, Sequence[str]]) -> tuple[str, ...]:
        """Names of the tensors that the prediction depends on."""
        z = {name: tensor.clone().requires_grad_() for name, tensor in features.z.items()}
        with torch.enable_grad():
            prediction = self.rear(Features(z, features.context))
        gradients: Sequence[Tensor | None] = [None] * len(z)
        if prediction.requires_grad:
            gradients = torch.autograd.grad(prediction.square().sum(), list(z.values()), allow_unused=True)
        reached = {name for name, grad in zip(z, gradients, strict=True) if grad is not None and bool(grad.any())}
        for cut_point, cut_names in names.items():
            if reached.isdisjoint(cut_names):
                raise ValueError(
                    f"no gradient reaches layer '{cut_point}' of backbone '{self.name}': behind it the network "
                    "detaches its features, runs under no_grad, or does not use them. Cut at a later layer."
                )
        return tuple(name for name in z if name in reached)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
