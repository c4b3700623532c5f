"""Answer a question: run the arms of a study on the same images and masks, and compare them.

    refine study                                    # the studies that come along, each with its question
    refine study which_layers input=photos output=runs/which_layers
    refine study experiments/my_steps input=photos output=runs/my_steps launcher=submitit_slurm device=cuda
    refine study experiments/my_steps output=runs/my_steps report_only=true

A study is a folder with a file study.yaml, such a file, or the name of one that comes along.
Settings that are not listed below go to every arm's `refine predict`. The same command continues after any kill.
"""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

from refine.config import CONFIGS, PATHS, StudyConfig
from refine.data.masks import KINDS
from refine.studies import shipped

# Values that are no paths, even beside a folder of that name.
WORDS: dict[str, tuple[str, ...]] = {"masks": KINDS, "truth": ("input",), "backbone.weights": ("random",)}


def run(overrides: Sequence[str]) -> int:
    """Run the command.

    Args:
        overrides: Name or folder of the study, and settings in Hydra's form ``key=value``; nothing to list the studies.

    Returns:
        Exit status: 0 if every arm is complete, 1 if one is not, 130 after Ctrl-C.

    Raises:
        ValueError: If the request makes no sense; nothing was run then.
    """
    if not overrides:
        print(shipped.questions())
        return 0
    from refine.studies import pipeline  # torch, which takes seconds

    own, launcher, common = split(overrides)
    config = StudyConfig.compose(own)
    return pipeline.run(config, [absolute(override) for override in common], launcher, overrides)


def split(overrides: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """What is for the study, for the launcher, and for every arm.

    Args:
        overrides: Folder of the study, and settings in Hydra's form ``key=value``.
    """
    known = set(OmegaConf.load(CONFIGS / "study.yaml")) - {"defaults"}
    own: list[str] = []
    launcher, common = ["launcher=basic"], list[str]()
    for number, override in enumerate(overrides):
        key, equals, _ = override.partition("=")
        if not equals and number == 0:
            own.append(f"study={override}")
        elif key == "launcher":
            launcher[0] = override
        elif key.lstrip("+").startswith("hydra."):
            launcher.append(override)
        else:
            (own if key in known else common).append(override)
    return own, launcher, common


def absolute(override: str) -> str:
    """A path as it is seen from anywhere, if it is one.

    Args:
        override: Setting in Hydra's form ``key=value``.
    """
    key, _, value = override.partition("=")
    path = Path(value).expanduser()
    if key == "backbone":
        is_path = path.suffix in (".yaml", ".yml")
    else:
        is_path = key in (*PATHS, "config_dir") and value not in WORDS.get(key, ())
    return f"{key}={path.absolute()}" if is_path and path.exists() else override
