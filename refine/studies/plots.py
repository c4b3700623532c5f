"""Plots of a study as SVG, byte for byte the same for the same results."""

import io
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from refine.studies.plan import finished_rows
from refine.studies.spec import CONTROLS, Study, StudyRun
from refine.studies.statistics import gain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLE = {"svg.hashsalt": "refine", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9}


def draw(study: Study, compared: pl.DataFrame, cost: pl.DataFrame, runs: Sequence[StudyRun]) -> dict[str, str]:
    """All plots by file name.

    Args:
        study: Question with its arms and scores.
        compared: Table of :func:`refine.studies.statistics.compare`.
        cost: Table of :func:`refine.studies.statistics.costs`.
        runs: All runs of the study, finished or not.
    """
    import matplotlib
    from matplotlib.figure import Figure

    fills: dict[str, Callable[[Figure], bool]] = {
        "differences": lambda figure: _differences(figure, study, compared),
        "steps": lambda figure: _steps(figure, study, compared, runs),
        "cost": lambda figure: _cost(figure, study, compared, cost),
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
    figure.set_size_inches(8, 1.2 + 0.25 * len(labels))
    panels = figure.subplots(1, len(study.references), sharey=True, squeeze=False)[0]
    for axes, reference in zip(panels, study.references, strict=True):
        for row in rows.filter(pl.col("reference") == reference).iter_rows(named=True):
            error = [[row["difference"] - row["low"]], [row["high"] - row["difference"]]]
            color = "0.6" if row["arm"] in CONTROLS else "C0"
            axes.errorbar(row["difference"], labels.index(_label(row)), xerr=error, fmt="o", ms=4, color=color)
        axes.axvline(0, color="0.5", lw=0.8)
        axes.set(xlabel=f"{study.scores[0]}\nminus {reference}", yticks=range(len(labels)), yticklabels=labels)
    panels[0].invert_yaxis()
    return bool(labels)


def _label(row: Mapping[str, Any]) -> str:
    return f"{row['group']} {row['arm']}".strip()


def _steps(figure: "Figure", study: Study, compared: pl.DataFrame, runs: Sequence[StudyRun]) -> bool:
    """The first score against the study's numbers, if it has any; the loss against the steps otherwise."""
    axes = figure.subplots()
    drawn = _scores_on_axis(axes, study, compared) if study.axis else _losses(axes, runs)
    if len(axes.get_legend_handles_labels()[1]) > 1:
        axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return drawn


def _scores_on_axis(axes: "Axes", study: Study, compared: pl.DataFrame) -> bool:
    lines = defaultdict(list)
    paired = compared.filter((pl.col("reference") == "plain") & (pl.col("n") > 0))
    first = paired.filter(pl.col("score") == study.scores[0])
    for row in first.filter(~pl.col("arm").is_in(list(CONTROLS))).iter_rows(named=True):
        if (x := study.place(row["arm"])) is not None:
            lines[_line(study, row)].append((x, row["difference"], row["low"], row["high"]))
    for label, points in lines.items():
        x, mean, low, high = np.array(sorted(points)).T
        axes.errorbar(x, mean, [mean - low, high - mean], fmt="o-", ms=4, capsize=2, label=label)
    for row in first.filter(pl.col("arm") == "upscaled").iter_rows(named=True):
        axes.axhline(row["difference"], color="0.6", ls="--", lw=0.8, label=f"{row['group']} upscaled".strip())
    axes.axhline(0, color="0.5", lw=0.8)
    positive = sorted({point[0] for points in lines.values() for point in points})
    if len(positive) > 2 and positive[0] > 0 and positive[-1] / positive[0] >= 10:
        axes.set_xscale("log")
    axes.set(xlabel=study.axis, ylabel=f"{study.scores[0]} minus plain")
    return bool(lines)


def _line(study: Study, row: Mapping[str, Any]) -> str:
    """What an arm sets besides the axis."""
    others = [override for override in study.arms[row["arm"]] if override.partition("=")[0] != study.axis]
    return " ".join([row["group"], *others]).strip() or "arms"


def _losses(axes: "Axes", runs: Sequence[StudyRun]) -> bool:
    """Mean over images of the finest level's loss, as a share of the one it began with."""
    for run in runs:
        if run.arm not in CONTROLS and (curves := _curves(run)):
            length = max(map(len, curves))  # an early stop keeps its last value
            filled = [[*curve, *[curve[-1]] * (length - len(curve))] for curve in curves]
            axes.plot(np.mean(filled, axis=0), "o-", ms=3, label=run.name)
    axes.set(xlabel="updates, finest level", ylabel="loss, share of the first")
    return bool(axes.lines)


def _curves(run: StudyRun) -> list[list[float]]:
    """Losses of the finest level of each image, as shares of the first one."""
    curves = [row["losses"][-1] for row in finished_rows(run) if row.get("losses")]
    return [[loss / curve[0] for loss in curve] for curve in curves if curve and curve[0] and None not in curve]


def _cost(figure: "Figure", study: Study, compared: pl.DataFrame, cost: pl.DataFrame) -> bool:
    """The first score against seconds per image, and the arms that none beats in both."""
    points = quality_and_cost(study, compared, cost)
    axes = figure.subplots()
    for group in study.groups:
        group_points = [point for point in points if point[0] == group]
        for _, arm, seconds, quality in group_points:
            axes.plot(seconds, quality, "o", ms=4, color="0.6" if arm in CONTROLS else "C0")
            axes.annotate(f"{group} {arm}".strip(), (seconds, quality), (3, 3), textcoords="offset points", fontsize=7)
        front = pareto([(point[2], float(gain(study.scores[0], np.array(point[3])))) for point in group_points])
        best_points = [group_points[i] for i in front]
        axes.step(
            [point[2] for point in best_points],
            [point[3] for point in best_points],
            "C1-",
            lw=1,
            where="post",
            zorder=0,
        )
    axes.margins(x=0.15)  # room for the names
    axes.set(xlabel="seconds per image (median)", ylabel=study.scores[0])
    return bool(points)


def quality_and_cost(study: Study, compared: pl.DataFrame, cost: pl.DataFrame) -> list[tuple[str, str, float, float]]:
    """Group, arm, seconds and the mean of the first score, of every arm where both are known.

    Args:
        study: Question with its arms and scores.
        compared: Table of :func:`refine.studies.statistics.compare`.
        cost: Table of :func:`refine.studies.statistics.costs`.
    """
    rows = compared.filter((pl.col("score") == study.scores[0]) & (pl.col("n") > 0)).unique(
        ["group", "arm"], keep="first", maintain_order=True
    )
    joined = rows.join(cost.select("group", "arm", "seconds"), on=["group", "arm"], how="left", maintain_order="left")
    timed = joined.filter(pl.col("seconds").is_not_null())
    return list(timed.select("group", "arm", "seconds", "mean").iter_rows())


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points of which no other is both cheaper and better, by rising cost.

    Args:
        points: Pairs of cost and gain; less cost and more gain are better.
    """
    front: list[int] = []
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if not front or points[index][1] > points[front[-1]][1]:
            front.append(index)
    return front
