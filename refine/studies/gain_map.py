"""Map of where an arm helps: its gain over the network alone, for every combination of two or more factors."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from refine.metrics.bootstrap import interval
from refine.studies.axes import panels_of
from refine.studies.effects import Factor, factors, settings
from refine.studies.spec import BASE, CONTROLS, Study
from refine.studies.statistics import certain, gain, image_scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

MARKS = {1: "▲", -1: "▼", 0: "·"}  # gain, loss, neither
COLORS = "PuOr_r"  # two hues that color-blind readers tell apart; white is nothing
ABSENT = "0.88"  # gray of what was not run
COLUMNS = 3  # panels side by side


class Gain(NamedTuple):
    """What an arm gains in one place of the map.

    Attributes:
        levels: Level of each factor, and ``arm`` where the arms are no grid, by the factor's name.
        mean: Mean gain over the images, in units of the score, so that more is better.
        low: Lower end of its interval.
        high: Upper end of its interval.
        n: Number of images.
    """

    levels: Mapping[str, str]
    mean: float
    low: float
    high: float
    n: int

    @property
    def sign(self) -> int:
        """1 for a gain and -1 for a loss of which the interval excludes 0, 0 for neither."""
        return int(np.sign(self.mean)) if certain(self._asdict()) else 0


def map_factors(study: Study) -> list[Factor]:
    """The factors of a study, of ``each`` and of ``grid``.

    Args:
        study: Question with its groups and arms.
    """
    of_arms = factors(study.grid)
    return [factor for factor in factors(study.each) if factor.key not in {each.key for each in of_arms}] + of_arms


def gains(study: Study, rows: pl.DataFrame) -> list[Gain]:
    """What each arm gains over ``plain`` by the first score, in every combination of levels that is there.

    Args:
        study: Question with its groups, arms and scores.
        rows: Table of :func:`refine.studies.statistics.read_rows`.
    """
    score, found = study.scores[0], []
    arms = list(study.grid) or [arm for arm in study.arms if arm not in CONTROLS]
    for group in study.groups if score in rows.columns else ():
        base = image_scores(rows, group, BASE, score)
        for arm in arms:
            of_arm = image_scores(rows, group, arm, score)
            images = [image for image in of_arm if image in base]
            if images:
                refined, alone = (np.array([scores[image] for image in images]) for scores in (of_arm, base))
                gained = gain(score, refined) - gain(score, alone)
                low, high = interval(gained)
                levels = _levels(study, group, arm)
                found.append(Gain(levels, float(gained.mean()), float(low), float(high), len(images)))
    return found


def _levels(study: Study, group: str, arm: str) -> dict[str, str]:
    values = settings([*study.each.get(group, ()), *study.grid.get(arm, ())])
    return values if study.grid else {**values, "arm": arm}


def draw(figure: "Figure", study: Study, rows: pl.DataFrame) -> bool:
    """Heat maps over the two factors with the most levels; a panel per combination of the others.

    Args:
        figure: Empty figure.
        study: Question with its groups, arms and scores.
        rows: Table of :func:`refine.studies.statistics.read_rows`.

    Returns:
        Whether there is something to see: two factors with two levels, and results.
    """
    of = map_factors(study)
    found = gains(study, rows) if len(of) > 1 else []
    if not found:
        return False
    first, second = sorted(sorted(range(len(of)), key=lambda place: -len(of[place].levels))[:2])
    y, x = of[first], of[second]
    by_panel: dict[str, dict[tuple[str, str], Gain]] = {}
    for one in found:
        others = [f"{_last(key)} {value}" for key, value in one.levels.items() if key not in (x.key, y.key)]
        by_panel.setdefault(", ".join(others), {})[one.levels[y.key], one.levels[x.key]] = one
    height = 0.7 + 0.45 * len(y.levels)
    panels = panels_of(figure, len(by_panel), COLUMNS, height, around=0.9, shared=True)
    largest = max(abs(one.mean) for one in found) or 1.0
    for axes, (title, cells) in zip(panels, by_panel.items(), strict=True):
        image = _panel(axes, cells, y.levels, x.levels, largest)
        axes.set_title(title, fontsize=8)
    figure.colorbar(image, ax=panels, shrink=0.8).set_label(f"gain over plain\n{study.scores[0]}")
    figure.supxlabel(x.key, fontsize=9)
    figure.supylabel(y.key, fontsize=9)
    return True


def _panel(
    axes: "Axes", cells: Mapping[tuple[str, str], Gain], y: Sequence[str], x: Sequence[str], largest: float
) -> "AxesImage":
    """One heat map, whose numbers stand in its fields with the sign of their intervals."""
    values = np.array([[cells[row, column].mean if (row, column) in cells else np.nan for column in x] for row in y])
    image = axes.imshow(values, cmap=COLORS, vmin=-largest, vmax=largest, aspect="auto")
    axes.set_facecolor(ABSENT)
    decimals = max(0, 1 - math.floor(math.log10(largest)))  # two digits of the largest
    for (row, column), one in cells.items():
        shade = "white" if abs(one.mean) > 0.75 * largest else "black"
        place = x.index(column), y.index(row)
        axes.text(
            *place, f"{one.mean:+.{decimals}f} {MARKS[one.sign]}", ha="center", va="center", fontsize=8, color=shade
        )
    axes.set_xticks(range(len(x)), x)
    axes.set_yticks(range(len(y)), y)
    return image


def _last(key: str) -> str:
    return key.rpartition(".")[2]
