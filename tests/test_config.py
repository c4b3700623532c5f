"""Overrides -> configuration: any path is taken as it is, presets keep their place, mistakes are explained."""

import functools
import sys
import warnings
from typing import get_args

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from refine.config import (
    CONFIGS,
    PATHS,
    CheckConfig,
    ConfigError,
    FetchConfig,
    InpaintConfig,
    LayersConfig,
    MasksConfig,
    PredictConfig,
    StudyConfig,
    build,
    compose,
    overrides,
    plain,
)
from refine.data.masks import KINDS
from refine.io.formats import FORMATS
from refine.metrics.sets import PAIRWISE, SETWISE

PRESETS = sorted(file.stem for file in (CONFIGS / "preset").glob("*.yaml"))


ELSEWHERE = {"cache": "fetch", "plot": "layers", "study": "study", "controls": "study"}  # paths that predict lacks


def settings(*overrides: str) -> dict:
    """The composed configuration, resolved where it can be."""
    return plain(compose("predict", ["output=out", "input=in", *overrides]))


@pytest.mark.parametrize(
    "path",
    [
        "a b",
        "ä 画 🙂",
        "a=b,c",
        "(a)[b]{c}",
        "#a & b",
        "it's",
        '"',
        "$HOME",
        "${x}",
        "${oc.env:HOME}",
        "${",
        "a\\b",
        "a\\${x}",
        "a\\\\${x}",
        "\\${x}\\",
        "\\",
        "~",
        "-1",
        "true",
        "1e3",
        "new\nline",
        "\udcff",
    ],
)
def test_paths_are_literal(path):
    made = settings("backbone=zits", *(f"{key}={path}" for key in PATHS if key not in ELSEWHERE))
    assert [made[key] for key in ("input", "output", "mask", "masks")] == [path] * 4
    assert [made["backbone"][key] for key in ("weights", "edges", "lines")] == [path] * 3
    assert made["trainer"]["default_root_dir"] == f"{path}/.refine"
    assert OmegaConf.create(OmegaConf.to_yaml(compose("predict", [f"output={path}"]))).output == path


@pytest.mark.parametrize(("key", "command"), sorted(ELSEWHERE.items()))
def test_paths_of_every_command_are_literal(key, command):
    path = "a b,c=[d]{e}(f)/\\${x} \\"
    assert plain(compose(command, [f"{key}={path}"]))[key] == path


def test_path_values_with_a_meaning():
    assert settings("mask=null", "masks=")["mask"] is None
    assert settings("mask=null", "masks=")["masks"] is None
    assert settings("mask='quoted for Hydra'")["mask"] == "quoted for Hydra"
    assert settings("mask=???")["mask"] == "./???"
    assert settings("mask=one", "mask=two")["mask"] == "two"


def test_quotes_of_a_file_that_is_called_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "'x'").touch()
    assert settings("mask='x'")["mask"] == "'x'"


def test_a_target_gets_its_path_as_it_is():
    made = build({"_target_": "pathlib.PurePosixPath", "_args_": ["x"]})
    assert str(made) == "x"
    config = compose("predict", ["backbone.weights=a\\${x}", "output=${y}"])
    assert build({"_target_": "builtins.dict", "weights": config.backbone.weights, "of": config.output}) == {
        "weights": "a\\${x}",
        "of": "${y}",
    }


# Backbones and folders of the user's


def test_backbone_from_a_file(tmp_path, tiny_weights):
    file = tmp_path / "my, own [backbone].yaml"
    file.write_text(f"_target_: refine.backbones.lama.adapter.LaMa\nweights: {tiny_weights}\nnative_size: 40\n")
    made = settings(f"backbone={file}", "pyramid.factor=3")
    assert made["backbone"] == {
        "_target_": "refine.backbones.lama.adapter.LaMa",
        "weights": str(tiny_weights),
        "native_size": 40,
    }
    assert (made["pyramid"]["smallest_side"], made["pyramid"]["factor"]) == (40, 3)
    file.write_text("defaults: [lama]\nnative_size: 48\n")
    assert settings(f"backbone={file}")["backbone"]["name"] == "lama"
    assert settings(f"backbone='{file}'", "backbone.cut=2")["backbone"]["native_size"] == 48


@pytest.mark.parametrize("content", [b"", b"- a\n- b\n", b"just text", b"a: [", b"\xff\xfe\x00", b"weights: x\n"])
def test_backbone_from_a_file_without_sense(tmp_path, content):
    (tmp_path / "x.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"backbone=.*x.yaml: (no valid YAML|expected a mapping with _target_)"):
        settings(f"backbone={tmp_path / 'x.yaml'}")


@pytest.mark.parametrize(
    "name", ["plain", "a b", "a'b", 'a"b', "a\\b", "a\\'b", "end\\", "${x}", "#?%20", "a,b=[c]", "ü"]
)
def test_config_dir_adds_to_the_groups(tmp_path, name):
    folder = tmp_path / name
    (folder / "preset").mkdir(parents=True)
    (folder / "backbone").mkdir()
    (folder / "preset" / "mine.yaml").write_text("# @package _global_\nrefiner: {steps: 3}\n")
    (folder / "backbone" / "own.yaml").write_text("defaults: [lama]\nnative_size: 77\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = settings(f"config_dir={folder}", "preset=mine", "backbone=own")
    assert (made["refiner"]["steps"], made["backbone"]["native_size"]) == (3, 77)
    assert settings("preset=paper")["refiner"]["steps"] == 15  # and leaves nothing behind
    with pytest.raises(
        ConfigError, match=r"there is no preset=mine\. There are: default, paper, plain, reference, upscaled\.$"
    ):
        settings("preset=mine")


# Presets


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_choose_groups_and_set_the_refiner_and_how_masks_are_read(preset):
    content = OmegaConf.load(CONFIGS / "preset" / f"{preset}.yaml")
    assert set(content) <= {"defaults", "refiner", "mask_channel", "mask_threshold"}
    assert all(key.startswith("override /") for entry in content.defaults for key in entry)


@functools.cache
def by_preset(preset: str) -> dict:
    return settings(f"preset={preset}")


@functools.cache
def by_objective(objective: str) -> dict:
    return settings(f"objective={objective}")["objective"]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("objective", ["default", "paper", "reference"])
def test_a_group_given_by_hand_wins_over_the_presets(preset, objective):
    made, own, alone = (
        settings(f"preset={preset}", f"objective={objective}"),
        by_preset(preset),
        by_objective(objective),
    )
    assert made["objective"] == alone
    assert (made["refiner"], made["pyramid"]) == (own["refiner"], own["pyramid"])


def test_reference_with_the_papers_objective():
    made = settings("preset=reference", "objective=paper")
    assert made["objective"]["known_weight"] == 0 and made["objective"]["native_size"] is None
    assert made["refiner"]["steps"] == 14 and made["refiner"]["keep"] == "last" and made["pyramid"]["max_levels"] == 3


def test_presets_say_what_their_sources_say():
    paper, reference = settings("preset=paper"), settings("preset=reference")
    assert (paper["refiner"]["steps"], paper["refiner"]["lr"], paper["objective"]["erosion"]) == (15, 0.002, 15)
    assert paper["pyramid"]["max_levels"] is None and paper["objective"]["known_weight"] == 0
    assert (reference["refiner"]["steps"], reference["refiner"]["lr"]) == (14, 0.002)
    assert reference["objective"]["known_weight"] == 1
    assert settings("preset=off")["pyramid"]["max_levels"] == 1
    assert settings("preset=upscaled")["refiner"]["_target_"] == "refine.core.upscaler.Upscaler"


def test_values_win_over_presets_in_any_order():
    for order in (["refiner.steps=3", "preset=paper"], ["preset=paper", "refiner.steps=3"]):
        assert settings(*order)["refiner"]["steps"] == 3


def test_the_pyramid_follows_the_backbone():
    made = settings("backbone=big_lama", "pyramid.factor=3")
    assert made["pyramid"]["smallest_side"] == 512 and made["objective"]["factor"] == 3
    assert settings("backbone.native_size=99")["pyramid"]["smallest_side"] == 99


def test_lists():
    made = settings("refiner.steps=[3,5]", "refiner.lr=[0.1,0.2]", "refiner.optimize=[local]")
    assert (made["refiner"]["steps"], made["refiner"]["lr"]) == ([3, 5], [0.1, 0.2])
    assert made["refiner"]["optimize"] == ["local"]


# Mistakes


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("mask_treshold=1", "there is no setting 'mask_treshold'; did you mean mask_threshold?"),
        ("backbone.weigths=x", "did you mean backbone.weights"),
        ("refiner.step=1", "did you mean refiner.steps"),
        ("steps=1", "did you mean refiner.steps?"),
        ("native_size=1", "did you mean backbone.native_size or objective.native_size?"),
        ("zzz=1", "there is no setting 'zzz'."),
        ("input.x=1", "there is no setting 'input.x'; did you mean input?"),
        ("=1", "cannot read the override '=1'"),
        ("preset=nope", "there is no preset=nope. There are: default, paper, plain"),
        ("backbone=nope", "there is no backbone=nope. There are: aot_gan, big_lama"),
        ("pyramid=nope", "there is no pyramid=nope. There are: default, reference, single."),
        ("preset=null", "must be a string"),
        ("input", "cannot read the override 'input'; expected key=value"),
        ("x y=1", "cannot read the override 'x y=1'"),
        ("", "cannot read the override ''"),
        ("refiner.steps=[1", "cannot read the override 'refiner.steps=[1'"),
        ("refiner.steps=1,2", "a list has brackets: refiner.steps=[...]"),
        ("~refiner", "settings cannot be deleted"),
        ("refiner.lr=${nope}", "refiner: Interpolation key 'nope' not found"),
        ("config_dir=/no/such/folder", "no such folder; it should hold backbone/, preset/"),
        ("backbone=/nope.yaml", "cannot read it (No such file or directory)"),
    ],
)
def test_mistakes_are_explained(override, message):
    with pytest.raises(ConfigError) as raised:
        compose("predict", [override])
    assert message in str(raised.value)
    assert "hydra" not in str(raised.value).lower()


def test_suggestions_know_the_chosen_backbone():
    with pytest.raises(ConfigError, match=r"did you mean backbone\.sizes\.blocks"):
        compose("predict", ["backbone=lama", "backbone.sizes.block=3"])


def test_no_setting_for_a_path(tmp_path):
    (tmp_path / "x.yaml").write_text("_target_: builtins.dict\nnative_size: 8\n")
    with pytest.raises(ConfigError, match=r"there is no setting 'backbone.weights' here"):
        compose("predict", [f"backbone={tmp_path / 'x.yaml'}", "backbone.weights=a"])


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"_target_": "no.such.thing"}, "no.such.thing"),
        ({"_target_": "refine.core.pyramid.Pyramid", "nothing": 1}, "nothing"),
        ({"_target_": "refine.core.pyramid.Pyramid", "smallest_side": "x"}, "smallest_side=x"),
        ({"_target_": "refine.core.refiner.Refiner", "optimizer": {"_target_": "no.such"}}, "no.such"),
    ],
)
def test_what_cannot_be_built(node, message):
    with pytest.raises(ConfigError, match=r"cannot build refine|cannot build no") as raised:
        build(OmegaConf.create(node))
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("faulty.Absent", r"cannot build faulty\.Absent: .*faulty\.py holds no 'Absent'"),
        ("nowhere.Net", r"cannot build nowhere\.Net: there is no module 'nowhere'"),
        ("faulty.Takes", r"cannot build faulty\.Takes: TypeError: .*missing 1 required positional argument: 'width'"),
        ("faulty.Raises", r"cannot build faulty\.Raises: .*faulty\.py, line 3: KeyError: 'conf'"),
    ],
)
def test_a_target_within_a_section_is_named_with_the_reason(tmp_path, monkeypatch, target, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "faulty.py").write_text(
        "class Raises:\n    def __init__(self):\n        raise KeyError('conf')\n"
        "class Takes:\n    def __init__(self, width): pass\n"
    )
    with pytest.raises(ConfigError, match=message):
        build({"_target_": "refine.backbones.replay.adapter.Replay", "cut": "a", "network": {"_target_": target}})


def test_a_class_of_the_users_own_gets_the_settings_that_it_takes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "import refine\nclass Bare: pass\nclass One:\n    def __init__(self, erosion): pass\n"
        "class Any(refine.MultiscaleL1):\n    def __init__(self, **settings): super().__init__(**settings)\n"
    )
    whole = set(compose("predict")["objective"])
    assert set(compose("predict", ["objective._target_=mine.Bare"])["objective"]) == {"_target_"}
    assert set(compose("predict", ["objective._target_=mine.One"])["objective"]) == {"_target_", "erosion"}
    assert set(compose("predict", ["objective._target_=mine.Any"])["objective"]) == whole
    for named in (
        ["objective._target_=mine.Bare", "objective.erosion=3"],
        ["objective={_target_:mine.Bare,erosion:3}"],
    ):
        with pytest.raises(ConfigError, match=r"mine.Bare from erosion=3"):  # what was asked for is not dropped
            build(compose("predict", named)["objective"])


def test_a_section_without_a_target_is_named():
    with pytest.raises(ConfigError, match="cannot build a section without _target_; it has a, b"):
        build({"a": 1, "b": 2})


def test_errors_of_a_target_are_its_own():
    with pytest.raises(ValueError, match="smallest_side") as raised:
        build({"_target_": "refine.core.pyramid.Pyramid", "smallest_side": 0})
    assert not isinstance(raised.value, ConfigError)


def test_checked_values():
    config = InpaintConfig.compose(["mask_threshold=1", "mask_invert=TRUE", "mask_dilate=3"])
    assert config.mask_options == (1, True, 3, "auto")
    for override in ("mask_threshold=nan", "mask_invert=no", "mask_dilate=1.5"):
        with pytest.raises(ConfigError, match=f"{override}: expected"):
            InpaintConfig.compose([override])


def test_a_misspelled_setting_is_the_one_that_is_named():
    """Not the preset before it, which leaves no section of its name."""
    with pytest.raises(ConfigError, match=r"there is no setting 'refiner\.step'; did you mean refiner\.steps"):
        compose("predict", ["preset=paper", "refiner.step=1"])


# Beside other users of Hydra


@pytest.mark.parametrize(
    "given",
    [
        ["refiner.steps=2", "backbone=lama", "backbone.sizes.width=4", "preset=paper", "backbone.native_size=16"],
        ["logger=wandb", "logger.tags=[x,'a,b']", "++logger.wandb.notes={a: 1}", "trainer=ddp", "trainer.devices=2"],
        ["pyramid.factor=1.5", "preset=plain", "objective=paper", "refiner.optimizer._target_=torch.optim.SGD"],
    ],
)
def test_what_the_tests_compose_once_is_what_hydra_composes(given):
    """In this process settings are applied to a copy (tests/helpers/composed.py)."""
    quick, real = overrides._compose, overrides._compose.__wrapped__
    assert OmegaConf.to_yaml(quick("predict", given)) == OmegaConf.to_yaml(real("predict", given))


def test_an_application_with_its_own_hydra_stays_intact(tmp_path, monkeypatch):
    monkeypatch.setattr(overrides, "_compose", overrides._compose.__wrapped__)  # no copies of earlier ones
    (tmp_path / "app.yaml").write_text("a: 1\n")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        before = GlobalHydra.instance().hydra
        assert settings()["format"] == "png"
        with pytest.raises(ConfigError):
            settings("nope=1")
        assert GlobalHydra.instance().hydra is before
        assert hydra_compose("app", ["a=2"]) == {"a": 2}
    assert settings()["format"] == "png"
    assert not GlobalHydra.instance().is_initialized()


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (None, "ownblur.Blur", "there is no module 'ownblur'"),
        ("import nowhere_at_all", "ownblur.Blur", r"ownblur.py, line 1: No module named 'nowhere_at_all'"),
        ("\n1 / 0", "ownblur.Blur", r"ownblur.py, line 2: ZeroDivisionError while importing"),
        ("Blurr = dict", "ownblur.Blur", r"ownblur.py holds no 'Blur'"),
    ],
)
def test_why_a_users_own_backbone_cannot_be_imported(tmp_path, monkeypatch, source, target, message):
    monkeypatch.setattr("refine.backbones.user_modules.FOLDERS", {})
    if source:
        (tmp_path / "ownblur.py").write_text(source)
    (tmp_path / "blur.yaml").write_text(f"_target_: {target}\nnative_size: 32\n")
    sys.modules.pop("ownblur", None)
    with pytest.raises(ConfigError, match=message):
        build(compose("predict", [f"backbone={tmp_path / 'blur.yaml'}"]).backbone)
    sys.modules.pop("ownblur", None)


def test_a_users_own_backbone_lies_beside_its_file(tmp_path):
    (tmp_path / "besideblur.py").write_text("Blur = dict\n")
    (tmp_path / "blur.yaml").write_text("_target_: besideblur.Blur\nnative_size: 32\n")
    before = list(sys.path)
    assert build(compose("predict", [f"backbone={tmp_path / 'blur.yaml'}"]).backbone) == {"native_size": 32}
    assert sys.path == before
    sys.modules.pop("besideblur", None)


def test_modules_of_one_name_in_two_places_are_two_modules(tmp_path, monkeypatch):
    for place, value in (("one", 1), ("two", 22), ("work", 333)):
        (tmp_path / place / "own").mkdir(parents=True)  # without __init__.py
        (tmp_path / place / "own" / "part.py").write_text(f"VALUE = {value}\n")
        (tmp_path / place / "ownmodule.py").write_text(
            "from own.part import VALUE\n\ndef get(native_size=0): return VALUE\n"
        )
        (tmp_path / place / "own.yaml").write_text("_target_: ownmodule.get\nnative_size: 32\n")

    def built(place: str, *overrides: str) -> int:
        return build(compose("predict", [f"backbone={tmp_path / place / 'own.yaml'}", *overrides]).backbone)

    assert [built(place) for place in ("one", "two", "one")] == [1, 22, 1]
    (tmp_path / "one" / "own" / "part.py").write_text("VALUE = 4\n")  # as long as before, within the same second
    assert built("one") == 4
    monkeypatch.chdir(tmp_path / "work")
    objective = compose("predict", ["objective._target_=ownmodule.get"]).objective
    assert build({"_target_": objective["_target_"]}) == 333  # not that of an earlier configuration
    kept = sys.modules["ownmodule"]
    assert build({"_target_": "ownmodule.get"}) == 333 and sys.modules["ownmodule"] is kept


def test_old_names_of_settings_say_the_new_one():
    with pytest.warns(UserWarning, match=r"refiner.checkpoint is now called refiner.gradient_checkpointing"):
        assert InpaintConfig.compose(["refiner.checkpoint=true"]).refiner["gradient_checkpointing"] is True
    assert compose("predict", ["preset=off"]) == compose("predict", ["preset=plain"])


# Typed settings

NEEDED = ("study=a", "input=a", "output=b")


@pytest.mark.parametrize(
    ("annotation", "values"),
    [
        (PredictConfig.model_fields["format"].annotation, FORMATS),
        (get_args(PredictConfig.model_fields["metrics"].annotation)[0], (*PAIRWISE, *SETWISE)),
        (MasksConfig.model_fields["kind"].annotation, KINDS),
    ],
)
def test_the_schema_knows_every_name(annotation, values):
    assert set(get_args(annotation)) == set(values)


@pytest.mark.parametrize(
    "schema", [PredictConfig, CheckConfig, LayersConfig, MasksConfig, FetchConfig, StudyConfig], ids=lambda s: s.command
)
def test_the_schema_knows_every_setting(schema):
    settings = {field.alias or name for name, field in schema.model_fields.items()}
    config = compose(schema.command, [override for override in NEEDED if override[:-2] in settings])
    assert set(config) == settings
    assert schema.check(config).model_dump(by_alias=True) == plain(config)


def test_what_no_schema_knows_is_refused():
    with pytest.raises(ConfigError, match="there is no setting 'nothing'"):
        PredictConfig.compose(["input=a", "output=b", "+nothing=1"])


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("preset=papper", "there is no preset=papper; did you mean paper?"),
        ("backbone=minni", "there is no backbone=minni; did you mean mini"),
        ("refiner.stpes=3", "did you mean refiner.steps"),
        ("refiner.optimizer=adamv", "did you mean adam"),
    ],
)
def test_a_misspelled_choice_is_told_what_it_may_have_meant(override, hint):
    with pytest.raises(ConfigError, match=hint.replace("?", r"\?")):
        compose("predict", [override])


@pytest.mark.parametrize(
    ("name", "target"), [("adamw", "AdamW"), ("sgd", "SGD"), ("rmsprop", "RMSprop"), ("LBFGS", "LBFGS")]
)
def test_an_optimizer_is_chosen_by_its_name(name, target):
    optimizer = compose("predict", [f"refiner.optimizer={name}"]).refiner.optimizer
    assert optimizer._target_ == f"torch.optim.{target}" and optimizer._partial_
    assert optimizer.get("max_iter") == (1 if target == "LBFGS" else None)
