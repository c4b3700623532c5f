"""The statistics and the telling cases of a study as one page, which needs nothing else: no network, no other file."""

import base64
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from refine.arms import CONTROLS, Study
from refine.arms import Job as Arm
from refine.config import mask_options, mask_suite
from refine.data import Jobs, MaskOptions
from refine.images import read_picture, to_tensor
from refine.jobs import Job, find_jobs
from refine.records import FOLDER
from refine.study import gain
from refine.types import Sample

TEMPLATE = Path(__file__).parent / "assets" / "report.html"
SIDES = (
    768,
    640,
    512,
    384,
    256,
    128,
)  # px, longer side of the pictures: the largest with which the page is small enough
HOLE = (255, 0, 255)  # how the hole of the input is shown
EACH = 3  # cases of each kind


@dataclass(frozen=True)
class Case:
    """An image on which an arm did well, badly or as usual.

    Attributes:
        kind: ``best``, ``median`` or ``worst``.
        group: Of the study.
        key: Of the image.
        difference: Of the first score, arm minus ``off``.
    """

    kind: str
    group: str
    key: str
    difference: float


def make(
    study: Study,
    compared: pl.DataFrame,
    cost: pl.DataFrame,
    rows: pl.DataFrame,
    jobs: Sequence[Arm],
    plots: Mapping[str, str],
    notes: Sequence[str],
    limit_mib: float,
) -> str:
    """The page as HTML.

    Args:
        study: Whose it is.
        compared: Of :func:`refine.study.compare`.
        cost: Of :func:`refine.study.costs`.
        rows: Of :func:`refine.study.read_rows`.
        jobs: Run, or not.
        plots: SVG by file name.
        notes: Paragraphs of Markdown's simplest kind, above the tables.
        limit_mib: Pictures are made smaller until the page is below.
    """
    parts = {
        "title": escape(study.question),
        "about": "".join(_paragraph(note) for note in notes),
        "tables": "".join(_tables(study, compared, cost)) if len(compared) else "<p>Nothing to compare yet.</p>",
        "plots": "".join(
            f'<div class="wide"><img class="plot" alt="{escape(name)}" src="{_svg(svg)}"></div>'
            for name, svg in plots.items()
        ),
    }
    chosen = {group: best_arm(study, compared, group) for group in study.groups} if len(compared) else {}
    cases = [case for group, arm in chosen.items() if arm for case in choose(study, rows, group, arm)]
    pictures = {case: _pictures(study, rows, jobs, case) for case in cases}
    parts["cases"] = _cases(study, chosen, cases)
    for side in SIDES:
        data = {"cases": [_described(study, rows, case, pictures[case], side) for case in cases]}
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
    lines = text.split("\n- ")
    items = "".join(f"<li>{escape(line)}</li>" for line in lines[1:])
    return (
        f'<p class="note">{escape(lines[0])}</p>'
        if not items
        else f'<div class="bad">{escape(lines[0])}<ul>{items}</ul></div>'
    )


def _svg(text: str) -> str:
    return f"data:image/svg+xml;base64,{_base64(text.encode())}"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


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
    heads += ["s/image", "peak MiB"]
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
    cells = [_cell(arm, arm), _cell(first["n"], str(first["n"])), _cell(first["mean"], _number(first["mean"]))]
    for reference in study.references:
        row = found.get(reference)
        if row is None or not row["n"]:  # the reference itself, or no pair
            cells += [_cell(None, "")] * 3
            continue
        sure = "sure" if row["low"] > 0 or row["high"] < 0 else ""
        cells.append(_cell(row["difference"], f"{row['difference']:+.3g}", sure))
        cells.append(_cell(row["low"], f"[{row['low']:+.3g}, {row['high']:+.3g}]"))
        cells.append(_cell(row["wins"], f"{100 * row['wins']:.0f} %"))
    return "".join(
        [*cells, *(_cell(spent.get(key), _number(spent.get(key))) for key in ("seconds", "peak_memory_mib"))]
    )


def _cell(value: Any, text: str, kind: str = "") -> str:
    known = "" if value is None or value != value else escape(str(value))
    return f'<td class="{kind}" data-value="{known}">{escape(text)}</td>'


def _number(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.4g}"


# --- cases ------------------------------------------------------------------------------------------------------------


def best_arm(study: Study, compared: pl.DataFrame, group: str) -> str | None:
    """The arm that gains most over ``off`` by the first score; None if none was compared with it.

    Args:
        study: Whose arms they are.
        compared: Of :func:`refine.study.compare`.
        group: Of the study.
    """
    rows = compared.filter(
        (pl.col("group") == group)
        & (pl.col("score") == study.scores[0])
        & (pl.col("reference") == "off")
        & (pl.col("n") > 0)
        & ~pl.col("arm").is_in(list(CONTROLS))
    )
    gains = {
        row["arm"]: float(
            gain(study.scores[0], np.array(row["mean"])) - gain(study.scores[0], np.array(row["reference_mean"]))
        )
        for row in rows.iter_rows(named=True)
    }
    return max(gains, key=gains.__getitem__) if gains else None


def choose(study: Study, rows: pl.DataFrame, group: str, arm: str) -> list[Case]:
    """The images on which an arm gains most and least over ``off``, and those in the middle; none twice.

    Args:
        study: Its first score decides.
        rows: Of :func:`refine.study.read_rows`.
        group: Of the study.
        arm: Of the study.
    """
    score = study.scores[0]
    mine, plain = (_scores(rows, group, name, score) for name in (arm, "off"))
    differences = {key: mine[key] - plain[key] for key in mine.keys() & plain.keys()}
    gains = {k: float(gain(score, np.array(mine[k])) - gain(score, np.array(plain[k]))) for k in differences}
    order = sorted(gains, key=lambda key: (-gains[key], key))
    each = min(EACH, max(1, len(order) // 3))
    middle = max(0, (len(order) - each) // 2)
    kinds = {"best": order[:each], "worst": order[::-1][:each], "median": order[middle : middle + each]}
    seen: set[str] = set()
    cases = []
    for kind in ("best", "worst", "median"):
        cases += [Case(kind, group, key, differences[key]) for key in kinds[kind] if key not in seen]
        seen |= set(kinds[kind])
    return sorted(cases, key=lambda case: ("best", "median", "worst").index(case.kind))


def _scores(rows: pl.DataFrame, group: str, arm: str, score: str) -> dict[str, float]:
    if score not in rows.columns:
        return {}
    chosen = rows.filter((pl.col("group") == group) & (pl.col("arm") == arm))
    values = zip(chosen["key"].cast(pl.String), chosen[score].cast(pl.Float64, strict=False), strict=True)
    return {key: value for key, value in values if value is not None and np.isfinite(value)}


def _pictures(study: Study, rows: pl.DataFrame, jobs: Sequence[Arm], case: Case) -> dict[str, Image.Image]:
    """What the arms made of an image, with the input and the truth; what cannot be read is left out."""
    pictures: dict[str, Image.Image] = {}
    arms = {job.arm: job for job in jobs if job.group == case.group}
    if sample := _sample(arms["off"], case.key):
        seen = sample.image.clone()
        for channel, value in enumerate(HOLE):
            seen[:, channel : channel + 1][sample.mask > 0] = value / 255
        pictures["input"] = _image(seen)
        if sample.truth is not None:
            pictures["truth"] = _image(sample.truth)
    own = rows.filter((pl.col("group") == case.group) & (pl.col("key").cast(pl.String) == case.key))
    for row in own.iter_rows(named=True):
        try:
            pictures[row["arm"]] = _image(to_tensor(read_picture(arms[row["arm"]].folder / row["output"])))
        except (OSError, ValueError):  # removed since
            continue
    return pictures


def _image(tensor: Any) -> Image.Image:
    return Image.fromarray((tensor[0].permute(1, 2, 0).clamp(0, 1) * 255).round().byte().cpu().numpy())


def _sample(arm: Arm, key: str) -> Sample | None:
    """An image as the job read it."""
    try:
        config = OmegaConf.load(arm.folder / FOLDER / "config.yaml")
        assert isinstance(config, DictConfig)
        suite = mask_suite(config)
        known = config.truth or ("input" if suite else None)
        jobs, _ = find_jobs(config.input, config.mask, suite or config.masks, config.output, known)
    except (OSError, ValueError):  # moved since
        return None
    found = [job for job in jobs if job.key == key]
    return _read(found[0], config) if found else None


def _read(job: Job, config: DictConfig) -> Sample | None:
    sample = Jobs([job], MaskOptions(*mask_options(config)), config.format, config.data.side)[0]
    return sample if isinstance(sample, Sample) else None


def _described(
    study: Study, rows: pl.DataFrame, case: Case, pictures: Mapping[str, Image.Image], side: int
) -> dict[str, Any]:
    """A case for the page's script."""
    size = next((picture.size for picture in pictures.values()), (1, 1))
    scores = {arm: _scores(rows, case.group, arm, study.scores[0]).get(case.key) for arm in study.arms}
    return {
        "name": case.key,
        "ratio": size[0] / size[1],
        "images": {name: _jpeg(picture, side) for name, picture in pictures.items()},
        "scores": {arm: _number(value) for arm, value in scores.items() if value is not None},
    }


def _jpeg(picture: Image.Image, side: int) -> str:
    small = picture.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    small.save(data, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{_base64(data.getvalue())}"


def _cases(study: Study, chosen: Mapping[str, str | None], cases: Sequence[Case]) -> str:
    """The grid; its pictures are put in by the script."""
    if not cases:
        return "<p>No case: no arm was compared with off.</p>"
    after = next(arm for arm in chosen.values() if arm)
    names = ["input", *study.arms, "truth"]
    made = f'<div class="chosen">{_select("left", names, "off")}{_select("right", names, after)}</div>'
    for group, arm in chosen.items():
        for kind in ("best", "median", "worst"):
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
