"""From the rows of a run to series of numbers, the same for every logger."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from refine.inference.summary import CONTROLS

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Point:
    """Numbers that belong to one place of an axis.

    Attributes:
        axis: What is counted.
        index: Position on the axis.
        values: Numbers by name.
    """

    axis: str
    index: int
    values: Mapping[str, float]


def series(rows: Sequence[Row], selected: Collection[str] = ()) -> Iterator[Point]:
    """All numbers of a run.

    Args:
        rows: Rows of the run's results, each with ``key`` and, where it was refined, ``losses``.
        selected: Keys of the images that get curves of their own.

    Yields:
        Along ``update`` the losses of :func:`curves`; along ``image``, in the order of the rows, what :func:`numbers`
        finds in each.
    """
    lines = {f"loss/{name}": values for name, values in curves(rows, selected).items()}
    for update in range(max(map(len, lines.values()), default=0)):
        yield Point("update", update, {name: line[update] for name, line in lines.items() if update < len(line)})
    for index, row in enumerate(rows):
        yield Point("image", index, {f"image/{name}": value for name, value in numbers(row).items()})


def curves(rows: Sequence[Row], selected: Collection[str] = ()) -> dict[str, list[float]]:
    """Loss after each update: ``level<l>``, the mean over all images refined at that level, and ``level<l>/<key>``.

    Where an image stopped early its last loss goes on, as in :class:`refine.core.types.LevelResult`; a non-finite loss
    makes the mean non-finite.

    Args:
        rows: Rows with ``losses``: for each refined level, coarse to fine, the loss after 0, 1, 2 ... updates.
        selected: Keys of the images that get curves of their own.
    """
    losses: dict[str, list[float]] = {}
    for level in range(1, 1 + max((len(row.get("losses") or ()) for row in rows), default=0)):
        lines = {row["key"]: row["losses"][level - 1] for row in rows if len(row.get("losses") or ()) >= level}
        lines = {key: line for key, line in lines.items() if line}
        if lines:
            losses[f"level{level}"] = _mean(list(lines.values()))
            losses |= {f"level{level}/{printable(key)}": list(lines[key]) for key in lines if key in selected}
    return losses


def numbers(row: Row) -> dict[str, float]:
    """What in a row is a number, and its differences to the controls as ``gain.<control>.<score>``."""
    plain = {name: value for name, value in row.items() if isinstance(value, int | float)}
    gains = {
        f"gain.{control}.{name}": plain[name] - plain[control_name]
        for control in CONTROLS
        for name in plain
        if (control_name := f"{control}.{name}") in plain
    }
    return plain | gains


def table(rows: Sequence[Row]) -> tuple[list[str], list[list[Any]]]:
    """Columns and cells of a table with a line per image: all that is plain in its row, and its gains."""
    lines = [{name: value for name, value in row.items() if not isinstance(value, list)} | numbers(row) for row in rows]
    columns = list(dict.fromkeys(name for line in lines for name in line))
    return columns, [[_cell(line.get(column)) for column in columns] for line in lines]


def flat(summary: Mapping[str, Any], prefix: str = "summary") -> dict[str, Any]:
    """Nested plain values as ``summary/<...>/<name>``; a mean of nothing (NaN or None, its ``n`` is 0) is left out."""
    values: dict[str, Any] = {}
    for name, value in summary.items():
        if isinstance(value, Mapping):
            values |= flat(value, f"{prefix}/{name}")
        elif value is not None and (not isinstance(value, float) or math.isfinite(value)):
            values[f"{prefix}/{name}"] = value
    return values


def printable(key: str) -> str:
    """A key that any logger takes: the bytes of a name that are no text become question marks."""
    return key.encode(errors="replace").decode()


def _mean(lines: Sequence[Sequence[float]]) -> list[float]:
    length = max(map(len, lines))
    return [sum(line[min(k, len(line) - 1)] for line in lines) / len(lines) for k in range(length)]


def _cell(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None  # a table of W&B holds numbers of one kind or nothing
    return printable(value) if isinstance(value, str) else value
