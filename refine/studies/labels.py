"""Labels by which the runs of a study are found together at Weights & Biases."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from refine.config import ConfigError, quoted

DRAWN = ("masks", "mask_seed", "data.seed")  # settings of the images and masks that a run is told by
LONGEST = 64  # characters of a tag; W&B refuses a run with a longer one


def labeled(overrides: Sequence[str], study: str, group: str, arm: str) -> list[str]:
    """The settings of a run, with what says at W&B where it belongs; unchanged if it has no such logger.

    Args:
        overrides: Settings of the run, one per key.
        study: Name of the study, which becomes W&B's group unless the user chose one.
        group: Name of the group that the run is compared within; empty if there is one alone.
        arm: Name of the arm.

    Raises:
        ConfigError: If the choice of loggers or the user's tags cannot be read.
    """
    if not uses_wandb(overrides):
        return [*overrides]
    values = {_key(override): override.partition("=")[2] for override in overrides}
    drawn = [f"{key}={Path(values[key]).name}" for key in DRAWN if key in values]
    own = [text[:LONGEST] for text in (arm, group, *drawn) if text]
    name = f"{group}/{arm}" if group else arm
    # Arms are runs of their own, whatever run the environment names.
    chosen = {"logger.group": quoted(study), "logger.name": quoted(name), "logger.id": "null"}
    added = [f"{key}={value}" for key, value in chosen.items() if key not in values]
    together = ",".join(map(quoted, dict.fromkeys([*tags(overrides), *own])))
    return [*(text for text in overrides if _key(text) != "logger.tags"), *added, f"logger.tags=[{together}]"]


def uses_wandb(overrides: Sequence[str]) -> bool:
    """Whether a run is told to W&B.

    Args:
        overrides: Settings of the run.
    """
    return "wandb" in _values(overrides, "logger")


def tags(overrides: Sequence[str]) -> list[str]:
    """The tags of a run.

    Args:
        overrides: Settings of the run.
    """
    return [str(tag) for tag in _values(overrides, "logger.tags")]


def without_loggers(overrides: Sequence[str]) -> list[str]:
    """The settings of a run that can change its results: who is told of them cannot.

    Args:
        overrides: Settings of the run.
    """
    return [override for override in overrides if _key(override).partition(".")[0] != "logger"]


def _values(overrides: Sequence[str], key: str) -> Iterator[Any]:
    """What a list of one key holds, be it a list of one without brackets."""
    for override in (override for override in overrides if _key(override) == key):
        try:
            value = OverridesParser.create().parse_override(override).value()
        except HydraException:
            raise ConfigError(f"cannot read the override {override!r}; expected key=value.") from None
        yield from value if isinstance(value, list) else filter(None, [value])


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+")
