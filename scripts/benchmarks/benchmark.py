r"""What refinement costs, in seconds and memory, and whether it is exact: an update of the rear alone, or all of it.

    python scripts/benchmarks/benchmark.py sizes=512 backbones=big_lama pairs=7 \
        arms=control,frozen,fold+channels_last+frozen
    python scripts/benchmarks/benchmark.py what=refinement sizes=1024 backbones=big_lama pairs=4 \
        arms=control,frozen,fold+channels_last+frozen overrides=preset=reference,refiner.steps=3
    python scripts/benchmarks/benchmark.py sizes=64 backbones=mini pairs=1        # a smoke test

An arm is any of the words frozen, fold, channels_last, gradient_checkpointing, bf16, 16 and compile, joined by "+", or
control, which is ordinary autograd through the network as it is. With the word signs the ReLUs of the rear are open
where the control's are, to tell what else rounding does to the gradient; time and memory of such an arm mean nothing.
Every run has a fresh process, since an arm that gives memory back would slow the next one down that takes it again.
The rear's seconds (forward and backward) are the median of three after a first one. All arms run in every round, so
that other load on the machine hits all of them, and are compared within the round.

Options, with their defaults:
    what=rear              or refinement, of a generated scene with a hole
    sizes=512              sides in px, comma-separated
    backbones=mini         names of configs/backbone; weights are random where none are bundled
    arms=control,gradient_checkpointing,frozen,frozen+gradient_checkpointing
                           the first is the one the others are compared with
    pairs=3                rounds; the table has the median of their ratios
    device=cpu             or cuda
    threads=0              on the CPU; 0 for all
    dtype=float32          or float64, in which rounding hardly turns the sign of a ReLU's input; of the rear alone
    overrides=             for refine.load, comma-separated
"""

import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.subjects import SUBJECTS
from benchmarks.tables import markdown
from options import read

DEFAULTS: dict[str, Any] = {
    "what": "rear", "sizes": "512", "backbones": "mini", "pairs": 3, "device": "cpu", "threads": 0,
    "dtype": "float32", "overrides": "",
    "arms": "control,gradient_checkpointing,frozen,frozen+gradient_checkpointing",
}  # fmt: skip
WORDS = ("control", "frozen", "fold", "channels_last", "gradient_checkpointing", "bf16", "16", "compile", "signs")
COLUMNS = "backbone size arm seconds ratio ratios cpu_ratio live_MiB live_rss_MiB peak_MiB".split()
COLUMNS += "max_diff mean_diff gradient_error".split()


def _measure(task: dict[str, Any]) -> dict[str, Any]:
    """Measure one arm once, in this process."""
    subject = SUBJECTS[task["options"]["what"]](task["backbone"], task["size"], task["options"])
    return subject.run(task["arm"], Path(task["results"]))


def _measure_in_fresh_process(task: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", json.dumps(task)]
    process = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return json.loads(process.stdout.splitlines()[-1])


def _rows(backbone: str, size: int, options: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per arm."""
    arms = options["arms"].split(",")
    task = {"backbone": backbone, "size": size, "options": options}
    with tempfile.TemporaryDirectory() as folder:
        files = {arm: f"{folder}/{arm}.pt" for arm in arms}

        def measurement(arm: str) -> dict[str, Any]:
            return _measure_in_fresh_process({**task, "arm": arm, "results": files[arm]})

        rounds = [{arm: measurement(arm) for arm in arms} for _ in range(int(options["pairs"]))]
        times = {arm: [row[arm].pop("seconds") for row in rounds] for arm in arms}
        memory = {arm: max((row[arm] for row in rounds), key=lambda row: row["peak_MiB"]) for arm in arms}
        return [
            {"backbone": backbone, "size": size, "arm": arm}
            | _speed(times[arm], times[arms[0]])
            | memory[arm]
            | _differences(files[arm], files[arms[0]])
            for arm in arms
        ]


def _speed(times: list[list[float]], reference: list[list[float]]) -> dict[str, Any]:
    """Median seconds, and the ratios to the reference within each round."""
    pairs = zip(times, reference, strict=True)  # (wall, CPU) seconds of each round
    ratios = [[a / b for a, b in zip(seconds, base, strict=True)] for seconds, base in pairs]
    wall, cpu = zip(*ratios, strict=True)
    return {
        "seconds": statistics.median(wall for wall, _ in times),
        "ratio": statistics.median(wall),
        "ratios": f"{min(wall):.3f}-{max(wall):.3f}",
        "cpu_ratio": statistics.median(cpu),
    }


def _differences(file: str, reference: str) -> dict[str, float]:
    """Differences of the image or prediction and, for the rear, of its gradients."""
    pairs = list(zip(torch.load(file), torch.load(reference), strict=True))
    errors = [float((a - b).norm() / b.norm()) for a, b in pairs[1:]]
    (result, expected), *_ = pairs
    return {
        "max_diff": max(float((a - b).abs().max()) for a, b in pairs),
        "mean_diff": float((result - expected).abs().mean()),
        "gradient_error": max(errors, default=math.nan),
    }


def _check(options: dict[str, Any]) -> None:
    """Exit if an option has no meaning."""
    unknown = {word for arm in options["arms"].split(",") for word in arm.split("+")} - {*WORDS}
    if unknown:
        raise SystemExit(f"no arm is called {', '.join(sorted(unknown))}; the words are: {', '.join(WORDS)}.")
    if options["dtype"] not in ("float32", "float64"):
        raise SystemExit(f"dtype={options['dtype']}: give float32 or float64.")
    if options["what"] not in SUBJECTS:
        raise SystemExit(f"what={options['what']}: give one of {', '.join(SUBJECTS)}.")
    if "signs" in options["arms"] and (options["what"] != "rear" or "gradient_checkpointing" in options["arms"]):
        raise SystemExit(
            "signs: give what=rear, and no gradient_checkpointing: it would compute the rear with other signs."
        )


def main(arguments: list[str]) -> None:
    """Measure and print the table.

    Args:
        arguments: Command line, ``key=value`` each.
    """
    options = read(DEFAULTS, arguments)
    _check(options)
    rows = []
    for backbone in options["backbones"].split(","):
        for size in options["sizes"].split(","):
            rows += _rows(backbone, int(size), options)
    print(f"{time.strftime('%Y-%m-%d')}, torch {torch.__version__}, {options}\n\n{markdown(rows, COLUMNS)}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(_measure(json.loads(sys.argv[2]))))
    else:
        main(sys.argv[1:])
