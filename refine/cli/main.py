"""``refine <command> key=value ...``, also ``python -m refine``."""

import ast
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from refine import __version__
from refine.config.verbosity import FLAGS, is_verbose, verbosity

OPTIONS = """\
options, anywhere:
  --help    settings of a command, with their meaning
  --cfg     settings of this run, checked; nothing is run
  -q        warnings and errors alone (and what was asked for, such as a list); --quiet
  -v        all that goes to the log, and where an error comes from; --verbose
  -V        version
  -sc install=bash    completion for a shell: eval "$(refine -sc install=bash)"; zsh and fish likewise"""
COMMANDS = ("app", "backbones", "check", "fetch", "layers", "masks", "plan", "predict", "study")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Command and its overrides, with flags anywhere; those of the process if None.

    Returns:
        Exit status: the command's own, or 2 if the request makes no sense.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    words = {FLAGS[argument] for argument in given if argument in FLAGS}
    if len(words) > 1:
        return _complain("-q and -v exclude each other; give one of them.")
    try:
        with verbosity(next(iter(words), None)):
            status = _dispatch([argument for argument in given if argument not in FLAGS])
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has enough, such as head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more at its end
        return 0
    return status


def _dispatch(arguments: list[str]) -> int:
    names = sorted(COMMANDS)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_usage(names))
        return 0 if arguments else 2
    command, *overrides = arguments
    if command in ("-V", "--version"):
        print(f"refine {__version__}")
        return 0
    if command in ("-sc", "--shell-completion"):
        command = "completion"
    elif command not in names:
        import difflib  # for a misspelled command alone

        close = difflib.get_close_matches(command, names, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        return _complain(f"there is no command '{command}'; there are: {', '.join(names)}.{hint}")
    try:
        return _run(command, overrides)
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:  # a user's error; anything else is ours and keeps its traceback
        if is_verbose():
            traceback.print_exc()
        return _complain(str(error))
    except KeyboardInterrupt:
        print("refine: interrupted", file=sys.stderr)
        return 130


def _run(command: str, overrides: list[str]) -> int:
    if {"-h", "--help"} & set(overrides):
        module = import_module(f"refine.cli.{command}")
        print(module.__doc__ if command == "completion" else f"{module.__doc__}\n{_settings(command)}")
        return 0
    if "--cfg" in overrides:
        from refine.cli.composed import composed

        print(composed(command, [override for override in overrides if override != "--cfg"]), end="")
        return 0
    status: int = import_module(f"refine.cli.{command}").run(overrides)
    return status


def _usage(names: list[str]) -> str:
    lines = ["usage: refine <command> key=value ...", "", "commands:"]
    for name in names:
        source = Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")  # an import would load torch
        lines.append(f"  {name:10}{(ast.get_docstring(ast.parse(source)) or '').splitlines()[0]}")
    return "\n".join([*lines, "", OPTIONS])


def _settings(command: str) -> str:
    """The command's settings with their comments, and the choices of each group."""
    from refine.config import CONFIGS

    groups = sorted(folder for folder in CONFIGS.iterdir() if folder.is_dir())
    choices = [f"  {group.name}= {' '.join(sorted(file.stem for file in group.glob('*.yaml')))}" for group in groups]
    defaults, _, settings = (CONFIGS / f"{command}.yaml").read_text(encoding="utf-8").partition("\n\n")
    for entry in (line.strip(" -").split(": ") for line in defaults.splitlines() if line.startswith("  - ")):
        if len(entry) == 2 and (file := CONFIGS / entry[0] / f"{entry[1]}.yaml").is_file():
            settings += f"\n{entry[0]}:\n" + "".join(f"  {line}\n" for line in file.read_text("utf-8").splitlines())
    return "choices:\n" + "\n".join(choices) + "\n\nsettings:\n" + settings.replace(": ???", ":")


def _complain(message: str) -> int:
    print(f"refine: error: {message}", file=sys.stderr)
    return 2
