"""Studies that come with the package, by name: ``which_layers``; ``which_layers/at_four_times`` is a variant of it."""

import difflib
import textwrap
from pathlib import Path

from omegaconf import OmegaConf

from refine.config import CONFIGS, ConfigError
from refine.studies.spec import FILE

FOLDER = CONFIGS.with_name("experiments")  # in a checkout and in a wheel both lie side by side


def shipped() -> dict[str, Path]:
    """YAML file of each shipped study by its name."""
    files = sorted(FOLDER.glob("*/*.yaml"), key=lambda file: (file.parent.name, file.name != FILE, file.name))
    return {f"{file.parent.name}{'' if file.name == FILE else f'/{file.stem}'}": file for file in files}


def find_study(given: str) -> Path:
    """File of a study of the user's, else of the shipped one of that name.

    Args:
        given: Folder with ``study.yaml``, a YAML file, or the name of a shipped study.

    Raises:
        ConfigError: If it is none of them.
    """
    path, by_name = Path(given).expanduser(), shipped()
    for file in (path, path / FILE):
        if file.is_file():
            return file
    name = given.rstrip("/")
    if name in by_name:  # also where a folder of this name is something else, such as the results
        return by_name[name]
    close = difflib.get_close_matches(path.name, by_name, n=1)
    raise ConfigError(
        f"study={given}: a study is a folder with {FILE}, such a file, or a name of the list below; this is none of "
        f"them.{f' Did you mean {close[0]}?' if close else ''}\n\n{questions()}"
    )


def questions() -> str:
    """The shipped studies, each with its question: one line each of a name, and a question folded at 120 columns."""
    names = shipped()
    width = max(map(len, names)) + 2
    asked = {name: str(OmegaConf.load(file).question) for name, file in names.items()}
    return "\n".join(
        textwrap.fill(question, 120, initial_indent=name.ljust(width), subsequent_indent=" " * width)
        for name, question in asked.items()
    )
