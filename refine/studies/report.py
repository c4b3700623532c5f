"""Report of a study: Markdown tables, plots and an HTML page."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from refine.inference.launch import SHARED
from refine.io.files import write_atomic
from refine.metrics.bootstrap import FEWEST_IMAGES
from refine.studies import html as page
from refine.studies import plots
from refine.studies.html import interval_text, number
from refine.studies.plan import machines
from refine.studies.spec import FILE, Study, StudyRun
from refine.studies.statistics import COSTS, certain, compare, costs, read_rows

MARKDOWN, PAGE, ROWS, COMPARISONS = "report.md", "report.html", "results.parquet", "comparisons.csv"
BEGIN, END = "<!-- results -->", "<!-- end of results -->"


class Tables(NamedTuple):
    """What a report is made of; tables without a row if no run has ended.

    Attributes:
        results: Table of :func:`refine.studies.statistics.read_rows`.
        comparisons: Table of :func:`refine.studies.statistics.compare`.
        costs: Table of :func:`refine.studies.statistics.costs`.
    """

    results: pl.DataFrame
    comparisons: pl.DataFrame
    costs: pl.DataFrame


def write(study: Study, runs: Sequence[StudyRun], problems: dict[str, str], output: Path, page_mib: float) -> Tables:
    """Compare what is there and write it: rows, comparisons, Markdown, plots, page.

    Args:
        study: Question with its arms and scores.
        runs: All runs of the study, finished or not.
        problems: Reason why a run is not complete, by the run's name.
        output: Folder of the study's results.
        page_mib: Largest size of the page in MiB.

    Returns:
        The tables that were written.
    """
    rows = read_rows(study, runs)
    compared, cost = (compare(study, rows), costs(study, rows)) if len(rows) else (pl.DataFrame(), pl.DataFrame())
    rows.write_parquet(output / ROWS)
    compared.write_csv(output / COMPARISONS)
    drawn = plots.draw(study, compared, cost, runs) if len(compared) else {}
    for name, svg in drawn.items():
        _save(output / name, svg)
    notes = _notes(compared, problems, machines(runs))
    _save(output / MARKDOWN, markdown(study, compared, cost, notes))
    _save(output / PAGE, page.make(study, compared, cost, rows, runs, drawn, notes, page_mib))
    return Tables(rows, compared, cost)


def _notes(compared: pl.DataFrame, problems: dict[str, str], machines: Sequence[str]) -> list[str]:
    """What has to be known before reading a number."""
    notes = [_about(compared, machines)] if len(compared) else ["No arm has both results and scores yet."]
    if len(compared) and any(machine.endswith(SHARED) for machine in machines):
        notes.append("Seconds were measured with several jobs at once on a machine; one job alone takes less time.")
    if problems:
        notes.append("\n- ".join(["Incomplete:", *(f"{name}: {reason}" for name, reason in problems.items())]))
    return notes


def markdown(study: Study, compared: pl.DataFrame, cost: pl.DataFrame, notes: Sequence[str]) -> str:
    """The tables, the first score's first; one per group and score.

    Args:
        study: Question with its arms and scores.
        compared: Table of :func:`refine.studies.statistics.compare`.
        cost: Table of :func:`refine.studies.statistics.costs`.
        notes: Paragraphs above the tables.
    """
    parts = list(notes)
    for group in study.groups if len(compared) else ():
        for index, score in enumerate(study.scores):
            score_rows = compared.filter((pl.col("group") == group) & (pl.col("score") == score))
            if len(score_rows):
                title = f"### {group + ': ' if group else ''}{score}"
                table = _table(study, score_rows, cost.filter(pl.col("group") == group), with_cost=index == 0)
                parts.append(f"{title}\n{table}")
    return "\n\n".join(parts) + "\n"


def _about(compared: pl.DataFrame, machines: Sequence[str]) -> str:
    counts = sorted(set(compared["n"]))
    n = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    few = (
        f"Nothing is bold with fewer than {FEWEST_IMAGES} images: so few cannot tell a difference from chance. "
        if any(0 < count < FEWEST_IMAGES for count in counts)
        else ""
    )
    return (
        f"{n} images per comparison, {' and '.join(machines) or 'machine unknown'}. Differences are paired, with 95 % "
        "intervals over images, of each comparison by itself; p (Holm) is from a sign-flip test, adjusted for all "
        "comparisons of the table; wins are the share of images on which the arm is better; bold: the interval "
        f"excludes 0. {few}Seconds are the median of an image's refinement, without reading "
        "and writing; guided is the mean share of the hole that is compared with the coarser level, at the last level."
    )


def _table(study: Study, compared: pl.DataFrame, cost: pl.DataFrame, with_cost: bool) -> str:
    """One score of one group: arms below each other, references side by side."""
    head = ["arm", "mean"]
    for reference in study.references:
        head += [f"- {reference} [95 %]", "p (Holm)", "wins"]
    head += [*COSTS.values()] if with_cost else []
    lines = []
    for arm in study.arms:
        by_reference = {row["reference"]: row for row in compared.filter(pl.col("arm") == arm).iter_rows(named=True)}
        if not by_reference:
            continue
        cells = [arm, number(next(iter(by_reference.values()))["mean"])]
        for reference in study.references:
            cells += _cells(by_reference.get(reference))
        spent = next(cost.filter(pl.col("arm") == arm).iter_rows(named=True), {})
        cells += [number(spent.get(key)) for key in COSTS] if with_cost else []
        lines.append(cells)
    ruled = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ruled, *lines])


def _cells(row: dict[str, float] | None) -> list[str]:
    if row is None:  # the reference itself
        return ["", "", ""]
    if not row["n"]:
        return ["no pair", "", ""]
    text = f"{row['difference']:+.3g} {interval_text(row)}"
    return [f"**{text}**" if certain(row) else text, f"{row['p_holm']:.2g}", f"{100 * row['wins']:.0f} %"]


def publish(folder: Path, output: Path, command: Sequence[str]) -> None:
    """Put table and plots into the study's own folder, for its README.

    Args:
        folder: Folder of the study, with a README.md that holds the two marks of the results; or another of its YAML
            files, whose name stands in its first mark and before the names of its plots.
        output: Folder of :func:`write`.
        command: Arguments of the command that was run; of paths only the last part is shown, and what asks for the
            report alone is left out.

    Raises:
        ValueError: If the README lacks the marks.
    """
    variant = folder.stem if folder.is_file() and folder.name != FILE else ""
    mark, prefix = (f"<!-- results: {variant} -->", f"{variant}_") if variant else (BEGIN, "")
    folder = folder.parent if folder.is_file() else folder
    readme = folder / "README.md"
    text = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    before, begin, rest = text.partition(mark)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{readme}: no place for the results; put a line {mark} and a line {END} into it.")
    images = ""
    for svg in sorted(output.glob("*.svg")):
        _save(folder / f"{prefix}{svg.name}", svg.read_text(encoding="utf-8"))
        images += f"\n![{svg.stem}]({prefix}{svg.name})\n"
    arguments = [word for word in command if word.partition("=")[0] not in ("report_only", "publish")]
    command_line = " ".join(shlex.quote(_short(word)) for word in arguments)
    results = (output / MARKDOWN).read_text(encoding="utf-8")
    _save(readme, f"{before}{mark}\n`refine study {command_line}`\n\n{results}{images}\n{END}{after}")


def _short(word: str) -> str:
    key, equals, value = word.partition("=")
    return f"{key}={Path(value).name}" if equals and Path(value).is_absolute() else word


def _save(file: Path, text: str) -> None:
    write_atomic(file, text.encode(errors="surrogateescape"), file.parent)
