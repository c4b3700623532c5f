"""Runs as jobs of one of Hydra's launchers: one after the other, several at a time, or jobs of SLURM.

``python -m refine.inference.launch --multirun jobs=<folder> job=a,b ...`` does them.

The commands start this in a process of its own, so that Hydra's global state, its logging and its workers never meet
the caller's. Launchers send :func:`task` to wherever a job runs: a process, a node of a cluster.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from refine.config import CONFIGS, ConfigError, PredictConfig, names_in, quoted
from refine.config.verbosity import say
from refine.inference.finished_run import write_job
from refine.inference.run_folder import JOB
from refine.inference.signals import STOPPED, exit_on_sigterm, interrupt_held_back, let_interrupt_through
from refine.inference.slots import own_device
from refine.inference.startup import lean_start
from refine.io.files import write_atomic

JOBS = "jobs.json"
STOP = "stopped"  # beside it: the exit status of what ended the jobs early; none of the terminal's begins any more
BEGUN = "begun"  # beside it, as soon as a job has begun
INTERRUPTED = "interrupted"
SHARED = ", several jobs at once"  # end of a machine's name, whose seconds are not those of one job alone
PLUGINS = {"joblib": "hydra_joblib_launcher", "submitit": "hydra_submitit_launcher"}


@dataclass(frozen=True)
class Job:
    """One ``refine predict``.

    Attributes:
        name: Name among the jobs that are launched together.
        overrides: Settings of the run, ``key=value`` each.
        output: Folder of its results, where it is noted how it ended.
        record: Name of that note.
        about: Plain values that stand in the note too.
    """

    name: str
    overrides: Sequence[str]
    output: Path
    record: str = JOB
    about: Mapping[str, Any] = field(default_factory=dict)


def launch(jobs: Sequence[Job], folder: Path, launcher: Sequence[str]) -> int:
    """Do jobs to their ends, in a process of its own; how each ended is noted on disk.

    Args:
        jobs: Jobs with different names.
        folder: Folder for the launcher's own files.
        launcher: Override ``launcher=<name>``, then Hydra's own ``hydra.<key>=<value>``.

    Returns:
        130 after Ctrl-C, 143 after SIGTERM, else 0.

    Raises:
        ConfigError: If the launcher failed before a job began.
    """
    if not jobs:
        return 0
    write_jobs(jobs, folder)
    arguments = {
        "jobs": quoted(str(folder)),
        "job": ",".join(quoted(job.name) for job in jobs),
        "hydra.sweep.dir": quoted(str(folder)),
    }
    command = [sys.executable, "-m", "refine.inference.launch", "--multirun"]
    command += [f"{key}={value}" for key, value in arguments.items()]
    process = None
    try:
        with interrupt_held_back():
            process = subprocess.Popen([*command, *launcher], stdin=subprocess.PIPE)  # closed when we end, however
        status = process.wait()
    except KeyboardInterrupt:
        _stop(folder, 130)
        if process:
            with contextlib.suppress(KeyboardInterrupt):  # another one ends the jobs, with this process
                process.wait()  # until the jobs at work have concluded
        return 130
    if stopped := _stopped(folder) or (status if status in STOPPED else 0):
        return stopped
    if status and BEGUN not in os.listdir(folder):  # no job can say what is wrong
        raise ConfigError(
            f"{' '.join(launcher)}: ended with status {status} before a job began. What it said stands above, and its "
            f"files lie in {folder}; change what it names, and run the same command again."
        )
    return 0


def write_jobs(jobs: Sequence[Job], folder: Path) -> None:
    """Note down what :func:`task` is to do.

    Args:
        jobs: Jobs with different names.
        folder: Folder for the launcher's own files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = {job.name: {**asdict(job), "output": str(job.output)} for job in jobs}
    write_atomic(folder / JOBS, json.dumps(content, indent=1).encode(errors="surrogateescape"), folder)
    for name in (STOP, BEGUN):
        (folder / name).unlink(missing_ok=True)


def _stop(folder: Path, status: int) -> None:
    write_atomic(folder / STOP, str(status).encode(), folder)


def _stopped(folder: Path) -> int:
    """Exit status of what ended the jobs early; 0 if nothing did."""
    return int((folder / STOP).read_text()) if (folder / STOP).exists() else 0


def say_interrupted(command: str, done: int, count: int, what: str) -> None:
    """Say what is there after jobs were stopped early, and how to go on.

    Args:
        command: Command of the user.
        done: Number of those that are there.
        count: Number of those that were asked for.
        what: What was counted, and what became of it.
    """
    text = f"{done} of {count} {what}, {count - done} left; run the same command to continue"
    print(f"refine {command}: interrupted: {text}", file=sys.stderr)


def check_launcher(name: str) -> None:
    """Check that there is such a launcher, that it is installed, and that SLURM is there if it needs it.

    Args:
        name: Name of a file in ``configs/launcher``.

    Raises:
        ConfigError: If there is none, or a package or SLURM is missing.
    """
    names = names_in("launcher")
    if name not in names:
        raise ConfigError(f"launcher={name}: expected one of {', '.join(names)}.")
    _check_package(name)
    if name == "submitit_slurm" and shutil.which("srun") is None:  # submitit's own test, which ends in a traceback
        raise ConfigError(
            "launcher=submitit_slurm needs srun, which is not on this machine; use launcher=submitit_local or joblib, "
            "or start the command where SLURM is."
        )


def _check_package(name: str) -> None:
    plugin = PLUGINS.get(name.partition("_")[0])
    with contextlib.suppress(ModuleNotFoundError):  # of the package that plugins lie in
        if plugin is None or find_spec(f"hydra_plugins.{plugin}"):
            return
    raise ConfigError(
        f"launcher={name} needs {str(plugin).replace('_', '-')}, which is not installed: "
        "pip install 'refine-inpainting[launchers]'."
    )


def task(config: DictConfig) -> int:
    """Do one job and note how it ended; one that fails does not take the others along.

    Args:
        config: Settings ``jobs`` and ``job`` of ``configs/sweep.yaml``, and ``share_devices`` of the launcher.

    Returns:
        Exit status of the job.

    Raises:
        SystemExit: If it was told to stop, and is no process of the terminal: nobody told the launcher.
    """
    folder = Path(config.jobs)
    job = _begin(folder, config.job)
    told = _is_told(HydraConfig.get().launcher["_target_"] if HydraConfig.initialized() else "")
    try:
        if told:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if told and (stopped := _stopped(folder)):
            return stopped
        say(f"refine: job {job.name}")
        with own_device(folder) if config.get("share_devices") else contextlib.nullcontext():
            status, reason = _predict(job.overrides)
    except KeyboardInterrupt:  # before there was anything to conclude
        status, reason = 130, INTERRUPTED
    finally:
        if told:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    if told and status in STOPPED:
        _stop(folder, status)
    from refine.core.devices import machine_name  # torch, which a job that is not run does not need

    at_once = _jobs_at_once()
    machine = machine_name() + (SHARED if at_once not in (None, 1) else "")
    note = {"status": status, "reason": reason, "machine": machine, "jobs_at_once": at_once}
    write_job(job.output, {**job.about, **note}, job.record)
    if status in STOPPED and not told:
        raise SystemExit(status)
    return status


def _begin(folder: Path, name: str) -> Job:
    """The job of this name; it is noted that one has begun."""
    content = json.loads((folder / JOBS).read_text(errors="surrogateescape"))[name]
    with contextlib.suppress(OSError):  # a full disk is told by the job itself
        (folder / BEGUN).touch()
    return Job(**{**content, "output": Path(content["output"])})


def _predict(overrides: Sequence[str]) -> tuple[int, str]:
    """Exit status, and in a sentence what is wrong."""
    with lean_start():  # not before a job runs: torch and Lightning take seconds
        from refine.inference import pipeline

    try:
        status = pipeline.run(PredictConfig.compose(overrides), overrides)
    except (ValueError, OSError) as error:
        print(f"refine: error: {error}", file=sys.stderr)
        return 2, str(error)
    except Exception as error:  # ours, or out of memory; the other jobs go on
        traceback.print_exc()
        return 1, f"{type(error).__name__}: {error}"
    reasons = {0: "", 130: INTERRUPTED, 143: "stopped"}
    return status, reasons.get(status, "some images failed or are missing; see .refine/failures.csv")


def _is_told(launcher: str) -> bool:
    """Whether the terminal tells the jobs of a launcher of Ctrl-C, as it does not those that submitit or SLURM starts.

    Args:
        launcher: Its name, or its ``_target_``.
    """
    return bool(launcher) and "submitit" not in launcher


def _jobs_at_once() -> int | None:
    """How many jobs the launcher does at once on this machine; None if others decide that, such as SLURM."""
    launcher = HydraConfig.get().launcher if HydraConfig.initialized() else {}
    if "submitit" in launcher.get("_target_", ""):
        return None
    n_jobs = int(launcher.get("n_jobs", 1))
    return n_jobs if n_jobs > 0 else max(1, (os.cpu_count() or 1) + 1 + n_jobs)  # as joblib counts: -1 is all cores


def _end_with_parent() -> None:
    """Stop when the process that started this one is gone: its end of the pipe closes, however it ended."""

    def wait() -> None:
        os.read(0, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    """Hand the jobs of the command line to the launcher.

    Ctrl-C is left to the jobs that the terminal tells of it: they conclude, and the launcher ends with the last one.
    Processes that are started here inherit that it is ignored, until they do a job.
    """
    exit_on_sigterm()
    if _is_told("".join(argument for argument in sys.argv if argument.startswith("launcher="))):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    let_interrupt_through()
    if not sys.stdin.isatty():
        _end_with_parent()
    application: Any = hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="sweep")(task)
    try:
        application()
    except KeyboardInterrupt:  # each job has said it; a launcher of processes would add its own traceback
        raise SystemExit(130) from None


if __name__ == "__main__":
    # The module, not __main__: a launcher finds task by this name elsewhere.
    from refine.inference import launch as sweep

    sweep.main()
