"""What the plots of a study share: ranges that one far control does not rule, and labels that do not overlap."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARGIN = 0.08  # of the range, on both sides
ROOM = 0.6  # a control that would widen the range by no more than this share is inside
CLIPPED = "0.35"  # gray of what lies outside


def limits(values: Iterable[float], controls: Iterable[float] = (), zero: bool = True) -> tuple[float, float]:
    """Ends of an axis that hold every value, and those controls that lie near them.

    Args:
        values: Numbers of the arms, finite or NaN.
        controls: Numbers of the controls: one that is far away would flatten all others.
        zero: Whether 0 is inside.
    """
    further = [value for value in controls if np.isfinite(value)]
    known = [value for value in values if np.isfinite(value)] or further  # controls alone are what there is
    inside = [*known, *([0.0] if zero or not known else [])]
    low, high = min(inside), max(inside)
    room = ROOM * (high - low)
    near = [value for value in further if low - room <= value <= high + room]
    low, high = min([low, *near]), max([high, *near])
    margin = MARGIN * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def panels_of(
    figure: "Figure", count: int, most: int, height: float, around: float, shared: bool = False
) -> "list[Axes]":
    """Panels in rows, and the figure as high as they need.

    Args:
        figure: Empty figure.
        count: Number of panels, >= 1.
        most: Number of panels in a row at most.
        height: Height of a row, inches.
        around: Height of all else, inches.
        shared: Whether all panels have the same axes.
    """
    columns = min(most, count)
    rows = -(-count // columns)
    figure.set_size_inches(8, around + rows * height)
    panels = list(figure.subplots(rows, columns, squeeze=False, sharex=shared, sharey=shared).flat)
    for axes in panels[count:]:
        axes.remove()
    return panels[:count]


def spread(places: Sequence[float], gap: float, length: float = 1.0) -> np.ndarray:
    """Places for labels: as near to the wanted ones as they can be without two being nearer than a gap.

    Args:
        places: Wanted places, in [0, length].
        gap: Least distance of two labels.
        length: Length of the axis; it must hold all gaps.

    Returns:
        Places ``(n,)``, in the order given.
    """
    from scipy.optimize import isotonic_regression

    order = np.argsort(places, kind="stable")
    steps = gap * np.arange(len(places))
    if not len(order):
        return np.array([])
    fitted = isotonic_regression(np.asarray(places, dtype=float)[order] - steps).x
    found = np.empty(len(order))
    found[order] = np.clip(fitted, 0, max(0.0, length - steps[-1])) + steps
    return found


def arrow(axes: "Axes", value: float, place: float) -> bool:
    """Draw an arrow at the edge, with the number, for a value that the axis of x does not reach.

    Args:
        axes: Axes whose range is set.
        value: Number on the axis of x.
        place: Place on the axis of y.

    Returns:
        Whether the value lies outside.
    """
    low, high = axes.get_xlim()
    if low <= value <= high:
        return False
    left = value < low
    axes.plot(low if left else high, place, "<" if left else ">", ms=5, color=CLIPPED, clip_on=False)
    axes.annotate(
        f"{value:+.3g}",
        (low if left else high, place),
        (8 if left else -8, 0),
        textcoords="offset points",
        ha="left" if left else "right",
        va="center",
        fontsize=7,
        color=CLIPPED,
    )
    return True


def label_right(axes: "Axes", points: Sequence[tuple[str, float, float]], gap: float) -> None:
    """Write the names of points in a column on the right, with a thin line to each point.

    Args:
        axes: Axes whose ranges are set.
        points: Name, x and y of each point.
        gap: Least distance of two names, as a share of the axes' height.
    """
    low, high = axes.get_ylim()
    shares = [float(np.clip((y - low) / (high - low), 0, 1)) for _, _, y in points]
    for (name, x, y), share, place in zip(points, shares, spread(shares, gap), strict=True):
        axes.annotate(
            name,
            (x, y if low <= y <= high else low + share * (high - low)),
            (1.03, place),
            textcoords="axes fraction",
            va="center",
            fontsize=8,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "lw": 0.5, "color": "0.7", "shrinkB": 2},
        )
