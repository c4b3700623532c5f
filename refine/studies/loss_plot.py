"""Plot of the losses of every level, over the updates."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from refine.studies.plan import finished_rows
from refine.studies.spec import CONTROLS, Study, StudyRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BAND = 0.18  # opacity of the quartiles
STYLES = ("-", "--", ":", "-.")  # of arms in turn, so that one that lies under another is seen through its gaps


def draw(figure: "Figure", study: Study, runs: Sequence[StudyRun]) -> bool:
    """Median over images and quartiles, as shares of the first loss; a row per group, a column per level.

    Args:
        figure: Empty figure.
        study: Question with its groups and arms.
        runs: All runs of the study, finished or not.

    Returns:
        Whether there is something to see.
    """
    found = {(run.group, run.arm): curves(run) for run in runs if run.arm not in CONTROLS}
    found = {names: levels for names, levels in found.items() if levels}
    groups = [group for group in study.groups if any(names[0] == group for names in found)]
    if not found:
        return False
    depth = max(max(levels) for levels in found.values()) + 1
    figure.set_size_inches(8, 0.6 + (2.6 if len(groups) == 1 else 1.7) * len(groups))
    panels = figure.subplots(len(groups), depth, squeeze=False, sharey="row", sharex="col")
    arms = list(dict.fromkeys(arm for _, arm in found))
    for (group, arm), levels in found.items():
        number = arms.index(arm)
        line = {"color": f"C{number % 10}", "ls": STYLES[number % len(STYLES)], "lw": 1}
        for place, losses in levels.items():
            axes = panels[groups.index(group), depth - 1 - place]
            low, middle, high = np.quantile(losses, (0.25, 0.5, 0.75), axis=0)
            axes.plot(middle, label=arm, **line)
            axes.fill_between(range(len(middle)), low, high, color=line["color"], alpha=BAND, lw=0)
    _tidy(panels, groups)
    figure.supxlabel("updates", fontsize=9)
    figure.supylabel("loss, share of the first", fontsize=9)
    lines = {label: line for axes in panels.flat for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(lines.values(), lines.keys(), loc="outside right upper", fontsize=7)
    return True


def _tidy(panels: np.ndarray, groups: Sequence[str]) -> None:
    """Hide what no image has, and name levels and groups at the first panels that are left."""
    for axes in panels.flat:
        axes.set_visible(bool(axes.lines))
    for number, column in enumerate(panels.T):
        shown = [axes for axes in column if axes.lines]
        shown[0].set_title(_level_name(len(panels.T) - 1 - number), fontsize=9)
        shown[0].xaxis.get_major_locator().set_params(integer=True)  # shared by the column
        shown[-1].tick_params(labelbottom=True)
    for row, group in zip(panels, groups, strict=True):
        first = next(axes for axes in row if axes.lines)
        first.set_ylabel(group, fontsize=8)
        first.tick_params(labelleft=True)


def _level_name(place: int) -> str:
    return "finest level" if place == 0 else f"{place} level{'s' if place > 1 else ''} coarser"


def curves(run: StudyRun) -> dict[int, np.ndarray]:
    """Losses of each level, as shares of the level's first loss.

    Args:
        run: Run of the study, finished or not.

    Returns:
        Losses ``(images, updates + 1)`` by the level's distance from the finest, which is 0; an image that stopped
        early keeps its last loss, and one without such a level is left out.
    """
    by_level: dict[int, list[list[float]]] = {}
    for row in finished_rows(run):
        for place, curve in enumerate(reversed(row.get("losses") or [])):
            if curve and curve[0] and None not in curve:
                by_level.setdefault(place, []).append([loss / curve[0] for loss in curve])
    return {place: _filled(found) for place, found in by_level.items()}


def _filled(found: Sequence[Sequence[float]]) -> np.ndarray:
    length = max(map(len, found))
    return np.array([[*curve, *[curve[-1]] * (length - len(curve))] for curve in found])
