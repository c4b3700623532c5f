"""Example images of a study: where the best arm gains most, as usual and least, with the results of every arm."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image
from torch import Tensor

from refine.core.types import Sample
from refine.factory import make_dataset
from refine.inference.discover import discover
from refine.inference.finished_run import read_config
from refine.inference.panels import HOLE, to_bytes
from refine.io.picture import read_picture, to_tensor
from refine.studies.closeups import Closeup, closeup
from refine.studies.spec import CONTROLS, Study, StudyRun
from refine.studies.statistics import gain

KINDS = ("gain", "middle", "loss")
EACH = 3  # cases of each kind
MOST = 54  # cases of all groups together: a page of many groups has fewer of each
LARGEST = 768  # px, longer side of the pictures


@dataclass(frozen=True)
class Case:
    """An image on which an arm did well, badly or as usual.

    Attributes:
        kind: Kind of the case, one of :data:`KINDS`.
        group: Name of the study's group.
        key: Name of the image.
        difference: Difference of the first score, arm minus ``plain``.
        arm: Name of the arm.
        gain: Gain by the first score: the difference, so that more is better.
    """

    kind: str
    group: str
    key: str
    difference: float
    arm: str
    gain: float


@dataclass(frozen=True)
class Pictures:
    """What is shown of a case.

    Attributes:
        images: Picture by the arm's name, with ``input`` and ``truth``; what cannot be read is missing.
        closeup: Hole of the case, near by; None if its pictures cannot be read.
    """

    images: Mapping[str, Image.Image]
    closeup: Closeup | None


def best_arm(study: Study, compared: pl.DataFrame, group: str) -> str | None:
    """The arm that gains most over ``plain`` by the first score; None if none was compared with it.

    Args:
        study: Question with its arms and scores.
        compared: Table of :func:`refine.studies.statistics.compare`.
        group: Name of the study's group.
    """
    rows = compared.filter(
        (pl.col("group") == group)
        & (pl.col("score") == study.scores[0])
        & (pl.col("reference") == "plain")
        & (pl.col("n") > 0)
        & ~pl.col("arm").is_in(list(CONTROLS))
    )
    gains = {row["arm"]: _gain(study, row["mean"], row["reference_mean"]) for row in rows.iter_rows(named=True)}
    return max(gains, key=gains.__getitem__) if gains else None


def _gain(study: Study, score: float, reference_score: float) -> float:
    """How much better the score is than the reference's, in units of the study's first score; positive is better."""
    oriented, oriented_reference = gain(study.scores[0], np.array([score, reference_score]))
    return float(oriented - oriented_reference)


def choose(study: Study, rows: pl.DataFrame, group: str, arm: str) -> list[Case]:
    """The images on which an arm gains most and least over ``plain``, and those in the middle; none twice.

    Args:
        study: Question with its scores, the first of which decides.
        rows: Table of :func:`refine.studies.statistics.read_rows`.
        group: Name of the study's group.
        arm: Name of the arm.

    Returns:
        Cases by kind, the largest gain and the largest loss first. Few images are gains first, then losses, and only
        then the middle.
    """
    arm_scores, plain_scores = (first_scores(study, rows, group, name) for name in (arm, "plain"))
    gains = {key: _gain(study, arm_scores[key], plain_scores[key]) for key in arm_scores.keys() & plain_scores.keys()}
    order = sorted(gains, key=lambda key: (-gains[key], key))
    each = max(1, min(EACH, len(order) // 3, MOST // len(KINDS) // len(study.groups)))
    best, rest = order[:each], order[each:]
    worst, middle = rest[::-1][:each], rest[: len(rest) - each]
    first = max(0, (len(middle) - each) // 2)
    selected = dict(zip(KINDS, (best, middle[first : first + each], worst), strict=True))
    differences = {key: arm_scores[key] - plain_scores[key] for key in gains}
    return [
        Case(kind, group, key, differences[key], arm, gains[key]) for kind, keys in selected.items() for key in keys
    ]


def first_scores(study: Study, rows: pl.DataFrame, group: str, arm: str) -> dict[str, float]:
    """An arm's first score by image, where it has one.

    Args:
        study: Question with its scores.
        rows: Table of :func:`refine.studies.statistics.read_rows`.
        group: Name of the study's group.
        arm: Name of the arm.
    """
    score = study.scores[0]
    if score not in rows.columns:
        return {}
    arm_rows = rows.filter((pl.col("group") == group) & (pl.col("arm") == arm))
    values = zip(arm_rows["key"].cast(pl.String), arm_rows[score].cast(pl.Float64, strict=False), strict=True)
    return {key: value for key, value in values if value is not None and np.isfinite(value)}


def pictures(rows: pl.DataFrame, runs: Sequence[StudyRun], cases: Sequence[Case]) -> list[Pictures]:
    """What the arms made of each case, with the input and the truth; what cannot be read is left out.

    Args:
        rows: Table of :func:`refine.studies.statistics.read_rows`.
        runs: All runs of the study, finished or not.
        cases: Cases of :func:`choose`.
    """
    inputs = {}
    for run in runs:
        if run.arm == "plain":
            inputs[run.group] = _inputs(run, [case.key for case in cases if case.group == run.group])
    folders = {(run.group, run.arm): run.folder for run in runs}
    return [_pictures(case, inputs[case.group].get(case.key), _results(rows, folders, case)) for case in cases]


def _pictures(case: Case, sample: Sample | None, results: Mapping[str, Tensor]) -> Pictures:
    read = {**_input_and_truth(sample), **results}
    mask = None if sample is None else sample.mask
    near = closeup(read[case.arm], read["plain"], read.get("truth"), mask) if {case.arm, "plain"} <= set(read) else None
    return Pictures({name: _image(tensor) for name, tensor in read.items()}, near)


def _inputs(run: StudyRun, keys: Sequence[str]) -> dict[str, Sample]:
    """Images as a run read them."""
    try:
        config = read_config(run.folder)
        pairs = [pair for pair in discover(config).pairs if pair.key in keys]
    except (OSError, ValueError):  # moved since
        return {}
    samples = make_dataset(config, pairs)
    read = (samples[index] for index in range(len(pairs)))
    return {sample.key: sample for sample in read if isinstance(sample, Sample)}


def _input_and_truth(sample: Sample | None) -> dict[str, Tensor]:
    if sample is None:
        return {}
    color = sample.image.new_tensor(HOLE).view(1, 3, 1, 1)
    pictures = {"input": sample.image.where(sample.mask == 0, color)}
    return pictures if sample.truth is None else pictures | {"truth": sample.truth}


def _results(rows: pl.DataFrame, folders: Mapping[tuple[str, str], Path], case: Case) -> dict[str, Tensor]:
    found = {}
    selected = rows.filter((pl.col("group") == case.group) & (pl.col("key").cast(pl.String) == case.key))
    for row in selected.iter_rows(named=True):
        try:
            found[row["arm"]] = to_tensor(read_picture(folders[case.group, row["arm"]] / row["output"], math.inf))
        except (OSError, ValueError):  # removed since
            continue
    return found


def _image(tensor: Tensor) -> Image.Image:
    """``(1, 3, H, W)`` in [0, 1], no larger than a page needs."""
    image = Image.fromarray(to_bytes(tensor))
    image.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    return image
