"""Stress tests of several processes at work in one folder, on generated images and a random LaMa.

    python scripts/benchmarks/processes.py same out=<folder>
    python scripts/benchmarks/processes.py kills out=<folder>
    python scripts/benchmarks/processes.py slow out=<folder>
    python scripts/benchmarks/processes.py balance out=<folder>

same       One process, DDP, torchrun, two torchrun nodes, three shards and srun give the same bytes.
kills      Ten kills -9 of a rank or the agent over 40 images: the run ends and says so, nothing is lost or made twice.
slow       A process that is slower than any time limit: nobody gives up.
balance    Two processes divide 40 images of 0.1 to 2 MP so that they end at about the same time.

`same` leaves out srun where there is none (scripts/local_slurm.sh brings one up). `balance` is a timing: run it alone.
"""

import csv
import hashlib
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path
from subprocess import DEVNULL

import numpy as np
from PIL import Image

from refine.analysis.plan import plan_levels, work
from refine.api import load

VARYING = ("seconds", "peak_memory_mib")  # columns of rows.csv that differ between any two runs
TINY = ["backbone=lama", "backbone.weights=random", "backbone.native_size=16", "device=cpu"]
TINY += [f"backbone.sizes.{size}" for size in ("width=4", "blocks=1", "downsamplings=2", "global_channels=12")]
DDP = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]


def make_images(folder: Path, sizes: list[tuple[int, int]]) -> None:
    """Noise with a hole in the middle, as ``im00.png`` and ``im00_mask.png`` ..."""
    folder.mkdir(parents=True)
    for number, (width, height) in enumerate(sizes):
        noise = np.random.default_rng(number).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).save(folder / f"im{number:02}.png")
        mask = np.zeros((height, width), np.uint8)
        mask[height // 4 : height // 2, width // 4 : 3 * width // 4] = 255
        Image.fromarray(mask).save(folder / f"im{number:02}_mask.png")


def predict(folder: Path, output: Path, *overrides: str) -> list[str]:
    """The arguments of a run."""
    return ["-m", "refine", "predict", f"input={folder}", f"output={output}", *TINY, *overrides]


def ways(folder: Path, output: Path, *overrides: str) -> dict[str, list[list[str]]]:
    """The same run in every way of starting it: the commands to start side by side."""
    arguments = lambda way, *further: predict(folder, output / way, *overrides, *further)  # noqa: E731
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torchrun = [sys.executable, "-m", "torch.distributed.run"]
    nodes = ["--nnodes=2", "--nproc-per-node=1", "--master-addr=127.0.0.1", f"--master-port={port}"]
    elastic = ["trainer=ddp", "trainer.accelerator=cpu"]
    commands = {
        "one": [[sys.executable, *arguments("one")]],
        "ddp": [[sys.executable, *arguments("ddp", *DDP)]],
        "torchrun": [[*torchrun, "--standalone", "--nproc-per-node=2", *arguments("torchrun", *elastic)]],
        "nodes": [[*torchrun, *nodes, f"--node-rank={rank}", *arguments("nodes", *elastic)] for rank in range(2)],
        "shards": [[sys.executable, *arguments("shards", "shards=3", f"shard={shard}")] for shard in range(3)],
    }
    if has_slurm():
        srun = ["srun", "--ntasks=2", "--ntasks-per-node=2", "--kill-on-bad-exit=1", "--immediate=60"]
        commands["srun"] = [[*srun, sys.executable, *arguments("srun", "trainer=slurm", "trainer.accelerator=cpu")]]
    return commands


def has_slurm() -> bool:
    """Whether a SLURM takes jobs here."""
    ping = ["scontrol", "ping"]  # of a daemon that is down it says so at once; sinfo waits for it for nine seconds
    return bool(shutil.which("sinfo")) and subprocess.run(ping, capture_output=True).returncode == 0


def results(output: Path) -> dict[str, str]:
    """Hash of every result by name."""
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(output.glob("*.png"))}


def stamps(output: Path) -> dict[str, tuple[int, int]]:
    """Time and inode of every result: both stay only if nobody wrote it."""
    return {file.name: (file.stat().st_mtime_ns, file.stat().st_ino) for file in output.glob("*.png")}


def rows(output: Path) -> list[dict[str, str]]:
    """The merged rows, without what differs between any two runs."""
    with (output / ".refine" / "rows.csv").open(newline="") as stream:
        return [{k: v for k, v in row.items() if k not in VARYING} for row in csv.DictReader(stream)]


def same(out: Path) -> bool:
    """Every way of starting it gives the same bytes and the same rows."""
    make_images(out / "in", [(40 + 9 * number, 97 - 4 * number) for number in range(11)])
    (out / "out").mkdir()
    outcomes = {}
    for way, commands in ways(out / "in", out / "out", "refiner.steps=3").items():
        start = time.perf_counter()
        processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
        errors = [process.communicate()[1] for process in processes]
        statuses = [process.returncode for process in processes]
        print(
            f"{way}: status {statuses}, {len(results(out / 'out' / way))} images, {time.perf_counter() - start:.0f} s"
        )
        if any(statuses):
            print(*errors, sep="\n")
        outcomes[way] = results(out / "out" / way), rows(out / "out" / way)
    alike = all(outcome == outcomes["one"] and len(outcome[0]) == 11 for outcome in outcomes.values())
    print(f"{', '.join(outcomes)}: {'identical images and rows' if alike else 'THEY DIFFER'}")
    return alike


def children(pid: int) -> list[int]:
    """The processes that an agent started, by rank."""
    started = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sorted(int(child) for child in started if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes())


def gone(pid: int) -> bool:
    """It has ended, be it that nobody has taken note yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def kills(out: Path, count: int = 40, times: int = 10) -> bool:
    """Kill a random process of a run at a random moment, then run the same command once more; again and again."""
    make_images(out / "in", [(90 + number, 110 - number) for number in range(count)])
    subprocess.run(
        [sys.executable, *predict(out / "in", out / "undisturbed", "refiner.steps=8")], check=True, stderr=DEVNULL
    )
    expected = results(out / "undisturbed")
    generator = random.Random(0)
    return all([_kill(out, expected, generator, number) for number in range(times)])  # all of them, also after a fault


def _kill(out: Path, expected: dict[str, str], generator: random.Random, number: int) -> bool:
    output, restarts, who = out / f"out{number}", number % 2, ("rank 0", "rank 1", "agent")[number % 3]
    command = [
        sys.executable,
        *predict(out / "in", output, "refiner.steps=8", *DDP, f"trainer.max_restarts={restarts}"),
    ]
    wanted = generator.randint(0, len(expected) - 2)
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while run.poll() is None and (len(children(run.pid)) < 2 or len(results(output)) < wanted):
        time.sleep(0.01)
    time.sleep(generator.random() * 0.3)
    workers = children(run.pid)
    os.kill({"rank 0": workers[0], "rank 1": workers[1], "agent": run.pid}[who], signal.SIGKILL)
    start, before = time.monotonic(), stamps(output)
    errors = run.communicate()[1]
    while not all(map(gone, workers)):
        time.sleep(0.01)
    seconds = time.monotonic() - start
    after = stamps(output)
    missing = [name.removesuffix(".png") for name in expected if name not in after]
    named = all(name in errors + (output / ".refine" / "log.txt").read_text() for name in missing)
    ended = seconds < 30 and (run.returncode == 0 if not missing else run.returncode != 0 and named)
    again = subprocess.run(command, stderr=DEVNULL).returncode
    kept = before.items() <= after.items() <= stamps(output).items()
    right = results(output) == expected
    print(
        f"kill {number + 1}: {who} after {len(before)} images, max_restarts={restarts}: status {run.returncode} in "
        f"{seconds:.1f} s, {len(missing)} missing{', all named' * (named and bool(missing))}; "
        f"again: status {again}, {len(results(output))} of {len(expected)} right: {right}, none made twice: {kept}"
    )
    return ended and again == 0 and right and kept


def slow(out: Path) -> bool:
    """One process takes much longer than the other, and than the limit for coming to the start."""
    make_images(out / "in", [(60, 60)] * 8)
    (out / "site").mkdir()
    (out / "site" / "sitecustomize.py").write_text(SLOW)
    paths = [str(out / "site"), str(Path(__file__).resolve().parents[2])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, *predict(out / "in", out / "out", *DDP, "trainer.timeout=10")]
    start = time.monotonic()
    status = subprocess.run(command, env=environment).returncode
    seconds = time.monotonic() - start
    print(f"rank 1 sleeps 5 s before each of its 4 images, timeout 10 s: status {status} in {seconds:.0f} s")
    return status == 0 and len(results(out / "out")) == 8 and seconds > 20


SLOW = """
import os, time
from refine.inference.module import InpaintingModule
step = InpaintingModule.predict_step
def late(self, batch, batch_idx):
    time.sleep(5 * (os.environ.get("RANK") == "1"))
    return step(self, batch, batch_idx)
InpaintingModule.predict_step = late
"""


def balance(out: Path, *overrides: str) -> bool:
    """Images of very different size; when does each of two processes finish its share?"""
    generator = random.Random(0)
    pixels = [1e5 * 20 ** (number / 39) for number in range(40)]  # 0.1 to 2 MP, evenly on a logarithmic scale
    generator.shuffle(pixels)
    sizes = [(round((n * a) ** 0.5), round((n / a) ** 0.5)) for n in pixels for a in [generator.uniform(0.6, 1.6)]]
    make_images(out / "in", sizes)
    settings = ["backbone.native_size=128", "refiner.steps=2", *overrides]
    command = [sys.executable, *predict(out / "in", out / "out", *settings, *DDP)]
    subprocess.run(command, check=True, stderr=DEVNULL)
    files = [out / "out" / ".refine" / f"rows-{rank}.jsonl" for rank in (0, 1)]
    seconds = [
        {row["key"]: row["seconds"] for row in map(json.loads, file.read_text().split("\n")[1:])} for file in files
    ]
    loads = [sum(share.values()) for share in seconds]
    ends = abs(files[0].stat().st_mtime - files[1].stat().st_mtime)
    print(f"by cost: {loads[0]:.1f} and {loads[1]:.1f} s, {apart(loads):.1%} apart; last results {ends:.1f} s apart")
    every = [value for _, value in sorted((seconds[0] | seconds[1]).items())]
    strided = [sum(every[rank::2]) for rank in (0, 1)]
    print(f"control, every other image: {strided[0]:.1f} and {strided[1]:.1f} s, {apart(strided):.1%} apart")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the weights are random
        refiner = load(*TINY, *settings)
    rates = sorted(value / work(plan_levels(refiner, (h, w))) * 1e9 for value, (w, h) in zip(every, sizes, strict=True))
    print(
        f"ns per pixel and pass: median {statistics.median(rates):.1f}, 10 to 90 %: {rates[4]:.1f} to {rates[35]:.1f}"
    )
    return apart(loads) < 0.1


def apart(loads: list[float]) -> float:
    """Difference as a share of the larger."""
    return abs(loads[0] - loads[1]) / max(loads)


def main(what: str, folder: str, *overrides: str) -> int:
    """Run one of the tests.

    Args:
        what: Name of the test: ``same``, ``kills``, ``slow`` or ``balance``.
        folder: ``out=<folder>``, a new folder.
        *overrides: Further settings of the runs.

    Returns:
        Exit status.
    """
    out = Path(folder.removeprefix("out=")).resolve()
    out.mkdir(parents=True)
    return int(not {"same": same, "kills": kills, "slow": slow, "balance": balance}[what](out, *overrides))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
