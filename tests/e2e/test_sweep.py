"""The shipped sweep under two agents at once, by a double of W&B's server: see ``tests/helpers/agent.py``."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from generated import photo, refine, save
from offline import LITTLE, runs
from omegaconf import OmegaConf

ROOT = Path(__file__).parents[2]
SWEEP = ROOT / "experiments" / "sweep.yaml"
VALUES = [(1, 0.002), (2, 0.008)]  # updates and learning rates, as the sweep might choose them
SMALL = {"data.side": 64, "pyramid.smallest_side": 32, "panels.count": 0}  # what the sweep leaves out


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A working directory in which two agents, each with a device of its own, did a run each."""
    place = tmp_path_factory.mktemp("sweep")
    save(place / "photos" / "a.png", photo(70, 66))
    (place / "queue").mkdir()
    for number, (steps, lr) in enumerate(VALUES):
        values = {"refiner.steps": steps, "refiner.lr": lr} | SMALL
        (place / "queue" / f"run{number}.json").write_text(json.dumps(values))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment |= LITTLE | {"WANDB_MODE": "offline", "HOME": str(place), "PATH": path}
    command = [sys.executable, ROOT / "tests" / "helpers" / "agent.py", SWEEP, place / "queue", "0", "1"]
    agents = subprocess.run(command, cwd=place, env=environment, stderr=subprocess.PIPE, text=True, timeout=300)
    assert agents.returncode == 0, agents.stderr
    assert "Ignoring" not in agents.stderr and "was locked by" not in agents.stderr, agents.stderr
    return place


@pytest.mark.slow
def test_every_run_joins_the_run_that_the_sweep_began(place):
    for number, (steps, lr) in enumerate(VALUES):
        run = runs(place / "runs" / "sweep" / f"run{number}")[0]  # it may have been continued since
        assert (run.run.run_id, run.run.sweep_id, run.run.project) == (f"run{number}", "sweep0", "refine")
        assert (run.config["refiner"]["steps"], run.config["refiner"]["lr"]) == (steps, lr)
        assert run.config["refiner.steps"] == steps  # what the sweep itself says
        assert run.exit_code == 0 and OmegaConf.load(SWEEP).metric.name in run.summary


@pytest.mark.slow
def test_the_agents_share_the_runs(place):
    taken = [file.suffix for file in (place / "queue").iterdir()]
    assert len(taken) == len(VALUES) and set(taken) == {".taken-by-0", ".taken-by-1"}


@pytest.mark.slow
def test_a_run_is_continued_without_its_agent(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.delenv("WANDB_RUN_ID", raising=False)
    values = {"refiner.steps": 1, "refiner.lr": 0.002} | SMALL
    given = ["input=photos", "masks=thick", "backbone=mini", "output=runs/sweep/run0", "logger=wandb"]
    outcome = refine("predict", *given, *(f"{name}={value}" for name, value in values.items()))
    assert outcome.status == 0 and "0 done, 1 already there" in outcome.err
    assert [run.run.run_id for run in runs(place / "runs" / "sweep" / "run0")] == ["run0", "run0"]
