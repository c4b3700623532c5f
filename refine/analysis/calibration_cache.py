"""Calibrations of this machine, each measured once and kept in the cache.

On a CPU memory is that of the process, which keeps much of what it once took. So there each way to refine is measured
in a process of its own.
"""

import contextlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch

from refine import __version__
from refine.analysis.calibration import SIDES, Calibration, calibrate
from refine.config import PredictConfig
from refine.core.devices import machine_name
from refine.core.memory import exact_ways, fastest_way
from refine.core.refiner import Refiner
from refine.factory import make_refiner
from refine.io.files import hash_settings, write_atomic
from refine.weights.download import cache_folder

# A process that answers one question. It ends as soon as the one that asked has ended, also by a kill: it would measure
# on for minutes. What is printed there must not mix with the answer.
APART = """
import os, pickle, sys, threading
answer = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)
function, args = pickle.load(sys.stdin.buffer)
threading.Thread(target=lambda: (os.read(0, 1), os._exit(1)), daemon=True).start()
pickle.dump(function(*args), answer)
answer.flush()
os._exit(0)
"""


def calibrated_ways(
    refiner: Refiner,
    config: PredictConfig,
    again: bool = False,
    folder: Path | None = None,
    say: Callable[[str], object] = lambda text: None,
) -> list[tuple[str, Refiner, Calibration]]:
    """The ways to the same pixels, the fastest first, each with its calibration; see :mod:`refine.core.memory`.

    Without a limit of the memory there is one way, the refiner as it is.

    Args:
        refiner: Refiner of the configuration, on its device.
        config: Settings of the run.
        again: Measure even what is in the cache.
        folder: Cache folder; None for the user's.
        say: Function that is told before something is measured.
    """
    ways = []
    for index, (name, way) in enumerate(_ways(refiner, config)):
        file = _calibration_file(way, config.threads, folder)
        known = None if again else _read(file)
        if known is None:
            say(f"measuring memory and time of this network on this machine{f' with {name}' if name else ''}, once ...")
            if refiner.backbone.device.type == "cpu":
                known = _apart(_calibrate_way, config, index, SIDES)
            else:
                known = calibrate(way)
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(file, json.dumps(asdict(known)).encode(), file.parent)
        ways.append((name, way, known))
    return ways


def _ways(refiner: Refiner, config: PredictConfig) -> Iterable[tuple[str, Refiner]]:
    return [("", refiner)] if config.memory is None else exact_ways(fastest_way(refiner))


def _calibrate_way(config: PredictConfig, index: int, sides: tuple[int, int]) -> Calibration:
    torch.set_num_threads(config.threads)
    ways = list(_ways(make_refiner(config), config))
    return calibrate(ways[index][1], sides)


def _apart(function: Callable[..., Calibration], *args: Any) -> Calibration:
    """What a function returns in a new process; a pool of multiprocessing starts none from a worker of joblib."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", APART]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdin and process.stdout
        pickle.dump((function, args), process.stdin)
        process.stdin.flush()
        answer = process.stdout.read()
    if process.returncode:
        raise RuntimeError(f"the process that measures this machine ended with status {process.returncode}.")
    return cast(Calibration, pickle.loads(answer))


def known_calibration(refiner: Refiner, threads: int, folder: Path | None = None) -> Calibration | None:
    """The calibration of a refiner if the cache has it; nothing is measured.

    Args:
        refiner: Refiner on its device.
        threads: Threads of the CPU that are used.
        folder: Cache folder; None for the user's.
    """
    return _read(_calibration_file(refiner, threads, folder))


def _read(file: Path) -> Calibration | None:
    with contextlib.suppress(OSError, ValueError, TypeError):
        return Calibration(**{key: tuple(line) for key, line in json.loads(file.read_text()).items()})
    return None


def _calibration_file(refiner: Refiner, threads: int, folder: Path | None) -> Path:
    decides = {
        "refine": __version__,
        "machine": machine_name(refiner.backbone.device),
        "threads": threads,
        "backbone": refiner.backbone.fingerprint(),
        "refiner": [
            refiner.precision,
            refiner.rules,
            refiner.gradient_checkpointing,
            bool(refiner.compiled),
            refiner.backbone.strips,
        ],
        "optimize": [refiner.optimize, any(refiner.steps)],
    }
    return (folder or cache_folder()) / "calibration" / f"{hash_settings(decides)}.json"
