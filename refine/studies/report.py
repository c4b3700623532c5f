"""Report of a study: its tables as files, plots and an HTML page."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from refine.inference.launch import SHARED
from refine.io.files import write_atomic
from refine.metrics.bootstrap import FEWEST_IMAGES
from refine.studies import contents, plots
from refine.studies import html as page
from refine.studies.effects import effects
from refine.studies.plan import machines
from refine.studies.record import shown_command
from refine.studies.spec import FILE, Study, StudyRun
from refine.studies.statistics import StudyTables, compare, costs, read_rows
from refine.studies.tables import Table, as_markdown, document

MARKDOWN, PAGE, ROWS, COMPARISONS = "report.md", "report.html", "results.parquet", "comparisons.csv"
BEGIN, END = "<!-- results -->", "<!-- end of results -->"


def write(
    study: Study, runs: Sequence[StudyRun], problems: dict[str, str], output: Path, page_mib: float
) -> StudyTables:
    """Compare what is there and write it: rows, tables, plots, page.

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
    images = contents.image_scores_table(study, rows, runs, output)
    tables = StudyTables(rows, compared, cost, effects(study, rows), images)
    rows.write_parquet(output / ROWS)
    for name, frame in (("comparisons", compared), ("effects", tables.effects), ("images", images)):
        frame.write_csv(output / f"{name}.csv")
    written = _write_tables(study, tables, runs, output)
    drawn = plots.draw(study, tables, runs) if len(compared) else {}
    for name, svg in drawn.items():
        _save(output / name, svg)
    notes = _notes(compared, problems, machines(runs))
    _save(output / MARKDOWN, markdown(study, tables, notes))
    _save(output / PAGE, page.make(study, tables, runs, drawn, notes, written, page_mib))
    return tables


def _write_tables(study: Study, tables: StudyTables, runs: Sequence[StudyRun], output: Path) -> list[str]:
    """Every table as Markdown and LaTeX, and how the study was run as CSV too; gives the files' stems."""
    run_tables = contents.run_tables(study, runs)
    files: dict[str, list[Table]] = {"runs": run_tables}
    if len(tables.comparisons):
        files["comparisons"] = [table for _, _, table in _score_tables(study, tables)]
        files["images"] = [contents.image_table(study, tables.images, group) for group in study.groups]
    if len(tables.effects):
        files["effects"] = [contents.effect_table(tables.effects, score) for score in study.scores]
    for name, found in files.items():
        filled = [table for table in found if table.rows]
        markdown, latex = document((f"{name}-{number}", table) for number, table in enumerate(filled, 1))
        _save(output / f"{name}.md", markdown)
        _save(output / f"{name}.tex", latex)
    texts = [{"what": row[0].text, "value": row[-1].text} for row in run_tables[0].rows]
    arms = [{"what": " ".join(cell.text for cell in row[:-1]), "value": row[-1].text} for row in run_tables[1].rows]
    pl.DataFrame([*texts, *arms], schema=["what", "value"]).write_csv(output / "runs.csv")
    return list(files)


def _score_tables(study: Study, tables: StudyTables) -> Iterator[tuple[str, str, Table]]:
    """Group, score and table, the first score's with the costs; those that hold anything."""
    for group in study.groups if len(tables.comparisons) else ():
        for index, score in enumerate(study.scores):
            table = contents.score_table(study, tables.comparisons, tables.costs, group, score, with_cost=index == 0)
            if table.rows:
                yield group, score, table


def _notes(compared: pl.DataFrame, problems: dict[str, str], machines: Sequence[str]) -> list[str]:
    """What has to be known before reading a number."""
    notes = [_about(compared, machines)] if len(compared) else ["No arm has both results and scores yet."]
    if len(compared) and any(machine.endswith(SHARED) for machine in machines):
        notes.append("Seconds were measured with several jobs at once on a machine; one job alone takes less time.")
    if problems:
        notes.append("\n- ".join(["Incomplete:", *(f"{name}: {reason}" for name, reason in problems.items())]))
    return notes


def markdown(study: Study, tables: StudyTables, notes: Sequence[str]) -> str:
    """The tables of scores, the first score's first, and the effects by the first score.

    Args:
        study: Question with its arms and scores.
        tables: Tables of the report.
        notes: Paragraphs above the tables.
    """
    parts = [*notes, *(f"### {table.caption}\n{as_markdown(table)}" for *_, table in _score_tables(study, tables))]
    table = contents.effect_table(tables.effects, study.scores[0])
    if table.rows:
        parts += [f"### {table.caption}\n{as_markdown(table)}", contents.ABOUT_EFFECTS]
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
        "comparisons of the table; wins are the share of images on which the arm is better, where it is equal half of "
        f"one; bold: the interval excludes 0. {few}Seconds are the median of an image's refinement, without reading "
        "and writing; guided is the mean share of the hole that is compared with the coarser level, at the last level."
    )


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
    results = (output / MARKDOWN).read_text(encoding="utf-8")
    _save(readme, f"{before}{mark}\n`{shown_command(command)}`\n\n{results}{images}\n{END}{after}")


def _save(file: Path, text: str) -> None:
    write_atomic(file, text.encode(errors="surrogateescape"), file.parent)
