"""Who starts how many processes, and what each is told; real ones: tests/e2e/test_processes.py."""

import os
import warnings

import pytest
import torch
from generated import pair, refine
from lightning.pytorch.strategies import DDPStrategy
from omegaconf import OmegaConf

from benchmarks.processes import DDP, rows
from refine.config import ConfigError, PredictConfig
from refine.inference.distributed.agent import processes_to_start
from refine.inference.distributed.trainer import make_trainer
from refine.inference.threads import set_threads

CPU = torch.device("cpu")


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
