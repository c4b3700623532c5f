"""Tables of a report as files: what LaTeX and Markdown make of names, numbers and brackets."""

import re

from refine.studies.tables import Cell, Table, as_latex, as_markdown, document, latex_text

TABLE = Table(
    "psnr_hole (50 % & more)",
    ["arm", "− plain [95 %]"],
    [[Cell("a_1|b"), Cell("-0.5 [-1, +0.2]", -0.5, bold=True)], [Cell("[x]"), Cell("1.5", 1.5, below="+2")]],
)


def test_markdown_keeps_its_columns():
    lines = as_markdown(TABLE).splitlines()
    assert lines[1:] == ["| --- | ---: |", r"| a_1\|b | **-0.5 [-1, +0.2]** |", "| [x] | 1.5 (+2) |"]


def test_latex_prints_what_stands_there():
    text = as_latex(TABLE, "scores-1")
    assert r"\caption{psnr\_hole (50 \% \& more)}" in text and r"\label{tab:scores-1}" in text
    assert r"a\_1\textbar{}b & \textbf{$-$0.5 [$-$1, +0.2]} \\" in text
    assert "{}[x] & 1.5 (+2)" in text  # a bracket after \\ would be its option
    assert latex_text("2e-05") == "2e-05" and latex_text("steps-2 -1") == "steps-2 $-$1"
    assert latex_text("\\{~}^#$") == r"\textbackslash{}\{\textasciitilde{}\}\textasciicircum{}\#\$"


def test_a_document_of_latex_is_balanced():
    _, latex = document([("a", TABLE), ("b", TABLE._replace(rows=[]))])
    body = re.sub(r"\\[\\{}%&$#_]", "", "\n".join(line for line in latex.splitlines() if not line.startswith("%")))
    assert body.count("{") == body.count("}") and body.count("$") % 2 == 0
    assert re.findall(r"\\(?:begin|end)\{(\w+)\}", latex) == ["table", "tabular", "tabular", "table"] * 2
    assert r"\resizebox" not in latex and r"\begin{tabular}{lr}" in latex
    rows = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert all(len(re.findall(r"(?<!\\)&", row)) == 1 for row in rows) and len(rows) == 4


def test_long_lines_of_latex_fit_the_page():
    wide = TABLE._replace(head=["arm", "x" * 90])
    latex = as_latex(wide, "wide")
    assert latex.count(r"\resizebox{\linewidth}{!}{%") == latex.count(r"\end{tabular}}") == 1
    assert r"\begin{tabular}{lp{0.7\linewidth}}" in as_latex(wide._replace(texts=2), "text")
