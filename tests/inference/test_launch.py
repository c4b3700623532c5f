"""Launchers that fail, and the jobs they were to do."""

import pytest

from refine.config import ConfigError
from refine.inference import launch as launching
from refine.inference.launch import Job, check_launcher, launch
from refine.inference.run_folder import JOB
from refine.io.files import RUN_FOLDER


def jobs(folder) -> list[Job]:
    return [Job(name, ["there_is_no=such_setting"], folder / name) for name in ("a", "b")]


def test_a_launcher_that_fails_before_a_job_says_so(tmp_path, capfd):
    for _ in range(2):  # the second time after jobs of an earlier launch
        with pytest.raises(
            ConfigError, match=r"launcher=basic hydra.launcher.njobs=2: ended with status 1 before a jo"
        ):
            launch(jobs(tmp_path), tmp_path / "jobs", ["launcher=basic", "hydra.launcher.njobs=2"])
        assert "njobs" in capfd.readouterr().err  # Hydra's own words
        (tmp_path / "jobs" / launching.BEGUN).touch()


def test_jobs_that_fail_are_no_failure_of_the_launcher(tmp_path):
    assert launch(jobs(tmp_path), tmp_path / "jobs", ["launcher=basic"]) == 0
    for job in jobs(tmp_path):
        assert "there_is_no" in (job.output / RUN_FOLDER / JOB).read_text()


@pytest.mark.parametrize(("begun", "status"), [(True, 1), (True, -9), (True, 143), (False, 143), (False, 0)])
def test_a_launcher_that_fails_after_a_job_began_leaves_the_word_to_the_jobs(tmp_path, monkeypatch, begun, status):
    class Process:
        def __init__(self, *_, **__) -> None:
            if begun:
                (tmp_path / "jobs" / launching.BEGUN).touch()

        def wait(self) -> int:
            return status

    monkeypatch.setattr(launching.subprocess, "Popen", Process)
    assert launch(jobs(tmp_path), tmp_path / "jobs", ["launcher=basic"]) == (143 if status == 143 else 0)


def test_slurm_needs_srun(monkeypatch):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(ConfigError, match="needs srun, which is not on this machine; use launcher=submitit_local"):
        check_launcher("submitit_slurm")
    check_launcher("submitit_local")
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    check_launcher("submitit_slurm")
