"""The statistics and the telling cases of a study as one page, which needs nothing else: no network, no other file."""

import base64
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import polars as pl
from PIL import Image

from refine.studies.gallery import KINDS, LARGEST, Case, best_arm, choose, first_scores, pictures
from refine.studies.spec import CONTROLS, Study, StudyRun
from refine.studies.statistics import COSTS

TEMPLATE = Path(__file__).parent / "report.html"
SIDES = (LARGEST, 640, 512, 384, 256, 128)  # px, longer side of the pictures: the largest that keeps the page small


def make(
    study: Study,
    compared: pl.DataFrame,
    cost: pl.DataFrame,
    rows: pl.DataFrame,
    jobs: Sequence[StudyRun],
    plots: Mapping[str, str],
    notes: Sequence[str],
    limit_mib: float,
) -> str:
    """The page as HTML.

    Args:
        study: Whose it is.
        compared: Of :func:`refine.studies.statistics.compare`.
        cost: Of :func:`refine.studies.statistics.costs`.
        rows: Of :func:`refine.studies.statistics.read_rows`.
        jobs: Run, or not.
        plots: SVG by file name.
        notes: Paragraphs of Markdown's simplest kind, above the tables.
        limit_mib: Pictures are made smaller until the page is below.
    """
    chosen = {group: best_arm(study, compared, group) for group in study.groups} if len(compared) else {}
    cases = [case for group, arm in chosen.items() if arm for case in choose(study, rows, group, arm)]
    parts = {
        "title": escape(study.question),
        "about": "".join(map(_paragraph, notes)),
        "tables": "".join(_tables(study, compared, cost)) if len(compared) else "<p>Nothing to compare yet.</p>",
        "plots": "".join(_plot(name, svg) for name, svg in plots.items()),
        "cases": _cases(study, chosen, cases),
    }
    shown = pictures(rows, jobs, cases)
    for side in SIDES:
        data = {"cases": [_described(study, rows, *pair, side) for pair in zip(cases, shown, strict=True)]}
        page = _filled({**parts, "data": json.dumps(data).replace("</", "<\\/")})
        if len(page) <= limit_mib * 2**20:
            break
    return page


def _filled(parts: Mapping[str, str]) -> str:
    page = TEMPLATE.read_text(encoding="utf-8")
    for name, text in parts.items():
        page = page.replace("{{" + name + "}}", text)
    return page


def _paragraph(text: str) -> str:
    first, *others = map(escape, text.split("\n- "))
    items = "".join(f"<li>{other}</li>" for other in others)
    return f'<div class="bad">{first}<ul>{items}</ul></div>' if items else f'<p class="note">{first}</p>'


def _plot(name: str, svg: str) -> str:
    source = f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
    return f'<div class="wide"><img class="plot" alt="{escape(name)}" src="{source}"></div>'


# --- tables -----------------------------------------------------------------------------------------------------------


def _tables(study: Study, compared: pl.DataFrame, cost: pl.DataFrame) -> Iterator[str]:
    for group in study.groups:
        for score in study.scores:
            chosen = compared.filter((pl.col("group") == group) & (pl.col("score") == score))
            if len(chosen):
                title = f"{group}: {score}" if group else score
                yield f'<h3>{escape(title)}</h3><div class="wide">{_table(study, group, chosen, cost)}</div>'


def _table(study: Study, group: str, compared: pl.DataFrame, cost: pl.DataFrame) -> str:
    heads = ["arm", "n", "mean"]
    for reference in study.references:
        heads += [f"− {reference}", "95 % interval", "wins"]
    heads += COSTS.values()
    head = "".join(f"<th><button>{escape(text)}</button></th>" for text in heads)
    body = ""
    for arm in study.arms:
        found = {row["reference"]: row for row in compared.filter(pl.col("arm") == arm).iter_rows(named=True)}
        if found:
            spent = next(cost.filter((pl.col("group") == group) & (pl.col("arm") == arm)).iter_rows(named=True), {})
            body += f'<tr class="{"control" if arm in CONTROLS else "arm"}">{_row(study, arm, found, spent)}</tr>'
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _row(study: Study, arm: str, found: Mapping[str, Mapping[str, Any]], spent: Mapping[str, Any]) -> str:
    first = next(iter(found.values()))
    cells = [_cell(arm, arm), _cell(first["n"], str(first["n"])), _cell(first["mean"], number(first["mean"]))]
    for reference in study.references:
        row = found.get(reference)
        if row is None or not row["n"]:  # the reference itself, or no pair
            cells += [_cell(None, "")] * 3
            continue
        sure = "sure" if row["low"] > 0 or row["high"] < 0 else ""
        cells.append(_cell(row["difference"], f"{row['difference']:+.3g}", sure))
        cells.append(_cell(row["low"], f"[{row['low']:+.3g}, {row['high']:+.3g}]"))
        cells.append(_cell(row["wins"], f"{100 * row['wins']:.0f} %"))
    cells += [_cell(spent.get(key), number(spent.get(key))) for key in COSTS]
    return "".join(cells)


def _cell(value: Any, text: str, kind: str = "") -> str:
    known = "" if value is None or value != value else escape(str(value))
    return f'<td class="{kind}" data-value="{known}">{escape(text)}</td>'


def number(value: float | None) -> str:
    """Four digits, or a dash for what is not known.

    Args:
        value: Any.
    """
    return "-" if value is None or value != value else f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"


# --- cases ------------------------------------------------------------------------------------------------------------


def _described(
    study: Study, rows: pl.DataFrame, case: Case, shown: Mapping[str, Image.Image], side: int
) -> dict[str, Any]:
    """A case for the page's script."""
    size = next((picture.size for picture in shown.values()), (1, 1))
    scores = {arm: first_scores(study, rows, case.group, arm).get(case.key) for arm in study.arms}
    return {
        "name": case.key,
        "ratio": size[0] / size[1],
        "images": {name: _jpeg(picture, side) for name, picture in shown.items()},
        "scores": {arm: number(value) for arm, value in scores.items() if value is not None},
    }


def _jpeg(picture: Image.Image, side: int) -> str:
    small = picture.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    small.save(data, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"


def _cases(study: Study, chosen: Mapping[str, str | None], cases: Sequence[Case]) -> str:
    """The grid; its pictures are put in by the script."""
    if not cases:
        return "<p>No case: no arm was compared with off.</p>"
    after = next(arm for arm in chosen.values() if arm)
    names = ["input", *study.arms, "truth"]
    made = f'<div class="chosen">{_select("left", names, "off")}{_select("right", names, after)}</div>'
    for group, arm in chosen.items():
        for kind in KINDS:
            own = [case for case in cases if (case.group, case.kind) == (group, kind)]
            if own:
                title = f"{group}: {kind}" if group else kind
                note = f"by {study.scores[0]} of {arm} minus off"
                made += f"<h3>{escape(title)}</h3><p class='note'>{escape(note)}</p>"
                made += f'<div class="cases">{"".join(_figure(cases.index(case), case) for case in own)}</div>'
    return made


def _select(side: str, names: Sequence[str], chosen: str) -> str:
    options = "".join(f"<option{' selected' * (name == chosen)}>{escape(name)}</option>" for name in names)
    return f'<label>{side} <select data-side="{side}">{options}</select></label>'


def _figure(index: int, case: Case) -> str:
    return (
        f'<figure data-case="{index}"><div class="stage"><div class="moved"><img alt=""><img alt=""></div>'
        '<div class="divider"></div></div><input type="range" min="0" max="100" value="50" step="0.5" '
        'aria-label="divider between before and after">'
        f"<figcaption><span>{escape(case.key)} ({case.difference:+.3g})<br><span class='scores'></span></span>"
        '<button type="button" aria-label="large">⤢</button></figcaption></figure>'
    )
