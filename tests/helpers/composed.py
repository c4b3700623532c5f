"""Every choice of groups is composed by Hydra once per test process: that takes longer than most tests do."""

import contextlib
import copy
import functools
import re
from collections.abc import Iterator
from pathlib import Path

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from refine.config import overrides

FOLDER = "hydra.searchpath=['file://"  # what config_dir= becomes
REGISTERED = "backbone=file_"  # what backbone=<file>.yaml becomes
GROUPS = {folder.name for folder in overrides.CONFIGS.iterdir() if folder.is_dir()}


@contextlib.contextmanager
def composed_once() -> Iterator[None]:
    """Inside, the same command with the same groups and files of a user's gives copies, to which settings are applied.

    Hydra does no other: settings come after all groups. What it refuses goes to Hydra, so that errors come anew.
    """
    compose, kept = overrides._compose, dict[tuple[str, ...], DictConfig]()
    parsed = functools.cache(OverridesParser.create().parse_override)

    @functools.wraps(compose)
    def once(command: str, given: list[str]) -> DictConfig:
        settings = [override for override in given if _is_setting(override)]
        groups = [override for override in given if override not in settings]
        key = command, *map(_content, groups)
        try:
            if key not in kept:
                kept[key] = compose(command, groups)
            config = copy.deepcopy(kept[key])
            ConfigLoaderImpl._apply_overrides_to_config([parsed(override) for override in settings], config)
        except Exception:  # of whatever kind: the real one says it
            return compose(command, given)
        return config

    overrides._compose = once
    try:
        yield
    finally:
        overrides._compose = compose


def _is_setting(override: str) -> bool:
    """Whether it sets a value, rather than choose one of a group."""
    found = re.match(r"\+{0,2}([^=@/~]+)=", override)
    return found is not None and found[1] not in GROUPS and not found[1].startswith("hydra.")


def _content(override: str) -> str:
    """An override with what the files hold in the place of their names; wherever they lie, the outcome is the same."""
    if override.startswith(FOLDER):
        folder = Path(override.removeprefix(FOLDER).removesuffix("']"))
        files = sorted(folder.rglob("*.yaml"))
        return FOLDER + repr([(str(file.relative_to(folder)), file.read_bytes()) for file in files] or override)
    if override.startswith(REGISTERED):
        node = ConfigStore.instance().load(f"{override.replace('=', '/')}.yaml").node
        return REGISTERED + OmegaConf.to_yaml(node)
    return override
