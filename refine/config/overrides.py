"""Overrides -> configuration: one vocabulary for the shell and for Python, and any path in it.

Hydra's grammar refuses or splits ordinary paths (blanks, ``=``, commas, brackets, non-ASCII letters), so the values of
:data:`PATHS` never meet it: they are taken out of the overrides first and put into the composed configuration as they
are.
"""

import difflib
import functools
import os
import re
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import cast

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import InterpolationToMissingValueError, OmegaConfBaseException
from yaml import YAMLError

from refine.backbones.user_modules import arguments_taken, look_in
from refine.config.errors import ConfigError, describe

PATHS = frozenset(
    "input output mask masks truth data.table inception_weights fid_network lpips_weights backbone.weights "
    "backbone.edges backbone.lines cache plot study controls".split()
)
_HERE = Path(__file__).resolve().parents[1]
CONFIGS = next(folder for folder in (_HERE / "configs", _HERE.parent / "configs") if folder.is_dir())
_LOCK = threading.Lock()  # Hydra's state is global
_RENAMED = {"refiner.checkpoint": "refiner.gradient_checkpointing"}  # old spellings, for one release
OPTIMIZERS = {name.lower(): name for name in "Adam AdamW NAdam RAdam Adamax SGD RMSprop Adagrad LBFGS".split()}


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
    look_in(os.getcwd())  # comes before folders of earlier configurations, after those of this one
    current = [_current(override) for override in overrides]
    paths, config_dir, others = _split([single for override in current for single in _optimizer(override)])
    if config_dir is not None:
        existing = _existing_folder(config_dir)
        look_in(str(existing), str(existing / "backbone"))
        folder = QuotedString(f"file://{existing}", Quote.single)
        others.append(f"hydra.searchpath=[{folder.with_quotes()}]")
    with _LOCK:
        config = _compose(command, [_checked(_with_registered_yaml(override)) for override in others])
    named = {name for override in others for name in _named(override)}
    for section in ("objective", "pyramid"):
        _leave_to_its_class(config, section, named)
    for key, value in paths.items():
        _set(config, key, value)
    _check_interpolations(config)
    return config


def _current(override: str) -> str:
    """An override in its current spelling, with a warning where a name is an old one."""
    key, equals, value = override.partition("=")
    if override == "preset=off":
        return "preset=plain"
    if not equals or key not in _RENAMED:
        return override
    warnings.warn(f"{key} is now called {_RENAMED[key]}; the old name works in this release only.", stacklevel=3)
    return f"{_RENAMED[key]}={value}"


def did_you_mean(word: str, words: Iterable[str], cutoff: float = 0.6) -> str:
    """What a misspelled word may have meant, as the end of a sentence: ``; did you mean x?``, or a full stop.

    Args:
        word: What was given.
        words: What there is.
        cutoff: Least similarity, in [0, 1].
    """
    close = difflib.get_close_matches(word, list(words), n=2, cutoff=cutoff)
    return f"; did you mean {' or '.join(close)}?" if close else "."


def _optimizer(override: str) -> list[str]:
    """``refiner.optimizer=adamw`` as the overrides it stands for; another override as it is."""
    key, _, value = override.partition("=")
    if key != "refiner.optimizer" or value.startswith(("{", "$")):
        return [override]
    name = OPTIMIZERS.get(value.lower())
    if name is None:
        raise ConfigError(
            f"{override}: expected one of {', '.join(OPTIMIZERS)}{did_you_mean(value, OPTIMIZERS)} "
            "Any other: refiner.optimizer._target_=<its class>."
        )
    # An update is one evaluation of the loss, so that LBFGS must not do several by itself.
    settings = ("max_iter=1", "tolerance_grad=0", "tolerance_change=0") if name == "LBFGS" else ()
    return [f"{key}._target_=torch.optim.{name}", *(f"++{key}.{setting}" for setting in settings)]


def _split(overrides: Sequence[str]) -> tuple[dict[str, str], str | None, list[str]]:
    paths, config_dir, others = {}, None, []
    for override in overrides:
        key, equals, value = override.partition("=")
        if key == "config_dir" and equals:
            config_dir = value
        elif key == "data" and equals and _is_photos(value):
            paths["input"] = value
        elif key in PATHS and equals:
            paths[key] = value
        else:
            others.append(override)
    return paths, config_dir, others


def _is_photos(value: str) -> bool:
    """Whether ``data=`` names photos rather than one of the group's files."""
    return not (CONFIGS / "data" / f"{value}.yaml").exists() and Path(_unquoted(value)).expanduser().exists()


def _compose(command: str, overrides: list[str]) -> DictConfig:
    """Compose without disturbing an application that uses Hydra itself."""
    hydra = GlobalHydra.instance()
    outer, hydra.hydra = hydra.hydra, None
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            return hydra_compose(command, overrides)
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError) as error:
        message = _unknown_key(command, str(error), overrides) or _unknown_choice(str(error), overrides)
        raise ConfigError(message or describe(error)) from None
    finally:
        GlobalHydra.instance().hydra = outer


def _unknown_key(command: str, message: str, overrides: list[str]) -> str:
    """Message on an unknown key, with similar keys; empty if the error has another cause."""
    if not message.startswith("Could not override"):
        return ""
    groups = {folder.name for folder in CONFIGS.iterdir() if folder.is_dir()}
    group_choices = [override for override in overrides if override.partition("=")[0] in groups]
    if group_choices == overrides:  # then it is a group that this command does not have
        return ""
    setting_paths = _flat(_compose(command, group_choices))
    for override in overrides:
        key = override.partition("=")[0]
        if key not in {*setting_paths, *groups} and not key.startswith(("+", "hydra.")):
            below = [path for path in setting_paths if path.endswith(f".{key}")]
            hint = f"; did you mean {' or '.join(below)}?" if below else did_you_mean(key, setting_paths, cutoff=0.7)
            return f"there is no setting '{key}'{hint}"
    return ""


def _unknown_choice(message: str, overrides: list[str]) -> str:
    """Message on a choice that its group does not have, with similar ones; empty if the error has another cause."""
    for override in overrides:
        group, _, value = override.partition("=")
        if f"Could not find '{group}/{value}'" in message:
            listing = message.partition("Config search path:")[0].splitlines()
            names = [line.strip() for line in listing if line.startswith("\t") and not line.startswith("\tfile_")]
            listed = f" There are: {', '.join(names)}." if names else ""
            return f"there is no {override}{did_you_mean(value, names)}{listed}"
    return ""


def _flat(config: DictConfig) -> list[str]:
    keys: list[str] = []
    for key, value in config.items_ex(resolve=False):
        keys.append(name := str(key))
        if isinstance(value, DictConfig):
            keys += [f"{name}.{below}" for below in _flat(value)]
    return keys


def _named(override: str) -> Iterator[str]:
    """Settings that an override names, those within {...} too."""
    key, _, value = override.partition("=")
    key = key.lstrip("+")
    yield key
    if value.startswith("{"):
        inside = cast(dict[str, object], OverridesParser.create().parse_override(override).value())
        yield from (f"{key}.{name}" for name in inside)


def _leave_to_its_class(config: DictConfig, section: str, named: set[str]) -> None:
    """Where another class is named for a section, leave out the former one's settings that it does not take."""
    target = f"{section}._target_"
    if target in named and (taken := arguments_taken(str(OmegaConf.select(config, target)))) is not None:
        not_taken = [key for key in set(config[section]) - taken - {"_target_"} if f"{section}.{key}" not in named]
        with open_dict(config):  # what is named stays, for the class to refuse it
            for key in not_taken:
                del config[section][key]


def _set(config: DictConfig, key: str, value: str) -> None:
    """Put a path in, safe from being read as an interpolation."""
    parent, _, name = key.rpartition(".")
    node = config[parent] if parent else config
    if name not in node.keys():  # `in node` is False for a mandatory value not yet set
        raise ConfigError(f"there is no setting '{key}' here; this backbone or command takes none.")
    node[name] = None if value in ("", "null") else literal(_unquoted(value))


def quoted(text: str) -> str:
    """A text as one value in Hydra's grammar, whatever it holds.

    Args:
        text: Text, such as a path.
    """
    return str(QuotedString(literal(text), Quote.single).with_quotes())


def literal(path: str) -> str:
    """Written so that OmegaConf gives the path back: backslashes before ``${`` count, ``???`` means missing."""
    return "./???" if path == "???" else re.sub(r"(\\*)\$\{", r"\1\1\\${", path)


def _check_interpolations(config: DictConfig) -> None:
    """Say now, not in the middle of the work, which ``${...}`` leads nowhere."""
    for key, node in config.items_ex(resolve=False):
        try:
            OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else config.get(key)
        except InterpolationToMissingValueError:
            continue  # refine.load has no output
        except OmegaConfBaseException as error:
            raise ConfigError(f"{key!s}: {str(error).splitlines()[0]}.") from None


def _unquoted(value: str) -> str:
    """Take quotes off that were meant for Hydra's grammar, unless the file is really called so."""
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" and not Path(value).exists():
        return value[1:-1]
    return value


@functools.lru_cache(maxsize=1024)  # the arms of a study share most of theirs, and the parser is slow
def _checked(override: str) -> str:
    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException:  # the parser's own words help nobody
        parsed = None
    if parsed is None or not parsed.key_or_group:
        raise ConfigError(f"cannot read the override {override!r}; expected key=value.")
    if parsed.is_sweep_override():
        raise ConfigError(f"{override}: one value is expected here; a list has brackets: {parsed.key_or_group}=[...].")
    if parsed.is_delete():
        raise ConfigError(f"{override}: settings cannot be deleted, every one is needed; null is no value.")
    return override


def names_in(group: str, overrides: Sequence[str] = ()) -> list[str]:
    """Names of all configurations of a group, also of those in the folder of ``config_dir=``.

    Args:
        group: Name of the group, such as ``backbone``.
        overrides: Hydra's ``key=value``.
    """
    own = [Path(o.partition("=")[2]).expanduser() for o in overrides if o.startswith("config_dir=")]
    return sorted({file.stem for folder in (CONFIGS, *own) for file in (folder / group).glob("*.yaml")})


def _existing_folder(path: str) -> Path:
    folder = Path(os.path.realpath(Path(path).expanduser()))
    if not folder.is_dir():
        raise ConfigError(f"config_dir={path}: no such folder; it should hold backbone/, preset/ ... with YAML files.")
    return folder


def _with_registered_yaml(override: str) -> str:
    """Make ``backbone=some/file.yaml`` the name of an entry of the group."""
    key, _, value = override.partition("=")
    path = Path(_unquoted(value)).expanduser()
    if key != "backbone" or path.suffix not in (".yaml", ".yml"):
        return override
    try:
        node = OmegaConf.load(path)
    except OSError as error:
        raise ConfigError(f"backbone={value}: cannot read it ({error.strerror}).") from None
    except Exception as error:
        raise ConfigError(f"backbone={value}: no valid YAML ({str(error).splitlines()[0]}).") from None
    if not isinstance(node, DictConfig) or ("_target_" not in node and "defaults" not in node):
        raise ConfigError(f"backbone={value}: expected a mapping with _target_; see configs/backbone/lama.yaml.")
    name = f"file_{abs(hash(os.path.realpath(path)))}"
    ConfigStore.instance().store(group="backbone", name=name, node=node)
    look_in(os.path.dirname(os.path.realpath(path)))
    return f"backbone={name}"
