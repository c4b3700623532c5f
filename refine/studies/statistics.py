"""Rows of many runs -> paired statistics.

Images are the units: an arm and a control are compared image by image, over the images that both have, and the
interval says how far the mean difference would move with other images of their kind.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from scipy import stats

from refine.io.files import RUN_FOLDER
from refine.studies.spec import Study, StudyRun

CONFIDENCE = 0.95
RESAMPLES = 10_000
TEXTS = ("updates", "kept", "guided", "first_loss", "last_loss")  # one number per level, read as text
COSTS = {"seconds": "s/image", "peak_memory_mib": "peak MiB", "guided": "guided"}  # columns of costs(), and titles
LOWER = ("l1", "lpips", "fid", "kid")  # scores of which less is better
MATCH = "sharpness"  # a share of the truth's: 1 is best


def interval(
    differences: np.ndarray, confidence: float = CONFIDENCE, resamples: int = RESAMPLES
) -> tuple[np.ndarray, np.ndarray]:
    """Bootstrap interval of the mean, over the last axis.

    The percentile interval is too short for few images: with 12 normal differences it covers 91 % instead of 95 %, and
    BCa is no better. So its tails are widened as far as Student's t is wider than the normal (Hesterberg 2015, "What
    Teachers Should Know About the Bootstrap", the expanded percentile interval). From 8 images on, that covers 94-95 %
    for normal and 93-94 % for long-tailed (Student's t, 3 degrees of freedom) differences; for strongly skewed ones
    (exponential) 90-93 % with 8 to 24 images and 94 % with 62 (5000 simulations each).

    Args:
        differences: ``(..., n)``, finite.
        confidence: Share of such intervals that hold the true mean.
        resamples: Draws of n out of n, from a fixed seed.

    Returns:
        Lower and upper ends, ``(...)``; NaN for fewer than two images.
    """
    n = differences.shape[-1]
    if n < 2:
        undefined = np.full(differences.shape[:-1], np.nan)
        return undefined, undefined
    tail = stats.norm.cdf(np.sqrt(n / (n - 1)) * stats.t.ppf((1 - confidence) / 2, n - 1))
    settings = {"confidence_level": 1 - 2 * tail, "method": "percentile", "rng": np.random.default_rng(0)}
    ends = stats.bootstrap(
        (differences,), np.mean, axis=-1, n_resamples=resamples, batch=100, **settings
    ).confidence_interval
    return ends.low, ends.high


def gain(score: str, values: np.ndarray) -> np.ndarray:
    """Values so that more is better.

    Args:
        score: Name, such as ``l1_hole_refine``.
        values: Of any shape.
    """
    if score.startswith(MATCH):
        return np.asarray(-np.abs(values - 1))
    less = score.removeprefix("known_").removeprefix("guide_").startswith(LOWER)
    return -values if less else values


def read_rows(study: Study, jobs: Sequence[StudyRun]) -> pl.DataFrame:
    """The rows of all jobs with their ``group`` and ``arm``; jobs without rows are left out.

    Args:
        study: Whose jobs they are.
        jobs: Run, or not.
    """
    frames = []
    for job in jobs:
        file = job.folder / RUN_FOLDER / "rows.csv"
        if not file.is_file() or not file.read_bytes().strip():
            continue
        texts = dict.fromkeys(TEXTS, pl.String)
        frame = pl.read_csv(file, schema_overrides=texts, infer_schema_length=None, encoding="utf8-lossy")
        place = pl.lit(study.place(job.arm), dtype=pl.Float64).alias("axis")
        frames.append(frame.select(pl.lit(job.group).alias("group"), pl.lit(job.arm).alias("arm"), place, pl.all()))
    return pl.concat(frames, how="diagonal_relaxed") if frames else pl.DataFrame()


def compare(study: Study, rows: pl.DataFrame) -> pl.DataFrame:
    """Every arm against every reference, by every score, within each group.

    Args:
        study: Names the references and the scores.
        rows: Of :func:`read_rows`.

    Returns:
        One row per group, arm, score and reference: ``n`` images that both have, ``mean`` of the arm over them,
        ``reference_mean``, ``difference`` (arm minus reference) with its interval ``low``, ``high``, ``wins``: the
        share of images on which the arm is better, ties counting half; and ``unpaired``, images only one of them has.
    """
    made = []
    for group in study.groups:
        for score in (score for score in study.scores if score in rows.columns):
            values = {arm: _values(rows, group, arm, score) for arm in study.arms}
            for arm, own in values.items():
                for reference in study.references:
                    if arm != reference and own:
                        paired = _paired(score, own, values[reference])
                        made.append({"group": group, "arm": arm, "score": score, "reference": reference, **paired})
    return pl.DataFrame(made, infer_schema_length=None)


def _values(rows: pl.DataFrame, group: str, arm: str, score: str) -> dict[tuple[str, str], float]:
    """Score by image; the hash of image and mask belongs to it, so that nothing else is taken for a pair."""
    chosen = rows.filter((pl.col("group") == group) & (pl.col("arm") == arm))
    images = zip(chosen["key"].cast(pl.String), chosen["inputs"].cast(pl.String), strict=True)
    values = chosen[score].cast(pl.Float64, strict=False)
    return {
        image: value for image, value in zip(images, values, strict=True) if value is not None and np.isfinite(value)
    }


def _paired(
    score: str, own: Mapping[tuple[str, str], float], other: Mapping[tuple[str, str], float]
) -> dict[str, float | int]:
    images = sorted(own.keys() & other.keys())
    mine, theirs = (np.array([values[image] for image in images]) for values in (own, other))
    if not images:
        undefined = dict.fromkeys(("mean", "reference_mean", "difference", "low", "high", "wins"), float("nan"))
        return {"n": 0, **undefined, "unpaired": len(own) + len(other)}
    low, high = interval(mine - theirs)
    better = gain(score, mine) - gain(score, theirs)
    return {
        "n": len(images),
        "mean": float(mine.mean()),
        "reference_mean": float(theirs.mean()),
        "difference": float((mine - theirs).mean()),
        "low": float(low),
        "high": float(high),
        "wins": float(((better > 0) + 0.5 * (better == 0)).mean()),
        "unpaired": len(own.keys() ^ other.keys()),
    }


def costs(study: Study, rows: pl.DataFrame) -> pl.DataFrame:
    """What each arm does: ``n`` images, median ``seconds`` per image, highest ``peak_memory_mib``, and ``guided``.

    The last is the mean share of the hole, at the last level, that the coarser level guides; None without such a level.

    Args:
        study: Its groups and arms give the order.
        rows: Of :func:`read_rows`.
    """
    made = []
    for group in study.groups:
        for arm in study.arms:
            chosen = rows.filter((pl.col("group") == group) & (pl.col("arm") == arm))
            if len(chosen):
                made.append({"group": group, "arm": arm, "n": len(chosen), **_cost(chosen)})
    return pl.DataFrame(made, infer_schema_length=None)


def _cost(rows: pl.DataFrame) -> dict[str, float | None]:
    known = {name: rows[name].cast(pl.Float64, strict=False) for name in ("seconds", "peak_memory_mib")}
    values = {name: np.array(column.drop_nulls().to_numpy()) for name, column in known.items()}
    return {
        "seconds": float(np.median(values["seconds"])) if len(values["seconds"]) else None,
        "peak_memory_mib": float(values["peak_memory_mib"].max()) if len(values["peak_memory_mib"]) else None,
        "guided": _mean_of_last(rows["guided"]) if "guided" in rows.columns else None,
    }


def _mean_of_last(levels: pl.Series) -> float | None:
    """Mean over images of the number of the last level, of numbers level by level in a text."""
    mean = levels.cast(pl.String).str.split(" ").list.last().cast(pl.Float64, strict=False).mean()
    return None if mean is None else float(mean)  # type: ignore[arg-type]
