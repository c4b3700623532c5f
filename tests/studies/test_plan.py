"""What is done is known, and what is not says why."""

from finished import planted
from generated import pair

from refine.inference.finished_run import write_job
from refine.studies.plan import problem, read_plan, with_fingerprints, write_plan
from refine.studies.spec import StudyRun


def test_what_makes_a_job_incomplete(tmp_path):
    pair(tmp_path / "in", "x")
    jobs = [StudyRun("", "a", tmp_path / "out" / "a", (f"input={tmp_path / 'in'}", "output=somewhere"))]
    (job,) = jobs = with_fingerprints(jobs)
    write_plan(tmp_path / "out", jobs)
    assert read_plan(tmp_path / "out") == {"a": job}
    assert problem(job) == "not run, or not to its end"
    planted(job.folder, {"x": {}})
    noted = {"fingerprint": job.fingerprint, "machine": "here"}
    write_job(job.folder, {**noted, "status": 1, "reason": "some images failed"})
    assert problem(job) == "some images failed"
    write_job(job.folder, {**noted, "status": 0, "reason": ""})
    assert problem(job) == "results were removed"
    (job.folder / "x.png").touch()
    assert problem(job) == ""
    pair(tmp_path / "in", "x", 1)
    (changed,) = with_fingerprints(jobs)
    assert problem(changed) == "run with other settings or inputs"


def test_loggers_make_no_other_run(tmp_path):
    pair(tmp_path / "in", "x")
    common = (f"input={tmp_path / 'in'}", "output=x")
    plain = StudyRun("", "a", tmp_path, ("refiner.steps=3", *common))
    told = StudyRun("", "a", tmp_path, ("logger=[csv,wandb]", "+logger.tags=[a]", "refiner.steps=3", *common))
    changed = StudyRun("", "a", tmp_path, ("logger=wandb", "refiner.steps=4", *common))
    first, second, third = (run.fingerprint for run in with_fingerprints([plain, told, changed]))
    assert first == second != third


def test_a_run_that_cannot_be_is_not_complete(tmp_path):
    runs = [StudyRun("", "a", tmp_path / arm, (f"input={tmp_path / 'no'}", "output=x")) for arm in ("a", "b")]
    first, second = with_fingerprints(runs)
    assert first.fingerprint == second.fingerprint and problem(first) == "not run, or not to its end"


def test_a_plan_of_before_names_its_control_as_now(tmp_path):
    write_plan(tmp_path, [StudyRun("", "off", tmp_path / "off", ())])
    (run,) = read_plan(tmp_path).values()
    assert (run.arm, run.folder) == ("plain", tmp_path / "off")
