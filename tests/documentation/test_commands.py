"""Every command that a page shows is one: its settings compose and are checked, what it names is there."""

import ast
import re
import tomllib
from pathlib import Path

import pytest
import torch
from generated import refine
from shell_lines import blocks, commands

from refine.cli.composed import SETTINGS, composed
from refine.cli.main import COMMANDS
from refine.cli.study import split
from refine.config import PATHS, StudyConfig
from refine.studies import read_study
from refine.studies.shipped import find_study

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


@pytest.fixture(scope="module")
def lines(tmp_path_factory) -> dict[tuple[str, ...], str]:
    """All commands, each with one page that shows it."""
    folder = tmp_path_factory.mktemp("empty")
    found: dict[tuple[str, ...], str] = {}
    for page in PAGES:
        text = page.read_text()
        found |= {tuple(line): page.name for line in commands(text, folder)}
    for name in COMMANDS:  # what they say of themselves is a page, too
        page = ROOT / "refine" / "cli" / f"{name}.py"
        examples = re.findall(r"^    (refine .*)$", ast.get_docstring(ast.parse(page.read_text())) or "", re.M)
        shown = "```bash\n" + "\n".join(examples) + "\n```\n"
        found |= {tuple(line): page.name for line in commands(shown, folder)}
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with what the pages say is there."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "experiments" / "my_steps").mkdir(parents=True)
    for study in (ROOT / "experiments").iterdir():
        (folder / "experiments" / study.name).symlink_to(study)
    for name in ("photos", "holes", "unsplash", "my_configs"):
        (folder / name).mkdir()
    text = "".join(page.read_text() for page in PAGES)
    files = {"blur.py": "class Blur", "blur.yaml": "_target_: blur", "my_loss.py": "class MultiscaleL2"}
    files |= {"my_network.py": "class MyNetwork", "my_network.yaml": "name: my_network"}
    files["experiments/my_steps/study.yaml"] = "question:"
    every = blocks(text, "python") + blocks(text, "yaml")
    for name, holding in files.items():
        (folder / name).write_text(next(block for block in every if holding in block))
    return folder


def request(line: tuple[str, ...]) -> tuple[str, list[str]] | None:
    """The command of a line and its settings; None if it is none of ours."""
    program, *words = line
    if program == "sbatch":
        return "predict", [word for word in words if "=" in word and not word.startswith("-")]
    if program != "refine" or words[0] not in SETTINGS:  # of -V, --help and completion
        return None
    return words[0], [word for word in words[1:] if not word.startswith("-")]


def check(command: str, overrides: list[str]) -> None:
    """Compose and check; of a study what is its own and what every arm is given: its arms have tests of theirs."""
    if command == "study":
        own, _, overrides = split(overrides)
        read_study(find_study(StudyConfig.compose(own).study))
        command = "predict"
    composed(command, overrides)


def test_settings_of_every_command_compose(lines, place, monkeypatch):
    """A line whose settings were all seen before is not composed again; paths are never parsed."""
    monkeypatch.chdir(place)
    wrong, seen = [], set()
    requests = {line: found for line in lines if (found := request(line))}
    for line, (command, overrides) in sorted(requests.items(), key=lambda entry: -len(entry[0])):
        new = {(command, override) for override in overrides if override.partition("=")[0] not in PATHS}
        if not new <= seen or command not in {known for known, _ in seen}:
            seen |= new or {(command, "")}
            try:
                check(command, overrides)
            except ValueError as error:
                wrong.append(f"{lines[line]}: {' '.join(line)}: {error}")
    assert wrong == [] and len(requests) > 45


def test_the_other_programs_are_given_what_is_there(lines):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
    for (program, *words), page in lines.items():
        if program == "make":
            assert words[0] in targets, (page, words)
        elif program == "pip":
            extras = re.findall(r"\[([\w,]+)\]", " ".join(words))
            assert {extra for group in extras for extra in group.split(",")} <= set(project["optional-dependencies"])
        elif program in ("python", "sbatch", "wandb"):
            files = [word for word in words if re.fullmatch(r"(scripts|experiments)/\S+", word)]
            assert all((ROOT / file).is_file() for file in files), (page, words)


def test_a_few_of_them_are_run(lines, place, tmp_path, monkeypatch):
    """On tiny data: what the first pages promise."""
    from generated import hole, photo, save

    monkeypatch.chdir(place)
    save(place / "photo.jpg", photo(), quality=95)
    save(place / "hole.png", hole())
    save(place / "photos" / "a.png", photo(80, 64))
    one = ["predict", "input=photo.jpg", "mask=hole.png", "output=results"]
    runs = {
        ("refine", *one): ["device=cpu"],
        ("refine", *one, "backbone=my_network.yaml"): ["output=own", "device=cpu", "pyramid.smallest_side=20"],
        ("refine", *one, "objective._target_=my_loss.MultiscaleL2"): [
            "output=loss", "backbone=mini", "device=cpu", "pyramid.smallest_side=20", "objective.erosion=0",
        ],
        ("refine", "masks", "input=photos", "output=masks", "kind=thick"): [],
        ("refine", "check", "backbone=my_network.yaml"): [],
        ("refine", "layers", "backbone=my_network.yaml", "size=64"): ["repeats=1"],
        ("refine", "backbones"): [],
    }  # fmt: skip
    said = {}
    for line, tiny in runs.items():
        assert line in lines, line
        torch.manual_seed(0)  # of my_network
        outcome = refine(*line[1:], *tiny)
        assert outcome.status == 0, (line, outcome.out, outcome.err)
        said[line] = outcome.out
    results = {name: (place / name / "photo.png").is_file() for name in ("results", "own", "loss")}
    assert all(results.values()), results
    assert "my_loss" in (place / "loss" / ".refine" / "config.yaml").read_text()
    assert (place / "masks" / "a.png").is_file() or list((place / "masks").iterdir())
    assert "encoder" in said["refine", "layers", "backbone=my_network.yaml", "size=64"]
