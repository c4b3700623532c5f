"""What one update of a backbone's rear costs, forward and backward, in seconds and memory, and whether it is exact.

    python scripts/benchmark.py sizes=512 backbones=big_lama pairs=7 arms=control,frozen,fold+frozen
    python scripts/benchmark.py sizes=64 backbones=mini pairs=1        # a smoke test

An arm is any of the words frozen, fold, checkpoint, bf16, 16 and compile, joined by "+", or control, which is ordinary
autograd. Every arm runs in a fresh process for its memory; its seconds come from rounds of all arms in one process, so
that other load on the machine hits all of them, and are compared within the round.

Options, with their defaults:
    sizes=512              sides in px, comma-separated
    backbones=mini         names of configs/backbone; weights are random where none are bundled
    arms=control,checkpoint,frozen,frozen+checkpoint   the first is the one the others are compared with
    pairs=3                rounds; the table has the median of their ratios
    device=cpu             or cuda
    threads=0              on the CPU; 0 for all
    overrides=             for refine.load, comma-separated
    control_up_to=512      largest size at which arms without frozen run (Big-LaMa takes 11 GiB at 1024)
"""

import ctypes
import json
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
from torch import Tensor

import refine
from refine.adapters.base import FrontRear
from refine.adapters.nested import named_tensors
from refine.frozen import run
from refine.layers import graph_bytes
from refine.precision import DTYPES, run_in
from refine.pyramid import make_level
from refine.types import Features

MIB = 2**20
DEFAULTS: dict[str, Any] = {
    "sizes": "512", "backbones": "mini", "pairs": 3, "device": "cpu", "threads": 0, "overrides": "",
    "control_up_to": 512, "arms": "control,checkpoint,frozen,frozen+checkpoint",
}  # fmt: skip
WORDS = ("control", "frozen", "fold", "checkpoint", "bf16", "16", "compile")
COLUMNS = "backbone size arm seconds ratio cpu_ratio live_MiB live_rss_MiB peak_MiB max_diff gradient_error".split()


class Rear:
    """The rear of a backbone at one size, ready to be run.

    Args:
        backbone: Its name.
        size: Side in px.
        options: Of the command line.
    """

    def __init__(self, backbone: str, size: int, options: dict[str, Any]) -> None:
        torch.set_num_threads(int(options["threads"]) or torch.get_num_threads())
        self._overrides = [f"backbone={backbone}", *filter(None, str(options["overrides"]).split(","))]
        self._device = torch.device(options["device"])
        self._networks: dict[bool, FrontRear] = {}
        self._compilations: dict[bool, Callable[[Features], Tensor]] = {}
        network = self._backbone(fold=False)
        draw = torch.Generator().manual_seed(0)
        image, mask = torch.rand(1, 3, size, size, generator=draw), torch.zeros(1, 1, size, size)
        mask[..., size // 4 : size // 2, size // 4 : size // 2] = 1
        level = make_level(image, mask, network.multiple_of, network.minimum_side)
        level = type(level)(level.image.to(self._device), level.mask.to(self._device), level.size)
        with torch.no_grad():
            features = network.front(level)
        self.z = {name: tensor.detach().clone().requires_grad_() for name, tensor in features.z.items()}
        self.features = Features(self.z, features.context)

    def _backbone(self, fold: bool) -> FrontRear:
        if fold not in self._networks:
            more = ["backbone.fold=true"] if fold else []
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._networks[fold] = _loaded([*self._overrides, *more]).backbone.to(self._device)
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
            return run(rear, self.features, rules="frozen" in words, blocks=blocks).float()

    def gradients(self, prediction: Tensor) -> list[Tensor]:
        """Of the prediction's mean magnitude, with respect to z."""
        return list(torch.autograd.grad(prediction.abs().mean(), list(self.z.values()), allow_unused=True))

    def seconds(self, arm: str) -> tuple[float, float]:
        """Wall and processor time of forward and backward."""
        self._wait()
        wall, cpu = time.perf_counter(), time.process_time()
        self.gradients(self.forward(arm))
        self._wait()
        return time.perf_counter() - wall, time.process_time() - cpu

    def memory(self, arm: str, results: Path) -> dict[str, float]:
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

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize()

    def _allocated(self) -> float:
        if self._device.type == "cuda":
            return torch.cuda.memory_allocated() / MIB
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        return _status("VmRSS")

    def _peak(self) -> float:
        return torch.cuda.max_memory_allocated() / MIB if self._device.type == "cuda" else _status("VmHWM")


def _loaded(overrides: list[str]) -> refine.Refiner:
    """With random weights where none are configured."""
    from refine.weights import UnusableWeights

    try:
        return refine.load(*overrides)
    except UnusableWeights:
        return refine.load(*overrides, "backbone.weights=random")


def _status(name: str) -> float:
    """MiB of a line of this process's status (the peak of ``getrusage`` would include the parent's)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def _child(task: dict[str, Any]) -> dict[str, Any]:
    """What a fresh process measures: the memory of one arm, or the seconds of all."""
    rear = Rear(task["backbone"], task["size"], task["options"])
    if "arm" in task:
        return rear.memory(task["arm"], Path(task["results"]))
    rounds = [{arm: rear.seconds(arm) for arm in task["arms"]} for _ in range(int(task["options"]["pairs"]) + 1)]
    return {arm: [one[arm] for one in rounds[1:]] for arm in task["arms"]}  # the first round warms up


def _in_fresh_process(task: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run([sys.executable, __file__, "--child", json.dumps(task)], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def _rows(backbone: str, size: int, options: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per arm."""
    arms = [arm for arm in options["arms"].split(",") if "frozen" in arm or size <= int(options["control_up_to"])]
    reference = arms[0]
    task = {"backbone": backbone, "size": size, "options": options}
    times = _in_fresh_process({**task, "arms": arms})
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        files = {arm: f"{folder}/{arm}.pt" for arm in arms}
        for arm in arms:
            memory = _in_fresh_process({**task, "arm": arm, "results": files[arm]})
            ratios = [
                [mine / theirs for mine, theirs in zip(one, other, strict=True)]
                for one, other in zip(times[arm], times[reference], strict=True)
            ]
            wall, cpu = (statistics.median(column) for column in zip(*ratios, strict=True))
            seconds = statistics.median(one for one, _ in times[arm])
            ours, theirs = torch.load(files[arm]), torch.load(files[reference])
            differ = max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True))
            error = max(float((a - b).norm() / b.norm()) for a, b in zip(ours[1:], theirs[1:], strict=True))
            row = {"backbone": backbone, "size": size, "arm": arm, "seconds": seconds, "ratio": wall, "cpu_ratio": cpu}
            rows.append({**row, **memory, "max_diff": differ, "gradient_error": error})
    return rows


def _table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""

    def cell(value: Any) -> str:
        return f"{value:.4g}" if isinstance(value, float) else str(value)

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
