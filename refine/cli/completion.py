"""Completion of commands, settings, choices and paths in a shell.

    eval "$(refine -sc install=bash)"         # in ~/.bashrc; in zsh after: autoload -Uz bashcompinit && bashcompinit
    refine -sc install=fish | source

Hydra completes the settings of one application, and ships the scripts for the shells; here each command is one.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra import initialize_config_dir
from hydra._internal.core_plugins.bash_completion import BashCompletion
from hydra._internal.core_plugins.fish_completion import FishCompletion
from hydra.core.global_hydra import GlobalHydra
from hydra.plugins.completion_plugin import CompletionPlugin

from refine.config import CONFIGS, PATHS, ConfigError
from refine.data.masks import KINDS
from refine.studies.shipped import shipped

SHELLS: dict[str, type[CompletionPlugin]] = {"bash": BashCompletion, "zsh": BashCompletion, "fish": FishCompletion}
FLAGS = ("--help", "--cfg", "-q", "-v")
WORDS = {"masks": KINDS, "mask": ("alpha",), "truth": ("input",), "backbone.weights": ("random",)}


def run(arguments: Sequence[str]) -> int:
    """Print a shell's script, or what the line in ``COMP_LINE`` may go on with.

    Args:
        arguments: One of ``install=<shell>``, ``uninstall=<shell>`` and ``query=<shell>``.

    Returns:
        Exit status: 0.

    Raises:
        ConfigError: If it is none of them.
    """
    action, _, shell = arguments[0].partition("=") if arguments else ("", "", "")
    if shell not in SHELLS or action not in ("install", "uninstall", "query"):
        raise ConfigError(
            f"-sc {' '.join(arguments)}: expected install=, uninstall= or query= with one of {', '.join(SHELLS)}."
        )
    if action == "query":
        print((" " if shell != "fish" else "\n").join(candidates(os.environ.get("COMP_LINE", ""))))
        return 0
    before, sys.argv = sys.argv, ["refine"]  # the scripts are for a program of this name
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            plugin = SHELLS[shell](GlobalHydra.instance().config_loader())
            (plugin.install if action == "install" else plugin.uninstall)()
    finally:
        sys.argv = before
    return 0


def candidates(line: str) -> list[str]:
    """What the last word of a command line may become.

    Args:
        line: Command line up to the cursor, ``refine`` in front.
    """
    from refine.cli.main import COMMANDS

    _, *words = [word for word in line.split() if word not in FLAGS]
    word = "" if line.endswith(" ") or not words else words.pop()
    if not words:
        return [command for command in COMMANDS if command.startswith(word)]
    command, *others = words
    if command not in COMMANDS:
        return []
    if word.startswith("-"):
        return [flag for flag in FLAGS if flag.startswith(word)]
    key, equals, value = word.partition("=")
    if command == "study" and not others and (named := _studies(key if equals else "", value if equals else word)):
        return named
    literal = [f"{key}={choice}" for choice in WORDS.get(key, ()) if choice.startswith(value)] if equals else []
    by_name = key in ("backbone", "data") and not value.startswith((".", "/", "~"))
    if equals and not by_name and key in (*PATHS, "config_dir", "backbone", "data"):
        return literal + _files(key, value)
    found = _settings(command, others, word)
    if command == "study":  # the settings of its arms too
        found |= _settings("predict", others, word)
    if command == "fetch" and not equals:
        found |= {name.removeprefix("backbone=") for name in _settings("fetch", [], f"backbone={word}")}
    if by_name and value:
        found |= set(_files(key, value))
    return sorted(found)


def _studies(key: str, begun: str) -> list[str]:
    """Names of studies, and folders and files that may be one; nothing where another setting is begun."""
    if key not in ("", "study"):
        return []
    names = [f"{key}={name}" for name in shipped() if name.startswith(begun)]
    paths = [path for path in _files(key, begun) if path.endswith(("/", ".yaml", ".yml"))]
    return [found.removeprefix("=") for found in sorted({*names, *paths})]


def _settings(command: str, words: Sequence[str], word: str) -> set[str]:
    """What Hydra knows; nothing where the words before make no sense to it."""
    before = [other for other in words if "=" in other and other.partition("=")[0] not in (*PATHS, "config_dir")]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        plugin = BashCompletion(GlobalHydra.instance().config_loader())
        for line in (" ".join([*before, word]), word):
            try:
                found = plugin._query(config_name=command, line=line if word else f"{line} ")
            except Exception:  # a completion is no place for a message
                continue
            return {text for text in found if word.startswith("hydra") or not text.startswith("hydra")}
    return set()


def _files(key: str, value: str) -> list[str]:
    """Paths that begin like this one, with a slash behind folders."""
    path = Path(value).expanduser()
    folder = path if value.endswith("/") or not value else path.parent
    shown = value[: len(value) - len(path.name)] if not value.endswith("/") and value else value
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return []
    begun = "" if value.endswith("/") or not value else path.name
    matching = [entry for entry in entries if entry.name.startswith(begun) and (begun or entry.name[0] != ".")]
    return [f"{key}={shown}{entry.name}{'/' * entry.is_dir()}" for entry in matching]
