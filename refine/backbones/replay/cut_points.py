"""Where a network can be cut by replay: the calls of its submodules, by name."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any

from torch import Tensor, nn

from refine.backbones.replay.trace import CutPoint
from refine.backbones.replay.tree import named_tensors

MOST = 64  # cut points; submodules of submodules are looked at as long as there are no more


def fired(network: nn.Module, run: Callable[[], Any]) -> list[CutPoint]:
    """The calls of submodules in one run, in the order in which they end.

    Of calls that return the very same tensors, as a container and its last child, the outermost stands for all.

    Args:
        network: Network whose calls are noted.
        run: Runs it once.
    """
    calls = _listened(network, run)
    depths = sorted({cut_point.layer.count(".") for cut_point, _ in calls})
    kept: list[CutPoint] = []
    for depth in depths:
        layers = _distinct([call for call in calls if call[0].layer.count(".") <= depth])
        if kept and len(layers) > MOST:
            break
        kept = layers
    return kept[:MOST]


def mask_names(tensors: Mapping[CutPoint, Mapping[str, Tensor]]) -> set[str]:
    """Names of the tensors that are 0 or 1 everywhere, such as what a partial convolution hands on beside features.

    Args:
        tensors: What lies at each cut, by name.
    """
    return {name for found in tensors.values() for name, x in found.items() if bool(((x == 0) | (x == 1)).all())}


def feature_names(tensors: Mapping[str, Tensor], masks: Collection[str]) -> list[str]:
    """Names of the features at a cut; of masks only where there is nothing else.

    Args:
        tensors: What lies there, by name.
        masks: Names of masks.
    """
    floating = [name for name, tensor in tensors.items() if tensor.is_floating_point()]
    return [name for name in floating if name not in masks] or floating


def _listened(network: nn.Module, run: Callable[[], Any]) -> list[tuple[CutPoint, Any]]:
    """Each call and what it returned: the tensors' identity and version."""
    calls: list[tuple[CutPoint, Any]] = []
    counts: Counter[str] = Counter()
    alive: list[Any] = []  # so that no two tensors get one identity

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def listen(module: nn.Module, args: Any, output: Any) -> None:
            counts[name] += 1
            tensors = named_tensors(output).values()
            alive.append(output)
            if tensors:
                calls.append((CutPoint(name, counts[name]), tuple((id(t), t._version) for t in tensors)))

        return listen

    handles = [module.register_forward_hook(hook(name)) for name, module in network.named_modules() if name]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _distinct(calls: list[tuple[CutPoint, Any]]) -> list[CutPoint]:
    outermost: dict[Any, CutPoint] = {}
    for cut_point, returned in calls:
        outer = outermost.get(returned)
        if outer is None or cut_point.layer.count(".") < outer.layer.count("."):
            outermost[returned] = cut_point
    kept = set(outermost.values())
    return [cut_point for cut_point, _ in calls if cut_point in kept]
