"""Several real processes, however started and however they end; longer runs: scripts/benchmarks/processes.py."""

import os
import shlex
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch
from generated import pair, refine
from lightning.pytorch.strategies import DDPStrategy
from omegaconf import OmegaConf

from benchmarks import processes
from benchmarks.processes import DDP, children, gone, has_slurm, results, rows, stamps, ways
from refine.config import ConfigError, PredictConfig
from refine.inference.distributed.agent import processes_to_start
from refine.inference.distributed.trainer import make_trainer
from refine.inference.threads import set_threads

ROOT = Path(__file__).resolve().parents[2]
COUNT = 12
CPU = torch.device("cpu")
slurm = pytest.mark.skipif(not has_slurm(), reason="no SLURM runs here (scripts/local_slurm.sh up)")
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


def until(ready, seconds=120) -> None:
    deadline = time.monotonic() + seconds
    while not ready() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert ready()


def at_work(folder: Path, rank: int | str) -> bool:
    """It has made its first result: the row of a second one, which comes before the result itself, is there."""
    file = folder / "out" / ".refine" / f"rows-{rank}.jsonl"
    return file.exists() and file.read_text().count("\n") >= 2


def signaled(folder: Path, tiny: list[str], who: str, number: int, *overrides: str) -> tuple[int, str, dict]:
    """A run of two processes of which one gets a signal at work: its status, what it said, and what it left."""
    run = start(folder, tiny, *overrides)
    until(lambda: at_work(folder, 0) and at_work(folder, 1))
    workers = children(run.pid)
    os.kill({"rank 0": workers[0], "rank 1": workers[1], "agent": run.pid}[who], number)
    errors = run.communicate(timeout=100)[1]
    until(lambda: all(map(gone, workers)))
    return run.returncode, errors, stamps(folder / "out")


def completed(folder: Path, tiny: list[str], before: dict) -> None:
    """A rerun, by one process, does what is left and nothing else."""
    inputs = [f"input={folder / 'in'}", f"output={folder / 'out'}"]
    outcome = refine("predict", *inputs, *tiny, "refiner.steps=8")
    assert outcome.status == 0 and f"{COUNT - len(before)} done, {len(before)} already there" in outcome.err
    assert before.items() <= stamps(folder / "out").items() and len(results(folder / "out")) == COUNT
    assert len(rows(folder / "out")) == COUNT


def keys_without(before: dict) -> set[str]:
    return {f"im{number:02}" for number in range(COUNT)} - {Path(name).stem for name in before}


@pytest.mark.slow
def test_every_way_of_starting_gives_the_same_bytes_and_rows(tmp_path, monkeypatch):
    ways_here = ways(tmp_path, tmp_path)
    assert processes.same(tmp_path / "all")
    if "srun" not in ways_here:
        pytest.skip("without srun, since no SLURM runs here (scripts/local_slurm.sh up); all others agree")


@linux
@pytest.mark.slow
@pytest.mark.parametrize("who", ["rank 0", "rank 1"])
def test_a_killed_process_ends_the_run_and_what_is_missing_is_named(folder, tiny, who):
    status, errors, before = signaled(folder, tiny, who, signal.SIGKILL)
    assert status == 1 and "Traceback" not in errors
    missing = keys_without(before)
    assert missing and all(
        f"failed: {key}: has no result: process {who[-1]} died (SIGKILL)" in errors for key in missing
    )
    assert len(rows(folder / "out")) == len(before) and f"{len(before)} already there, {len(missing)} failed" in errors
    completed(folder, tiny, before)


@linux
@pytest.mark.slow
def test_a_killed_process_is_started_again(folder, tiny):
    status, errors, before = signaled(folder, tiny, "rank 1", signal.SIGKILL, "trainer.max_restarts=1")
    assert status == 0 and len(before) == COUNT == len(rows(folder / "out")), errors
    completed(folder, tiny, before)


@linux
@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_without_the_agent_all_end_and_what_is_missing_is_named(folder, tiny, number, status):
    returned, errors, before = signaled(folder, tiny, "agent", number)
    assert returned == status and len(before) < COUNT, errors
    assert f"{COUNT - len(before)} left; run the same command to continue" in errors
    assert all(key in errors for key in keys_without(before)) and len(rows(folder / "out")) == len(before)
    completed(folder, tiny, before)


FAULT = """
import os
from refine.inference.callbacks.writer import ResultWriter
write = ResultWriter.on_predict_batch_end
def fail(*arguments):
    if os.environ.get("RANK") == "1":
        raise MemoryError("a fault of ours")
    write(*arguments)
ResultWriter.on_predict_batch_end = fail
"""


@pytest.mark.slow
def test_an_exception_in_one_process_ends_the_run_and_is_told(folder, tiny):
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(FAULT)
    paths = os.pathsep.join([str(folder / "site"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    run = start(folder, tiny, PYTHONPATH=paths)
    errors, before = run.communicate(timeout=100)[1], stamps(folder / "out")
    assert run.returncode == 1 and len(before) <= COUNT // 2
    assert "has no result: process 1 died (MemoryError: a fault of ours)" in errors
    completed(folder, tiny, before)


@pytest.mark.slow
def test_more_processes_than_images(tmp_path, tiny):
    pair(tmp_path / "in", "only")
    run = start(tmp_path, tiny, "trainer.devices=3")
    errors = run.communicate(timeout=100)[1]
    assert run.returncode == 0 and list(results(tmp_path / "out")) == ["only.png"], errors
    assert errors.splitlines()[0] == "refine predict: 1 image" and len(errors.splitlines()) == 2
    again = start(tmp_path, tiny)  # nothing to do for anybody
    assert "0 done, 1 already there" in again.communicate(timeout=100)[1] and again.returncode == 0


@pytest.mark.slow
def test_what_only_the_first_process_finds_wrong_is_told_once(folder, tiny):
    inputs = [f"input={folder / 'in'}", f"output={folder / 'out'}"]
    assert refine("predict", *inputs, *tiny, "refiner.steps=1").status == 0
    run = start(folder, tiny, "trainer.max_restarts=2")
    errors = run.communicate(timeout=100)[1]
    assert run.returncode == 2 and errors.count("of another configuration") == 1 and "Traceback" not in errors
    broken = start(folder, tiny, "backbone.weights=/no/such/file")
    errors = broken.communicate(timeout=100)[1]
    assert broken.returncode == 2 and errors.count("refine: error") == 1


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may mount a small file system")
def test_a_full_disk(folder, tiny):
    (folder / "out").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=120k", "tmpfs", str(folder / "out")]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount here")
    try:
        run = start(folder, tiny)
        errors, before = run.communicate(timeout=100)[1], stamps(folder / "out")
        assert run.returncode != 0 and "No space left on device" in errors and 0 < len(before) < COUNT, errors
        subprocess.run(["mount", "-o", "remount,size=50m", str(folder / "out")], check=True)
        completed(folder, tiny, before)
    finally:
        subprocess.run(["umount", str(folder / "out")], check=True)


# Shards


def test_shards_share_the_work_and_the_last_one_concludes(folder, tiny):
    arguments = [f"input={folder / 'in'}", *tiny, "refiner.steps=1"]
    alone = refine("predict", *arguments, f"output={folder / 'alone'}")
    assert alone.status == 0
    for shard in (2, 0, 1):
        assert not (folder / "out" / ".refine" / "rows.csv").exists()
        outcome = refine("predict", *arguments, f"output={folder / 'out'}", "shards=3", f"shard={shard}")
        assert outcome.status == 0 and f"refine predict: 4 images, shard {shard} of 3" in outcome.err
        assert "4 done" in outcome.err
    assert results(folder / "out") == results(folder / "alone") and rows(folder / "out") == rows(folder / "alone")
    again = refine("predict", *arguments, f"output={folder / 'out'}", "shards=3", "shard=1")
    assert again.status == 0 and "0 done, 4 already there" in again.err


def test_shards_that_are_missing_are_gathered_by_name(folder, tiny):
    (folder / "in" / "im03.png").write_bytes(b"no image")
    arguments = ["predict", f"input={folder / 'in'}", f"output={folder / 'out'}", *tiny, "refiner.steps=1", "shards=3"]
    statuses = [refine(*arguments, f"shard={shard}").status for shard in (0, 1)]
    gathered = refine(*arguments, "gather=true")
    assert gathered.status == 1 and f"{len(rows(folder / 'out'))} already there" in gathered.err
    assert gathered.err.count("has no result") == COUNT - len(results(folder / "out")) - sum(statuses)
    assert refine(*arguments, "shard=2").status == int(not any(statuses))
    assert len(results(folder / "out")) == COUNT - 1 == len(rows(folder / "out"))
    assert "failed: im03: cannot read" in refine(*arguments, "gather=true").err


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_launched_shards_are_gathered(folder, tiny, launcher):
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    arguments = [f"input={folder / 'in'}", *tiny, "refiner.steps=1"]
    assert refine("predict", *arguments, f"output={folder / 'alone'}").status == 0
    launched = [f"launcher={launcher}", "shards=3"]
    outcome = refine("predict", *launched, *arguments, f"output={folder / 'out'}")
    assert outcome.status == 0 and f"{COUNT} already there" in outcome.err
    assert results(folder / "out") == results(folder / "alone") and rows(folder / "out") == rows(folder / "alone")
    (folder / "in" / "im03.png").write_bytes(b"no image")
    failing = refine("predict", *launched, *arguments, f"output={folder / 'failing'}")
    assert failing.status == 1 and "failed: im03: cannot read" in failing.err
    assert len(results(folder / "failing")) == COUNT - 1 == len(rows(folder / "failing"))


@pytest.mark.slow
def test_ctrl_c_to_launched_shards_says_in_a_sentence_what_is_done(folder, tiny):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    arguments = [f"input={folder / 'in'}", f"output={folder / 'out'}", *tiny, "refiner.steps=60"]
    command = [sys.executable, "-m", "refine", "predict", "launcher=joblib", "shards=3", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as run:
        until(lambda: results(folder / "out"))
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does it
        said = run.stderr.read()  # until the last process that holds it is gone
    done = len(results(folder / "out"))
    assert run.returncode == 130 and 1 <= done < COUNT and "Traceback" not in said, said
    left = f"{done} of {COUNT} images done, {COUNT - done} left; run the same command to continue"
    assert said.splitlines()[-1] == f"refine predict: interrupted: {left}"


def submit(script: Path, text: str, *options: str) -> str:
    """Submit a batch script; gives the job's number."""
    script.write_text(f"#!/bin/bash\n{text}\n")
    command = ["sbatch", "--parsable", "--requeue", "--open-mode=append", f"--output={script.parent}/log-%a", *options]
    return subprocess.run([*command, str(script)], check=True, capture_output=True, text=True).stdout.strip()


def queue() -> str:
    return subprocess.run(["squeue", "-h"], capture_output=True, text=True).stdout


@slurm
@pytest.mark.slow
def test_a_preempted_shard_of_an_array_goes_on_and_the_last_one_concludes(folder, tiny):
    arguments = [f"input={folder / 'in'}", f"output={folder / 'out'}", *tiny, "refiner.steps=60", "shards=3"]
    command = [sys.executable, "-m", "refine", "predict", *arguments]
    job = submit(folder / "array.sh", f"exec {shlex.join(command)} shard=$SLURM_ARRAY_TASK_ID", "--array=0-2")
    until(lambda: any(at_work(folder, f"{shard}.0") for shard in range(3)))
    subprocess.run(["scontrol", "requeue", f"{job}_1"], check=True)
    until(lambda: not queue(), 400)  # what is requeued waits for two minutes
    assert len(results(folder / "out")) == COUNT == len(rows(folder / "out"))
    assert (folder / "log-1").read_text().count("shard 1 of 3") >= 1
    assert refine("predict", *arguments, "gather=true").status == 0


@slurm
@pytest.mark.slow
def test_a_batch_script_without_srun_works_alone_and_says_so(folder, tiny):
    arguments = [f"input={folder / 'in'}", f"output={folder / 'out'}", *tiny, "refiner.steps=1"]
    command = [sys.executable, "-m", "refine", "predict", *arguments]
    submit(folder / "batch.sh", f"exec {shlex.join(command)}", "--ntasks=2", f"--output={folder}/log")
    until(lambda: not queue(), 400)  # what is requeued waits for two minutes
    log = (folder / "log").read_text()
    assert len(results(folder / "out")) == COUNT and log.count("not started by srun") == 1 and "Traceback" not in log


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["shards=3", "launcher=none"], "launcher=none: expected one of basic, joblib"),
        (["shards=3", "shard=1", "launcher=basic"], "leave shard= and gather= out"),
        (["shards=3"], "shards=3: say which one this is, shard=0 to 2"),
        (["shards=3", "shard=3"], "shard=3: expected 0 to 2, since shards=3"),
        (["shards=0"], "shards=0: expected a number greater than 0"),
        (["gather=true", "output={in}"], "is the folder of the inputs"),
    ],
)
def test_shards_that_cannot_be(folder, tiny, overrides, message):
    inputs = [f"input={folder / 'in'}", f"output={folder / 'out'}"]
    outcome = refine("predict", *inputs, *tiny, *(o.replace("{in}", str(folder / "in")) for o in overrides))
    assert outcome.status == 2 and message in outcome.err


# The trainer


def trainer_of(*overrides: str):
    config = PredictConfig.compose(["input=in", "output=out", *overrides])
    return make_trainer(config.trainer, CPU)


def test_one_process_needs_no_company():
    for way in ("default", "cpu"):
        trainer = trainer_of(f"trainer={way}")
        assert trainer.world_size == 1 and not isinstance(trainer.strategy, DDPStrategy)
        assert processes_to_start({"devices": 1, "num_nodes": 1}, CPU) == 0
    assert trainer_of("trainer=ddp", "trainer.accelerator=cpu").world_size == 1  # auto: this CPU


def test_several_are_started_by_us_unless_somebody_did(monkeypatch):
    section = PredictConfig.compose(["input=in", "output=out", *DDP]).trainer
    assert processes_to_start(section, CPU) == 2
    with pytest.raises(ConfigError, match="start it by torchrun or srun on every node"):
        processes_to_start({**section, "num_nodes": 2}, CPU)
    monkeypatch.setenv("LOCAL_RANK", "1")
    trainer = trainer_of(*DDP)
    assert isinstance(trainer.strategy, DDPStrategy) and (trainer.global_rank, trainer.world_size) == (1, 2)
    assert processes_to_start(section, CPU) == 0


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
    assert trainer.strategy.cluster_environment.auto_requeue is False
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


def test_in_a_job_of_slurm_but_without_srun_a_process_works_alone_and_says_so(monkeypatch):
    batch = ("SLURM_NTASKS", "SLURM_NTASKS_PER_NODE", "SLURM_JOB_ID", "SLURM_JOB_NAME")
    for name in batch:
        monkeypatch.setenv(name, SLURM[name])
    for name in ("SLURM_NODEID", "SLURM_PROCID", "SLURM_LOCALID"):
        monkeypatch.setenv(name, "0")
    with pytest.warns(UserWarning, match="not started by srun, so it does not use the job's other tasks"):
        assert trainer_of().world_size == 1
    with pytest.warns(UserWarning, match="not started by srun"):
        assert processes_to_start(PredictConfig.compose(["input=in", "output=out", *DDP]).trainer, CPU) == 2


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer=gpu", "device=cpu"], "trainer: "),
        (["threads=0"], "threads=0: expected a number greater than 0"),
        (["threads=1.5"], "threads=1.5"),
        (["trainer.devices=abc", "trainer.num_nodes=2"], "trainer: "),
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
