"""Results are published into a study's README."""

from refine.studies.report import BEGIN, END, publish


def test_another_file_of_a_study_is_published_at_its_own_mark(tmp_path):
    study, output = tmp_path / "q", tmp_path / "out"
    study.mkdir()
    output.mkdir()
    (study / "larger.yaml").write_text("question: '?'")
    marks = f"{BEGIN}\nmain\n{END}\n<!-- results: larger -->\n{END}\n"
    (study / "README.md").write_text(marks)
    (study / "cost.svg").write_text("main")
    (output / "report.md").write_text("table\n")
    (output / "cost.svg").write_text("other")
    publish(study / "larger.yaml", output, ["q/larger.yaml", "publish=true"])
    main, other = (study / "README.md").read_text().split("<!-- results: larger -->")
    assert (
        "main" in main and "table" in other and "`refine study q/larger.yaml`" in other and "larger_cost.svg" in other
    )
    assert ((study / "cost.svg").read_text(), (study / "larger_cost.svg").read_text()) == ("main", "other")
