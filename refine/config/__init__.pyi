from .build import build, plain
from .errors import ConfigError, describe
from .overrides import CONFIGS, PATHS, compose, literal, quoted
from .schema import (
    BackbonesConfig,
    CheckConfig,
    DataConfig,
    FetchConfig,
    InpaintConfig,
    LayersConfig,
    MasksConfig,
    PanelsConfig,
    PlanConfig,
    PredictConfig,
    RefinerConfig,
    Settings,
    StudyConfig,
)

__all__ = [
    "CONFIGS",
    "PATHS",
    "BackbonesConfig",
    "CheckConfig",
    "ConfigError",
    "DataConfig",
    "FetchConfig",
    "InpaintConfig",
    "LayersConfig",
    "MasksConfig",
    "PanelsConfig",
    "PlanConfig",
    "PredictConfig",
    "RefinerConfig",
    "Settings",
    "StudyConfig",
    "build",
    "compose",
    "describe",
    "literal",
    "plain",
    "quoted",
]
