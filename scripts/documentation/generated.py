"""The parts of the site that are made from configurations, commands and public names."""

import ast
import re
from collections.abc import Iterable, Sequence

from documentation.settings import ROOT, SettingsFile, files, read

MARK = re.compile(r"^<!-- generated: (\w+)(?: (\S+))? -->$", re.MULTILINE)


def filled(markdown: str) -> str:
    """A page with each of its marks ``<!-- generated: <part> [<argument>] -->`` replaced by what it stands for.

    Args:
        markdown: Text of the page.

    Raises:
        KeyError: If there is no such part.
    """
    return MARK.sub(lambda mark: PARTS[mark[1]](*([mark[2]] if mark[2] else [])), markdown)


def backbones() -> str:
    """A table of all backbones, from their cards."""
    from refine.cli.backbones import entries
    from refine.config import names_in

    rows = []
    for row in entries(names_in("backbone"), []):
        about = read(f"backbone/{row['name']}").comment.partition(" Model card:")[0]
        card = f"refine/weights/bundled/{row['name']}.md"
        bundled = (ROOT / card).is_file()
        weights = f"bundled ([card](../{card}))" if bundled else _linked(row["manual"] or "none")
        sizes = (row["parameters"] or "yours", row["native_size"])
        rows.append(
            (f"`{row['name']}`", about, _linked(row["paper"] or ""), *sizes, row["license"] or "yours", weights)
        )
    return _table(("backbone=", "network", "paper", "parameters", "native px", "license", "weights"), rows)


def presets() -> str:
    """A table of each preset: what it chooses and sets, and why."""
    parts = []
    for file in files():
        if file.group == "preset":
            chosen = ", ".join(f"`{group}={choice}`" for group, choice in file.chosen.items())
            parts.append(f"### {file.path.partition('/')[2]}\n\n{_plain(file.comment)}\n\nIt chooses {chosen}.\n\n")
            parts.append(_settings(file))
    return "".join(parts)


def settings() -> str:
    """Tables of all settings: of each command, then of each group."""
    every = files()
    commands = [file for file in every if not file.group]
    parts = ["## By command\n\n"]
    for file in commands:
        groups = ", ".join(
            f"[{group}](#{group})={choice}" for group, choice in file.chosen.items() if group and "/" not in group
        )
        parts.append(f"### {file.path}\n\n{_plain(file.comment)}\n\n")
        parts.append(f"Groups, and what it takes of each: {groups}.\n\n" if groups else "")
        parts.append(f"All settings of [{file.chosen['']}](#{file.chosen['']}), and:\n\n" if "" in file.chosen else "")
        parts.append(_settings(file))
    parts.append("## By group\n\n")
    for group in sorted({file.group for file in every if file.group}):
        chosen = [file for file in every if file.group == group]
        names = " ".join(f"`{file.path.partition('/')[2]}`" for file in chosen)
        parts.append(f"### {group}\n\nChoices of `{group}=`: {names}.\n\n")
        for file in chosen:
            base = f" It starts from `{file.chosen['']}`." if "" in file.chosen else ""
            parts.append(f"#### {group}={file.path.partition('/')[2]}\n\n{_plain(file.comment)}{base}\n\n")
            parts.append(_settings(file))
    return "".join(parts)


def commands() -> str:
    """The commands with what they say of themselves, and the options that all of them take."""
    from refine.cli.main import COMMANDS, OPTIONS

    parts = []
    for name in COMMANDS:
        lines = _docstring(f"refine/cli/{name}.py").splitlines()
        text = "\n".join(line if line.startswith("    ") else _plain(line) for line in lines)
        parts.append(f"## refine {name}\n\n{text}\n\nIts settings: [{name}](settings.md#{name}).\n\n")
    return "".join(parts) + f"## Options\n\n```text\n{OPTIONS}\n```\n"


def api(package: str) -> str:
    """The public names of a package, each described once in the site.

    Args:
        package: Qualified name, such as ``refine.core``.
    """
    top = public("refine")
    names = top if package == "refine" else [name for name in public(package) if name not in top]
    parts = [
        f"::: {_path(package, name)}\n    options: {{heading_level: 2, heading: {package}.{name}}}\n" for name in names
    ]
    also = [name for name in public(package) if name not in names]
    links = ", ".join(f"[{name}][refine.{name}]" for name in also)
    return "\n".join(parts) + (f"\nAlso here: {links}.\n" if also else "")


def _path(package: str, name: str) -> str:
    """Where a name is found: in its module, where that has the same name."""
    module = ROOT.joinpath(*package.split("."), f"{name}.py")
    return f"{package}.{name}.{name}" if module.is_file() else f"{package}.{name}"


def public(package: str) -> list[str]:
    """The names in the ``__all__`` of a package.

    Args:
        package: Qualified name.
    """
    tree = ast.parse((ROOT.joinpath(*package.split(".")) / "__init__.pyi").read_text("utf-8"))
    (found,) = (node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "__all__")
    names: list[str] = ast.literal_eval(found)
    return names


def packages() -> list[str]:
    """The packages with public names of their own, except the whole."""
    inside = sorted((ROOT / "refine").glob("*/__init__.pyi"))
    return [f"refine.{file.parent.name}" for file in inside]


def api_page(package: str) -> str:
    """The text of the page of a package."""
    text = _docstring(f"{package.replace('.', '/')}/__init__.py")
    return f"# {package}\n\n{text}\n\n<!-- generated: api {package} -->\n"


def _docstring(path: str) -> str:
    return ast.get_docstring(ast.parse((ROOT / path).read_text("utf-8"))) or ""


def _settings(file: SettingsFile) -> str:
    built = f"Builds `{file.target}`.\n\n" if file.target and "" not in file.chosen else ""
    if not file.settings:
        return built
    rows = [
        (f"`{row.name}`", f"`{row.default}`" if row.default else "", _plain(row.meaning.replace("``", "`")))
        for row in file.settings
    ]
    return built + _table(("setting", "default", "meaning"), rows)


def _linked(text: str) -> str:
    """Text whose addresses are links, shown by their last parts."""
    return re.sub(r"https?://[\w.]+/((?:abs/)?)(\S+)", r"[\2](\g<0>)", text)


def _plain(text: str) -> str:
    """Text of a comment as markdown: what looks like HTML is shown."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if index % 2 else re.sub(r"<(?=[\w/])", "&lt;", part) for index, part in enumerate(parts))


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [[str(cell).replace("|", "\\|") for cell in line] for line in (head, ["---"] * len(head), *rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n"


PARTS = {"backbones": backbones, "presets": presets, "settings": settings, "commands": commands, "api": api}
