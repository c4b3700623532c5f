"""Updates as CUDA graphs: Python says once what is to be done, the device does it again and again.

An update is hundreds of kernels, most of them shorter than the Python that starts them. Captured as a graph they are
started all at once. A graph knows addresses, not values: it works on tensors of its own, into which the next image of
the same size is copied. The first updates of a size run as they are, aside: they count as any other, and leave behind
what must not be made during a capture (plans of Fourier transforms, work areas, the state of the optimizer).
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adadelta, Adam, Adamax, AdamW, Optimizer, RAdam, RMSprop
from torch.utils._pytree import tree_flatten, tree_map

from refine.core.backbone import FrontRear
from refine.core.capture import Backend, CudaBackend, Replay, warn_of_no_graph
from refine.core.objective import Comparison
from refine.core.types import Features, Level
from refine.core.updates import Updates

WARM_UP = 3  # updates of a size before its capture
CAPACITY = 16  # sizes that are kept, as of large photos of two orientations; each holds z, its moments and images
FROM_ZERO = (Adadelta, Adam, Adamax, AdamW, RAdam, RMSprop)  # optimizers whose state begins as zeros
PLAIN = (bool, int, float, str, type(None), torch.dtype, torch.device)


class NotCapturable(Exception):
    """Why the updates of a level cannot be a graph."""


class Captured:
    """The updates of all images of one size, on tensors of their own.

    Args:
        updates: Updates whose tensors nobody else reads.
        backend: Backend that runs and captures them.
    """

    def __init__(self, updates: Updates, backend: Backend) -> None:
        self.updates = updates
        self.update = Replay(updates.update, backend, WARM_UP)
        self.finish = Replay(updates.finish, backend, 1)

    def load(self, features: Features, comparison: Comparison) -> None:
        """Take in the next image and begin anew.

        Args:
            features: Tensors at its cut, of the sizes that are there.
            comparison: Its loss.
        """
        updates = self.updates
        old = _tensors(updates.features, updates.comparison)
        for mine, new in zip(old, _tensors(features, comparison), strict=True):
            mine.detach().copy_(new)
        for state in updates.optimizer.state.values() if updates.optimizer else ():
            for value in state.values():
                if isinstance(value, Tensor):
                    value.zero_()
        updates.forget()


class Graphs:
    """The captured updates of a refiner, by all that a graph depends on; the least recently used are dropped.

    Args:
        backend: Function that makes the backend for a device.
        capacity: Number of sizes that are kept.
    """

    def __init__(self, backend: Callable[[torch.device], Backend] = CudaBackend, capacity: int = CAPACITY) -> None:
        self._make_backend, self._backends = backend, dict[torch.device, Backend]()
        self._capacity = capacity
        self._captured: OrderedDict[Hashable, Captured] = OrderedDict()
        self._reasons: set[str] = set()

    def clear(self) -> None:
        """Drop all of them, with their memory; where a capture failed there is none from then on."""
        self._captured.clear()
        self._backends = {device: backend for device, backend in self._backends.items() if backend.broken}

    def prepare(
        self,
        settings: Hashable,
        backbone: FrontRear,
        level: Level,
        features: Features,
        comparison: Comparison,
        make: Callable[[Level, Features], Updates],
    ) -> Captured:
        """The updates of a level, ready to begin.

        Args:
            settings: What an update depends on besides weights and sizes.
            backbone: Network, whose weights a graph reads where they lie.
            level: Level, ``(B, 3, h, w)`` padded.
            features: Tensors at the cut.
            comparison: Loss of the level.
            make: Function that makes the updates of copies of level and features.

        Raises:
            NotCapturable: If they cannot be a graph.
        """
        key = (settings, _addresses(backbone), level.size, *_described(level, features, comparison))
        captured = self._captured.pop(key, None)
        if captured is None:
            backend = self._backend(level.image.device)
            if backend.broken:
                raise NotCapturable(backend.broken)
            own = replace(level, image=level.image.clone(), mask=level.mask.clone())
            updates = make(own, tree_features(Tensor.clone, features))
            if updates.optimizer is not None:
                _check(updates.optimizer)
                backend.prepare(updates.optimizer)
            captured = Captured(updates, backend)
        else:
            captured.load(features, comparison)
        self._captured[key] = captured
        if len(self._captured) > self._capacity:
            self._captured.popitem(last=False)
        return captured

    def _backend(self, device: torch.device) -> Backend:
        if device not in self._backends:
            self._backends[device] = self._make_backend(device)
        return self._backends[device]

    def tell(self, reason: str) -> None:
        """Say once why there is no graph.

        Args:
            reason: Reason, without a full stop.
        """
        if reason not in self._reasons | {backend.broken for backend in self._backends.values()}:
            self._reasons.add(reason)
            warn_of_no_graph(reason)


def tree_features(function: Callable[[Tensor], Tensor], features: Features) -> Features:
    """Features with a function applied to each tensor, in its context too.

    Args:
        function: Function of a tensor.
        features: Tensors at the cut.
    """

    def applied(leaf: Any) -> Any:
        return function(leaf) if isinstance(leaf, Tensor) else leaf

    return Features(tree_map(applied, features.z), tree_map(applied, features.context))


def _tensors(features: Features, comparison: Comparison) -> list[Tensor]:
    """All that differs from image to image, in a fixed order."""
    leaves = tree_flatten((features.z, features.context))[0]
    return [x for x in (*leaves, *(comparison.tensors or ()), comparison.has_pixels) if isinstance(x, Tensor)]


def _described(level: Level, features: Features, comparison: Comparison) -> Iterable[Hashable]:
    """Sizes, and what else of the features is no tensor."""
    if comparison.tensors is None:
        raise NotCapturable("the objective does not name the tensors of its comparison (Comparison.tensors)")
    leaves, structure = tree_flatten((features.z, features.context))
    for leaf in leaves:
        if not isinstance(leaf, (Tensor, *PLAIN)):
            raise NotCapturable(f"the context of the rear holds a {type(leaf).__name__}")
    tensors = (level.image, *_tensors(features, comparison))
    yield str(structure), tuple(leaf for leaf in leaves if not isinstance(leaf, Tensor))
    yield tuple((tuple(x.shape), x.stride(), x.dtype, x.device) for x in tensors)


def _addresses(backbone: FrontRear) -> tuple[int, ...]:
    return tuple(tensor.data_ptr() for tensor in chain(backbone.parameters(), backbone.buffers()))


def _check(optimizer: Optimizer) -> None:
    plain = type(optimizer) is SGD and not any(group["momentum"] for group in optimizer.param_groups)
    if type(optimizer) not in FROM_ZERO and not plain:
        raise NotCapturable(f"the optimizer {type(optimizer).__name__} cannot begin anew on the same tensors")
