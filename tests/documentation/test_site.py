"""The site as ``make docs`` builds it: without a warning, whole, and without anything from elsewhere."""

import logging
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from documentation import generated, pages, settings
from refine.config import compose

load_config = pytest.importorskip("mkdocs.config").load_config
build = pytest.importorskip("mkdocs.commands.build").build
ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))


class Resources(HTMLParser):
    """What a page loads: not the links that a reader may follow."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag != "a":
            self.found += [value for name, value in attrs if name in ("src", "href", "srcset", "data") and value]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, and in warnings.txt what mkdocs warned of."""
    folder = tmp_path_factory.mktemp("site")
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())
    logger = logging.getLogger("mkdocs")
    logger.addHandler(handler)
    try:
        config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder))
        config.plugins.on_startup(command="build", dirty=False)
        build(config)
    finally:
        logger.removeHandler(handler)
    (folder / "warnings.txt").write_text("\n".join(said))
    return folder


def test_it_builds_without_a_warning(site):
    assert (site / "warnings.txt").read_text() == ""


@pytest.fixture(scope="module")
def loaded(site) -> dict[Path, list[str]]:
    """What each page loads."""
    return {page: Resources(page.read_text()).found for page in site.rglob("*.html")}


def test_nothing_is_loaded_from_elsewhere(site, loaded):
    for page, links in loaded.items():
        assert [link for link in links if re.match(r"(https?:)?//", link)] == [], page
        assert 'class="mermaid"' not in page.read_text(), "the theme would load its drawing program"
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", style.read_text()), style


def test_what_a_page_loads_is_there(loaded):
    for page, links in loaded.items():
        targets = {link.partition("#")[0].partition("?")[0] for link in links if page.name != "404.html"}
        for target in targets - {""}:
            assert target.startswith("data:") or (page.parent / target).exists(), (page, target)


def test_every_study_and_card_has_a_page(site):
    studies = {path.parent.name for path in (ROOT / "experiments").glob("*/README.md")}
    assert {page.stem for page in (site / "measured").glob("*.html")} == studies | {"index"}
    cards = {path.stem for path in (ROOT / "refine/weights/bundled").glob("*.md")}
    assert {page.stem for page in (site / "cards").glob("*.html")} == cards


def test_every_public_name_is_described_once(site):
    heading = re.compile(r'<h2 id="refine[\w.]*?(\w+)" class="doc')
    described = [name for page in site.glob("*.html") for name in heading.findall(page.read_text())]
    top = generated.public("refine")
    others = [name for package in generated.packages() for name in generated.public(package) if name not in top]
    assert sorted(described) == sorted(top + others)


def test_the_table_of_backbones_has_all(site):
    text = (site / "backbones.html").read_text()
    for file in (ROOT / "configs/backbone").glob("*.yaml"):
        assert f"<code>{file.stem}</code>" in text


def keys(content, prefix="") -> set[str]:
    """The settings in the content of a file, read anew."""
    found: set[str] = set()
    for key, value in content.items():
        name = f"{prefix}{key}"
        if name == "defaults" or key.startswith("_"):
            continue
        if isinstance(value, dict) and value and key not in settings.WHOLE:
            found |= keys(value, f"{name}.") | ({name} if "_target_" in value else set())
        else:
            found.add(name)
    return found


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: str(file.relative_to(ROOT / "configs")))
def test_settings_in_the_reference_are_those_of_the_file(file):
    content = yaml.safe_load(file.read_text()) or {}
    path = file.relative_to(ROOT / "configs").with_suffix("").as_posix()
    read = settings.read(path)
    group = "" if "@package _global_" in file.read_text() else read.group
    assert {row.name for row in read.settings} == {f"{group}.{key}" if group else key for key in keys(content)}
    assert [row.name for row in read.settings if not row.meaning] == []


def test_the_reference_shows_all_of_them(site):
    row = re.compile(r"<td><code>([\w.]+)</code></td>\n<td>.*?</td>\n<td>(.*?)</td>")
    rows = row.findall((site / "settings.html").read_text())
    expected = [row.name for file in settings.files() for row in file.settings]
    assert sorted(name for name, _ in rows) == sorted(expected) and len(rows) > 300
    assert all(meaning for _, meaning in rows)


def test_what_a_run_takes_is_in_the_reference():
    known = {row.name for file in settings.files() for row in file.settings}
    config = OmegaConf.to_container(compose("predict", ["input=i", "output=o"]), resolve=False)
    groups = {file.group for file in settings.files()}
    assert keys(config) - groups <= known


def test_links_of_texts_outside_of_the_site_lead_somewhere():
    for path in ("README.md", "CONTRIBUTING.md", "experiments/README.md"):
        text = (ROOT / path).read_text()
        for target in pages.LINK.findall(text):
            assert (ROOT / path).parent.joinpath(target).exists(), (path, target)
