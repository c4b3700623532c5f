"""What a study asks, and the runs that answer it."""

from pathlib import Path

import pytest
from finished import write_study
from generated import refine

from refine.config import PredictConfig, compose
from refine.studies.report import BEGIN, END
from refine.studies.spec import CONTROLS, make_runs, read_study

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "experiments" / "README.md").read_text()
SHIPPED = sorted(file.parent for file in (ROOT / "experiments").glob("*/study.yaml"))


def test_grid_groups_and_controls(tmp_path):
    folder = write_study(
        tmp_path / "q",
        "{question: '?', base: [backbone=mini, refiner.steps=9], each: {masks: [thin, thick]}, reference: best,"
        " grid: {refiner.steps: [5, 15], refiner.lr: [0.001]}, arms: {best: [preset=paper]}}",
    )
    study = read_study(folder)
    assert list(study.arms) == ["plain", "upscaled", "best", "steps-5_lr-0.001", "steps-15_lr-0.001"]
    assert study.references == ("plain", "upscaled", "best") and study.axis == "refiner.steps"
    assert [study.place(arm) for arm in study.arms][2:] == [None, 5, 15]
    jobs = {job.name: job for job in make_runs(study, tmp_path / "out", ["refiner.lr=0.5", "device=cpu", "input=x"])}
    assert len(jobs) == 10 and jobs["thin/plain"].folder == tmp_path / "out" / "thin" / "plain"
    config = compose("predict", jobs["thick/steps-5_lr-0.001"].overrides)
    assert (config.refiner.steps, config.refiner.lr, config.masks, config.device) == (5, 0.001, "thick", "cpu")
    config = compose("predict", jobs["thin/plain"].overrides)
    assert (config.refiner.steps, config.pyramid.max_levels) == (0, 1)  # a control stays one, whatever the base says
    assert compose("predict", jobs["thin/best"].overrides).refiner.lr == 0.5


def test_studies_share_controls_that_are_the_same_job(tmp_path):
    def controls(text, *common):
        study = read_study(write_study(tmp_path / str(len(text)), text))
        return [job.folder for job in make_runs(study, tmp_path / "out", common, tmp_path / "c") if job.arm in CONTROLS]

    first = controls("{question: '?', base: [backbone=mini, masks=thin], arms: {a: [refiner.steps=1]}}", "input=x")
    assert first == controls(
        "{question: '?', base: [masks=thin, backbone=mini], grid: {refiner.lr: [1, 2]}}", "input=x"
    )
    assert not {*first} & {*controls("{question: '?', base: [masks=thick], arms: {a: [refiner.steps=1]}}", "input=x")}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("arms: {a: [x=1]}", "expected a mapping with a question"),
        ("question: '?'", "has neither arms nor a grid"),
        ("{question: '?', armz: {a: [x=1]}}", "there is no key armz; expected some of arms"),
        ("{question: '?', arms: {a: x=1}}", "arms.a: expected a list of overrides"),
        ("{question: '?', arms: {a/b: [x=1]}}", "'a/b' is a folder's name"),
        ("{question: '?', arms: {'off': [x=1]}}", "off: there twice"),
        ("{question: '?', arms: {a: [x=1]}, reference: b}", "reference: b is no arm; there are: a"),
        ("{question: '?', arms: {a: [x=1]}, n: 1}", "n: expected a number of images, 2 or more"),
        ("{question: '?', arms: [", "no valid YAML"),
    ],
)
def test_studies_that_make_no_sense(tmp_path, text, said):
    outcome = refine("study", write_study(tmp_path / "q", text), "input=x", f"output={tmp_path / 'out'}")
    assert outcome.status == 2 and said in outcome.err and "study.yaml" in outcome.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_shipped_studies_compose_and_have_a_place_for_their_answer(folder):
    study = read_study(folder)
    runs = [run.overrides for run in make_runs(study, Path("out"), ["input=x"])]
    left = {setting for overrides in runs for setting in overrides if not setting.startswith("output=")}
    while left:  # every setting of every run at least once, in as few runs as that takes
        most = max(runs, key=lambda overrides: len(left.intersection(overrides)))
        compose("predict", most)
        left.difference_update(most)
    readme = (folder / "README.md").read_text()
    assert readme.startswith(f"# {study.question}\n") and BEGIN in readme and END in readme
    assert f"experiments/{folder.name}" in readme and f"[{folder.name}]({folder.name})" in GUIDE


def test_the_sweep_for_agents_composes():
    """The command line as W&B's agent builds it, with the last values of the grid."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args, load_sweep_config

    sweep = load_sweep_config(str(ROOT / "experiments" / "sweep.yaml"))
    chosen = {name: {"value": values["values"][-1]} for name, values in sweep["parameters"].items()}
    arguments = create_sweep_command_args({"args": chosen})["args_no_hyphens"]
    shell, _, script, *rest = create_sweep_command(sweep["command"])
    assert (shell, rest, sweep["program"]) == ("bash", ["${program}", "${args_no_hyphens}"], "refine")
    shared = script.removeprefix('exec "$0" predict ').removesuffix(' "$@"').split()
    config = PredictConfig.compose([*shared, *arguments])
    assert (config.refiner["steps"], config.refiner["lr"], config.masks) == (45, 0.008, "thick")
    assert config.output == "runs/sweep/$WANDB_RUN_ID" and config.logger["offline"] is False
