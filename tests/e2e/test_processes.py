"""Several real processes, however started and however they end; longer runs: scripts/benchmarks/processes.py."""

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch
from generated import pair, refine
from omegaconf import OmegaConf

from benchmarks import processes
from benchmarks.processes import DDP, children, results, rows, stamps, ways
from refine.config import ConfigError, PredictConfig
from refine.inference.distributed.strategy import IndependentProcesses, make_trainer, set_threads

ROOT = Path(__file__).resolve().parents[2]
COUNT = 12
linux = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds child processes in /proc, as Linux has")


@pytest.fixture
def folder(tmp_path):
    """Images that take a moment each, and a place for results."""
    for number in range(COUNT):
        pair(tmp_path / "in", f"im{number:02}", number, 120, 90)
    return tmp_path


def start(folder: Path, tiny: list[str], *overrides: str, **environment: str) -> subprocess.Popen:
    inputs = [f"input={folder / 'in'}", f"output={folder / 'out'}"]
    command = [sys.executable, "-m", "refine", "predict", *inputs, *tiny, "refiner.steps=8", *DDP, *overrides]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}, cwd=folder)


def until(ready) -> None:
    deadline = time.monotonic() + 120
    while not ready() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert ready()


def at_work(folder: Path, rank: int) -> bool:
    """It has made its first result: the row of a second one, which comes before the result itself, is there."""
    file = folder / "out" / ".refine" / f"rows-{rank}.jsonl"
    return file.exists() and file.read_text().count("\n") >= 2


def gone(pid: int) -> bool:
    """It has ended, be it that nobody has taken note yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def without_the_second(folder: Path, tiny: list[str], number: int) -> tuple[subprocess.Popen, str, dict]:
    """A run of which process 1 gets a signal at work: how it ended, what it said, and what it left."""
    run = start(folder, tiny)
    until(lambda: at_work(folder, 1))
    os.kill(children(run.pid)[0], number)
    return run, run.communicate(timeout=100)[1], stamps(folder / "out")


def completed(folder: Path, tiny: list[str], before: dict) -> None:
    """A rerun, by one process, does what is left and nothing else."""
    inputs = [f"input={folder / 'in'}", f"output={folder / 'out'}"]
    outcome = refine("predict", *inputs, *tiny, "refiner.steps=8")
    assert outcome.status == 0 and f"{COUNT - len(before)} done, {len(before)} already there" in outcome.err
    assert before.items() <= stamps(folder / "out").items() and len(results(folder / "out")) == COUNT
    assert len(rows(folder / "out")) == COUNT


@pytest.mark.slow
def test_one_process_ddp_torchrun_and_srun_give_the_same_bytes_and_rows(tmp_path, monkeypatch):
    found = ways(tmp_path, tmp_path)
    monkeypatch.setattr(processes, "ways", lambda *given: found | ways(*given))
    assert processes.same(tmp_path / "all")
    if "srun" not in found:
        pytest.skip("without srun, since no SLURM runs here (scripts/local_slurm.sh up); all others agree")


@linux
@pytest.mark.slow
def test_a_killed_process_is_missed_at_once(folder, tiny):
    run, said, before = without_the_second(folder, tiny, signal.SIGKILL)
    assert run.returncode == 1 and "has no result: process 1 died" in said
    missing = {f"im{number:02}" for number in range(COUNT)} - {Path(name).stem for name in before}
    assert missing and all(f"failed: {key}: has no result: process 1 died" in said for key in missing)
    assert len(rows(folder / "out")) == len(before) and f"{len(before)} done, {len(missing)} failed" in said
    completed(folder, tiny, before)


@linux
@pytest.mark.slow
def test_a_terminated_process_is_missed_and_the_other_goes_on(folder, tiny):
    run, said, before = without_the_second(folder, tiny, signal.SIGTERM)
    assert run.returncode == 1 and "has no result: process 1 was stopped (status 143)" in said
    assert "Traceback" not in said and COUNT // 2 <= len(before) < COUNT
    completed(folder, tiny, before)


@linux
@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_without_the_first_process_all_end(folder, tiny, number, status):
    run = start(folder, tiny)
    until(lambda: at_work(folder, 0))
    (other,) = children(run.pid)
    os.kill(run.pid, number)
    said = run.communicate(timeout=100)[1]
    until(lambda: gone(other))
    before = stamps(folder / "out")
    assert run.returncode == status and len(before) < COUNT, said
    if number != signal.SIGKILL:
        assert f"{len(before)} done, {COUNT - len(before)} left; run the same command to continue" in said
        assert len(rows(folder / "out")) == len(before) and "Traceback" not in said
    completed(folder, tiny, before)


FAULT = """
import os
if os.environ.get("LOCAL_RANK") == "1":
    from refine.inference.callbacks.writer import ResultWriter
    def fail(*_):
        raise MemoryError("a fault of ours")
    ResultWriter.on_predict_batch_end = fail
"""


@pytest.mark.slow
def test_an_exception_in_one_process_is_told_and_the_other_goes_on(folder, tiny):
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(FAULT)
    paths = os.pathsep.join([str(folder / "site"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    run = start(folder, tiny, PYTHONPATH=paths)
    said, before = run.communicate(timeout=100)[1], stamps(folder / "out")
    assert run.returncode == 1 and len(before) == COUNT // 2
    assert "has no result: process 1 failed (MemoryError: a fault of ours)" in said
    assert "Traceback" in said  # of the process whose fault it is
    completed(folder, tiny, before)


@pytest.mark.slow
def test_more_processes_than_images(tmp_path, tiny):
    pair(tmp_path / "in", "only")
    run = start(tmp_path, tiny, "trainer.devices=3")
    said = run.communicate(timeout=100)[1]
    assert run.returncode == 0 and list(results(tmp_path / "out")) == ["only.png"], said
    assert said.splitlines()[0] == "refine predict: 1 image" and len(said.splitlines()) == 2


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may mount a small file system")
def test_a_full_disk(folder, tiny):
    (folder / "out").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=120k", "tmpfs", str(folder / "out")]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount here")
    try:
        run = start(folder, tiny)
        said, before = run.communicate(timeout=100)[1], stamps(folder / "out")
        assert run.returncode != 0 and "No space left on device" in said and 0 < len(before) < COUNT, said
        subprocess.run(["mount", "-o", "remount,size=50m", str(folder / "out")], check=True)
        completed(folder, tiny, before)
    finally:
        subprocess.run(["umount", str(folder / "out")], check=True)


# The trainer


def trainer_of(*overrides: str):
    config = PredictConfig.compose(["input=in", "output=out", *overrides])
    return make_trainer(config.trainer, torch.device("cpu"))


def test_one_process_needs_no_company():
    for way in ("default", "cpu"):
        trainer = trainer_of(f"trainer={way}")
        assert trainer.world_size == 1 and not isinstance(trainer.strategy, IndependentProcesses)
    assert trainer_of("trainer=ddp", "trainer.accelerator=cpu").world_size == 1  # auto: this CPU


def test_two_processes_know_who_they_are(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    trainer = trainer_of(*DDP)
    assert isinstance(trainer.strategy, IndependentProcesses) and (trainer.global_rank, trainer.world_size) == (1, 2)
    assert not trainer.is_global_zero and trainer.strategy.root_device == torch.device("cpu")
    trainer.strategy.barrier("nobody waits")
    assert trainer.strategy.broadcast("own") == trainer.strategy.reduce("own") == "own"


SLURM = {
    "SLURM_NTASKS": "4",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_NNODES": "2",
    "SLURM_NODEID": "1",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_JOB_ID": "7",
    "SLURM_JOB_NAME": "job",
    "SLURM_STEP_NUM_TASKS": "4",
}


def test_srun_says_who_we_are(monkeypatch):
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    trainer = trainer_of("trainer=slurm", "trainer.accelerator=cpu")
    assert (trainer.global_rank, trainer.world_size, trainer.local_rank) == (3, 4, 1)
    assert trainer.strategy.environment.auto_requeue is False
    with pytest.raises(ConfigError, match="devices=3"):
        trainer_of("trainer=slurm", "trainer.accelerator=cpu", "trainer.devices=3")
    with pytest.warns(UserWarning, match="4 such processes were started together, but each does all the work"):
        trainer_of("trainer=default")


def test_torchrun_says_who_we_are(monkeypatch):
    for name in SLURM:
        monkeypatch.delenv(name, raising=False)
    names = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "GROUP_RANK": "1"}
    for name, value in {**names, "GROUP_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "none"}.items():
        monkeypatch.setenv(name, value)
    trainer = trainer_of("trainer=ddp", "trainer.accelerator=cpu")
    assert (trainer.global_rank, trainer.world_size, trainer.num_nodes) == (1, 2, 2)
    with pytest.raises(ConfigError, match="does not match the world size"):
        trainer_of("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")


def test_in_a_shell_of_slurm_without_srun(monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "1")
    with pytest.raises(ConfigError, match=r"did not start this process.*SLURM_JOB_NAME=bash"):
        trainer_of(*DDP)
    for name in ("SLURM_NODEID", "SLURM_PROCID", "SLURM_LOCALID"):  # as in a batch script
        monkeypatch.setenv(name, "0")
    with pytest.raises(ConfigError, match="2 processes are asked for, but the environment says that 1 were started"):
        trainer_of(*DDP)
    monkeypatch.setenv("SLURM_JOB_NAME", "bash")
    assert trainer_of(*DDP).world_size == 2


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.strategy=ddp", *DDP], "processes share nothing here"),
        (["trainer=gpu", "device=cpu"], "trainer: "),
        (["threads=0"], "threads=0: expected a number greater than 0"),
        (["threads=1.5"], "threads=1.5"),
        (["patience=0"], "patience=0: expected a number greater than 0"),
    ],
)
def test_what_cannot_be(tmp_path, tiny, overrides, message):
    pair(tmp_path / "in", "a")
    if torch.cuda.is_available() and "trainer=gpu" in overrides:
        pytest.skip("there is a GPU")
    inputs = [f"input={tmp_path / 'in'}", f"output={tmp_path / 'out'}"]
    outcome = refine("predict", *inputs, *tiny, *overrides)
    assert outcome.status == 2 and message in outcome.err and not (tmp_path / "out").exists()


def test_too_many_threads_are_warned_of(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    before = torch.get_num_threads()
    try:
        one, two, nine = trainer_of(), trainer_of(*DDP), trainer_of(*DDP, "trainer.devices=9")
        with pytest.warns(UserWarning, match="2 processes x threads=3 on 4 cores"):
            set_threads(3, two)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            set_threads(4, one)
            set_threads(2, two)
            set_threads(1, nine)
    finally:
        torch.set_num_threads(before)


def test_the_number_of_threads_is_set_and_told(tmp_path, tiny):
    pair(tmp_path / "in", "a")
    before = torch.get_num_threads()
    try:
        assert refine("predict", f"input={tmp_path / 'in'}", f"output={tmp_path}/2", *tiny, "threads=2").status == 0
        assert torch.get_num_threads() == 2 and rows(tmp_path / "2")[0]["threads"] == "2"
    finally:
        torch.set_num_threads(before)
    assert refine("predict", f"input={tmp_path / 'in'}", f"output={tmp_path}/1", *tiny).status == 0
    assert rows(tmp_path / "1")[0]["threads"] == "1"
    assert OmegaConf.load(tmp_path / "1" / ".refine" / "config.yaml").threads == 1
