"""Which file of the repository is which page of the site, and links between them.

Pages link to files by their place in the repository, so that the links work there too. What lies outside of ``docs/``
is not copied: texts become pages of their own, other files pages that show them.
"""

import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from documentation import notebooks

ROOT = Path(__file__).parents[2]
IMAGES = (".jpg", ".png", ".svg")
LANGUAGES = {".py": "python", ".pyi": "python", ".yaml": "yaml", ".sh": "bash", ".toml": "toml", ".cff": "yaml"}
CODE = re.compile(r"(^```.*?^```|^~~~.*?^~~~|`[^`\n]+`)", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)\s#]+)")
TEXTS = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "experiments/README.md": "measured/index.md",
}


def place(path: str) -> str:
    """Where a file of the repository stands in the site, relative to its root.

    Args:
        path: Path of the file, or of a folder with a README.md, relative to the root of the repository.

    Raises:
        FileNotFoundError: If the file is not there.
    """
    if (ROOT / path / "README.md").is_file():
        path = posixpath.join(path, "README.md")
    if not (ROOT / path).is_file():
        raise FileNotFoundError(path)
    if path in TEXTS:
        return TEXTS[path]
    if path.startswith("docs/"):
        return re.sub(r"\.ipynb$", ".md", path.removeprefix("docs/"))
    if path.startswith("experiments/") and path.endswith("/README.md"):
        return f"measured/{Path(path).parent.name}.md"
    if path.startswith("refine/weights/bundled/") and path.endswith(".md"):
        return f"cards/{Path(path).name}"
    return f"files/{path}" if path.endswith(IMAGES) else f"source/{path}.md"


def content(path: str) -> str:
    """Markdown of the page that stands for a text or a notebook of the repository."""
    if path.endswith(".ipynb"):
        return notebooks.page(ROOT / path)[0]
    text = (ROOT / path).read_text("utf-8")
    if path.endswith(".md"):
        return text
    language = LANGUAGES.get(Path(path).suffix, "text")
    return f"# {path}\n\n````{language}\n{text}````\n"


def measured() -> list[str]:
    """Texts of the studies, by path, in the order of the list of questions."""
    listed = [path for path in linked("experiments/README.md") if path.startswith("experiments/")]
    return [path for path in dict.fromkeys(listed) if path.endswith("/README.md")]


def cards() -> list[str]:
    """Texts on the bundled weights, by path."""
    return [file.relative_to(ROOT).as_posix() for file in sorted((ROOT / "refine/weights/bundled").glob("*.md"))]


def linked(path: str) -> Iterator[str]:
    """The files that a text links to, relative to the root of the repository.

    Args:
        path: Path of the text, relative to that root.

    Raises:
        FileNotFoundError: If one of them is not there.
    """
    for part in CODE.split(content(path))[::2]:
        for target in LINK.findall(part):
            found = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
            if (ROOT / found / "README.md").is_file():
                found = f"{found}/README.md"
            if not (ROOT / found).is_file():
                raise FileNotFoundError(f"{path} links to {target}, which is not there")
            yield found


def outside(texts: list[str]) -> list[str]:
    """All files that texts, and the texts they link to, need from outside of ``docs/``.

    Args:
        texts: Paths of the texts to begin with.
    """
    found, queue = dict.fromkeys(text for text in texts if not text.startswith("docs/")), list(texts)
    while queue:
        for path in linked(queue.pop()):
            if path not in found and not path.startswith("docs/") and path != "README.md":
                found[path] = None
                if path.endswith(".md"):
                    queue.append(path)
    return list(found)


def rewritten(markdown: str, path: str) -> str:
    """A text with its links as the site has them.

    Args:
        markdown: Text of the page.
        path: Path of its file, relative to the root of the repository.
    """
    here = posixpath.dirname(place(path)) or "."

    def target(match: re.Match[str]) -> str:
        found = posixpath.normpath(posixpath.join(posixpath.dirname(path), match[1]))
        return posixpath.relpath(place(found), here)

    return outside_code(markdown, lambda text: LINK.sub(target, text))


def outside_code(markdown: str, change: Callable[[str], str]) -> str:
    """Change a text where it is not code.

    Args:
        markdown: Text of a page.
        change: Function of each piece between two pieces of code.
    """
    parts = CODE.split(markdown)
    return "".join(change(part) if index % 2 == 0 else part for index, part in enumerate(parts))
