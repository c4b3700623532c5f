"""The command `study`: what it refuses, and which paths it knows."""

from finished import write_study
from generated import refine

from refine.cli.study import absolute


def test_requests_that_make_no_sense(tmp_path):
    folder = write_study(tmp_path / "q", "{question: '?', arms: {a: [refiner.step=1]}}")
    for overrides, said in [
        ([], "study needs study="),
        ([folder], "study needs output="),
        ([tmp_path, "output=x"], "a study is a folder with study.yaml"),
        ([folder, "output=x", "launcher=slurm"], "launcher=slurm: expected one of basic, joblib"),
        (
            [folder, "input=a", f"output={tmp_path / 'x'}"],
            "arm a: there is no setting 'refiner.step'; did you mean refiner.steps",
        ),
        ([folder, f"output={tmp_path / 'y'}", "report_only=true"], "no study was run there"),
    ]:
        outcome = refine("study", *overrides)
        assert outcome.status == 2 and said in outcome.err, outcome.err


def test_arms_find_paths_from_anywhere_and_take_no_word_for_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("input", "thick", "mini", "random"):
        (tmp_path / name).mkdir()
    (tmp_path / "my.yaml").touch()
    for override in ("truth=input", "masks=thick", "backbone=mini", "backbone.weights=random", "input=nowhere"):
        assert absolute(override) == override
    assert absolute("input=input") == f"input={tmp_path / 'input'}"
    assert absolute("backbone=my.yaml") == f"backbone={tmp_path / 'my.yaml'}"
