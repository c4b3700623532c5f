"""The command `study`: what it refuses, which studies come along, and which paths it knows."""

from pathlib import Path

import yaml
from finished import write_study
from generated import refine

import refine as refine_package
from refine.cli.study import absolute
from refine.studies.shipped import find_study


def test_requests_that_make_no_sense(tmp_path):
    folder = write_study(tmp_path / "q", "{question: '?', arms: {a: [refiner.step=1]}}")
    for overrides, said in [
        (["input=a"], "study needs study="),
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


def test_studies_that_come_along_have_names(tmp_path, monkeypatch):
    """The list, alone and after a name that is none; each question is that of the file."""
    root = Path(refine_package.__file__).parents[1]
    files = {file.parent.name: file for file in (root / "experiments").glob("*/study.yaml")}
    monkeypatch.chdir(tmp_path)
    listed = refine("study")
    assert (listed.status, listed.err) == (0, "")
    told = " ".join(listed.out.split())
    for name, file in files.items():
        assert f"{name} {yaml.safe_load(file.read_text())['question']}" in told
    unknown = refine("study", "experiments/wich_layers", "input=a", "output=b")
    assert unknown.status == 2 and "Did you mean which_layers?" in unknown.err and listed.out in unknown.err
    jobs = yaml.safe_load(refine("study", "which_layers/at_four_times", "input=a", "output=b", "--cfg").out)["jobs"]
    assert any("data.side=512" in job for job in jobs.values()) and not (tmp_path / "b").exists()


def test_a_study_of_ones_own_comes_before_one_of_the_same_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "erosion").mkdir()  # no study: the results of one, as in `refine study erosion output=erosion`
    assert find_study("erosion").parts[-3:] == ("experiments", "erosion", "study.yaml")
    write_study(tmp_path / "erosion", "{question: '?', arms: {a: [refiner.steps=1]}}")
    assert find_study("erosion") == Path("erosion/study.yaml") == find_study("erosion/study.yaml")


def test_arms_find_paths_from_anywhere_and_take_no_word_for_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("input", "thick", "mini", "random"):
        (tmp_path / name).mkdir()
    (tmp_path / "my.yaml").touch()
    for override in ("truth=input", "masks=thick", "backbone=mini", "backbone.weights=random", "input=nowhere"):
        assert absolute(override) == override
    assert absolute("input=input") == f"input={tmp_path / 'input'}"
    assert absolute("backbone=my.yaml") == f"backbone={tmp_path / 'my.yaml'}"
