"""Effects of a study's factors: what each changes by itself, and what it changes about the others.

The arms of a ``grid`` hold all combinations of its factors, and so do the groups of ``each``. An image that was
refined with all of them gives a difference by itself, so that effects are paired as comparisons are.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from refine.metrics.bootstrap import holm, interval, sign_flip_p
from refine.studies.spec import BASE, CONTROLS, Study
from refine.studies.statistics import image_scores

Level = tuple[str, ...]  # one level of every factor
Scores = Mapping[str, float]  # by image
COLUMNS = {
    "group": pl.String, "arm": pl.String, "score": pl.String, "factor": pl.String, "change": pl.String,
    "combinations": pl.Int64, "n": pl.Int64, "difference": pl.Float64, "low": pl.Float64, "high": pl.Float64,
    "p": pl.Float64, "p_holm": pl.Float64,
}  # fmt: skip


class Factor(NamedTuple):
    """A setting that a study varies.

    Attributes:
        key: Setting, such as ``refiner.steps``.
        levels: Values of it in the study's order; the first is what the others are compared with.
    """

    key: str
    levels: tuple[str, ...]


def factors(combinations: Mapping[str, Sequence[str]]) -> list[Factor]:
    """The settings that have more than one value.

    Args:
        combinations: Overrides by name of an arm or group, of ``grid`` or ``each``.
    """
    found: dict[str, dict[str, None]] = {}
    for overrides in combinations.values():
        for key, value in settings(overrides).items():
            found.setdefault(key, {})[value] = None
    return [Factor(key, tuple(levels)) for key, levels in found.items() if len(levels) > 1]


def settings(overrides: Sequence[str]) -> dict[str, str]:
    """Values by key.

    Args:
        overrides: Overrides ``key=value``.
    """
    return {key: value for key, _, value in (text.partition("=") for text in overrides)}


def level(overrides: Sequence[str], of: Sequence[Factor]) -> Level:
    """The level of each factor.

    Args:
        overrides: Overrides of an arm or group.
        of: Factors of :func:`factors`.
    """
    values = settings(overrides)
    return tuple(values[factor.key] for factor in of)


def effects(study: Study, rows: pl.DataFrame) -> pl.DataFrame:
    """Main effects and interactions of two factors, by every score.

    Those of a ``grid`` are differences of scores, within each group. Those of ``each`` are differences of what an arm
    gains over ``plain``, over the groups: their images and holes may differ, so that scores themselves say little.

    Args:
        study: Question with its arms, groups and scores.
        rows: Table of :func:`refine.studies.statistics.read_rows`.

    Returns:
        One row per effect, in the columns of :data:`COLUMNS`: the ``factor`` (two, with a multiplication sign, for an
        interaction) and the ``change`` of its level; ``n`` images; the mean ``difference`` of the score, over all
        ``combinations`` of the other factors that are there, with its interval ``low``, ``high``; ``p`` of a sign-flip
        test and ``p_holm``, adjusted for all effects of the same group, arm and score. No row without factors.
    """
    table: list[dict[str, Any]] = []
    for score in (score for score in study.scores if score in rows.columns):
        for group in study.groups:
            table += _family({"group": group, "arm": "", "score": score}, *_grid_cells(study, rows, group, score))
        for arm in (arm for arm in study.arms if arm not in CONTROLS):
            table += _family({"group": "", "arm": arm, "score": score}, *_group_cells(study, rows, arm, score))
    return pl.DataFrame(table, schema=COLUMNS)


def _grid_cells(study: Study, rows: pl.DataFrame, group: str, score: str) -> tuple[list[Factor], dict[Level, Scores]]:
    """Scores of each arm of the grid."""
    of = factors(study.grid)
    scores = {arm: image_scores(rows, group, arm, score) for arm in study.grid}
    cells = {arm: {"\0".join(image): value for image, value in found.items()} for arm, found in scores.items()}
    return of, {level(overrides, of): cells[arm] for arm, overrides in study.grid.items()}


def _group_cells(study: Study, rows: pl.DataFrame, arm: str, score: str) -> tuple[list[Factor], dict[Level, Scores]]:
    """What an arm gains over the control in each group, by the image's name: each may draw holes of its own."""
    of = factors(study.each)
    return of, {level(each, of): _differences(rows, group, arm, score) for group, each in study.each.items()}


def _differences(rows: pl.DataFrame, group: str, arm: str, score: str) -> Scores:
    of_arm, base = (image_scores(rows, group, name, score) for name in (arm, BASE))
    return {image[0]: of_arm[image] - base[image] for image in of_arm if image in base}


def _family(names: Mapping[str, str], of: Sequence[Factor], cells: Mapping[Level, Scores]) -> Iterator[dict[str, Any]]:
    """The effects that stand side by side, with their adjusted p-values."""
    pairs = itertools.combinations(range(len(of)), 2)
    found: list[dict[str, Any]] = []
    for places in [*((index,) for index in range(len(of))), *pairs]:
        for changed in itertools.product(*(of[place].levels[1:] for place in places)):
            differences, combinations = _contrast(of, cells, dict(zip(places, changed, strict=True)))
            if len(differences):
                described = {**_described(of, places, changed), "combinations": combinations}
                found.append({**names, **described, **_statistics(differences)})
    for row, p_value in zip(found, holm([row["p"] for row in found]), strict=True):
        yield {**row, "p_holm": p_value}


def _described(of: Sequence[Factor], places: Sequence[int], changed: Sequence[str]) -> dict[str, str]:
    changes = [f"{value} − {of[place].levels[0]}" for place, value in zip(places, changed, strict=True)]
    bracketed = changes if len(changes) == 1 else [f"({change})" for change in changes]
    return {"factor": " × ".join(of[place].key for place in places), "change": " × ".join(bracketed)}


def _contrast(
    of: Sequence[Factor], cells: Mapping[Level, Scores], changed: Mapping[int, str]
) -> tuple[np.ndarray, int]:
    """Per image the difference between levels, or the difference of differences, averaged over the other factors.

    Args:
        of: Factors, in the order of a level.
        cells: Scores of each combination of levels.
        changed: New level by the place of a factor; the first level is the base.

    Returns:
        Differences ``(n,)`` of the images that all combinations have, and how many combinations of the other factors
        were there with every level that is needed.
    """
    signs = [{changed[i]: 1, of[i].levels[0]: -1} if i in changed else dict.fromkeys(of[i].levels, 1)
             for i in range(len(of))]  # fmt: skip
    by_others: dict[Level, dict[Level, int]] = {}
    for cell in (cell for cell, scores in cells.items() if scores):
        if sign := math.prod(signs[place].get(value, 0) for place, value in enumerate(cell)):
            others = tuple(value for place, value in enumerate(cell) if place not in changed)
            by_others.setdefault(others, {})[cell] = sign
    complete = [signed for signed in by_others.values() if len(signed) == 2 ** len(changed)]
    weights = {cell: sign / len(complete) for signed in complete for cell, sign in signed.items()}
    images = sorted(set.intersection(*(set(cells[cell]) for cell in weights))) if weights else []
    sums = [math.fsum(weight * cells[cell][image] for cell, weight in weights.items()) for image in images]
    return np.array(sums), len(complete)


def _statistics(differences: np.ndarray) -> dict[str, float | int]:
    low, high = interval(differences)
    return {
        "n": len(differences),
        "difference": float(differences.mean()),
        "low": float(low),
        "high": float(high),
        "p": sign_flip_p(differences),
    }
