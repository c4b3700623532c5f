"""What becomes of a report when a study is run again."""

from dataclasses import replace

import pytest
from finished import planted, write_study

from refine.config import StudyConfig
from refine.inference.finished_run import write_decided_by, write_job
from refine.studies import report, wandb_report
from refine.studies.pipeline import conclude
from refine.studies.spec import StudyRun, read_study

OTHER = "1" * 64


@pytest.fixture
def told(monkeypatch) -> list[str]:
    """Who was told of the results."""
    names: list[str] = []
    monkeypatch.setattr(report, "publish", lambda *_: names.append("readme"))
    monkeypatch.setattr(wandb_report, "tell", lambda *_, **__: names.append("wandb"))
    return names


@pytest.fixture
def study(tmp_path):
    folder = write_study(tmp_path / "q", "{question: '?', arms: {a: [refiner.steps=1]}, scores: [psnr]}")
    config = StudyConfig.compose([f"study={folder}", f"output={tmp_path / 'out'}", "publish=true"])

    def run(runs: list[StudyRun]) -> int:
        return conclude(read_study(folder / "study.yaml"), runs, tmp_path / "out", config, [])

    return run


def made(output, status=0) -> list[StudyRun]:
    runs = [planted(output / arm, {"x": {"psnr": 1}}) for arm in ("plain", "a")]
    for run in runs:
        (run.folder / "x.png").touch()
        write_job(run.folder, {"fingerprint": run.fingerprint, "status": status, "reason": "some images failed"})
    return [replace(run, overrides=("logger=wandb",)) for run in runs]


def refused(run: StudyRun) -> StudyRun:
    """The same run with other settings, which the results of before do not let through."""
    write_decided_by(run.folder, OTHER, {"configuration": "another", "inputs": {}})
    write_job(run.folder, {"fingerprint": OTHER, "status": 2, "reason": "holds 1 of these results already"})
    return replace(run, fingerprint=OTHER)


def contents(output) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in output.iterdir() if file.is_file()}


def test_a_study_that_is_refused_leaves_the_report(tmp_path, study, told, capsys):
    output = tmp_path / "out"
    runs = made(output)
    assert study(runs) == 0 and told == ["readme", "wandb"]
    before = contents(output)
    capsys.readouterr()
    assert study([refused(run) for run in runs]) == 1
    said = capsys.readouterr()
    assert contents(output) == before and told == ["readme", "wandb"] and said.out == ""
    assert "incomplete: a: holds 1 of these results already" in said.err
    assert f"the report of an earlier run is left as it is: {output / 'report.md'}" in said.err


def test_a_first_report_is_written_though_no_run_is_complete(tmp_path, study, told):
    runs = [refused(run) for run in made(tmp_path / "out")]
    assert study(runs) == 1 and "holds 1 of these" in (tmp_path / "out" / "report.md").read_text()


def test_runs_with_a_failed_image_each_still_renew_the_report(tmp_path, study, told):
    output = tmp_path / "out"
    assert study(made(output)) == 0
    (output / "report.md").write_text("old")
    assert study(made(output, status=1)) == 1
    assert "| a |" in (output / "report.md").read_text() and len(told) == 4
