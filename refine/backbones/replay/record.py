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

    def __init__(self, network: nn.Module, cut_points: Collection[CutPoint]) -> None:
        self.network = network
        self.cut_points = {(cut_point.layer, cut_point.call): cut_point for cut_point in cut_points}
        self.layers = {cut_point.layer for cut_point in cut_points}
        parts = [cut_point.layer.split(".") for cut_point in cut_points]
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
        return self.cut_points.get((name, self.counts[name]))

    def _run(self, name: str, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.opaque = name not in self.ancestors
        try:
            return forward(*args, **kwargs)
        finally:
            self.opaque = False


class Recorder(_Run):
    """Runs a network up to the last of several cut points; ``trace`` is what comes of it.

    Args:
        network: Network to run.
        cut_points: Calls at which the network is cut, in any order.
        device: Device of the network, for its random generators.
    """

    def __init__(self, network: nn.Module, cut_points: Collection[CutPoint], device: torch.device) -> None:
        super().__init__(network, cut_points)
        self.device = device
        self.trace = Trace(random_state(device), ((), {}))
        self.open = [-1]

    def record(self, *args: Any, **kwargs: Any) -> Trace:
        """Run the network.

        Raises:
            NeverReached: If it ends before all cut points were reached.
        """
        self.trace.inputs = cloned((args, kwargs))
        try:
            self(*args, **kwargs)
        except _Reached:
            _forget_unneeded(self.trace.calls)
            return self.trace
        missing = [cut_point for cut_point in self.cut_points.values() if cut_point not in self.trace.tensors]
        raise NeverReached(
            "; ".join(
                f"layer '{cut_point.layer}' is called {self.counts[cut_point.layer]} times" for cut_point in missing
            )
        )

    def _call(self, name: str, forward: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        cut_point = self._arriving(name)
        if self.trace.tensors or self.opaque:
            output = forward(*args, **kwargs)
        else:
            output = self._recorded(name, cut_point, forward, *args, **kwargs)
        if cut_point is not None:
            at_cut = bool(calls := self.trace.calls) and calls[-1].kind == "cut" and not self.trace.tensors
            kept = calls[-1].output if at_cut else cloned(output)
            self.trace.tensors[cut_point] = named_tensors(kept, str(cut_point))
            if len(self.trace.tensors) == len(self.cut_points):
                raise _Reached
        return output

    def _recorded(
        self, name: str, cut_point: CutPoint | None, forward: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        calls, index = self.trace.calls, len(self.trace.calls)
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
        if self.trace.tensors:  # the cut lies within
            return output
        changed = versions != [tensor._version for tensor in inputs]
        call.aliased = changed or not _memory(inputs).isdisjoint(_memory(named_tensors(output).values()))
        if cut_point is None and call.aliased:
            return output
        call.kind = "kept" if cut_point is None else "cut"
        call.output = cloned(output)
        after = random_state(self.device)
        call.random = after if any(map(_differ, random, after)) else None
        call.counts = self.counts.copy()
        del calls[index + 1 :]
        return output


class Replayer(_Run):
    """Runs a network from the first cut on.

    Args:
        network: Network that was recorded.
        trace: Trace of that run; not modified.
        z: Tensors by name: those at the first cut, offsets at the others. Names left out are as recorded.
        device: Device of the network, for its random generators.
    """

    def __init__(self, network: nn.Module, trace: Trace, z: Mapping[str, Tensor], device: torch.device) -> None:
        super().__init__(network, trace.tensors)
        self.trace, self.z, self.device = trace, z, device
        self.first = next(iter(trace.tensors))
        self.position = 0

    def replay(self) -> Any:
        """Run the network; the random generators draw what they drew in the run that was recorded."""
        before = random_state(self.device)
        args, kwargs = cloned(self.trace.inputs)
        try:
            set_random_state(self.device, self.trace.random)
            return self(*args, **kwargs)
        finally:
            set_random_state(self.device, before)

    def _call(self, name: str, forward: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        cut_point = self._arriving(name)
        if not self.opaque and self.position < len(self.trace.calls):
            output = self._answer(name, forward, *args, **kwargs)
        else:
            output = forward(*args, **kwargs)
            if cut_point == self.first:
                return mapped(output, self._at_cut, str(cut_point))
        if cut_point is None or cut_point == self.first:
            return output
        return mapped(output, lambda name, tensor: tensor + self.z[name] if name in self.z else tensor, str(cut_point))

    def _answer(self, name: str, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        call = self.trace.calls[self.position]
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
                rerun_tensors = named_tensors(self._run(name, forward, *args, **kwargs), str(self.first))
                output = mapped(output, lambda name, tensor: rerun_tensors[name].copy_(tensor), str(self.first))
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
