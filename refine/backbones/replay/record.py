"""Cutting any network at named layers, by replay.

*Record*: run the network up to the named layer and keep what the outermost submodule calls before it returned.
*Replay*: run the network again with those calls answered from memory and the named layer answering with ``z``;
everything behind it runs as ever. Python control flow, skips and nested structures come along by themselves, because
the network's own code runs both times. All that is kept lies in the
:class:`refine.backbones.replay.trace.Trace`, nothing on the network.

Not memorized but run again, and exact all the same: code outside of submodules, and calls that change one of their
inputs in place or hand it on, as ``ReLU(inplace=True)`` and ``Identity`` do.
"""

import functools
import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from refine.autograd.patching import replaced
from refine.backbones.replay.trace import Call, CutPoint, Trace, placeholder, random_state, set_random_state
from refine.backbones.replay.tree import cloned, mapped, named_tensors

_LOCK = threading.RLock()  # while a network replays, its modules' forward is ours


class NeverReached(ValueError):
    """The network ran without calling a layer at which it was to be cut."""


class _Reached(BaseException):
    """Ends a run at the last cut; no code of the network should catch it."""


class _Run:
    """What recording and replaying have in common: they stand in for each submodule's ``forward``."""

    def __init__(self, network: nn.Module, places: Collection[CutPoint]) -> None:
        self.network = network
        self.places = {(place.layer, place.call): place for place in places}
        self.layers = {place.layer for place in places}
        parts = [place.layer.split(".") for place in places]
        self.ancestors = {".".join(names[:depth]) for names in parts for depth in range(1, len(names))}
        self.counts: Counter[str] = Counter()
        self.opaque = False  # within a call whose own submodules are none of our business

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with _LOCK, _standing_in(self.network, self._call):
            return self.network(*args, **kwargs)

    def _call(self, name: str, forward: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    def _arriving(self, name: str) -> CutPoint | None:
        if name in self.layers:
            self.counts[name] += 1
        return self.places.get((name, self.counts[name]))

    def _run(self, name: str, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.opaque = name not in self.ancestors
        try:
            return forward(*args, **kwargs)
        finally:
            self.opaque = False


class Recorder(_Run):
    """Runs a network up to the last of several places; ``memo`` is what comes of it.

    Args:
        network: To run.
        places: Where it is to be cut, in any order.
        device: Of the network, for its random generators.
    """

    def __init__(self, network: nn.Module, places: Collection[CutPoint], device: torch.device) -> None:
        super().__init__(network, places)
        self.device = device
        self.memo = Trace(random_state(device), ((), {}))
        self.open = [-1]

    def record(self, *args: Any, **kwargs: Any) -> Trace:
        """Run the network.

        Raises:
            NeverReached: If it ends before all places were reached.
        """
        self.memo.inputs = cloned((args, kwargs))
        try:
            self(*args, **kwargs)
        except _Reached:
            _forget_unneeded(self.memo.calls)
            return self.memo
        missing = [place for place in self.places.values() if place not in self.memo.tensors]
        raise NeverReached(
            "; ".join(f"layer '{place.layer}' is called {self.counts[place.layer]} times" for place in missing)
        )

    def _call(self, name: str, forward: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        place = self._arriving(name)
        if self.memo.tensors or self.opaque:
            output = forward(*args, **kwargs)
        else:
            output = self._recorded(name, place, forward, *args, **kwargs)
        if place is not None:
            at_cut = bool(calls := self.memo.calls) and calls[-1].kind == "cut" and not self.memo.tensors
            kept = calls[-1].output if at_cut else cloned(output)
            self.memo.tensors[place] = named_tensors(kept, str(place))
            if len(self.memo.tensors) == len(self.places):
                raise _Reached
        return output

    def _recorded(
        self, name: str, place: CutPoint | None, forward: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        calls, index = self.memo.calls, len(self.memo.calls)
        parent = self.network if self.open[-1] < 0 else self.network.get_submodule(calls[self.open[-1]].name)
        call = Call(name, self.open[-1], type(parent).forward is nn.Sequential.forward)
        calls.append(call)
        inputs = list(named_tensors([args, kwargs]).values())
        versions, random = [tensor._version for tensor in inputs], random_state(self.device)
        self.open.append(index)
        try:
            output = self._run(name, forward, *args, **kwargs)
        finally:
            self.open.pop()
        if self.memo.tensors:  # the cut lies within
            return output
        changed = versions != [tensor._version for tensor in inputs]
        call.aliased = changed or not _memory(inputs).isdisjoint(_memory(named_tensors(output).values()))
        if place is None and call.aliased:
            return output
        call.kind = "kept" if place is None else "cut"
        call.output = cloned(output)
        after = random_state(self.device)
        call.random = after if any(map(_differ, random, after)) else None
        call.counts = self.counts.copy()
        del calls[index + 1 :]
        return output


class Replayer(_Run):
    """Runs a network from the first cut on.

    Args:
        network: That was recorded.
        memo: Of that run; not modified.
        z: By name: the tensors at the first cut, offsets to those at the others. Names left out are as recorded.
        device: Of the network, for its random generators.
    """

    def __init__(self, network: nn.Module, memo: Trace, z: Mapping[str, Tensor], device: torch.device) -> None:
        super().__init__(network, memo.tensors)
        self.memo, self.z, self.device = memo, z, device
        self.first = next(iter(memo.tensors))
        self.position = 0

    def replay(self) -> Any:
        """Run the network; the random generators draw what they drew in the run that was recorded."""
        before = random_state(self.device)
        args, kwargs = cloned(self.memo.inputs)
        try:
            set_random_state(self.device, self.memo.random)
            return self(*args, **kwargs)
        finally:
            set_random_state(self.device, before)

    def _call(self, name: str, forward: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        place = self._arriving(name)
        if not self.opaque and self.position < len(self.memo.calls):
            output = self._answer(name, forward, *args, **kwargs)
        else:
            output = forward(*args, **kwargs)
            if place == self.first:
                return mapped(output, self._at_cut, str(place))
        if place is None or place == self.first:
            return output
        return mapped(output, lambda name, tensor: tensor + self.z[name] if name in self.z else tensor, str(place))

    def _answer(self, name: str, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        call = self.memo.calls[self.position]
        if call.name != name:
            raise RuntimeError(
                f"the network called '{name}' where it had called '{call.name}' before: its course depends on more "
                "than its input, so it cannot be cut by replay."
            )
        self.position += 1
        if call.kind == "kept":
            output = cloned(call.output)
        elif call.kind == "again":
            output = self._run(name, forward, *args, **kwargs)
        else:
            output = mapped(call.output, self._at_cut, str(self.first))
            if call.aliased:
                own = named_tensors(self._run(name, forward, *args, **kwargs), str(self.first))
                output = mapped(output, lambda name, tensor: own[name].copy_(tensor), str(self.first))
        if call.kind != "again":
            self.counts = call.counts.copy()
        if call.random is not None:
            set_random_state(self.device, call.random)
        return output

    def _at_cut(self, name: str, tensor: Tensor) -> Tensor:
        return self.z.get(name, tensor).clone()


def _standing_in(network: nn.Module, call: Callable[..., Any]) -> AbstractContextManager[None]:
    """Let ``call(name, forward, ...)`` stand in for the ``forward`` of every submodule but TorchScript's own."""
    return replaced(
        (module, functools.partial(functools.partial, call, name))
        for name, module in network.named_modules()
        if name and not isinstance(module, torch.jit.ScriptModule)
    )


def _forget_unneeded(calls: Sequence[Call]) -> None:
    """Within an ``nn.Sequential`` a kept output goes to the next child alone; if that asks for nothing, drop it."""
    for call, following in pairwise(calls):
        asks_for_nothing = following.kind != "again" and not following.aliased
        if call.kind == "kept" and call.sequential and call.parent == following.parent and asks_for_nothing:
            call.output = mapped(call.output, lambda _, tensor: placeholder(tensor))


def _memory(tensors: Collection[Tensor]) -> set[int]:
    """Where tensors lie; those that share memory share an entry."""
    return {tensor.untyped_storage().data_ptr() for tensor in tensors if tensor.numel()}


def _differ(a: Tensor, b: Tensor) -> bool:
    return not torch.equal(a, b)
