"""A study that is told to W&B, offline: its arms' runs, and the one of its tables."""

import json
from pathlib import Path

import polars as pl
import pytest
import wandb
from finished import write_study
from generated import photo, refine, save
from jobs import jobs_here
from offline import LITTLE, OfflineRun, runs

from refine.studies import pipeline, plots

TEXT = "{question: 'Which?', base: [masks=thin], each: {mask_seed: [1, 2]}, arms: {a: [refiner.steps=1]}}"
RUNS = [f"{seed}/{arm}" for seed in (1, 2) for arm in ("plain", "upscaled", "a")]


@pytest.fixture(scope="module", autouse=True)
def elsewhere(tmp_path_factory):
    """Nothing of the user's W&B; the jobs are done in this process, and no plots are drawn, which are told to none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "launch", jobs_here)
        patch.setattr(plots, "draw", lambda *_: {})
        for name, value in LITTLE.items():
            patch.setenv(name, value)
        for name in ("MODE", "API_KEY", "PROJECT", "ENTITY", "RUN_GROUP", "TAGS", "RUN_ID", "SWEEP_ID"):
            patch.delenv(f"WANDB_{name}", raising=False)
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="module")
def command(tmp_path_factory, tiny) -> list[str]:
    place = tmp_path_factory.mktemp("study")
    write_study(place / "question", TEXT)
    for seed in range(2):
        save(place / "photos" / f"p{seed}.png", photo(48, 40, seed=seed))
    common = [override for override in tiny if not override.startswith("refiner.steps")]
    given = [f"input={place / 'photos'}", f"output={place / 'out'}", "panels.count=0", *common]
    return ["study", str(place / "question"), *given]


@pytest.fixture(scope="module")
def output(command) -> Path:
    """The study's results, told to W&B."""
    output = Path(next(text for text in command if text.startswith("output=")).partition("=")[2])
    outcome = refine(*command, "logger=wandb", "logger.tags=[mine]")
    assert outcome.status == 0 and "W&B run question is kept offline" in outcome.err, outcome.err
    return output


def shown(run: OfflineRun, name: str) -> list[dict]:
    """The rows of a table."""
    (file,) = (run.folder / "files" / "media" / "table").glob(f"{name}_*.table.json")
    content = json.loads(file.read_text())
    return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]


@pytest.mark.slow
def test_the_runs_of_the_arms_are_found_together(output):
    found = [run for name in RUNS for run in runs(output / name)]
    assert [run.run.display_name for run in found] == RUNS
    assert {(run.run.run_group, run.run.job_type) for run in found} == {("question", "predict")}
    for run, (seed, arm) in zip(found, (name.split("/") for name in RUNS), strict=True):
        assert list(run.run.tags) == ["mine", arm, seed, "masks=thin", f"mask_seed={seed}"]
    assert len({run.run.run_id for run in found}) == len(RUNS)


@pytest.mark.slow
def test_the_answer_is_one_run_of_the_same_group(output):
    run = runs(output, ".study")[0]
    assert (run.run.run_group, run.run.job_type, run.run.display_name) == ("question", "study", "question")
    assert list(run.run.tags) == ["mine", "masks=thin"] and run.exit_code == 0
    assert run.config["question"] == "Which?" and run.config["arms"]["a"] == ["refiner.steps=1"]

    expected = pl.read_csv(output / "comparisons.csv", schema_overrides={"group": pl.String})
    told = pl.DataFrame(shown(run, "comparisons"), infer_schema_length=None)
    assert told.columns == expected.columns and len(told) == len(expected) > 0
    for name in ("group", "arm", "score", "reference", "n", "difference", "low", "high"):
        assert told[name].to_list() == pytest.approx(expected[name].to_list()), name
    results = shown(run, "results")
    assert [(row["group"], row["arm"], row["key"]) for row in results] == [
        (*name.split("/"), key) for name in RUNS for key in ("p0", "p1")
    ]
    assert {"seconds", "peak_memory_mib"} <= set(shown(run, "costs")[0])

    (page,) = (run.folder / "files" / "media" / "html").glob("report_*.html")
    assert page.read_bytes() == (output / "report.html").read_bytes()
    (artifact,) = [each for each in run.artifacts if each.type == "report"]
    names = {entry.path for entry in artifact.manifest.contents}
    assert names == {"report.html", "report.md", "comparisons.csv", "results.parquet"}


@pytest.mark.slow
def test_again_runs_nothing_and_continues_the_same_run(output, command):
    arms = {name: len(runs(output / name)) for name in RUNS}
    again = refine(*command, "logger=wandb", "logger.tags=[other]", "logger.group=chosen")
    assert again.status == 0 and "6 jobs, 6 complete" in again.err
    first, *_, last = runs(output, ".study")
    assert first.run.run_id == last.run.run_id and first.folder != last.folder
    assert list(last.run.tags) == ["other", "masks=thin"] and last.run.run_group == "chosen"
    assert len(shown(last, "results")) == 12
    count = len(runs(output, ".study"))
    silent = refine(*command)
    assert silent.status == 0 and "6 jobs, 6 complete" in silent.err
    assert {name: len(runs(output / name)) for name in RUNS} == arms and len(runs(output, ".study")) == count


@pytest.fixture(scope="module")
def whole(output, command):
    """What the same command says that runs nothing again."""
    return refine(*command, "logger=wandb")


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["init", "Table", "Html"])
def test_a_logger_that_fails_hurts_no_study(output, command, whole, monkeypatch, broken):
    def refuse(*_, **__):
        raise ConnectionResetError("Connection lost")

    monkeypatch.setattr(wandb, broken, refuse)
    outcome = refine(*command, "logger=wandb")
    assert outcome.status == whole.status == 0 and outcome.out == whole.out
    assert outcome.err.count("logger wandb failed (ConnectionResetError: Connection lost)") == 1


@pytest.mark.slow
def test_a_study_without_any_result_is_told_as_failed(tmp_path, tiny):
    write_study(tmp_path / "q", "{question: '?', base: [masks=thin], arms: {a: ['refiner.optimize=[nowhere]']}}")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"no image")
    outcome = refine(
        "study", tmp_path / "q", f"input={tmp_path / 'in'}", f"output={tmp_path / 'out'}", *tiny, "logger=wandb"
    )
    assert outcome.status == 1 and "logger wandb failed" not in outcome.err, outcome.err
    (run,) = runs(tmp_path / "out", ".study")
    assert run.exit_code == 1 and not list((run.folder / "files" / "media").glob("table/comparisons_*"))
