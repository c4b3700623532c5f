"""What a report says of how its study was run."""

import subprocess

import pytest
from finished import planted

from refine.inference.finished_run import write_job
from refine.inference.run_folder import JOB
from refine.studies import record
from refine.studies.spec import StudyRun

COMMON = ("backbone=mini", "input=/home/somebody/photos", "output=/home/somebody/out/a")


def test_a_command_is_shown_without_the_folders_of_whoever_ran_it():
    command = ["/home/me/q", "input=/home/me/photos", "masks=thick", "publish=true", "report_only=true", "n=[1, 2]"]
    assert record.shown_command(command) == "refine study q input=photos masks=thick 'n=[1, 2]'"


def test_facts_that_differ_stand_side_by_side(tmp_path):
    runs = []
    for arm, steps, code, at_once in (("a", 1, "git 1", 2), ("b", 2, "git 2", None), ("c", 3, None, 2)):
        planted(tmp_path / arm, {"x": {"psnr": 1}})
        note = {
            "command": "refine study q",
            "day": "2026-01-02",
            "machine": "CPU",
            "jobs_at_once": at_once,
            "code": code,
        }
        write_job(tmp_path / arm, {**note, "versions": {"torch": "2.0"}}, JOB)
        runs.append(StudyRun("", arm, tmp_path / arm, (*COMMON, f"refiner.steps={steps}", "logger=wandb")))
    facts = record.what_was_run(runs)
    assert (
        facts["Code"] == "git 1; git 2; not recorded" and facts["Jobs at once"] == "2; as many as the launcher starts"
    )
    assert (facts["Command"], facts["Versions"], facts["Machine"]) == ("refine study q", "torch 2.0", "CPU")
    assert facts["In every arm"] == "backbone=mini input=photos"
    assert record.own_overrides(runs[1], record.in_every_run(runs)) == ["refiner.steps=2"]


def test_of_runs_that_are_not_there_nothing_is_said(tmp_path):
    run = StudyRun("", "a", tmp_path / "a", ("masks=thick",))
    assert record.what_was_run([run]) == {"In every arm": "masks=thick"}
    assert record.what_was_run([]) == {"In every arm": "nothing"}


@pytest.mark.parametrize("changed", [False, True])
def test_the_state_of_the_code_is_its_commit_and_what_was_changed_since(tmp_path, monkeypatch, changed):
    def git(*arguments):
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True, capture_output=True)

    file = tmp_path / "package" / "__init__.py"
    file.parent.mkdir()
    file.write_text("")
    monkeypatch.setattr(record.refine, "__file__", str(file))
    assert record.how_it_is_run([])["code"] == "installed package, no git"
    git("init")
    assert record.how_it_is_run([])["code"] == "installed package, no git"  # it lies in a repository of something else
    git("add", ".")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-m", "a")
    file.write_text("changed" if changed else "")
    code = record.how_it_is_run([])["code"]
    assert code.startswith("git ") and code.endswith("1 file changed since" if changed else "unchanged")
