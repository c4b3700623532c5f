"""What ``scripts/benchmarks/benchmark.py`` measures: an update of a backbone's rear, or a whole refinement."""

import copy
import functools
import math
import time
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

import refine
from refine.analysis.cuts import graph_bytes
from refine.autograd.precision import DTYPES, run_in
from refine.autograd.selective import run
from refine.backbones.lama.adapter import LaMa
from refine.backbones.lama.fold import fold as fold_norms
from refine.backbones.replay.tree import named_tensors
from refine.backbones.sequential import SequentialBackbone
from refine.cli import heap
from refine.config import compose
from refine.core.backbone import FrontRear
from refine.core.pyramid import make_level
from refine.core.types import Features
from refine.inference.peak_memory import MIB, peak
from refine.weights.checkpoint import UnusableWeights
from training.scenes import hole, render

SETTINGS = ("fold", "channels_last")  # of backbones that have them


class Subject:
    """What is measured, of a backbone at one size.

    Args:
        backbone: Its name.
        size: Side in px.
        options: Of the command line.
    """

    def __init__(self, backbone: str, size: int, options: dict[str, Any]) -> None:
        torch.set_num_threads(int(options["threads"]) or torch.get_num_threads())
        self._overrides = [f"backbone={backbone}", *filter(None, str(options["overrides"]).split(","))]
        self._device = torch.device(options["device"])
        self._dtype = getattr(torch, options["dtype"])
        self._size = size

    def _load(self, words: Collection[str], *more: str) -> refine.Refiner:
        """With random weights where none are configured."""
        overrides = [*self._overrides, *more]
        known = compose("predict", overrides).backbone
        overrides += [f"backbone.{word}={word in words}" for word in SETTINGS if word in known]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return refine.load(*overrides).to(self._device)
            except UnusableWeights:
                return refine.load(*overrides, "backbone.weights=random").to(self._device)

    def _timed(self, work: Callable[[], object]) -> tuple[float, float]:
        """Wall and processor time."""
        self._wait()
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        self._wait()
        return time.perf_counter() - wall, time.process_time() - cpu

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize()


class Refinement(Subject):
    """A whole refinement, fronts and pyramid and all."""

    def run(self, arm: str, results: Path) -> dict[str, Any]:
        """Seconds, and MiB at the peak; the image in a file."""
        words = arm.split("+")
        more = [f"refiner.{word}={word in words}" for word in ("frozen", "checkpoint", "compile")]
        more += [f"refiner.precision={word}" for word in words if word in DTYPES]
        refiner = self._load(words, *more)
        picture = torch.from_numpy(render(0, self._size)).permute(2, 0, 1)[None] / 255
        mask = torch.from_numpy(hole(0, self._size))[None, None].float()
        image: list[Tensor] = []
        seconds = self._timed(lambda: image.append(refiner(picture, mask).image))
        torch.save([image[0].cpu()], results)
        return {"seconds": seconds, "live_MiB": math.nan, "live_rss_MiB": math.nan, "peak_MiB": peak(self._device)}


class Signs(TorchFunctionMode):
    """Within it, ReLUs (leaky ones aside) are open where they were while the function ran, whatever their input's sign.

    Rounding turns the sign of a few, and with them float32's gradient: what is left is what rounding does otherwise.
    """

    RELUS = (torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, torch.nn.functional.relu)

    def __init__(self, function: Callable[[], object]) -> None:
        super().__init__()
        self._open: list[Tensor] = []
        self._given: Iterator[Tensor] | None = None
        with torch.no_grad(), self:
            function()

    def __enter__(self) -> Any:
        self._given = iter(self._open) if self._open else None
        return super().__enter__()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """A ReLU remembered or opened, or the call as it is."""
        if func in self.RELUS and self._given:
            x = args[0]  # the rules take a result of 0 for a closed ReLU
            return x.masked_fill(x == 0, torch.finfo(x.dtype).tiny) * next(self._given)
        if func in self.RELUS:
            self._open.append(args[0] > 0)
        return func(*args, **(kwargs or {}))


class Rear(Subject):
    """One update of the rear, forward and backward, at the features of the network as it is."""

    def run(self, arm: str, results: Path) -> dict[str, Any]:
        """Seconds; MiB alive after the forward pass, by graph and by system, and at the peak; results in a file."""
        words = arm.split("+")
        backbone = self._load(()).backbone.to(self._dtype)
        features = self._features(backbone)
        # Of a copy, since a rear that ran once remembers its stages as they were before folding.
        signs = Signs(functools.partial(copy.deepcopy(backbone).rear, features)) if "signs" in words else nullcontext()
        if "fold" in words and isinstance(backbone, LaMa):
            fold_norms(backbone.model)  # only now, so that its weights are rounded to the dtype at hand
        if isinstance(backbone, SequentialBackbone):
            backbone.channels_last = "channels_last" in words
        rear = torch.compile(backbone.rear, dynamic=False) if "compile" in words else backbone.rear
        blocks = backbone.blocks if "checkpoint" in words else None
        precision = next((word for word in words if word in DTYPES), "32")
        z = list(features.z.values())

        def forward() -> Tensor:
            within = functools.partial(run_in, precision, self._device)
            with signs:
                return run(rear, features, rules="frozen" in words, blocks=blocks, within=within).to(self._dtype)

        def gradients(prediction: Tensor) -> list[Tensor]:
            return list(torch.autograd.grad(prediction.abs().mean(), z, allow_unused=True))

        before = self._allocated()
        prediction = forward()
        alive = self._allocated() - before
        given = [*z, *backbone.parameters(), *backbone.buffers(), *named_tensors(features.context).values()]
        # Looking at what a checkpoint saved would compute it again.
        live = math.nan if "checkpoint" in words else graph_bytes(prediction, given) / MIB
        torch.save([t.detach().cpu() for t in (prediction, *gradients(prediction)) if t is not None], results)
        del prediction
        times = sorted(self._timed(lambda: gradients(forward())) for _ in range(3))
        return {"seconds": times[1], "live_MiB": live, "live_rss_MiB": alive, "peak_MiB": peak(self._device)}

    def _features(self, backbone: FrontRear) -> Features:
        """Of noise with a square hole, z ready to be differentiated."""
        size = self._size
        draw = torch.Generator().manual_seed(0)
        image, mask = torch.rand(1, 3, size, size, generator=draw), torch.zeros(1, 1, size, size)
        mask[..., size // 4 : size // 2, size // 4 : size // 2] = 1
        level = make_level(image, mask, backbone.multiple_of, backbone.minimum_side)
        image, mask = (tensor.to(self._device, self._dtype) for tensor in (level.image, level.mask))
        with torch.no_grad():
            features = backbone.front(type(level)(image, mask, level.size))
        z = {name: tensor.detach().clone().requires_grad_() for name, tensor in features.z.items()}
        return Features(z, features.context)

    def _allocated(self) -> float:
        if self._device.type == "cuda":
            return torch.cuda.memory_allocated() / MIB
        heap.trim()
        try:
            return heap.resident() / MIB
        except OSError:  # told by Linux alone
            return math.nan


SUBJECTS: dict[str, type[Any]] = {"rear": Rear, "refinement": Refinement}
