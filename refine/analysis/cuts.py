"""The places at which a backbone can be cut: what crosses, what lies behind, what an update costs and reaches."""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from refine.analysis.peak_memory import MIB
from refine.analysis.receptive_field import effective_receptive_field
from refine.autograd import selective as frozen
from refine.backbones.replay.tree import named_tensors
from refine.core.backbone import FrontRear
from refine.core.types import Features, Level, Sample


@dataclass(frozen=True)
class Cut:
    """One place at which a backbone can be cut.

    Attributes:
        cut: Value of ``backbone.cut`` that opens the network here.
        shapes: Shape ``(C, h, w)`` of each tensor of ``z``, by name.
        context_mib: Memory of what else crosses the cut.
        flops: Share of the network's FLOPs behind it; None if they cannot be counted. Convolutions and matrix
            products count, Fourier transforms do not.
        parameters: Share of the parameters used behind it.
        live_mib: Memory that the graph of one update holds, besides weights, z and context.
        seconds: Time of one update, s: forward and backward through the rear, without the objective.
        receptive_field: Px; None where ``z`` is no map of the image or the network cannot be differentiated forward.
    """

    cut: str
    shapes: Mapping[str, tuple[int, ...]]
    context_mib: float
    flops: float | None
    parameters: float | None
    live_mib: float
    seconds: float
    receptive_field: int | None


def survey(backbone: FrontRear, size: int, repeats: int = 3) -> Iterator[Cut]:
    """Measure every place at which a backbone can be cut, in the order of the run.

    Args:
        backbone: Cut anywhere.
        size: Side in px of the level at which is measured; padded to what the network takes.
        repeats: Timed updates per place.
    """
    level = _scene(backbone, size)
    whole = _work(backbone, lambda: backbone.whole(level))
    for name, opened in backbone.cuts_available():
        yield _measured(name, opened, level, whole, repeats)


def _scene(backbone: FrontRear, size: int) -> Level:
    """Slow waves with a hole in the middle, and what the backbone needs beside; the same each time."""
    at = torch.linspace(0, 4 * math.pi, size, device=backbone.device)
    waves = [torch.sin(at[:, None] * (c + 1) / 2) * torch.cos(at[None] * (3 - c) / 2) for c in range(3)]
    image, mask = (torch.stack(waves)[None] + 1) / 2, torch.zeros(1, 1, size, size, device=backbone.device)
    mask[..., size // 4 : size - size // 4, size // 4 : size - size // 4] = 1
    image, mask = image.to(backbone.dtype), mask.to(backbone.dtype)
    return backbone.level_of(Sample("layers", image, mask))


@dataclass(frozen=True)
class _Work:
    flops: int
    parameters: int


def _measured(name: str, backbone: FrontRear, level: Level, whole: _Work, repeats: int) -> Cut:
    with torch.no_grad():
        features = backbone.front(level)
    behind = _work(backbone, lambda: backbone.rear(features))
    context = named_tensors(features.context)
    live, seconds = _update(backbone, features, repeats)
    return Cut(
        cut=name,
        shapes={name: tuple(tensor.shape[1:]) for name, tensor in features.z.items()},
        context_mib=_storage_bytes(context) / MIB,
        flops=behind.flops / whole.flops if whole.flops else None,
        parameters=behind.parameters / whole.parameters if whole.parameters else None,
        live_mib=live / MIB,
        seconds=seconds,
        receptive_field=effective_receptive_field(backbone, features),
    )


# --- work -------------------------------------------------------------------------------------------------------------


class _Touched(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Remembers the memory that operations read."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.storages: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.storages |= {t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        return func(*args, **(kwargs or {}))


def _work(backbone: FrontRear, run: Callable[[], Tensor]) -> _Work:
    """FLOPs of a run and the number of parameters it uses."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter, _Touched() as touched:
        run()
    parameter_sizes = {parameter.untyped_storage().data_ptr(): parameter.numel() for parameter in backbone.parameters()}
    return _Work(counter.get_total_flops(), sum(n for place, n in parameter_sizes.items() if place in touched.storages))


def _update(backbone: FrontRear, features: Features, repeats: int) -> tuple[int, float]:
    """Bytes that the graph of an update holds, and its seconds."""
    z = {name: tensor.detach().clone().requires_grad_() for name, tensor in features.z.items()}
    leaf_features = Features(z, features.context)

    def gradients(prediction: Tensor) -> None:
        torch.autograd.grad(prediction.abs().mean(), list(z.values()), allow_unused=True)

    with torch.enable_grad():
        prediction = frozen.run(backbone.rear, leaf_features)
        context = named_tensors(features.context).values()
        excluded = [*backbone.parameters(), *backbone.buffers(), *z.values(), *context]
        live = graph_bytes(prediction, excluded)
        gradients(prediction)  # and with that it is warm
        times = []
        for _ in range(repeats):
            _wait(backbone.device)
            start = time.perf_counter()
            gradients(frozen.run(backbone.rear, leaf_features))
            _wait(backbone.device)
            times.append(time.perf_counter() - start)
    return live, statistics.median(times)


def graph_bytes(prediction: Tensor, excluded: list[Tensor]) -> int:
    """Bytes of the storages that a prediction and its graph hold.

    Args:
        prediction: Prediction that still has its graph.
        excluded: Tensors not to be counted, such as the weights.
    """
    excluded_storages = {tensor.untyped_storage().data_ptr() for tensor in excluded}
    visited, todo, held = set(), [prediction.grad_fn], [prediction]
    while todo:
        node: Any = todo.pop()
        if node is None or node in visited:
            continue
        visited.add(node)
        todo += [previous for previous, _ in node.next_functions]
        held += [getattr(node, name) for name in dir(node) if name.startswith("_saved_")]
        held += [*getattr(node, "saved_tensors", ()), *getattr(node, "__dict__", {}).values()]
    leaves = {str(i): leaf for i, leaf in enumerate(tree_leaves(held)) if isinstance(leaf, Tensor)}
    return _storage_bytes(leaves, excluded_storages)


def _storage_bytes(tensors: Mapping[str, Tensor], excluded: set[int] | frozenset[int] = frozenset()) -> int:
    storages = [tensor.untyped_storage() for tensor in tensors.values()]
    return sum({s.data_ptr(): s.nbytes() for s in storages if s.data_ptr() not in excluded}.values())


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
