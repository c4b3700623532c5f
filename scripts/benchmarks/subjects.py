"""Subjects of the benchmark: one update of a backbone's rear, or a whole refinement."""

import copy
import ctypes
import functools
import math
import os
import time
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from refine.analysis.cuts import graph_bytes
from refine.analysis.peak_memory import MIB, peak
from refine.autograd.precision import DTYPES, run_in
from refine.autograd.selective import run
from refine.backbones.lama.adapter import LaMa
from refine.backbones.lama.fold import fold as fold_norms
from refine.backbones.replay.tree import named_tensors
from refine.backbones.sequential import SequentialBackbone
from refine.config import InpaintConfig
from refine.core.backbone import FrontRear
from refine.core.refiner import Refiner
from refine.core.types import Features, Sample
from refine.factory import make_refiner
from refine.weights.checkpoint import UnusableWeights
from training.scenes import hole, render

BACKBONE_WORDS = ("fold", "channels_last")  # settings of some backbones
BUNDLED = ("small", "mini", "mini_regular", "mini_aot")  # networks whose weights come along
REFINER_WORDS = ("frozen", "gradient_checkpointing", "compile")  # settings of the refiner


def scene(index: int, side: int) -> tuple[Tensor, Tensor]:
    """A generated scene and its hole, ``(1, 3, side, side)`` in [0, 1] and ``(1, 1, side, side)``, 1 = hole.

    Args:
        index: Number of the scene, which seeds it.
        side: Side in px.
    """
    image = torch.from_numpy(render(index, side)).permute(2, 0, 1)[None] / 255
    return image, torch.from_numpy(hole(index, side))[None, None].float()


class Subject:
    """Measurement of a backbone at one size.

    Args:
        backbone: Name of the backbone, as in ``configs/backbone``.
        size: Side of the image, in px.
        options: Options of the command line.
    """

    def __init__(self, backbone: str, size: int, options: dict[str, Any]) -> None:
        torch.set_num_threads(int(options["threads"]) or torch.get_num_threads())
        self._overrides = [f"backbone={backbone}", *filter(None, str(options["overrides"]).split(","))]
        self._device = torch.device(options["device"])
        self._dtype = getattr(torch, options["dtype"])
        self._size = size

    def _load(self, words: Collection[str], *overrides: str) -> Refiner:
        """Refiner with the words' settings, and with random weights where none are configured."""
        config = InpaintConfig.compose([*self._overrides, *overrides])
        for word in BACKBONE_WORDS:
            if word in config.backbone:
                config.backbone[word] = word in words
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return make_refiner(config).to(self._device)
            except UnusableWeights:
                config.backbone["weights"] = "random"
                return make_refiner(config).to(self._device)

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
    """A whole refinement of a generated scene with a hole, from the image to the composited result."""

    def run(self, arm: str, results: Path) -> dict[str, Any]:
        """Refine once.

        Args:
            arm: Words of the arm, joined by "+".
            results: File for the refined image.

        Returns:
            Wall and CPU seconds, and memory in MiB at the peak.
        """
        words = arm.split("+")
        overrides = [f"refiner.{word}={word in words}" for word in REFINER_WORDS]
        overrides += [f"refiner.precision={word}" for word in words if word in DTYPES]
        refiner = self._load(words, *overrides)
        image, mask = scene(0, self._size)
        refined: list[Tensor] = []
        seconds = self._timed(lambda: refined.append(refiner(image, mask).image))
        torch.save([refined[0].cpu()], results)
        return {"seconds": seconds, "live_MiB": math.nan, "live_rss_MiB": math.nan, "peak_MiB": peak(self._device)}


class Signs(TorchFunctionMode):
    """Mode in which ReLUs (leaky ones aside) are open where they were in a first run, whatever their input's sign.

    Rounding turns the sign of a few inputs, and with them float32's gradient; within this mode, what is left is what
    rounding does otherwise.

    Args:
        function: Function whose ReLUs are recorded; the same ones must follow within the mode, in the same order.
    """

    RELUS = (torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, torch.nn.functional.relu)

    def __init__(self, function: Callable[[], object]) -> None:
        super().__init__()
        self._open: list[Tensor] = []
        self._recorded: Iterator[Tensor] | None = None
        with torch.no_grad(), self:
            function()

    def __enter__(self) -> Any:
        self._recorded = iter(self._open) if self._open else None
        return super().__enter__()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Record or open a ReLU; leave every other call as it is."""
        if func in self.RELUS and self._recorded:
            x = args[0]  # the rules take a result of 0 for a closed ReLU
            return x.masked_fill(x == 0, torch.finfo(x.dtype).tiny) * next(self._recorded)
        if func in self.RELUS:
            self._open.append(args[0] > 0)
        return func(*args, **(kwargs or {}))


class Rear(Subject):
    """One update of the rear, forward and backward, at the features of the network as it is."""

    def run(self, arm: str, results: Path) -> dict[str, Any]:
        """Update four times.

        Args:
            arm: Words of the arm, joined by "+".
            results: File for the prediction and its gradients with respect to z.

        Returns:
            Wall and CPU seconds, the median of three; memory in MiB that is alive after the forward pass, by graph and
            by system, and at the peak.
        """
        words = arm.split("+")
        backbone = self._load(()).backbone.to(self._dtype)
        features = self._features(backbone)
        forward = self._forward(backbone, features, words)
        z = list(features.z.values())

        def gradients(prediction: Tensor) -> list[Tensor]:
            return list(torch.autograd.grad(prediction.abs().mean(), z, allow_unused=True))

        before = self._allocated()
        prediction = forward()
        alive = self._allocated() - before
        constants = [*z, *backbone.parameters(), *backbone.buffers(), *named_tensors(features.context).values()]
        # Reading what a checkpoint saved would compute it again.
        live = math.nan if "gradient_checkpointing" in words else graph_bytes(prediction, constants) / MIB
        torch.save([t.detach().cpu() for t in (prediction, *gradients(prediction)) if t is not None], results)
        del prediction
        times = sorted(self._timed(lambda: gradients(forward())) for _ in range(3))
        return {"seconds": times[1], "live_MiB": live, "live_rss_MiB": alive, "peak_MiB": peak(self._device)}

    def _forward(self, backbone: FrontRear, features: Features, words: Collection[str]) -> Callable[[], Tensor]:
        """The rear's forward pass, with the words' settings."""
        # Signs of a copy, since a rear that ran once remembers its stages as they were before folding.
        signs = Signs(functools.partial(copy.deepcopy(backbone).rear, features)) if "signs" in words else nullcontext()
        if "fold" in words and isinstance(backbone, LaMa):
            fold_norms(backbone.model)  # only now, so that its weights are rounded to the dtype at hand
        if isinstance(backbone, SequentialBackbone):
            backbone.channels_last = "channels_last" in words
        rear = torch.compile(backbone.rear, dynamic=False) if "compile" in words else backbone.rear
        blocks = backbone.blocks if "gradient_checkpointing" in words else None
        precision = next((word for word in words if word in DTYPES), "32")

        def forward() -> Tensor:
            within = functools.partial(run_in, precision, self._device)
            with signs:
                return run(rear, features, rules="frozen" in words, blocks=blocks, within=within).to(self._dtype)

        return forward

    def _features(self, backbone: FrontRear) -> Features:
        """Features of noise with a square hole; z requires gradients."""
        size = self._size
        draw = torch.Generator().manual_seed(0)
        image, mask = torch.rand(1, 3, size, size, generator=draw), torch.zeros(1, 1, size, size)
        mask[..., size // 4 : size // 2, size // 4 : size // 2] = 1
        image, mask = (tensor.to(self._device, self._dtype) for tensor in (image, mask))
        with torch.no_grad():
            features = backbone.front(backbone.level_of(Sample("rear", image, mask)))
        z = {name: tensor.detach().clone().requires_grad_() for name, tensor in features.z.items()}
        return Features(z, features.context)

    def _allocated(self) -> float:
        if self._device.type == "cuda":
            return torch.cuda.memory_allocated() / MIB
        return resident_memory()


def resident_memory() -> float:
    """MiB that belong to this process alone, after glibc has given back what lies free; NaN outside Linux."""
    with suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
    try:
        _, pages, shared, *_ = map(int, Path("/proc/self/statm").read_bytes().split())
    except OSError:
        return math.nan
    return (pages - shared) * os.sysconf("SC_PAGE_SIZE") / MIB


SUBJECTS: dict[str, type[Any]] = {"rear": Rear, "refinement": Refinement}
