"""What is done is known, and what is not says why."""

from finished import planted
from generated import pair

from refine.data.pairs import inputs_hash
from refine.inference.finished_run import write_job
from refine.studies.plan import finished_rows, problem, read_plan, with_fingerprints, write_plan
from refine.studies.spec import StudyRun


def test_what_makes_a_job_incomplete(tmp_path):
    pair(tmp_path / "in", "x")
    jobs = [StudyRun("", "a", tmp_path / "out" / "a", (f"input={tmp_path / 'in'}", "output=somewhere"))]
    (job,) = jobs = with_fingerprints(jobs)
    write_plan(tmp_path / "out", jobs)
    assert read_plan(tmp_path / "out") == {"a": job}
    assert problem(job) == "not run, or not to its end"
    inputs = inputs_hash(job.decided_by["inputs"]["x"])
    planted(job.folder, {"x": {"configuration": job.decided_by["configuration"], "inputs": inputs}})
    noted = {"fingerprint": job.fingerprint, "machine": "here"}
    write_job(job.folder, {**noted, "status": 1, "reason": "some images failed"})
    assert problem(job) == "some images failed"
    write_job(job.folder, {**noted, "status": 0, "reason": ""})
    assert problem(job) == "results were removed"
    (job.folder / "x.png").touch()
    assert problem(job) == ""
    pair(tmp_path / "in", "x", 1)
    (changed,) = with_fingerprints(jobs)
    assert problem(changed) == "run with other settings or inputs"  # of the new ones nothing is noted yet
    write_plan(tmp_path / "out", [changed])
    assert problem(changed) == "run with other settings or inputs: the image file of x"
    assert finished_rows(changed) == [] and [row["key"] for row in finished_rows(job)] == ["x"]


def test_code_that_was_changed_and_put_back_during_a_study_leaves_no_result_behind(tmp_path):
    pair(tmp_path / "in", "x")
    (job,) = with_fingerprints([StudyRun("", "a", tmp_path / "a", (f"input={tmp_path / 'in'}", "output=x"))])
    write_plan(tmp_path, [job])
    planted(job.folder, {"x": {"inputs": inputs_hash(job.decided_by["inputs"]["x"])}})  # of another configuration
    write_job(job.folder, {"fingerprint": job.fingerprint, "status": 0})
    assert "of other settings, code or inputs" in problem(job) and finished_rows(job) == []


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
