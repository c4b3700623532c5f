"""Section of a configuration -> object."""

import functools
import inspect
import re
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from refine.backbones.user_modules import import_fault, modules_of_users
from refine.config.errors import ConfigError


def plain(node: DictConfig | Mapping[str, Any]) -> dict[str, Any]:
    """A part of a configuration as an ordinary dictionary, everything in it resolved."""
    values = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else node
    assert isinstance(values, Mapping)
    return {str(key): value for key, value in values.items()}


def build(node: DictConfig | Mapping[str, Any], **arguments: Any) -> Any:
    """Call a ``_target_``; what is wrong with a value is said without Hydra's frames around it.

    Args:
        node: Section of a configuration with ``_target_`` and its arguments.
        **arguments: Further arguments, objects allowed.

    Raises:
        ConfigError: If an argument is unknown, missing or of the wrong kind, or the target cannot be found.
        Exception: Whatever the target raises itself.
    """
    settings = plain(node)
    # A path may hold ${, which Hydra would take for an interpolation of its own.
    paths = {key: value for key, value in settings.items() if isinstance(value, str) and "${" in value}
    try:
        # Arguments stay out of Hydra's hands, which would make plain dicts of dataclasses.
        rest = {key: value for key, value in settings.items() if key not in paths}
        with modules_of_users():
            make = instantiate(rest, _convert_="all", _partial_=True)
    except HydraException as error:
        cause = error.__cause__ or error.__context__
        if isinstance(cause, ValueError):
            raise cause from None
        raise ConfigError(_fault(settings, error, cause)) from None
    if not isinstance(make, functools.partial):
        raise ConfigError(f"cannot build a section without _target_; it has {', '.join(settings) or 'nothing'}.")
    _check_switches(make.func, settings)
    try:
        return make(**paths, **arguments)
    except TypeError as error:  # an argument unknown or missing, or a value of the wrong kind
        values = ", ".join(f"{key}={value}" for key, value in settings.items() if key != "_target_")
        raise ConfigError(f"cannot build {settings.get('_target_')} from {values}: {error}") from error


def _check_switches(target: Any, settings: Mapping[str, Any]) -> None:
    """Refuse words for what is true or false: Python takes any for true."""
    try:
        parameters = inspect.signature(target).parameters
    except ValueError:  # of some of Python's own
        return
    for name, parameter in parameters.items():
        kind, value = parameter.annotation, settings.get(name, True)
        switch, optional = kind in (bool, "bool"), kind in (bool | None, "bool | None")
        if (switch or optional) and not isinstance(value, bool) and not (optional and value is None):
            raise ConfigError(f"{name}={value}: expected true or false.")


def _fault(settings: Mapping[str, Any], error: HydraException, cause: BaseException | None) -> str:
    """Which of the targets of a section cannot be built, and why."""
    for target in _targets(settings):
        if reason := import_fault(target):
            return f"cannot build {target}: {reason}"
    called = re.search(r"target '([^']+)'", str(error))
    target = called[1] if called else str(settings.get("_target_"))
    if cause is None:
        return f"cannot build {target}: {str(error).splitlines()[0]}"
    frames = [frame for frame in traceback.extract_tb(cause.__traceback__) if "site-packages" not in frame.filename]
    place = f"{frames[-1].filename}, line {frames[-1].lineno}: " if frames else ""  # none if the call itself is wrong
    return f"cannot build {target}: {place}{type(cause).__name__}: {' '.join(str(cause).split())}"


def _targets(node: Any) -> Iterator[str]:
    """All ``_target_`` of a section, the outer ones first."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield str(node["_target_"])
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            yield from _targets(value)
