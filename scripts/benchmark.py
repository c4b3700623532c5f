"""What one update of a backbone's rear costs, forward and backward, in seconds and memory, and whether it is exact.

    python scripts/benchmark.py sizes=512 backbones=big_lama pairs=7
    python scripts/benchmark.py sizes=64 backbones=mini pairs=1        # a smoke test

Arms are (frozen, checkpoint); the control is ordinary autograd. Every arm runs in a fresh process for its memory; its
seconds come from pairs of runs, arm beside control, in one process, so that other load on the machine hits both.

Options, with their defaults:
    sizes=512              sides in px, comma-separated
    backbones=mini         names of configs/backbone; weights are random where none are bundled
    pairs=3                runs of each arm; the table has the median of their ratios
    device=cpu             or cuda
    threads=0              on the CPU; 0 for all
    overrides=             for refine.load, comma-separated, such as backbone.fold=true
    control_up_to=512      largest size at which the control runs (it takes 11 GiB for Big-LaMa at 1024)
"""

import ctypes
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import refine
from refine.adapters.base import FrontRear
from refine.adapters.nested import named_tensors
from refine.frozen import run
from refine.layers import graph_bytes
from refine.pyramid import make_level
from refine.types import Features

MIB = 2**20
DEFAULTS: dict[str, Any] = {
    "sizes": "512", "backbones": "mini", "pairs": 3, "device": "cpu", "threads": 0, "overrides": "",
    "control_up_to": 512,
}  # fmt: skip
CONTROL = (False, False)
ARMS = {"control": CONTROL, "checkpoint": (False, True), "frozen": (True, False), "frozen+checkpoint": (True, True)}
COLUMNS = "backbone size arm seconds ratio cpu_ratio live_MiB live_rss_MiB peak_MiB max_diff".split()


class Rear:
    """The rear of a backbone at one size, ready to be run.

    Args:
        backbone: Its name.
        size: Side in px.
        options: Of the command line.
    """

    def __init__(self, backbone: str, size: int, options: dict[str, Any]) -> None:
        torch.set_num_threads(int(options["threads"]) or torch.get_num_threads())
        overrides = [f"backbone={backbone}", *filter(None, str(options["overrides"]).split(","))]
        self.device = torch.device(options["device"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.backbone: FrontRear = _loaded(overrides).backbone.to(self.device)
        draw = torch.Generator().manual_seed(0)
        image, mask = torch.rand(1, 3, size, size, generator=draw), torch.zeros(1, 1, size, size)
        mask[..., size // 4 : size // 2, size // 4 : size // 2] = 1
        level = make_level(image, mask, self.backbone.multiple_of, self.backbone.minimum_side)
        level = type(level)(level.image.to(self.device), level.mask.to(self.device), level.size)
        with torch.no_grad():
            features = self.backbone.front(level)
        self.z = {name: tensor.detach().clone().requires_grad_() for name, tensor in features.z.items()}
        self.features = Features(self.z, features.context)

    def forward(self, frozen: bool, checkpoint: bool) -> Tensor:
        """The prediction of one arm, with its graph."""
        return run(self.backbone.rear, self.features, rules=frozen, blocks=self.backbone.blocks if checkpoint else None)

    def gradients(self, prediction: Tensor) -> list[Tensor]:
        """Of the prediction's mean magnitude, with respect to z."""
        return list(torch.autograd.grad(prediction.abs().mean(), list(self.z.values()), allow_unused=True))

    def seconds(self, arm: tuple[bool, bool]) -> tuple[float, float]:
        """Wall and processor time of forward and backward."""
        self._wait()
        wall, cpu = time.perf_counter(), time.process_time()
        self.gradients(self.forward(*arm))
        self._wait()
        return time.perf_counter() - wall, time.process_time() - cpu

    def memory(self, arm: tuple[bool, bool], results: Path) -> dict[str, float]:
        """MiB alive after the forward pass, by the graph and by the system; MiB at the peak; the results in a file."""
        before = self._allocated()
        prediction = self.forward(*arm)
        alive = self._allocated() - before
        # Looking at what a checkpoint saved would compute it again.
        live = float("nan") if arm[1] else self._graph(prediction) / MIB
        gradients = self.gradients(prediction)
        torch.save([prediction.detach().cpu(), *(g.cpu() for g in gradients if g is not None)], results)
        return {"live_MiB": live, "live_rss_MiB": alive, "peak_MiB": self._peak()}

    def _graph(self, prediction: Tensor) -> int:
        """Bytes that the graph and the prediction hold, but for z and the weights."""
        given = [*self.backbone.parameters(), *self.backbone.buffers(), *self.z.values()]
        return graph_bytes(prediction, [*given, *named_tensors(self.features.context).values()])

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def _allocated(self) -> float:
        if self.device.type == "cuda":
            return torch.cuda.memory_allocated() / MIB
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        return _status("VmRSS")

    def _peak(self) -> float:
        return torch.cuda.max_memory_allocated() / MIB if self.device.type == "cuda" else _status("VmHWM")


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
        return rear.memory(tuple(task["arm"]), Path(task["results"]))
    arms, pairs = task["arms"], int(task["options"]["pairs"])
    rounds = [{name: rear.seconds(arm) for name, arm in arms.items()} for _ in range(pairs + 1)]
    return {name: [one[name] for one in rounds[1:]] for name in arms}  # the first round warms up


def _in_fresh_process(task: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run([sys.executable, __file__, "--child", json.dumps(task)], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def _rows(backbone: str, size: int, options: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per arm."""
    arms = {name: arm for name, arm in ARMS.items() if arm[0] or size <= int(options["control_up_to"])}
    reference = next(iter(arms))
    task = {"backbone": backbone, "size": size, "options": options}
    times = _in_fresh_process({**task, "arms": arms})
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        files = {name: f"{folder}/{name}.pt" for name in arms}
        for name, arm in arms.items():
            memory = _in_fresh_process({**task, "arm": arm, "results": files[name]})
            ratios = [
                [mine / theirs for mine, theirs in zip(one, other, strict=True)]
                for one, other in zip(times[name], times[reference], strict=True)
            ]
            wall, cpu = (statistics.median(column) for column in zip(*ratios, strict=True))
            seconds = statistics.median(one for one, _ in times[name])
            ours, theirs = torch.load(files[name]), torch.load(files[reference])
            differ = max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True))
            row = {"backbone": backbone, "size": size, "arm": name, "seconds": seconds, "ratio": wall, "cpu_ratio": cpu}
            rows.append({**row, **memory, "max_diff": differ})
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
    options = dict(DEFAULTS)
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key not in options:
            raise SystemExit(f"no option '{key}'; there are: {', '.join(options)}.")
        options[key] = value
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
