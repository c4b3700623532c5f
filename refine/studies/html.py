"""HTML report of a study: statistics, plots and example images in one file that needs no network."""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from PIL import Image

from refine.studies import contents
from refine.studies.closeups import Closeup, common_scale, difference_map
from refine.studies.gallery import KINDS, LARGEST, Case, Pictures, best_arm, choose, first_scores, pictures
from refine.studies.plots import CAPTIONS
from refine.studies.spec import BASE, CONTROLS, Study, StudyRun
from refine.studies.statistics import StudyTables
from refine.studies.tables import Table

TEMPLATE = "report.html"
SIDES = (LARGEST, 640, 512, 384, 256, 128)  # px, longer side of the pictures: the largest that keeps the page small
NEAR = 320  # px, longer side of what is shown near by
MOST_IMAGES = 1000  # rows of the tables of images; a file has the others
TITLES = {"gain": ("Largest gains", "Smallest losses"), "middle": ("In the middle", "In the middle"),
          "loss": ("Smallest gains", "Largest losses")}  # fmt: skip


def make(
    study: Study,
    tables: StudyTables,
    runs: Sequence[StudyRun],
    plots: Mapping[str, str],
    notes: Sequence[str],
    files: Sequence[str],
    limit_mib: float,
) -> str:
    """The page as HTML.

    Args:
        study: Question with its arms and scores.
        tables: Tables of the report.
        runs: All runs of the study, finished or not.
        plots: SVG by file name.
        notes: Paragraphs above the tables, as plain text that may end in a list of lines with dashes.
        files: Names without ending of the tables' files beside the page.
        limit_mib: Largest size of the page in MiB; pictures are made smaller until it fits.
    """
    compared = tables.comparisons
    best = {group: best_arm(study, compared, group) for group in study.groups} if len(compared) else {}
    cases = [case for group, arm in best.items() if arm for case in choose(study, tables.results, group, arm)]
    shown = pictures(tables.results, runs, cases)
    scale = common_scale([one.closeup for one in shown if one.closeup])
    parts = {
        "title": study.question,
        "notes": [text.split("\n- ") for text in notes],
        "plots": [_plot(name, svg) for name, svg in plots.items()],
        "names": ["input", *study.arms, "truth"],
        "sides": {"left": BASE, "right": next(filter(None, best.values()), None)},
        "sections": list(_sections(study, best, cases)),
        "scale": scale,
        "files": files,
        **_tables(study, tables, runs),
    }
    template = _template()
    for side in SIDES:
        described = [_described(study, tables.results, *pair, side) for pair in zip(cases, shown, strict=True)]
        near = [_near(case, one.closeup, scale, min(side, NEAR)) for case, one in zip(cases, shown, strict=True)]
        page = template.render(parts, data={"cases": described}, near=near)
        if len(page) <= limit_mib * 2**20:
            break
    return page


def _template() -> Template:
    loader = FileSystemLoader(Path(__file__).parent)  # the page includes its style and script, which lie beside it
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, undefined=StrictUndefined)
    return environment.get_template(TEMPLATE)


def _data_url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


# --- tables and plots -------------------------------------------------------------------------------------------------


def _tables(study: Study, tables: StudyTables, runs: Sequence[StudyRun]) -> dict[str, Any]:
    """All tables of the page, by the template's names for them."""
    return {
        "scores": _scores(study, tables) if len(tables.comparisons) else [],
        "effects": _effects(study, tables),
        "about_effects": contents.ABOUT_EFFECTS,
        "images": list(_images(study, tables)),
        "runs": contents.run_tables(study, runs),
        "controls": list(CONTROLS),
    }


def _scores(study: Study, tables: StudyTables) -> list[dict[str, Table]]:
    """By score the main columns, and what stands behind them."""
    given = study, tables.comparisons, tables.costs
    pairs = [
        {"main": contents.summary(*given, score), "details": contents.details(*given, score)} for score in study.scores
    ]
    return [pair for pair in pairs if pair["main"].rows]


def _effects(study: Study, tables: StudyTables) -> list[Table]:
    found = [contents.effect_table(tables.effects, score) for score in study.scores] if len(tables.effects) else []
    return [table for table in found if table.rows]


def _images(study: Study, tables: StudyTables) -> Iterator[dict[str, Any]]:
    """A table of images per group, with how many of them a file alone has."""
    for group in study.groups if len(tables.images) and study.scores[0] in tables.images.columns else ():
        table = contents.image_table(study, tables.images, group)
        most = MOST_IMAGES // len(study.groups)
        if table.rows:
            shown = table._replace(rows=table.rows[:most])
            yield {"title": group or "All images", "table": shown, "count": len(table.rows), "most": most}


def _plot(file: str, svg: str) -> dict[str, str]:
    name = Path(file).stem
    return {"name": name, "file": file, "source": _data_url("image/svg+xml", svg.encode()), "caption": CAPTIONS[name]}


# --- cases ------------------------------------------------------------------------------------------------------------


def _described(study: Study, rows: pl.DataFrame, case: Case, shown: Pictures, side: int) -> dict[str, Any]:
    """A case for the page's script."""
    size = next((picture.size for picture in shown.images.values()), (1, 1))
    scores = {arm: first_scores(study, rows, case.group, arm).get(case.key) for arm in study.arms}
    return {
        "name": case.key,
        "ratio": size[0] / size[1],
        "images": {name: _jpeg(picture, side) for name, picture in shown.images.items()},
        "scores": {arm: contents.number(value) for arm, value in scores.items() if value is not None},
    }


def _near(case: Case, closeup: Closeup | None, scale: int, side: int) -> dict[str, Any] | None:
    """The hole near by: pictures with their names, and where it lies in percent of the image."""
    if closeup is None:
        return None
    titles = {"plain": BASE, "arm": case.arm, "truth": "truth"}
    found = [
        {"title": titles[name], "shows": titles[name], "source": _jpeg(part, side)}
        for name, part in closeup.pictures.items()
    ]
    difference = _jpeg(difference_map(closeup.differences, scale), side)
    shows = f"|{case.arm} − {BASE}|"
    (left, top, right, bottom), (width, height) = closeup.box, closeup.size
    return {
        "pictures": [*found, {"title": "difference", "shows": shows, "source": difference}],
        "place": [100 * left / width, 100 * top / height, 100 * (right - left) / width, 100 * (bottom - top) / height],
        "box": f"x {left} to {right}, y {top} to {bottom} px",
    }


def _jpeg(picture: Image.Image, side: int) -> str:
    small = picture.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    small.save(data, "JPEG", quality=88)
    return _data_url("image/jpeg", data.getvalue())


def _sections(study: Study, best: Mapping[str, str | None], cases: Sequence[Case]) -> Iterator[dict[str, Any]]:
    """The cases by group and kind, with their places in ``cases``; the page's script puts the pictures in."""
    for group, arm in best.items():
        for kind in KINDS:
            members = [pair for pair in enumerate(cases) if (pair[1].group, pair[1].kind) == (group, kind)]
            if members:
                lost = members[0][1].gain < 0
                title = f"{group + ': ' if group else ''}{TITLES[kind][lost]}"
                yield {"title": title, "note": f"by {study.scores[0]} of {arm} minus plain", "members": members}
