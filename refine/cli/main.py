"""``refine <command> key=value ...``, also ``python -m refine``."""

import ast
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from refine import __version__

COMMANDS = ("backbones", "check", "fetch", "layers", "masks", "predict", "study")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Command and its overrides; those of the process if None.

    Returns:
        Exit status: the command's own, or 2 if the request makes no sense.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    names = sorted(COMMANDS)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_usage(names))
        return 0 if arguments else 2
    command, *overrides = arguments
    if command == "--version":
        print(f"refine {__version__}")
        return 0
    if command not in names:
        return _complain(f"there is no command '{command}'; there are: {', '.join(names)}.")
    try:
        module = import_module(f"refine.cli.{command}")
        if {"-h", "--help"} & set(overrides):
            print(f"{module.__doc__}\n{_settings(command)}")
            return 0
        status: int = module.run(overrides)
    except (ValueError, OSError) as error:  # a user's error; anything else is ours and keeps its traceback
        return _complain(str(error))
    except KeyboardInterrupt:
        print("refine: interrupted", file=sys.stderr)
        return 130
    return status


def _usage(names: list[str]) -> str:
    lines = ["usage: refine <command> key=value ...", "", "commands:"]
    for name in names:
        source = Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")  # an import would load torch
        lines.append(f"  {name:10}{(ast.get_docstring(ast.parse(source)) or '').splitlines()[0]}")
    return "\n".join([*lines, "", "refine <command> --help shows its settings"])


def _settings(command: str) -> str:
    """The command's settings with their comments, and the choices of each group."""
    from refine.config import CONFIGS

    groups = sorted(folder for folder in CONFIGS.iterdir() if folder.is_dir())
    choices = [f"  {group.name}= {' '.join(sorted(file.stem for file in group.glob('*.yaml')))}" for group in groups]
    settings = (CONFIGS / f"{command}.yaml").read_text(encoding="utf-8").partition("\n\n")[2]
    return "choices:\n" + "\n".join(choices) + "\n\nsettings:\n" + settings.replace(": ???", ":")


def _complain(message: str) -> int:
    print(f"refine: error: {message}", file=sys.stderr)
    return 2
