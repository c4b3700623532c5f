"""Execution of a study's runs by one of Hydra's launchers.

``python -m refine.studies.launch --multirun study=<output> job=a,b ...`` runs them.

``refine study`` starts this in a process of its own, so that Hydra's global state, its logging and its workers never
meet the caller's. Launchers send :func:`task` to wherever a job runs: a process, a node of a cluster.
"""

import os
import platform
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig

from refine.config import CONFIGS, PredictConfig, literal
from refine.studies.plan import STUDY, finish, read_plan
from refine.studies.spec import StudyRun

VISIBLE = "CUDA_VISIBLE_DEVICES"
STOPPED = (130, 143)  # exit statuses of Ctrl-C and SIGTERM


def launch(runs: Sequence[StudyRun], output: Path, launcher: Sequence[str]) -> int:
    """Do runs to their ends, in a process of its own; how each ended is on disk.

    Args:
        runs: Runs of the plan in ``output``.
        output: Folder of the study's results.
        launcher: Override ``launcher=<name>``, then Hydra's own ``hydra.<key>=<value>``.

    Returns:
        130 after Ctrl-C, 143 after SIGTERM, else 0.
    """
    if not runs:
        return 0
    arguments = {
        "study": _quoted(str(output)),
        "job": ",".join(_quoted(run.name) for run in runs),
        "hydra.sweep.dir": _quoted(str(output / STUDY / "jobs")),
    }
    command = [sys.executable, "-m", "refine.studies.launch", "--multirun", *(f"{k}={v}" for k, v in arguments.items())]
    process = subprocess.Popen([*command, *launcher], stdin=subprocess.PIPE)  # closed when we end, however
    try:
        status = process.wait()
    except KeyboardInterrupt:
        process.wait()
        return 130
    return status if status in STOPPED else 0


def _quoted(text: str) -> str:
    return str(QuotedString(literal(text), Quote.single).with_quotes())


def task(config: DictConfig) -> int:
    """Do one job of the plan and note how it ended; one that fails does not take the others along.

    Args:
        config: Settings ``study`` and ``job`` of ``configs/sweep.yaml``; ``worker``, where jobs share this machine.

    Returns:
        Exit status of the job.

    Raises:
        SystemExit: If it was told to stop, so that no further job begins.
    """
    run = read_plan(Path(config.study))[config.job]
    print(f"refine study: {run.name}", file=sys.stderr, flush=True)
    if (worker := config.get("worker")) is not None:
        keep_one_gpu(worker)
    status, reason = _predict(run.overrides)
    finish(run, status, reason, _machine())
    if status in STOPPED:
        raise SystemExit(status)
    return status


def _predict(overrides: Sequence[str]) -> tuple[int, str]:
    """Exit status, and in a sentence what is wrong."""
    from refine.inference import pipeline  # not before a job runs: torch and Lightning take seconds

    try:
        status = pipeline.run(PredictConfig.compose(overrides), overrides)
    except (ValueError, OSError) as error:
        print(f"refine: error: {error}", file=sys.stderr)
        return 2, str(error)
    except Exception as error:  # ours, or out of memory; the other jobs go on
        traceback.print_exc()
        return 1, f"{type(error).__name__}: {error}"
    reasons = {0: "", 130: "interrupted", 143: "stopped"}
    return status, reasons.get(status, "some images failed or are missing; see .refine/failures.csv")


def keep_one_gpu(number: int) -> None:
    """Let this process see one of its GPUs alone; one that sees one already stays there.

    CUDA reads the variable once, so a process that runs several jobs keeps to the GPU of its first.

    Args:
        number: Number of the job from 0; GPUs are taken in turn.
    """
    import torch

    given = os.environ.get(VISIBLE)
    visible = list(map(str, range(torch.cuda.device_count()))) if given is None else given.split(",")
    if visible:
        os.environ[VISIBLE] = visible[number % len(visible)]


def _machine() -> str:
    """What a number of seconds means nothing without."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    return f"{device}, {os.cpu_count()} cores, torch {torch.__version__}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):  # not Linux, or not x86
        return platform.processor() or platform.machine()


def _end_with_parent() -> None:
    """Stop when the process that started this one is gone: its end of the pipe closes, however it ended."""

    def wait() -> None:
        os.read(0, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    """Hand the jobs of the command line to the launcher."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if not sys.stdin.isatty():
        _end_with_parent()
    application: Any = hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="sweep")(task)
    application()


if __name__ == "__main__":
    from refine.studies import launch as sweep  # the module, not __main__: a launcher finds task by this name elsewhere

    sweep.main()
