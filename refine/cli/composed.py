"""The settings of a run as YAML, checked as a run checks them; nothing is run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

import refine.config.schema as schema
from refine.config import AppConfig, ConfigError, PredictConfig, Settings, compose

SETTINGS: dict[str, type[Settings]] = {
    kind.command: kind
    for kind in (
        schema.AppConfig,
        schema.BackbonesConfig,
        schema.CheckConfig,
        schema.FetchConfig,
        schema.LayersConfig,
        schema.MasksConfig,
        schema.PlanConfig,
        schema.PredictConfig,
        schema.StudyConfig,
    )
}


def composed(command: str, overrides: Sequence[str]) -> str:
    """The settings of a command; of a study, also the overrides of all its jobs, each held against ``refine predict``.

    Args:
        command: Name of a command.
        overrides: Hydra's ``key=value``, and what else the command takes.

    Returns:
        YAML. A setting that a run needs and that is not given is ``???``.

    Raises:
        ConfigError: If a run would refuse a setting.
    """
    if command == "study":
        return _study(overrides)
    if command == "fetch":
        from refine.cli.fetch import with_backbone

        overrides = with_backbone(overrides)
    launcher: list[str] = []
    if command == "predict":
        from refine.cli.predict import split

        overrides, launcher = split(overrides)
    config = OmegaConf.to_yaml(_checked(command, overrides))
    return config + (OmegaConf.to_yaml({"launcher": launcher}) if launcher else "")


def _checked(command: str, overrides: Sequence[str]) -> Any:
    config = compose(command, overrides)
    settings = SETTINGS[command].check(config, complete=False)
    if isinstance(settings, PredictConfig | AppConfig):
        from refine.factory import check_refiner

        check_refiner(settings)
    return config


def _study(overrides: Sequence[str]) -> str:
    from refine.cli.study import absolute, split
    from refine.studies.shipped import find_study
    from refine.studies.spec import make_runs, read_study

    own, launcher, common = split(overrides)
    config = _checked("study", own)
    if OmegaConf.is_missing(config, "study"):
        raise ConfigError("study needs study=, for example refine study which_layers --cfg.")
    output = Path("???" if OmegaConf.is_missing(config, "output") else config.output)
    controls = None if config.controls is None else Path(config.controls)
    jobs = {}
    for run in make_runs(read_study(find_study(config.study)), output, [absolute(o) for o in common], controls):
        try:
            _checked("predict", run.overrides)
        except ValueError as error:
            raise ConfigError(f"arm {run.name}: {error}") from None
        jobs[run.name] = list(run.overrides)
    return OmegaConf.to_yaml(config) + OmegaConf.to_yaml({"launcher": list(launcher), "jobs": jobs})
