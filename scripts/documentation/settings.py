"""The settings of all commands with default and meaning, read from the files of ``configs/``.

A setting means what its comment says; one without takes the comment of the same setting in the file that its own starts
from, or else the description of that argument in the docstring of the class that ``_target_`` names.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
WHOLE = ("card", "tiny")  # sections that are told in one row
ENTRY = re.compile(r" {4,8}\*{0,2}(\w+): (.*)")
SECTION_MEANINGS = {
    "card": "What `refine backbones` says of the network: paper, license, number of parameters, where its weights are.",
    "tiny": "What the tests, and `tiny=true`, set to build a small network of this kind with random weights.",
}


@dataclass(frozen=True)
class Setting:
    """One setting of a file.

    Attributes:
        name: Name with dots, as on the command line.
        default: Value in the file, as YAML writes it on one line.
        meaning: Sentence or words on what it does; empty if nothing says so.
    """

    name: str
    default: str
    meaning: str


@dataclass(frozen=True)
class SettingsFile:
    """What one file of ``configs/`` says.

    Attributes:
        path: Path relative to ``configs/``, without suffix, such as ``refiner/default``.
        comment: Comment at its top.
        target: Qualified name of what it builds; empty for none.
        chosen: Choices by group that it starts from; of its own group under the empty name.
        settings: Its settings, in its order.
    """

    path: str
    comment: str
    target: str
    chosen: Mapping[str, str]
    settings: tuple[Setting, ...] = field(repr=False)

    @property
    def group(self) -> str:
        """Name of the group; empty for a command."""
        return self.path.rpartition("/")[0]

    @property
    def is_global(self) -> bool:
        """Whether its settings are named from the top, as those of a preset are."""
        return "@package _global_" in (CONFIGS / f"{self.path}.yaml").read_text("utf-8")


def files() -> list[SettingsFile]:
    """All files, by path."""
    return [read(path.relative_to(CONFIGS).with_suffix("").as_posix()) for path in sorted(CONFIGS.rglob("*.yaml"))]


@cache
def read(path: str) -> SettingsFile:
    """Read one file.

    Args:
        path: Path relative to ``configs/``, without suffix.
    """
    lines = (CONFIGS / f"{path}.yaml").read_text("utf-8").splitlines()
    root = yaml.compose("\n".join(lines))
    comment = _top_comment(lines)
    group = path.rpartition("/")[0]
    if not isinstance(root, yaml.MappingNode) or not root.value:
        return SettingsFile(path, comment, "", {}, ())
    content = {key.value: value for key, value in root.value}
    chosen = dict(_choices(content["defaults"])) if "defaults" in content else {}
    target = content["_target_"].value if "_target_" in content else ""
    base = read(f"{group}/{chosen['']}".removeprefix("/")) if "" in chosen else None
    inherited = {setting.name: setting.meaning for setting in base.settings} if base else {}
    target = target or (base.target if base else "")
    named = "" if comment.startswith("@package") or not group or group in ("logger", "launcher", "preset") else group
    rows = []
    for name, node, key, owner in _leaves(root, target):
        if name == "defaults":
            continue
        full = f"{named}.{name}" if named else f"logger.{name}" if group == "logger" else name
        meaning = SECTION_MEANINGS.get(name) or _comment(lines, key, node) or inherited.get(full, "")
        rows.append(Setting(full, _value(node), meaning or described(owner, name.rpartition(".")[2])))
    if not named:
        rows = [row if row.meaning or "." not in row.name else _as_in_its_group(row) for row in rows]
    return SettingsFile(path, comment.replace("@package _global_", "").strip(), target, chosen, tuple(rows))


def _as_in_its_group(row: Setting) -> Setting:
    """A setting of a group, named in a file of another one, such as ``refiner.steps`` in a preset."""
    group = row.name.partition(".")[0]
    known = read(f"{group}/default").settings if (CONFIGS / group / "default.yaml").is_file() else ()
    return Setting(row.name, row.default, next((each.meaning for each in known if each.name == row.name), ""))


def _top_comment(lines: list[str]) -> str:
    top = []
    for line in lines:
        if not line.startswith("#"):
            break
        top.append(line.lstrip("# "))
    return " ".join(top)


def _choices(defaults: yaml.Node) -> Iterator[tuple[str, str]]:
    """Group and choice; the group is empty for a file of one's own group."""
    for entry in defaults.value:
        if isinstance(entry, yaml.MappingNode):
            ((group, choice),) = entry.value
            yield group.value.removeprefix("override ").removeprefix("/"), choice.value
        elif entry.value != "_self_":
            yield "", entry.value


def _leaves(
    mapping: yaml.MappingNode, target: str, prefix: str = ""
) -> Iterator[tuple[str, yaml.Node, yaml.Node, str]]:
    """Name, value, key and the class that takes it; a section that builds something is also one itself."""
    for key, node in mapping.value:
        name = prefix + key.value
        if key.value.startswith("_"):
            continue
        if not isinstance(node, yaml.MappingNode) or not node.value or key.value in WHOLE or name == "defaults":
            yield name, node, key, target
            continue
        built = next((value.value for inner, value in node.value if inner.value == "_target_"), "")
        if built:
            yield name, node, key, target
        yield from _leaves(node, built or target, f"{name}.")


def _value(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode) and node.value:
        built = [value.value for key, value in node.value if key.value == "_target_"]
        return built[0] if built else ""
    text: str = node.start_mark.buffer[node.start_mark.index : node.end_mark.index].strip()
    return " ".join(text.split())


def _comment(lines: list[str], key: yaml.Node, node: yaml.Node) -> str:
    """The comment beside a setting, with the lines below it that stand in the same column."""
    flow = isinstance(node, yaml.CollectionNode) and (node.flow_style or not node.value)
    number = node.end_mark.line if isinstance(node, yaml.ScalarNode) or flow else key.end_mark.line
    start = node.end_mark.column if number == node.end_mark.line else key.end_mark.column
    if number >= len(lines) or (found := re.search(r"(^|\s)# ?(.*)", lines[number][start:])) is None:
        return ""
    words, column = [found[2]], start + found.start() + len(found[1])
    for line in lines[number + 1 :]:
        if not line.startswith(" " * column + "#"):
            break
        words.append(line[column:].lstrip("# "))
    return " ".join(words).strip()


@cache
def described(target: str, argument: str) -> str:
    """The description of an argument or attribute in a docstring of this project.

    Args:
        target: Qualified name of a class or function.
        argument: Name of the argument.

    Returns:
        Its text on one line; empty if there is none.
    """
    if not target.startswith("refine."):
        return ""
    *modules, name = target.split(".")
    place = ROOT.joinpath(*modules)
    sources = [place.with_suffix(".py")] if place.with_suffix(".py").is_file() else sorted(place.rglob("*.py"))
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
                return _argument(ast.get_docstring(node) or "", argument)
    return ""


def _argument(docstring: str, argument: str) -> str:
    words: list[str] = []
    for line in docstring.splitlines():
        if words and (not line.strip() or re.match(r" {4}\w+: |\S", line)):
            break
        if words:
            words.append(line.strip())
        elif (entry := ENTRY.fullmatch(line)) and entry[1] == argument:
            words = [entry[2]]
    return " ".join(words)
