"""HTML report of a study: statistics, plots and example images in one file that needs no network."""

import base64
import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from jinja2 import Environment, StrictUndefined
from PIL import Image

from refine.studies.gallery import KINDS, LARGEST, Case, best_arm, choose, first_scores, pictures
from refine.studies.spec import CONTROLS, Study, StudyRun
from refine.studies.statistics import COSTS, certain

TEMPLATE = Path(__file__).parent / "report.html"
SIDES = (LARGEST, 640, 512, 384, 256, 128)  # px, longer side of the pictures: the largest that keeps the page small


def make(
    study: Study,
    compared: pl.DataFrame,
    cost: pl.DataFrame,
    rows: pl.DataFrame,
    runs: Sequence[StudyRun],
    plots: Mapping[str, str],
    notes: Sequence[str],
    limit_mib: float,
) -> str:
    """The page as HTML.

    Args:
        study: Question with its arms and scores.
        compared: Table of :func:`refine.studies.statistics.compare`.
        cost: Table of :func:`refine.studies.statistics.costs`.
        rows: Table of :func:`refine.studies.statistics.read_rows`.
        runs: All runs of the study, finished or not.
        plots: SVG by file name.
        notes: Paragraphs above the tables, as plain text that may end in a list of lines with dashes.
        limit_mib: Largest size of the page in MiB; pictures are made smaller until it fits.
    """
    best = {group: best_arm(study, compared, group) for group in study.groups} if len(compared) else {}
    cases = [case for group, arm in best.items() if arm for case in choose(study, rows, group, arm)]
    parts = {
        "title": study.question,
        "notes": [text.split("\n- ") for text in notes],
        "heads": _heads(study),
        "tables": list(_tables(study, compared, cost)) if len(compared) else [],
        "plots": {name: _data_url("image/svg+xml", svg.encode()) for name, svg in plots.items()},
        "names": ["input", *study.arms, "truth"],
        "sides": {"left": "plain", "right": next(filter(None, best.values()), None)},
        "cases": list(_sections(study, best, cases)),
    }
    images = pictures(rows, runs, cases)
    template = Environment(autoescape=True, trim_blocks=True, undefined=StrictUndefined).from_string(
        TEMPLATE.read_text(encoding="utf-8")
    )
    for side in SIDES:
        data = [_described(study, rows, *pair, side) for pair in zip(cases, images, strict=True)]
        page = template.render(parts, data={"cases": data})
        if len(page) <= limit_mib * 2**20:
            break
    return page


def _data_url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


# --- tables -----------------------------------------------------------------------------------------------------------


def _heads(study: Study) -> list[str]:
    differences = [[f"− {reference}", "95 % interval", "p (Holm)", "wins"] for reference in study.references]
    return ["arm", "n", "mean", *itertools.chain(*differences), *COSTS.values()]


def _tables(study: Study, compared: pl.DataFrame, cost: pl.DataFrame) -> Iterator[dict[str, Any]]:
    for group in study.groups:
        for score in study.scores:
            table = compared.filter((pl.col("group") == group) & (pl.col("score") == score))
            if len(table):
                title = f"{group}: {score}" if group else score
                yield {"title": title, "rows": list(_rows(study, group, table, cost))}


def _rows(study: Study, group: str, compared: pl.DataFrame, cost: pl.DataFrame) -> Iterator[dict[str, Any]]:
    for arm in study.arms:
        results = {row["reference"]: row for row in compared.filter(pl.col("arm") == arm).iter_rows(named=True)}
        if results:
            spent = next(cost.filter((pl.col("group") == group) & (pl.col("arm") == arm)).iter_rows(named=True), {})
            yield {"kind": "control" if arm in CONTROLS else "arm", "cells": _cells(study, arm, results, spent)}


def _cells(
    study: Study, arm: str, results: Mapping[str, Mapping[str, Any]], spent: Mapping[str, Any]
) -> list[dict[str, Any]]:
    first = next(iter(results.values()))
    cells = [_cell(arm, arm), _cell(first["n"], str(first["n"])), _cell(first["mean"], number(first["mean"]))]
    for reference in study.references:
        row = results.get(reference)
        if row is None or not row["n"]:  # the reference itself, or no pair
            cells += [_cell(None, "")] * 4
            continue
        sure = "sure" if certain(row) else ""
        cells.append(_cell(row["difference"], f"{row['difference']:+.3g}", sure))
        cells.append(_cell(row["low"], interval_text(row)))
        cells.append(_cell(row["p_holm"], f"{row['p_holm']:.2g}"))
        cells.append(_cell(row["wins"], f"{100 * row['wins']:.0f} %"))
    return cells + [_cell(spent.get(key), number(spent.get(key))) for key in COSTS]


def _cell(value: Any, text: str, kind: str = "") -> dict[str, Any]:
    """A cell's text, and its value to sort by; empty if it is not known."""
    return {"value": "" if value is None or value != value else value, "text": text, "kind": kind}


def number(value: float | None) -> str:
    """Four digits, or a dash for what is not known.

    Args:
        value: Number, NaN or None.
    """
    return "-" if value is None or value != value else f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"


def interval_text(row: Mapping[str, Any]) -> str:
    """The interval of a comparison in brackets, or a word where a single image gives none.

    Args:
        row: Row of :func:`refine.studies.statistics.compare`.
    """
    return f"[{row['low']:+.3g}, {row['high']:+.3g}]" if row["n"] > 1 else "(one image, no interval)"


# --- cases ------------------------------------------------------------------------------------------------------------


def _described(
    study: Study, rows: pl.DataFrame, case: Case, images: Mapping[str, Image.Image], side: int
) -> dict[str, Any]:
    """A case for the page's script."""
    size = next((picture.size for picture in images.values()), (1, 1))
    scores = {arm: first_scores(study, rows, case.group, arm).get(case.key) for arm in study.arms}
    return {
        "name": case.key,
        "ratio": size[0] / size[1],
        "images": {name: _jpeg(picture, side) for name, picture in images.items()},
        "scores": {arm: number(value) for arm, value in scores.items() if value is not None},
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
                title = f"{group}: {kind}" if group else kind
                yield {"title": title, "note": f"by {study.scores[0]} of {arm} minus plain", "members": members}
