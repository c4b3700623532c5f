"""What mkdocs calls while it builds the site: texts from outside of ``docs/``, links, and generated parts."""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from documentation import generated, notebooks, pages

ORIGIN: dict[str, str] = {}  # page of the site -> its file in the repository
PROJECT = ("CONTRIBUTING.md", "CHANGELOG.md", "experiments/README.md")
WIDE = ("backbones.md", "measured/", "source/")  # pages that need the room of the table of contents
ROLE = re.compile(r":(?:func|class|meth|mod|data|attr):(?=<code>)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the studies and the packages into the navigation.

    Args:
        config: Configuration of the site.
    """
    studies = ["measured/index.md", *map(pages.place, pages.measured())]
    api = ["api.md", *({package: f"{package}.md"} for package in generated.packages())]
    config.nav = _filled(config.nav, {"MEASURED": studies, "API": api})
    return config


def _filled(nav: Any, lists: dict[str, list[Any]]) -> Any:
    """The navigation with lists in the place of their names."""
    if isinstance(nav, dict):
        return {title: _filled(entry, lists) for title, entry in nav.items()}
    return [_filled(entry, lists) for entry in nav] if isinstance(nav, list) else lists.get(nav, nav)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what lies outside of ``docs/``, the notebooks as pages, and the pages of the packages.

    Args:
        files: Files of the site.
        config: Configuration of the site.
    """
    ORIGIN.clear()
    texts = [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    texts += [f"docs/{file.src_uri}" for file in files if file.src_uri.endswith(".ipynb")]
    ORIGIN.update({pages.place(text): text for text in texts})
    for path in filter(lambda text: text.endswith(".ipynb"), texts):
        files.append(File.generated(config, pages.place(path), content=pages.content(path)))
        for name, image in notebooks.page(pages.ROOT / path)[1].items():
            files.append(File.generated(config, f"{Path(pages.place(path)).parent}/{name}", content=image))
    for path in pages.outside([*texts, *PROJECT, *pages.cards()]):
        uri = pages.place(path)
        if uri.endswith(".md"):
            files.append(File.generated(config, uri, content=pages.content(path)))
            ORIGIN[uri] = path
        else:
            files.append(File.generated(config, uri, abs_src_path=str(pages.ROOT / path)))
    for package in generated.packages():
        files.append(File.generated(config, f"{package}.md", content=generated.api_page(package)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The generated parts, and links as the site has them.

    Args:
        markdown: Text of the page.
        page: Page of the site.
    """
    path = ORIGIN.get(page.file.src_uri)
    if page.file.src_uri.startswith(WIDE):
        page.meta["hide"] = ["toc"]
    text = generated.filled(markdown)
    return pages.rewritten(text, path) if path else text


def on_page_content(html: str, **_: Any) -> str:
    """Docstrings name things with Sphinx's roles; the site shows the name alone.

    Args:
        html: Content of the page.
    """
    return ROLE.sub("", html).replace("::</p>", ":</p>")
