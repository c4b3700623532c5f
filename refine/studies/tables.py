"""A table of a report, as Markdown and as LaTeX."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

PREAMBLE = "% Needs \\usepackage{booktabs,graphicx} in the preamble.\n"
LINE = 84  # characters that a page of small print holds in a line, about
# A character that LaTeX would take for a command, or that its fonts lack.
LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "−": "$-$", "×": r"$\times$", "—": "---", "–": "--", "±": r"$\pm$", "\u00a0": "~",
}  # fmt: skip
NEGATIVE = re.compile(r"(?<![\w.])-(?=\d)")  # a hyphen that is a sign


class Cell(NamedTuple):
    """What stands in one place of a table.

    Attributes:
        text: Text that is shown.
        value: Number or text to sort by; None for what is not known.
        bold: Whether it stands out.
        link: Address of a file, relative to the page; empty for none.
        below: Smaller text under the first.
    """

    text: str
    value: float | str | None = None
    bold: bool = False
    link: str = ""
    below: str = ""


class Table(NamedTuple):
    """A table with its caption.

    Attributes:
        caption: Text that says what it shows.
        head: Titles of the columns.
        rows: Cells, as many per row as there are columns.
        texts: Number of columns from the left that hold names, not numbers.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    texts: int = 1


def as_markdown(table: Table) -> str:
    """The table without its caption, a line per row.

    Args:
        table: Table of a report.
    """
    ruled = ["---"] * table.texts + ["---:"] * (len(table.head) - table.texts)
    lines = [[_pipe(title) for title in table.head], ruled]
    lines += [[_markdown_cell(cell) for cell in row] for row in table.rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def as_latex(table: Table, label: str) -> str:
    """The table with its caption, in the style of the package booktabs.

    Args:
        table: Table of a report.
        label: Name to refer to it by, letters, digits and hyphens.
    """
    rows = [" & ".join(map(_latex_cell, row)) for row in table.rows]
    names = len(table.head) == table.texts  # the last may be long, so that its lines break
    columns = "l" * (table.texts - names) + r"p{0.7\linewidth}" * names + "r" * (len(table.head) - table.texts)
    wide = not names and _width(table) > LINE
    lines = [
        r"\begin{table}",
        r"  \centering\small",
        rf"  \caption{{{latex_text(table.caption)}}}",
        rf"  \label{{tab:{label}}}",
        *([r"  \resizebox{\linewidth}{!}{%"] if wide else []),
        rf"  \begin{{tabular}}{{{columns}}}",
        r"    \toprule",
        rf"    {' & '.join(map(latex_text, table.head))} \\",
        r"    \midrule",
        *(rf"    {row} \\" for row in rows),
        r"    \bottomrule",
        rf"  \end{{tabular}}{'}' if wide else ''}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _width(table: Table) -> int:
    """Characters of a line, with two between columns."""
    lines = [list(table.head), *([f"{cell.text}{cell.below}" for cell in row] for row in table.rows)]
    return sum(max(map(len, column)) + 2 for column in zip(*lines, strict=True))


def latex_text(text: str) -> str:
    """Text that LaTeX prints as it is here.

    Args:
        text: Text of any characters.
    """
    signed = NEGATIVE.sub("−", text)
    escaped = "".join(LATEX.get(character, character) for character in signed)
    return f"{{}}{escaped}" if escaped.startswith("[") else escaped  # after \\ it would be taken for an option


def document(tables: Iterable[tuple[str, Table]]) -> tuple[str, str]:
    """Several tables one below the other, as a file of Markdown and one of LaTeX.

    Args:
        tables: Pairs of a label and a table.
    """
    pairs = list(tables)
    markdown = "\n\n".join(f"### {table.caption}\n{as_markdown(table)}" for _, table in pairs)
    return f"{markdown}\n", PREAMBLE + "\n".join(as_latex(table, label) for label, table in pairs)


def _markdown_cell(cell: Cell) -> str:
    text = _pipe(f"{cell.text} ({cell.below})" if cell.below else cell.text)
    return f"**{text}**" if cell.bold and text else text


def _pipe(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _latex_cell(cell: Cell) -> str:
    text = latex_text(f"{cell.text} ({cell.below})" if cell.below else cell.text)
    return rf"\textbf{{{text}}}" if cell.bold and text else text
