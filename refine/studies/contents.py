"""What the tables of a report hold: scores, effects, images and runs."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from refine.studies.record import in_every_run, own_overrides, what_was_run
from refine.studies.spec import BASE, Study, StudyRun
from refine.studies.statistics import COSTS, certain, direction
from refine.studies.tables import Cell, Table

EMPTY = Cell("")
ABOUT_EFFECTS = (
    "An effect is what a factor's change of level changes: the mean over images of a paired difference, averaged over "
    "the combinations of the other factors, as many as are there. An interaction is a difference of such differences: "
    "what one change adds to the other. p (Holm) is adjusted for the effects of one group, arm and score. Effects over "
    "groups are those on the difference to plain."
)


def number(value: float | None) -> str:
    """Four digits, or a dash for what is not known.

    Args:
        value: Number, NaN or None.
    """
    return "-" if value is None or value != value else f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"


def interval_text(row: Mapping[str, Any]) -> str:
    """The interval of a comparison in brackets, or a word where a single image gives none.

    Args:
        row: Row of :func:`refine.studies.statistics.compare` or :func:`refine.studies.effects.effects`.
    """
    return f"[{row['low']:+.3g}, {row['high']:+.3g}]" if row["n"] > 1 else "(one image, no interval)"


# --- scores -----------------------------------------------------------------------------------------------------------


def score_table(
    study: Study, compared: pl.DataFrame, cost: pl.DataFrame, group: str, score: str, with_cost: bool
) -> Table:
    """All that is known of one score in one group, for a file: arms below each other, references side by side.

    Args:
        study: Question with its arms and references.
        compared: Table of :func:`refine.studies.statistics.compare`.
        cost: Table of :func:`refine.studies.statistics.costs`.
        group: Name of the study's group.
        score: Name of the score.
        with_cost: Whether seconds, memory and share of the hole stand on the right.
    """
    head = ["arm", "mean"]
    for reference in study.references:
        head += [f"- {reference} [95 %]", "p (Holm)", "wins"]
    rows = []
    for arm, results in _by_arm(study, compared, group, score).items():
        cells = [_name(arm), _number(next(iter(results.values()))["mean"])]
        for reference in study.references:
            cells += [_difference(results.get(reference)), *_evidence(results.get(reference))]
        rows.append([*cells, *(_costs(cost, group, arm, [*COSTS]) if with_cost else [])])
    return Table(f"{group + ': ' if group else ''}{score}", head + ([*COSTS.values()] if with_cost else []), rows)


def summary(study: Study, compared: pl.DataFrame, cost: pl.DataFrame, score: str) -> Table:
    """The main columns of one score, all groups below each other, narrow enough for a page.

    Args:
        study: Question with its arms and references.
        compared: Table of :func:`refine.studies.statistics.compare`.
        cost: Table of :func:`refine.studies.statistics.costs`.
        score: Name of the score.
    """
    rows = []
    for group, arm, results in _of_all_groups(study, compared, score):
        cells = [_number(next(iter(results.values()))["mean"])]
        cells += [_difference(results.get(reference)) for reference in study.references]
        rows.append([*_names(study, group, arm), *cells, *_costs(cost, group, arm, ["seconds"])])
    differences = [f"− {reference} [95 %]" for reference in study.references]
    head = [*_names_head(study), "mean", *differences, COSTS["seconds"]]
    return Table(f"{score} ({direction(score)})", head, rows, len(_names_head(study)))


def details(study: Study, compared: pl.DataFrame, cost: pl.DataFrame, score: str) -> Table:
    """The columns that :func:`summary` leaves out: p-values, wins, counts, memory and share of the hole.

    Args:
        study: Question with its arms and references.
        compared: Table of :func:`refine.studies.statistics.compare`.
        cost: Table of :func:`refine.studies.statistics.costs`.
        score: Name of the score.
    """
    further = [name for name in COSTS if name != "seconds"]
    rows = []
    for group, arm, results in _of_all_groups(study, compared, score):
        n = next(iter(results.values()))["n"]
        cells = [cell for reference in study.references for cell in _evidence(results.get(reference))]
        rows.append([*_names(study, group, arm), Cell(str(n), n), *cells, *_costs(cost, group, arm, further)])
    evidence = [title for reference in study.references for title in (f"p − {reference}", f"wins − {reference}")]
    head = [*_names_head(study), "n", *evidence, *(COSTS[name] for name in further)]
    return Table(f"{score}: p-values (Holm), wins and further costs", head, rows, len(_names_head(study)))


def _of_all_groups(
    study: Study, compared: pl.DataFrame, score: str
) -> Iterator[tuple[str, str, dict[str, dict[str, Any]]]]:
    """Group, arm and comparisons by reference, group by group."""
    for group in study.groups:
        for arm, results in _by_arm(study, compared, group, score).items():
            yield group, arm, results


def _by_arm(study: Study, compared: pl.DataFrame, group: str, score: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Comparisons by arm and reference, of the arms that have any."""
    found: dict[str, dict[str, dict[str, Any]]] = {arm: {} for arm in study.arms}
    for row in compared.filter((pl.col("group") == group) & (pl.col("score") == score)).iter_rows(named=True):
        found[row["arm"]][row["reference"]] = row
    return {arm: results for arm, results in found.items() if results}


def _names_head(study: Study) -> list[str]:
    return ["arm"] if list(study.groups) == [""] else ["group", "arm"]


def _names(study: Study, group: str, arm: str) -> list[Cell]:
    return [_name(arm)] if list(study.groups) == [""] else [_name(group), _name(arm)]


def _name(text: str) -> Cell:
    return Cell(text, text)


def _number(value: float | None) -> Cell:
    return Cell(number(value), None if value is None or value != value else value)


def _difference(row: Mapping[str, Any] | None) -> Cell:
    if row is None:  # the reference itself
        return EMPTY
    if not row["n"]:
        return Cell("no pair")
    return Cell(f"{row['difference']:+.3g} {interval_text(row)}", row["difference"], certain(row))


def _evidence(row: Mapping[str, Any] | None) -> list[Cell]:
    if row is None or not row["n"]:
        return [EMPTY, EMPTY]
    return [Cell(f"{row['p_holm']:.2g}", row["p_holm"]), Cell(f"{100 * row['wins']:.0f} %", row["wins"])]


def _costs(cost: pl.DataFrame, group: str, arm: str, names: Sequence[str]) -> list[Cell]:
    of_arm = cost.filter((pl.col("group") == group) & (pl.col("arm") == arm))
    spent = next(of_arm.iter_rows(named=True), {})
    return [_number(spent.get(name)) for name in names]


# --- effects ----------------------------------------------------------------------------------------------------------


def effect_table(effects: pl.DataFrame, score: str) -> Table:
    """Main effects and interactions by one score.

    Args:
        effects: Table of :func:`refine.studies.effects.effects`.
        score: Name of the score.
    """
    of_score = effects.filter(pl.col("score") == score)
    names = [name for name in ("group", "arm") if any(of_score[name])]  # of each: an arm, over the groups
    rows = []
    for row in of_score.iter_rows(named=True):
        cells = [_name(row[name] or "all") for name in names] + [_name(row["factor"]), _name(row["change"])]
        cells += [_difference(row), Cell(f"{row['p_holm']:.2g}", row["p_holm"])]
        cells += [Cell(str(row[name]), row[name]) for name in ("n", "combinations")]
        rows.append(cells)
    caption = f"Effects on {score} ({direction(score)})"
    return Table(
        caption, [*names, "factor", "change", "effect [95 %]", "p (Holm)", "n", "combinations"], rows, len(names) + 2
    )


# --- images -----------------------------------------------------------------------------------------------------------


def image_scores_table(study: Study, rows: pl.DataFrame, runs: Sequence[StudyRun], output: Path) -> pl.DataFrame:
    """Every image of every arm: where its result lies, its scores, and their differences to ``plain``.

    Args:
        study: Question with its arms and scores.
        rows: Table of :func:`refine.studies.statistics.read_rows`.
        runs: All runs of the study, finished or not.
        output: Folder of the report, which paths are relative to.
    """
    if not len(rows):
        return pl.DataFrame()
    scores = [score for score in study.scores if score in rows.columns]
    folders = {(run.group, run.arm): Path(os.path.relpath(run.folder, output)).as_posix() for run in runs}
    files = [f"{folders[row['group'], row['arm']]}/{row['output']}" for row in rows.iter_rows(named=True)]
    numbers = [pl.col(score).cast(pl.Float64, strict=False) for score in scores]
    table = rows.select("group", "arm", pl.col("key").cast(pl.String).alias("image"), "inputs", *numbers)
    table = table.with_columns(pl.Series("file", files, dtype=pl.String))
    base = table.filter(pl.col("arm") == BASE).select("group", "image", "inputs", *scores)
    paired = table.join(base, on=["group", "image", "inputs"], how="left", suffix=".base", maintain_order="left")
    minus = [(pl.col(score) - pl.col(f"{score}.base")).alias(f"{score} minus {BASE}") for score in scores]
    return paired.select("group", "image", "arm", "file", *scores, *minus)


def image_table(study: Study, images: pl.DataFrame, group: str) -> Table:
    """The first score of each image by arm, with the difference to ``plain``, which the column is sorted by.

    Args:
        study: Question with its arms and scores.
        images: Table of :func:`image_scores_table`.
        group: Name of the study's group.
    """
    score = study.scores[0]
    of_group = images.filter(pl.col("group") == group)
    arms = [arm for arm in study.arms if arm in set(of_group["arm"])]
    by_image: dict[str, dict[str, dict[str, Any]]] = {}
    for row in of_group.iter_rows(named=True):
        by_image.setdefault(row["image"], {})[row["arm"]] = row
    rows = [[_name(image), *(_image_cell(score, found.get(arm)) for arm in arms)] for image, found in by_image.items()]
    caption = f"{group + ': ' if group else ''}{score} ({direction(score)}) of each image, and its difference to {BASE}"
    return Table(caption, ["image", *arms], rows)


def _image_cell(score: str, row: Mapping[str, Any] | None) -> Cell:
    if row is None or row.get(score) is None:
        return Cell("-")
    difference = row[f"{score} minus {BASE}"]
    if row["arm"] == BASE or difference is None:
        return Cell(number(row[score]), row[score], link=row["file"])
    return Cell(number(row[score]), difference, link=row["file"], below=f"{difference:+.3g}")


# --- runs -------------------------------------------------------------------------------------------------------------


def run_tables(study: Study, runs: Sequence[StudyRun]) -> list[Table]:
    """How the study was run, and what each arm sets.

    Args:
        study: Question with its arms.
        runs: All runs of the study, finished or not.
    """
    facts = [[_name(title), Cell(text, text)] for title, text in what_was_run(runs).items()]
    shared = in_every_run(runs)
    arms = [
        [*_names(study, run.group, run.arm), Cell(" ".join(own_overrides(run, shared)) or "nothing more")]
        for run in runs
    ]
    head = [*_names_head(study), "sets"]
    return [Table("How it was run", ["what", "value"], facts, 2), Table("What each arm sets", head, arms, len(head))]
