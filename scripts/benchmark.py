r"""What refinement costs, in seconds and memory, and whether it is exact: an update of the rear alone, or all of it.

    python scripts/benchmark.py sizes=512 backbones=big_lama pairs=7 arms=control,frozen,fold+frozen
    python scripts/benchmark.py what=refinement sizes=1024 backbones=big_lama pairs=4 control_up_to=1024 \\
        arms=control,frozen,fold+frozen overrides=preset=reference,refiner.steps=3
    python scripts/benchmark.py sizes=64 backbones=mini pairs=1        # a smoke test

An arm is any of the words frozen, fold, checkpoint, bf16, 16 and compile, joined by "+", or control, which is ordinary
autograd through the network as it is. Memory is that of a fresh process. Seconds of the rear (forward and backward)
come from rounds of all arms in one process, those of a refinement from rounds of a fresh process per arm, so that other
load on the machine hits all of them; they are compared within the round.

Options, with their defaults:
    what=rear              or refinement, of a generated scene with a hole
    sizes=512              sides in px, comma-separated
    backbones=mini         names of configs/backbone; weights are random where none are bundled
    arms=control,checkpoint,frozen,frozen+checkpoint   the first is the one the others are compared with
    pairs=3                rounds; the table has the median of their ratios
    device=cpu             or cuda
    threads=0              on the CPU; 0 for all
    dtype=float32          or float64, in which rounding hardly turns the sign of a ReLU's input; of the rear alone
    overrides=             for refine.load, comma-separated
    control_up_to=512      largest size at which arms without frozen run (Big-LaMa takes 11 GiB at 1024)
"""

import ctypes
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from options import read
from scenes import hole, render
from torch import Tensor

import refine
from refine.adapters.base import FrontRear
from refine.adapters.fold import fold as fold_norms
from refine.adapters.lama import LaMa
from refine.adapters.nested import named_tensors
from refine.config import compose
from refine.frozen import run
from refine.layers import graph_bytes
from refine.precision import DTYPES, run_in
from refine.pyramid import make_level
from refine.types import Features
from refine.weights import UnusableWeights

MIB = 2**20
DEFAULTS: dict[str, Any] = {
    "what": "rear", "sizes": "512", "backbones": "mini", "pairs": 3, "device": "cpu", "threads": 0,
    "dtype": "float32", "overrides": "", "control_up_to": 512,
    "arms": "control,checkpoint,frozen,frozen+checkpoint",
}  # fmt: skip
WORDS = ("control", "frozen", "fold", "checkpoint", "bf16", "16", "compile")
COLUMNS = "backbone size arm seconds ratio ratios cpu_ratio live_MiB live_rss_MiB peak_MiB".split()
COLUMNS += "max_diff mean_diff gradient_error".split()


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
        self._size = size

    def _load(self, fold: bool, *more: str) -> refine.Refiner:
        """With random weights where none are configured."""
        overrides = [*self._overrides, *more]
        if "fold" in compose("predict", overrides).backbone:
            overrides.append(f"backbone.fold={fold}")
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

    def _peak(self) -> float:
        """MiB."""
        return torch.cuda.max_memory_allocated() / MIB if self._device.type == "cuda" else _status("VmHWM")


class Refinement(Subject):
    """A whole refinement, fronts and pyramid and all."""

    def run(self, arm: str, results: Path) -> dict[str, Any]:
        """Seconds, and MiB at the peak; the image in a file."""
        words = arm.split("+")
        more = [f"refiner.{word}={word in words}" for word in ("frozen", "checkpoint", "compile")]
        more += [f"refiner.precision={word}" for word in words if word in DTYPES]
        refiner = self._load("fold" in words, *more)
        picture = torch.from_numpy(render(0, self._size)).permute(2, 0, 1)[None] / 255
        mask = torch.from_numpy(hole(0, self._size))[None, None].float()
        image: list[Tensor] = []
        seconds = self._timed(lambda: image.append(refiner(picture, mask).image))
        torch.save([image[0].cpu()], results)
        return {"seconds": seconds, "live_MiB": math.nan, "live_rss_MiB": math.nan, "peak_MiB": self._peak()}


class Rear(Subject):
    """One update of the rear, forward and backward."""

    def __init__(self, backbone: str, size: int, options: dict[str, Any]) -> None:
        super().__init__(backbone, size, options)
        self._networks: dict[bool, FrontRear] = {}
        self._compilations: dict[bool, Callable[[Features], Tensor]] = {}
        self._dtype = getattr(torch, options["dtype"])
        network = self._backbone(fold=False)
        draw = torch.Generator().manual_seed(0)
        image, mask = torch.rand(1, 3, size, size, generator=draw), torch.zeros(1, 1, size, size)
        mask[..., size // 4 : size // 2, size // 4 : size // 2] = 1
        level = make_level(image, mask, network.multiple_of, network.minimum_side)
        image, mask = (tensor.to(self._device, self._dtype) for tensor in (level.image, level.mask))
        level = type(level)(image, mask, level.size)
        with torch.no_grad():
            features = network.front(level)
        self.z = {name: tensor.detach().clone().requires_grad_() for name, tensor in features.z.items()}
        self.features = Features(self.z, features.context)

    def _backbone(self, fold: bool) -> FrontRear:
        if fold not in self._networks:
            backbone = self._load(fold=False).backbone.to(self._dtype)
            if fold and isinstance(backbone, LaMa):
                fold_norms(backbone.model)  # only now, so that its weights are rounded to the dtype at hand
            self._networks[fold] = backbone
        return self._networks[fold]

    def _compiled(self, fold: bool) -> Callable[[Features], Tensor]:
        if fold not in self._compilations:
            self._compilations[fold] = torch.compile(self._backbone(fold).rear, dynamic=False)
        return self._compilations[fold]

    def forward(self, arm: str) -> Tensor:
        """The prediction of one arm, with its graph."""
        words = arm.split("+")
        backbone = self._backbone("fold" in words)
        rear = self._compiled("fold" in words) if "compile" in words else backbone.rear
        blocks = backbone.blocks if "checkpoint" in words else None
        with run_in(next((word for word in words if word in DTYPES), "32"), self._device):
            return run(rear, self.features, rules="frozen" in words, blocks=blocks).to(self._dtype)

    def gradients(self, prediction: Tensor) -> list[Tensor]:
        """Of the prediction's mean magnitude, with respect to z."""
        return list(torch.autograd.grad(prediction.abs().mean(), list(self.z.values()), allow_unused=True))

    def seconds(self, arm: str) -> tuple[float, float]:
        """Wall and processor time."""
        return self._timed(lambda: self.gradients(self.forward(arm)))

    def run(self, arm: str, results: Path) -> dict[str, Any]:
        """MiB alive after the forward pass, by the graph and by the system; MiB at the peak; the results in a file."""
        self._backbone("fold" in arm)
        self._networks.pop("fold" not in arm, None)  # the other one
        before = self._allocated()
        prediction = self.forward(arm)
        alive = self._allocated() - before
        # Looking at what a checkpoint saved would compute it again.
        live = float("nan") if "checkpoint" in arm else self._graph(prediction) / MIB
        gradients = self.gradients(prediction)
        torch.save([prediction.detach().cpu(), *(g.cpu() for g in gradients if g is not None)], results)
        return {"live_MiB": live, "live_rss_MiB": alive, "peak_MiB": self._peak()}

    def _graph(self, prediction: Tensor) -> int:
        """Bytes that the graph and the prediction hold, but for z and the weights."""
        given = [*self.z.values()]
        for network in self._networks.values():
            given += [*network.parameters(), *network.buffers()]
        return graph_bytes(prediction, [*given, *named_tensors(self.features.context).values()])

    def _allocated(self) -> float:
        if self._device.type == "cuda":
            return torch.cuda.memory_allocated() / MIB
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        return _status("VmRSS")


SUBJECTS: dict[str, type[Any]] = {"rear": Rear, "refinement": Refinement}


def _status(name: str) -> float:
    """MiB of a line of this process's status (the peak of ``getrusage`` would include the parent's)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def _child(task: dict[str, Any]) -> dict[str, Any]:
    """What a fresh process measures: one arm, or the seconds of all."""
    subject = SUBJECTS[task["options"]["what"]](task["backbone"], task["size"], task["options"])
    if "arm" in task:
        return subject.run(task["arm"], Path(task["results"]))
    rounds = [{arm: subject.seconds(arm) for arm in task["arms"]} for _ in range(int(task["options"]["pairs"]) + 1)]
    return {arm: [one[arm] for one in rounds[1:]] for arm in task["arms"]}  # the first round warms up


def _in_fresh_process(task: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run([sys.executable, __file__, "--child", json.dumps(task)], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def _rows(backbone: str, size: int, options: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per arm."""
    arms = [arm for arm in options["arms"].split(",") if "frozen" in arm or size <= int(options["control_up_to"])]
    task = {"backbone": backbone, "size": size, "options": options}
    with tempfile.TemporaryDirectory() as folder:
        files = {arm: f"{folder}/{arm}.pt" for arm in arms}

        def measured(arm: str) -> dict[str, Any]:
            return _in_fresh_process({**task, "arm": arm, "results": files[arm]})

        if options["what"] == "rear":
            times = _in_fresh_process({**task, "arms": arms})
            memory = {arm: measured(arm) for arm in arms}
        else:
            rounds = [{arm: measured(arm) for arm in arms} for _ in range(int(options["pairs"]))]
            times = {arm: [one[arm].pop("seconds") for one in rounds] for arm in arms}
            memory = {arm: max((one[arm] for one in rounds), key=lambda m: m["peak_MiB"]) for arm in arms}
        return [
            {"backbone": backbone, "size": size, "arm": arm}
            | _compared(times[arm], times[arms[0]])
            | memory[arm]
            | _differences(files[arm], files[arms[0]])
            for arm in arms
        ]


def _compared(times: list[list[float]], reference: list[list[float]]) -> dict[str, Any]:
    """Seconds, and ratios within the rounds."""
    ratios = [[a / b for a, b in zip(one, other, strict=True)] for one, other in zip(times, reference, strict=True)]
    wall, cpu = zip(*ratios, strict=True)
    return {
        "seconds": statistics.median(wall for wall, _ in times),
        "ratio": statistics.median(wall),
        "ratios": f"{min(wall):.3f}-{max(wall):.3f}",
        "cpu_ratio": statistics.median(cpu),
    }


def _differences(file: str, reference: str) -> dict[str, float]:
    """Of the image or prediction and, of the rear, its gradients."""
    pairs = list(zip(torch.load(file), torch.load(reference), strict=True))
    errors = [float((a - b).norm() / b.norm()) for a, b in pairs[1:]]
    (ours, theirs), *_ = pairs
    return {
        "max_diff": max(float((a - b).abs().max()) for a, b in pairs),
        "mean_diff": float((ours - theirs).abs().mean()),
        "gradient_error": max(errors, default=math.nan),
    }


def _table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""

    def cell(value: Any) -> str:
        number = isinstance(value, float)
        return "" if number and math.isnan(value) else f"{value:.4g}" if number else str(value)

    lines = [" | ".join(COLUMNS), " | ".join("---" for _ in COLUMNS)]
    lines += [" | ".join(cell(row[column]) for column in COLUMNS) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def main(arguments: list[str]) -> None:
    """Measure and print the table.

    Args:
        arguments: ``key=value`` each.
    """
    options = read(DEFAULTS, arguments)
    unknown = {word for arm in options["arms"].split(",") for word in arm.split("+")} - {*WORDS}
    if unknown:
        raise SystemExit(f"no arm is called {', '.join(sorted(unknown))}; the words are: {', '.join(WORDS)}.")
    if options["dtype"] not in ("float32", "float64"):
        raise SystemExit(f"dtype={options['dtype']}: give float32 or float64.")
    if options["what"] not in SUBJECTS:
        raise SystemExit(f"what={options['what']}: give one of {', '.join(SUBJECTS)}.")
    rows = []
    for backbone in options["backbones"].split(","):
        for size in options["sizes"].split(","):
            rows += _rows(backbone, int(size), options)
    print(f"{time.strftime('%Y-%m-%d')}, torch {torch.__version__}, {options}\n\n{_table(rows)}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(_child(json.loads(sys.argv[2]))))
    else:
        main(sys.argv[1:])
