"""What is done is known, and what is not says why."""

from finished import planted

from refine.inference.finished_run import write_job
from refine.studies.plan import problem, read_plan, with_fingerprints, write_plan
from refine.studies.spec import StudyRun


def test_what_makes_a_job_incomplete(tmp_path):
    (tmp_path / "photo.png").write_bytes(b"1")
    jobs = [StudyRun("", "a", tmp_path / "out" / "a", (f"input={tmp_path / 'photo.png'}", "output=somewhere"))]
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
    (tmp_path / "photo.png").write_bytes(b"12")
    (changed,) = with_fingerprints(jobs)
    assert problem(changed) == "run with other settings or inputs"


def test_loggers_make_no_other_run(tmp_path):
    plain = StudyRun("", "a", tmp_path, ("refiner.steps=3", "output=x"))
    told = StudyRun("", "a", tmp_path, ("logger=[csv,wandb]", "+logger.tags=[a]", "refiner.steps=3", "output=x"))
    changed = StudyRun("", "a", tmp_path, ("logger=wandb", "refiner.steps=4", "output=x"))
    first, second, third = (run.fingerprint for run in with_fingerprints([plain, told, changed]))
    assert first == second != third


def test_a_plan_of_before_names_its_control_as_now(tmp_path):
    write_plan(tmp_path, [StudyRun("", "off", tmp_path / "off", ())])
    (run,) = read_plan(tmp_path).values()
    assert (run.arm, run.folder) == ("plain", tmp_path / "off")
