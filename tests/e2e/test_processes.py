"""Several real processes, however started and however they end; longer runs: scripts/benchmarks/processes.py."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from forked import Process
from generated import pair, refine

from benchmarks import processes
from benchmarks.processes import DDP, TINY, children, gone, has_slurm, make_images, results, rows, stamps, ways

COUNT = 12
thorough = pytest.mark.thorough
slurm = pytest.mark.skipif(not has_slurm(), reason="no SLURM runs here (scripts/local_slurm.sh up)")
linux = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds child processes in /proc, as Linux has")


@pytest.fixture
def folder(tmp_path):
    """Images that take a moment each, and a place for results."""
    for number in range(COUNT):
        pair(tmp_path / "in", f"im{number:02}", number, 120, 90)
    return tmp_path


@pytest.fixture
def start(process, folder, tiny):
    """Start a run of two processes."""

    def begin(*overrides: str) -> Process:
        inputs = [f"input={folder / 'in'}", f"output={folder / 'out'}"]
        return process("predict", *inputs, *tiny, "refiner.steps=8", *DDP, *overrides, folder=folder)

    return begin


def until(ready, seconds=300) -> None:
    deadline = time.monotonic() + seconds
    while not ready() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert ready()


def at_work(folder: Path, rank: int | str) -> bool:
    """It has made its first result: the row of a second one, which comes before the result itself, is there."""
    file = folder / "out" / ".refine" / f"rows-{rank}.jsonl"
    return file.exists() and file.read_text().count("\n") >= 2


def signaled(run: Process, folder: Path, who: str, number: int) -> tuple[int, str, dict]:
    """A run of two processes of which one gets a signal at work: its status, what it said, and what it left."""
    until(lambda: at_work(folder, 0) and at_work(folder, 1))
    workers = children(run.pid)
    os.kill({"rank 0": workers[0], "rank 1": workers[1], "agent": run.pid}[who], number)
    status = run.status()
    until(lambda: all(map(gone, workers)))
    return status, run.said(), stamps(folder / "out")


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
def test_two_nodes_of_torchrun_give_the_bytes_and_rows_of_one_process(tmp_path):
    make_images(tmp_path / "in", [(40 + 9 * number, 97 - 4 * number) for number in range(5)])
    nodes = [subprocess.Popen(command) for command in ways(tmp_path / "in", tmp_path)["nodes"]]
    assert [node.wait(300) for node in nodes] == [0, 0]
    assert refine("predict", f"input={tmp_path / 'in'}", f"output={tmp_path / 'alone'}", *TINY).status == 0
    assert len(results(tmp_path / "nodes")) == 5
    assert results(tmp_path / "nodes") == results(tmp_path / "alone")
    assert rows(tmp_path / "nodes") == rows(tmp_path / "alone")


@pytest.mark.slow
@thorough
def test_every_way_of_starting_gives_the_same_bytes_and_rows(tmp_path):
    ways_here = ways(tmp_path, tmp_path)
    assert processes.same(tmp_path / "all")
    if "srun" not in ways_here:
        pytest.skip("without srun, since no SLURM runs here (scripts/local_slurm.sh up); all others agree")


@linux
@pytest.mark.slow
@pytest.mark.parametrize("who", ["rank 0", pytest.param("rank 1", marks=thorough)])
def test_a_killed_process_ends_the_run_and_what_is_missing_is_named(folder, tiny, start, who):
    status, errors, before = signaled(start(), folder, who, signal.SIGKILL)
    assert status == 1 and "Traceback" not in errors
    missing = keys_without(before)
    assert missing and all(
        f"failed: {key}: has no result: process {who[-1]} died (SIGKILL)" in errors for key in missing
    )
    assert len(rows(folder / "out")) == len(before) and f"{len(before)} already there, {len(missing)} failed" in errors
    completed(folder, tiny, before)


@linux
@pytest.mark.slow
def test_a_killed_process_is_started_again(folder, tiny, start):
    status, errors, before = signaled(start("trainer.max_restarts=1"), folder, "rank 1", signal.SIGKILL)
    assert status == 0 and len(before) == COUNT == len(rows(folder / "out")), errors
    completed(folder, tiny, before)
    alone = refine("predict", f"input={folder / 'in'}", f"output={folder / 'alone'}", *tiny, "refiner.steps=8")
    assert alone.status == 0
    assert results(folder / "out") == results(folder / "alone") and rows(folder / "out") == rows(folder / "alone")


@linux
@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGKILL, -9, marks=thorough),
        pytest.param(signal.SIGINT, 130, marks=thorough),
    ],
)
def test_without_the_agent_all_end_and_what_is_missing_is_named(folder, tiny, start, number, status):
    returned, errors, before = signaled(start(), folder, "agent", number)
    assert returned == status and len(before) < COUNT, errors
    assert f"{COUNT - len(before)} left; run the same command to continue" in errors
    assert all(key in errors for key in keys_without(before)) and len(rows(folder / "out")) == len(before)
    completed(folder, tiny, before)


@pytest.mark.slow
def test_more_processes_than_images_that_are_left(process, tmp_path, tiny):
    pair(tmp_path / "in", "first")
    arguments = [f"input={tmp_path / 'in'}", f"output={tmp_path / 'out'}", *tiny]
    assert refine("predict", *arguments).status == 0
    pair(tmp_path / "in", "second")
    run = process("predict", *arguments, *DDP, folder=tmp_path)
    assert run.status() == 0 and list(results(tmp_path / "out")) == ["first.png", "second.png"], run.said()
    first, last = run.said().splitlines()
    assert first == "refine predict: 2 images" and last.startswith("1 done, 1 already there")


@pytest.mark.slow
@thorough
def test_a_rerun_of_several_processes_says_once_what_is_so(folder, tiny, start):
    inputs = [f"input={folder / 'in'}", f"output={folder / 'out'}"]
    assert refine("predict", *inputs, *tiny, "refiner.steps=1").status == 0
    run = start("refiner.steps=1")
    assert run.status() == 0 and run.said().count(f"0 done, {COUNT} already there") == 1
    run = start("trainer.max_restarts=2")
    assert run.status() == 2 and run.said().count("of another configuration") == 1 and "Traceback" not in run.said()
    run = start("backbone.weights=/no/such/file")
    assert run.status() == 2 and run.said().count("refine: error") == 1


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may mount a small file system")
@pytest.mark.parametrize("count", [1, pytest.param(2, marks=thorough)])
def test_a_full_disk(folder, tiny, start, count):
    (folder / "out").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=120k", "tmpfs", str(folder / "out")]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount here")
    try:
        run = start(f"trainer.devices={count}")
        status, before = run.status(), stamps(folder / "out")
        assert status > 0 and "No space left on device" in run.said() and 0 < len(before) < COUNT, run.said()
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
@pytest.mark.parametrize("launcher", ["joblib", pytest.param("submitit_local", marks=thorough)])
def test_launched_shards_are_gathered(folder, tiny, launcher):
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    (folder / "in" / "im03.png").write_bytes(b"no image")
    arguments = ["predict", f"input={folder / 'in'}", *tiny, "refiner.steps=1"]
    launched = refine(*arguments, f"output={folder / 'out'}", f"launcher={launcher}", "shards=3")
    assert launched.status == 1 and "failed: im03: cannot read" in launched.err
    assert f"{COUNT - 1} already there" in launched.err
    assert refine(*arguments, f"output={folder / 'alone'}").status == 1
    assert len(results(folder / "out")) == COUNT - 1
    assert results(folder / "out") == results(folder / "alone") and rows(folder / "out") == rows(folder / "alone")


@pytest.mark.slow
@linux
@pytest.mark.parametrize("launcher", ["basic", pytest.param("joblib", marks=thorough)])
def test_ctrl_c_to_launched_shards_says_in_a_sentence_what_is_done(folder, tiny, process, launcher):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    arguments = [f"input={folder / 'in'}", f"output={folder / 'out'}", *tiny, "refiner.steps=60"]
    run = process("predict", f"launcher={launcher}", "shards=3", *arguments, folder=folder)
    until(lambda: results(folder / "out"))
    run.interrupt()
    status = run.status()
    until(run.is_gone)
    said = run.said()
    done = len(results(folder / "out"))
    assert status == 130 and 1 <= done < COUNT and "Traceback" not in said, said
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
