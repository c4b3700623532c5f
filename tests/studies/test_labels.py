"""Where W&B is told that a run belongs."""

import pytest
from finished import write_study

from refine.config import ConfigError, PredictConfig
from refine.studies.labels import labeled, tags
from refine.studies.spec import CONTROLS, make_runs, read_study

SETTINGS = ["input=x", "output=y", "masks=thin", "mask_seed=3"]


def told(*overrides: str, group: str = "g", arm: str = "steps-1") -> dict:
    """The logger's arguments, as they are composed."""
    return PredictConfig.compose(labeled([*SETTINGS, *overrides], "study", group, arm)).logger["wandb"]


def test_group_name_and_tags():
    node = told("logger=wandb")
    assert (node["group"], node["name"], node["job_type"]) == ("study", "g/steps-1", "predict")
    assert node["tags"] == ["steps-1", "g", "masks=thin", "mask_seed=3"]
    assert told("logger=[csv,wandb]", group="")["name"] == "steps-1"


def test_what_the_user_chose_stays():
    node = told("logger=wandb", "logger.group=mine", "logger.name=own", "logger.tags=[x,'a, b',1]")
    assert (node["group"], node["name"]) == ("mine", "own")
    assert node["tags"] == ["x", "a, b", "1", "steps-1", "g", "masks=thin", "mask_seed=3"]
    assert told("logger=wandb", "logger.tags=x", "logger.id=i")["id"] == "i"
    assert told("logger=wandb", "logger.tags=null")["tags"][0] == "steps-1"
    with pytest.raises(ConfigError, match=r"cannot read the override 'logger.tags=\[x'"):
        told("logger=wandb", "logger.tags=[x")


@pytest.mark.parametrize("arm", ["null", "1e3", "true", "a+b", "1", "x" * 70])
def test_odd_names_of_arms(arm):
    node = told("logger=wandb", "masks=/some/${where}/my holes, 'all'", arm=arm)
    assert node["name"] == f"g/{arm}" and node["tags"][0] == arm[:64]
    assert "masks=my holes, 'all'" in node["tags"]


def test_arms_are_runs_of_their_own_whatever_the_environment_says(monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "one")
    assert told("logger=wandb")["id"] is None


@pytest.mark.parametrize("logger", [[], ["logger=csv"], ["logger=none"]])
def test_without_wandb_nothing_changes(logger):
    overrides = [*SETTINGS, *logger]
    assert labeled(overrides, "study", "g", "a") == overrides and tags(overrides) == []


def test_studies_share_controls_whoever_is_told(tmp_path):
    study = read_study(write_study(tmp_path / "q", "{question: '?', arms: {a: [refiner.steps=1]}}"))

    def controls(*common):
        runs = make_runs(study, tmp_path / "out", ["input=x", *common], tmp_path / "c")
        return [run.folder for run in runs if run.arm in CONTROLS]

    assert controls() == controls("logger=wandb", "logger.tags=[x]") != controls("masks=thin")
