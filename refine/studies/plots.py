"""Plots of a study as SVG, byte for byte the same for the same results."""

import io
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from refine.studies import cost_plot, gain_map, loss_plot
from refine.studies.axes import arrow, limits
from refine.studies.spec import CONTROLS, Study, StudyRun
from refine.studies.statistics import StudyTables, direction

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLE = {"svg.hashsalt": "refine", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9}
DIFFERENCES, STEPS, COST, EFFECTS, LOSSES, MAP = "differences", "steps", "cost", "effects", "losses", "map"
# What a plot shows, for who reads it and for who hears it.
CAPTIONS = {
    DIFFERENCES: "Mean difference of each arm to each reference by the first score, with its 95 % interval. "
    "An arrow at the edge with a number: a control lies outside.",
    EFFECTS: "Main effects and interactions of the factors by the first score, with their 95 % intervals.",
    MAP: "Gain over plain for every combination of the factors, so that more is always better. "
    "▲ gain and ▼ loss: the 95 % interval excludes 0; · neither. Gray: no result.",
    STEPS: "The first score against the numbers of one setting, with 95 % intervals.",
    LOSSES: "Loss after each update as a share of the first, level by level: median over images, quartiles as a band.",
    COST: "The first score against the seconds per image; the line joins the arms that none beats in both.",
}


def draw(study: Study, tables: StudyTables, runs: Sequence[StudyRun]) -> dict[str, str]:
    """All plots by file name.

    Args:
        study: Question with its arms and scores.
        tables: Tables of the report.
        runs: All runs of the study, finished or not.
    """
    import matplotlib
    from matplotlib.figure import Figure

    compared = tables.comparisons
    fills: dict[str, Callable[[Figure], bool]] = {
        DIFFERENCES: lambda figure: _differences(figure, study, compared),
        EFFECTS: lambda figure: _effects(figure, study, tables.effects),
        MAP: lambda figure: gain_map.draw(figure, study, tables.results),
        STEPS: lambda figure: bool(study.axis) and _scores_on_axis(figure.subplots(), study, compared),
        LOSSES: lambda figure: loss_plot.draw(figure, study, runs),
        COST: lambda figure: cost_plot.draw(figure, study, compared, tables.costs),
    }
    drawn = {}
    with matplotlib.rc_context(STYLE):
        for name, fill in fills.items():
            figure = Figure(figsize=(8, 4), layout="constrained")
            if fill(figure):
                drawn[f"{name}.svg"] = _svg(figure)
    return drawn


def _svg(figure: "Figure") -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())


def _differences(figure: "Figure", study: Study, compared: pl.DataFrame) -> bool:
    """Arms below each other, a panel per reference: the mean difference of the first score with its interval."""
    rows = compared.filter((pl.col("score") == study.scores[0]) & (pl.col("n") > 0))
    labels = list(dict.fromkeys(map(_label, rows.iter_rows(named=True))))
    figure.set_size_inches(8, 1.2 + 0.22 * len(labels))
    panels = figure.subplots(1, len(study.references), sharey=True, squeeze=False)[0]
    for axes, reference in zip(panels, study.references, strict=True):
        _intervals(axes, rows.filter(pl.col("reference") == reference).to_dicts(), labels)
        axes.set(xlabel=f"{study.scores[0]}\nminus {reference}", yticks=range(len(labels)), yticklabels=labels)
    panels[0].set_ylim(len(labels) - 0.4, -0.6)  # from above
    figure.suptitle(f"{study.scores[0]}: {direction(study.scores[0])}", fontsize=9)
    return bool(labels)


def _effects(figure: "Figure", study: Study, effects: pl.DataFrame) -> bool:
    """Effects below each other: the mean difference of the first score with its interval."""
    rows = effects.filter(pl.col("score") == study.scores[0]).to_dicts() if len(effects) else []
    labels = [_effect_label(row) for row in rows]
    figure.set_size_inches(8, 1.2 + 0.25 * len(labels))
    axes = figure.subplots()
    _intervals(axes, [{**row, "label": label} for row, label in zip(rows, labels, strict=True)], labels)
    axes.set(yticks=range(len(labels)), yticklabels=labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)  # from above
    axes.set_xlabel(f"effect on {study.scores[0]} ({direction(study.scores[0])})")
    return bool(labels)


def _effect_label(row: Mapping[str, Any]) -> str:
    """Where, what and how: one line, settings by their last names."""
    names = " × ".join(key.rpartition(".")[2] for key in row["factor"].split(" × "))
    place = " ".join(filter(None, (row["group"], row["arm"])))
    return f"{place + ': ' if place else ''}{names}: {row['change']}"


def _intervals(axes: "Axes", rows: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> None:
    """Points with their intervals; what a far control would need more room for becomes an arrow."""
    ends = [row[end] for row in rows if row.get("arm") not in CONTROLS for end in ("difference", "low", "high")]
    axes.set_xlim(limits(ends, (row["difference"] for row in rows if row.get("arm") in CONTROLS)))
    for row in rows:
        place = labels.index(row.get("label") or _label(row))
        if arrow(axes, row["difference"], place):
            continue
        error = np.nan_to_num([[row["difference"] - row["low"]], [row["high"] - row["difference"]]])
        color = "0.6" if row.get("arm") in CONTROLS else "C0"
        axes.errorbar(row["difference"], place, xerr=error, fmt="o", ms=4, color=color)
    axes.axvline(0, color="0.5", lw=0.8)
    axes.grid(axis="y", color="0.93")
    axes.set_axisbelow(True)


def _label(row: Mapping[str, Any]) -> str:
    return f"{row['group']} {row['arm']}".strip()


def _scores_on_axis(axes: "Axes", study: Study, compared: pl.DataFrame) -> bool:
    """The first score against the study's numbers."""
    lines = defaultdict(list)
    paired = compared.filter((pl.col("reference") == "plain") & (pl.col("n") > 0))
    first = paired.filter(pl.col("score") == study.scores[0])
    for row in first.filter(~pl.col("arm").is_in(list(CONTROLS))).iter_rows(named=True):
        if (x := study.place(row["arm"])) is not None:
            lines[_line(study, row)].append((x, row["difference"], row["low"], row["high"]))
    _lines(axes, lines)
    axes.set_ylim(limits(number for points in lines.values() for point in points for number in point[1:]))
    for row in first.filter(pl.col("arm") == "upscaled").iter_rows(named=True):
        _control_line(axes, row["difference"], _label(row))
    axes.axhline(0, color="0.5", lw=0.8)
    axes.set(xlabel=study.axis, ylabel=f"{study.scores[0]} minus plain\n({direction(study.scores[0])})")
    if len(axes.get_legend_handles_labels()[1]) > 1:
        axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return bool(lines)


def _lines(axes: "Axes", lines: Mapping[str, Sequence[tuple[float, ...]]]) -> None:
    """Lines with intervals, each moved a little aside, so that none hides another."""
    places = sorted({point[0] for points in lines.values() for point in points})
    logarithmic = len(places) > 2 and places[0] > 0 and places[-1] / places[0] >= 10
    if logarithmic:
        axes.set_xscale("log")
    for number, (label, points) in enumerate(lines.items()):
        x, mean, low, high = np.array(sorted(points)).T
        aside = 0.012 * (number - (len(lines) - 1) / 2)
        moved = x * (1 + aside) if logarithmic else x + aside * (places[-1] - places[0])
        error = np.nan_to_num([mean - low, high - mean])
        axes.errorbar(moved, mean, error, fmt="o-", ms=4, lw=1, capsize=2, label=label)
    if len(places) <= 6:
        axes.set_xticks(places, [f"{place:g}" for place in places], minor=False)
        axes.minorticks_off()


def _control_line(axes: "Axes", value: float, label: str) -> None:
    """A dashed line at a control's difference; at the edge its number, if it lies outside."""
    low, high = axes.get_ylim()
    if low <= value <= high:
        axes.axhline(value, color="0.6", ls="--", lw=0.8, label=label)
    else:
        end = "▼" if value < low else "▲"
        axes.plot([], [], " ", label=f"{end} {label} {value:+.3g}")


def _line(study: Study, row: Mapping[str, Any]) -> str:
    """What an arm sets besides the axis."""
    others = [override for override in study.arms[row["arm"]] if override.partition("=")[0] != study.axis]
    pairs = (override.partition("=") for override in others)
    return " ".join([row["group"], *(f"{key.rpartition('.')[2]}={value}" for key, _, value in pairs)]).strip() or "arms"
