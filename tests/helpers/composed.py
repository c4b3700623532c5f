"""Every configuration is composed by Hydra once per test process: that takes longer than most tests do."""

import contextlib
import copy
import functools
from collections.abc import Iterator
from pathlib import Path

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from refine.config import overrides

FOLDER = "hydra.searchpath=['file://"  # what config_dir= becomes
REGISTERED = "backbone=file_"  # what backbone=<file>.yaml becomes


@contextlib.contextmanager
def composed_once() -> Iterator[None]:
    """Inside, the same command with the same overrides and files of a user's gives copies; errors come anew."""
    compose, kept = overrides._compose, dict[tuple[str, ...], DictConfig]()

    @functools.wraps(compose)
    def once(command: str, given: list[str]) -> DictConfig:
        key = command, *map(_content, given)
        if key not in kept:
            kept[key] = compose(command, given)
        return copy.deepcopy(kept[key])

    overrides._compose = once
    try:
        yield
    finally:
        overrides._compose = compose


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
