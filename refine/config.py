"""Overrides -> configuration: one vocabulary for the shell and for Python, and any path in it.

Hydra's grammar refuses or splits ordinary paths (blanks, ``=``, commas, brackets, non-ASCII letters), so the values of
:data:`PATHS` never meet it: they are taken out of the overrides first and put into the composed configuration as they
are.
"""

import difflib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

PATHS = ("input", "output", "mask", "masks", "backbone.weights")
_HERE = Path(__file__).resolve().parent
CONFIGS = next(folder for folder in (_HERE / "configs", _HERE.parent / "configs") if folder.is_dir())
_LOCK = threading.Lock()  # Hydra's state is global


class ConfigError(ValueError):
    """What a user asked for does not make a configuration."""


def compose(command: str, overrides: Sequence[str] = ()) -> DictConfig:
    """Compose the configuration of a command.

    Args:
        command: Name of the primary file, such as ``predict``.
        overrides: Hydra's ``key=value``. The values of :data:`PATHS` are taken literally. ``backbone=`` may also be
            the path of a YAML file, and ``config_dir=`` a folder that adds backbones, presets and so on.

    Returns:
        The configuration, unresolved.

    Raises:
        ConfigError: If an override is malformed, or names what is not there.
    """
    paths, config_dir, others = _split(overrides)
    if config_dir is not None:
        others.append(f"hydra.searchpath=[{_quoted('file://' + str(_existing_folder(config_dir)))}]")
    with _LOCK:
        config = _compose(command, [_with_registered_yaml(override) for override in others])
    for key, value in paths.items():
        _set(config, key, value)
    return config


def build(node: DictConfig, **arguments: Any) -> Any:
    """Call a ``_target_``; what is wrong with a value is said without Hydra's frames around it.

    Args:
        node: With ``_target_``.
        **arguments: Further arguments, objects allowed.

    Raises:
        ConfigError: If an argument is unknown or missing, or the target cannot be found.
        Exception: Whatever the target raises itself.
    """
    try:
        # Arguments stay out of Hydra's hands, which would make plain dicts of dataclasses.
        make = instantiate(node, _convert_="all", _partial_=True)
    except HydraException as error:
        cause = error.__cause__ or error.__context__
        if isinstance(cause, ValueError):
            raise cause from None
        raise ConfigError(f"cannot build {node.get('_target_')}: {str(cause or error).splitlines()[0]}") from None
    try:
        return make(**arguments)
    except TypeError as error:
        if error.__traceback__ is not None and error.__traceback__.tb_next is None:  # raised by the call itself
            raise ConfigError(f"cannot build {node.get('_target_')}: {error}") from None
        raise


def describe(error: Exception) -> str:
    """The first lines of a Hydra or OmegaConf error, without its advice on internals."""
    message = str(error).partition("Config search path:")[0]
    if "hydra.cc" in message:  # the parser's own words help nobody
        return f"cannot read the override {message.splitlines()[0].partition(': ')[2]!r}; expected key=value."
    return "\n".join(line for line in message.splitlines() if line.strip() and "To append" not in line)


def _split(overrides: Sequence[str]) -> tuple[dict[str, str], str | None, list[str]]:
    paths, config_dir, others = {}, None, []
    for override in overrides:
        key, equals, value = override.partition("=")
        if key == "config_dir" and equals:
            config_dir = value
        elif key in PATHS and equals:
            paths[key] = value
        else:
            others.append(override)
    return paths, config_dir, others


def _compose(command: str, overrides: list[str]) -> DictConfig:
    """Compose without disturbing an application that uses Hydra itself."""
    hydra = GlobalHydra.instance()
    outer, hydra.hydra = hydra.hydra, None
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            return hydra_compose(command, overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(describe(error) + _nearest(command, str(error), overrides)) from None
    finally:
        GlobalHydra.instance().hydra = outer


def _nearest(command: str, message: str, overrides: list[str]) -> str:
    """Say which key may have been meant by one that is not there."""
    if "is not in struct" not in message or not overrides:
        return ""
    known = _flat(_compose(command, []))
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        if key not in known:
            close = difflib.get_close_matches(key, known, n=3)
            return f"\nDid you mean {' or '.join(close)}?" if close else ""
    return ""


def _flat(config: DictConfig) -> list[str]:
    keys: list[str] = []
    for key, value in config.items():
        keys.append(str(key))
        if isinstance(value, DictConfig):
            keys += [f"{key}.{below}" for below in _flat(value)]
    return keys


def _set(config: DictConfig, key: str, value: str) -> None:
    """Put a path in, safe from being read as an interpolation."""
    parent, _, name = key.rpartition(".")
    node = config[parent] if parent else config
    if name not in node.keys():  # `in node` is False for a mandatory value not yet set
        raise ConfigError(f"there is no setting '{key}' here; this backbone or command takes none.")
    literal = None if value in ("", "null") else _unquoted(value).replace("${", r"\${")
    node[name] = literal


def _unquoted(value: str) -> str:
    """Take quotes off that were meant for Hydra's grammar, unless the file is really called so."""
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" and not Path(value).exists():
        return value[1:-1]
    return value


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'").replace("${", "\\${")
    return f"'{escaped}'"


def _existing_folder(path: str) -> Path:
    folder = Path(path).expanduser().resolve()
    if not folder.is_dir():
        raise ConfigError(f"config_dir={path}: no such folder; it should hold backbone/, preset/ ... with YAML files.")
    return folder


def _with_registered_yaml(override: str) -> str:
    """Make ``backbone=some/file.yaml`` the name of an entry of the group."""
    key, _, value = override.partition("=")
    if key != "backbone" or not value.endswith((".yaml", ".yml")):
        return override
    path = Path(_unquoted(value)).expanduser()
    try:
        node = OmegaConf.load(path)
    except OSError as error:
        raise ConfigError(f"backbone={value}: cannot read it ({error.strerror}).") from None
    except Exception as error:
        raise ConfigError(f"backbone={value}: no valid YAML ({str(error).splitlines()[0]}).") from None
    if not isinstance(node, DictConfig) or ("_target_" not in node and "defaults" not in node):
        raise ConfigError(f"backbone={value}: expected a mapping with _target_; see configs/backbone/lama.yaml.")
    name = f"file_{abs(hash(str(path.resolve())))}"
    ConfigStore.instance().store(group="backbone", name=name, node=node)
    return f"backbone={name}"
