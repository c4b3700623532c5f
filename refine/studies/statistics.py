"""Paired statistics over the images of many runs.

Images are the units: an arm and a control are compared image by image, over the images that both have, and the
interval says how far the mean difference would move with other images of their kind.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from refine.metrics.bootstrap import FEWEST_IMAGES, holm, interval, sign_flip_p
from refine.studies.plan import finished_rows
from refine.studies.spec import Study, StudyRun

COSTS = {"seconds": "s/image", "peak_memory_mib": "peak MiB", "guided": "guided"}  # columns of costs(), and titles
LOWER = ("l1", "lpips", "fid", "kid")  # scores of which less is better
MATCH = {"sharpness": 1.0, "seam": 0.0}  # what a photo itself has, and no other value is better than


class StudyTables(NamedTuple):
    """What a report is made of; tables without a row if no run has ended.

    Attributes:
        results: Table of :func:`read_rows`.
        comparisons: Table of :func:`compare`.
        costs: Table of :func:`costs`.
        effects: Table of :func:`refine.studies.effects.effects`.
        images: Table of :func:`refine.studies.contents.image_scores_table`.
    """

    results: pl.DataFrame
    comparisons: pl.DataFrame
    costs: pl.DataFrame
    effects: pl.DataFrame
    images: pl.DataFrame


def gain(score: str, values: np.ndarray) -> np.ndarray:
    """Values so that more is better.

    Args:
        score: Name of the score, such as ``l1_hole_refine``.
        values: Scores, in any shape.
    """
    for start, best in MATCH.items():
        if score.startswith(start):
            return np.asarray(-np.abs(values - best))
    less = score.removeprefix("known_").removeprefix("guide_").startswith(LOWER)
    return -values if less else values


def direction(score: str) -> str:
    """Which values of a score are good, in words.

    Args:
        score: Name of the score, such as ``l1_hole_refine``.
    """
    for start, best in MATCH.items():
        if score.startswith(start):
            return f"{best:g} is best"
    return "more is better" if gain(score, np.array(1.0)) > 0 else "less is better"


def read_rows(study: Study, runs: Sequence[StudyRun]) -> pl.DataFrame:
    """The rows of all runs with their ``group`` and ``arm``; runs without rows are left out.

    Args:
        study: Question with its arms.
        runs: All runs of the study, finished or not.
    """
    frames = []
    for run in runs:
        if rows := finished_rows(run):
            frame = pl.DataFrame([*map(_numbers_and_texts, rows)], infer_schema_length=None, strict=False)
            place = pl.lit(study.place(run.arm), dtype=pl.Float64).alias("axis")
            labels = pl.lit(run.group).alias("group"), pl.lit(run.arm).alias("arm")
            frames.append(frame.select(*labels, place, pl.all()))
    return pl.concat(frames, how="diagonal_relaxed") if frames else pl.DataFrame()


def _numbers_and_texts(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row without its lists, such as curves of losses; texts as valid Unicode, whatever a file's name holds."""
    values = {key: value for key, value in row.items() if not isinstance(value, list)}
    return {key: _unicode(value) if isinstance(value, str) else value for key, value in values.items()}


def _unicode(text: str) -> str:
    return text.encode(errors="surrogateescape").decode(errors="replace")


def compare(study: Study, rows: pl.DataFrame) -> pl.DataFrame:
    """Every arm against every reference, by every score, within each group.

    Args:
        study: Question with its arms, references and scores.
        rows: Table of :func:`read_rows`.

    Returns:
        One row per group, arm, score and reference: ``n`` images that both have, ``mean`` of the arm over them,
        ``reference_mean``, ``difference`` (arm minus reference) with its interval ``low``, ``high``, ``p`` of a
        sign-flip test and ``p_holm``, adjusted for all comparisons by this score in this group; ``wins``: the share of
        images on which the arm is better, ties counting half; and ``unpaired``, images only one of them has.
    """
    table = []
    for group in study.groups:
        for score in (score for score in study.scores if score in rows.columns):
            values = {arm: image_scores(rows, group, arm, score) for arm in study.arms}
            family: list[dict[str, Any]] = []
            for arm, arm_values in values.items():
                for reference in study.references:
                    if arm != reference and arm_values:
                        paired = _paired(score, arm_values, values[reference])
                        family.append({"group": group, "arm": arm, "score": score, "reference": reference, **paired})
            adjusted = holm([row["p"] for row in family])
            table += [{**row, "p_holm": p_value} for row, p_value in zip(family, adjusted, strict=True)]
    return pl.DataFrame(table, infer_schema_length=None)


def certain(row: Mapping[str, Any]) -> bool:
    """Whether a comparison stands out: its interval excludes 0, and enough images stand behind it.

    Args:
        row: Row of :func:`compare`.
    """
    return bool(row["n"] >= FEWEST_IMAGES and (row["low"] > 0 or row["high"] < 0))


def image_scores(rows: pl.DataFrame, group: str, arm: str, score: str) -> dict[tuple[str, str], float]:
    """Score by image; the hash of image and mask belongs to it, so that nothing else is taken for a pair.

    Args:
        rows: Table of :func:`read_rows`.
        group: Name of the study's group.
        arm: Name of the arm.
        score: Name of the score.

    Returns:
        Finite scores by the image's name and the hash of its inputs.
    """
    arm_rows = rows.filter((pl.col("group") == group) & (pl.col("arm") == arm))
    images = zip(arm_rows["key"].cast(pl.String), arm_rows["inputs"].cast(pl.String), strict=True)
    values = arm_rows[score].cast(pl.Float64, strict=False)
    return {
        image: value for image, value in zip(images, values, strict=True) if value is not None and np.isfinite(value)
    }


def _paired(
    score: str, arm_values: Mapping[tuple[str, str], float], reference_values: Mapping[tuple[str, str], float]
) -> dict[str, float | int]:
    images = sorted(arm_values.keys() & reference_values.keys())
    arm_scores = np.array([arm_values[image] for image in images])
    reference_scores = np.array([reference_values[image] for image in images])
    if not images:
        undefined = dict.fromkeys(("mean", "reference_mean", "difference", "low", "high", "p", "wins"), float("nan"))
        return {"n": 0, **undefined, "unpaired": len(arm_values) + len(reference_values)}
    low, high = interval(arm_scores - reference_scores)
    better = gain(score, arm_scores) - gain(score, reference_scores)
    return {
        "n": len(images),
        "mean": float(arm_scores.mean()),
        "reference_mean": float(reference_scores.mean()),
        "difference": float((arm_scores - reference_scores).mean()),
        "low": float(low),
        "high": float(high),
        "p": sign_flip_p(arm_scores - reference_scores),
        "wins": float(((better > 0) + 0.5 * (better == 0)).mean()),
        "unpaired": len(arm_values.keys() ^ reference_values.keys()),
    }


def costs(study: Study, rows: pl.DataFrame) -> pl.DataFrame:
    """What each arm does: ``n`` images, median ``seconds`` per image, highest ``peak_memory_mib``, and ``guided``.

    The last is the mean share of the hole, at the last level, that the coarser level guides; None without such a level.

    Args:
        study: Question with its arms, which give the order.
        rows: Table of :func:`read_rows`.
    """
    table = []
    for group in study.groups:
        for arm in study.arms:
            arm_rows = rows.filter((pl.col("group") == group) & (pl.col("arm") == arm))
            if len(arm_rows):
                table.append({"group": group, "arm": arm, "n": len(arm_rows), **_cost(arm_rows)})
    return pl.DataFrame(table, infer_schema_length=None)


def _cost(rows: pl.DataFrame) -> dict[str, float | None]:
    columns = {name: rows[name].cast(pl.Float64, strict=False) for name in ("seconds", "peak_memory_mib")}
    values = {name: np.array(column.drop_nulls().to_numpy()) for name, column in columns.items()}
    return {
        "seconds": float(np.median(values["seconds"])) if len(values["seconds"]) else None,
        "peak_memory_mib": float(values["peak_memory_mib"].max()) if len(values["peak_memory_mib"]) else None,
        "guided": _mean_of_last(rows["guided"]) if "guided" in rows.columns else None,
    }


def _mean_of_last(levels: pl.Series) -> float | None:
    """Mean over images of the number of the last level, of numbers level by level in a text."""
    mean = levels.cast(pl.String).str.split(" ").list.last().cast(pl.Float64, strict=False).mean()
    return None if mean is None else float(mean)  # type: ignore[arg-type]
