"""Plot of quality against cost: which arms are worth their seconds."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from refine.studies.axes import label_right, limits, panels_of
from refine.studies.spec import BASE, CONTROLS, Study
from refine.studies.statistics import direction, gain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Point = tuple[str, str, float, float]  # group, arm, seconds, score
LINE = 0.17  # in, height of a name


def draw(figure: "Figure", study: Study, compared: pl.DataFrame, cost: pl.DataFrame) -> bool:
    """The first score against seconds per image, and the arms that none beats in both; a panel per group.

    Args:
        figure: Empty figure.
        study: Question with its arms and scores.
        compared: Table of :func:`refine.studies.statistics.compare`.
        cost: Table of :func:`refine.studies.statistics.costs`.

    Returns:
        Whether there is something to see.
    """
    points = quality_and_cost(study, compared, cost)
    by_group = {group: [point for point in points if point[0] == group] for group in study.groups}
    shown = {group: members for group, members in by_group.items() if members}
    if not shown:
        return False
    height = max(1.8 if len(shown) > 1 else 3.0, LINE * max(map(len, shown.values())))
    panels = panels_of(figure, len(shown), 2, height + 0.6, around=0.4)
    for axes, (group, members) in zip(panels, shown.items(), strict=True):
        _panel(axes, study.scores[0], members, LINE / height)
        axes.set_title(group, fontsize=9)
    figure.supxlabel("seconds per image (median)", fontsize=9)
    figure.supylabel(f"{study.scores[0]} ({direction(study.scores[0])})", fontsize=9)
    return True


def _panel(axes: "Axes", score: str, points: Sequence[Point], gap: float) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    seconds = [point[2] for point in points]
    if min(seconds) > 0 and max(seconds) / min(seconds) >= 10:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    # What the seconds are spent for more than is held; the other control may lie outside.
    held = [point[3] for point in points if point[1] not in CONTROLS or point[1] == BASE]
    others = [point[3] for point in points if point[1] in CONTROLS and point[1] != BASE]
    low, high = limits(held, others, zero=False)
    axes.set_ylim(low, high)
    for _, arm, spent, quality in points:
        outside = "v" if quality < low else "^" if quality > high else "o"
        color = "0.6" if arm in CONTROLS else "C0"
        axes.plot(spent, np.clip(quality, low, high), outside, ms=5, color=color, clip_on=False)
    named = [(arm if low <= y <= high else f"{arm} ({y:.4g})", x, y) for _, arm, x, y in points]
    axes.margins(x=0.08)
    label_right(axes, named, gap)
    front = pareto([(point[2], float(gain(score, np.array(point[3])))) for point in points])
    axes.step([points[i][2] for i in front], [points[i][3] for i in front], "C1-", lw=1, where="post", zorder=0)


def quality_and_cost(study: Study, compared: pl.DataFrame, cost: pl.DataFrame) -> list[Point]:
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
