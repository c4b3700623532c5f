"""What a network did up to a cut: enough to run it again from there."""

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from refine.backbones.replay.tree import Tensors, mapped

RandomState = tuple[Tensor, ...]


@dataclass(frozen=True)
class CutPoint:
    """A layer, and which of its calls within one run is meant.

    Attributes:
        layer: Dotted name of a submodule.
        call: 1 for the first.
    """

    layer: str
    call: int = 1

    @staticmethod
    def parse(text: str) -> "CutPoint":
        """Read ``name`` or ``name#2``.

        Raises:
            ValueError: If what follows ``#`` is no number from 1 on.
        """
        layer, marker, call = text.partition("#")
        if marker and not (call.isdecimal() and int(call)):
            raise ValueError(f"cut '{text}': expected <layer> or <layer>#<call>, calls counted from 1.")
        return CutPoint(layer, int(call or 1))

    def __str__(self) -> str:
        return self.layer if self.call == 1 else f"{self.layer}#{self.call}"


@dataclass
class Call:
    """One submodule call before the cut.

    Attributes:
        name: Name of the submodule.
        parent: Index of the enclosing call that runs again; -1 for the network itself.
        sequential: Whether that is an ``nn.Sequential``, which hands an output to the next child alone.
        kind: ``again`` if replay runs it, ``kept`` if its output is kept, ``cut`` at the layer that is cut.
        output: What it returned, where it is not run again.
        aliased: It changed or handed on one of its inputs.
        random: State of the random generators behind it, if it drew from them.
        counts: How often each layer of interest had been called behind it.
    """

    name: str
    parent: int
    sequential: bool
    kind: str = "again"
    output: Any = None
    aliased: bool = False
    random: RandomState | None = None
    counts: Counter[str] = field(default_factory=Counter)


@dataclass
class Trace:
    """What replay needs besides ``z``.

    Attributes:
        calls: Calls in the order in which replay meets them; the last is the cut.
        random: State of the random generators at the start.
        inputs: Arguments of the network.
        tensors: The tensors at each cut in the order in which they are reached, by name.
    """

    random: RandomState
    inputs: tuple[tuple[Any, ...], dict[str, Any]]
    calls: list[Call] = field(default_factory=list)
    tensors: dict[CutPoint, Tensors] = field(default_factory=dict)

    def take(self, layers: Collection[str]) -> Tensors:
        """Take ``z`` out: the tensors at the first cut, and at the others zeros, to be added there.

        Args:
            layers: Names to take.
        """
        first, *further = self.tensors.values()
        tensors = first | {name: torch.zeros_like(tensor) for named in further for name, tensor in named.items()}
        z = {name: tensors[name] for name in layers}
        if self.calls and self.calls[-1].kind == "cut":
            self.calls[-1].output = mapped(
                self.calls[-1].output,
                lambda name, tensor: placeholder(tensor) if name in z else tensor,
                str(next(iter(self.tensors))),
            )
        self.tensors = {cut_point: {} for cut_point in self.tensors}
        return z


def placeholder(tensor: Tensor) -> Tensor:
    """Of the same shape, without its memory."""
    return tensor.new_zeros(()).expand(tensor.shape)


def random_state(device: torch.device) -> RandomState:
    """State of the random generators that code on a device draws from."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    elif device.type == "mps":
        states.append(torch.mps.get_rng_state())
    return tuple(states)


def set_random_state(device: torch.device, states: RandomState) -> None:
    """Set what :func:`random_state` gave."""
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
    elif device.type == "mps":
        torch.mps.set_rng_state(states[1])


def seed_random(device: torch.device, seed: int) -> None:
    """Seed the generators that :func:`random_state` looks at, and no others."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


@contextmanager
def plain_attention() -> Iterator[None]:
    """Leave the fast path of attention, which without gradients runs past a transformer's submodules."""
    before = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def no_inference() -> Iterator[None]:
    """Leave inference mode, whose tensors neither count their changes nor take part in differentiation."""
    if not torch.is_inference_mode_enabled():
        yield
        return
    with torch.inference_mode(False), torch.no_grad():
        yield
